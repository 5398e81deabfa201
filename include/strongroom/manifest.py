"""The manifest: the JSON commit record of an archive, and the only thing that makes parts an archive.

``docs/archive-format.md`` describes each field for a reader without this code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.errors import IntegrityError
from strongroom.object_keys import ArchiveId, manifest_archive_id, manifest_prefix
from strongroom.records import PlannedPart, Record, Sha256, SourceIdentity, TableShape, VerifiedPart
from strongroom.store import Store

FORMAT_VERSION: Literal[1] = 1


class ManifestPart(Record):
    """One part object, as it was verified before the manifest was written."""

    number: int
    object_key: str
    version_id: str | None
    etag: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    record_count: int
    original_size: int
    compressed_size: int
    original_sha256: Sha256
    sha256: Sha256
    keys_sha256: Sha256
    snapshot: str
    extracted_at: AwareDatetime
    verified_at: AwareDatetime
    proved_rows: int


class Manifest(Record):
    """What an archive is, where it came from and how long it must be kept. Sizes are bytes, instants UTC."""

    format_version: Literal[1] = FORMAT_VERSION
    archive_id: str
    table_name: str = Field(description="schema.table, as PostgreSQL names it.")
    partition_key: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    table: TableShape
    shape_sha256: Sha256
    source: SourceIdentity
    record_count: int
    original_size: int
    compressed_size: int
    compression_type: Literal["zstd", "gzip", "none"]
    compression_level: int | None
    checksum: Sha256 = Field(description="SHA-256 of the SHA256SUMS object, which holds the sum of each part.")
    parts: tuple[ManifestPart, ...]
    created_at: AwareDatetime
    retention_until: AwareDatetime
    legal_basis: str
    storage_class: str
    encryption: str
    dag_id: str
    run_id: str
    software: dict[str, str]

    def to_json(self) -> bytes:
        """The bytes that lie in the store."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    def verified_part(self, number: int) -> VerifiedPart:
        """The verification record of one part, as it was when the archive was sealed."""
        part = self.parts[number]
        return VerifiedPart(
            archive_id=self.archive_id,
            number=part.number,
            start_at=part.start_at,
            end_at=part.end_at,
            expected_rows=part.record_count,
            shape_sha256=self.shape_sha256,
            rows=part.record_count,
            original_size_bytes=part.original_size,
            original_sha256=part.original_sha256,
            keys_sha256=part.keys_sha256,
            snapshot=part.snapshot,
            extracted_at=part.extracted_at,
            compression_type=self.compression_type,
            compression_level=self.compression_level,
            compressed_size_bytes=part.compressed_size,
            sha256=part.sha256,
            object_key=part.object_key,
            version_id=part.version_id,
            etag=part.etag,
            verified_at=part.verified_at,
            proved_rows=part.proved_rows,
        )


def manifest_part(part: VerifiedPart) -> ManifestPart:
    """What a manifest says of a verified part."""
    return ManifestPart(
        number=part.number,
        object_key=part.object_key,
        version_id=part.version_id,
        etag=part.etag,
        start_at=part.start_at,
        end_at=part.end_at,
        record_count=part.rows,
        original_size=part.original_size_bytes,
        compressed_size=part.compressed_size_bytes,
        original_sha256=part.original_sha256,
        sha256=part.sha256,
        keys_sha256=part.keys_sha256,
        snapshot=part.snapshot,
        extracted_at=part.extracted_at,
        verified_at=part.verified_at,
        proved_rows=part.proved_rows,
    )


def sha256_sums(parts: tuple[ManifestPart, ...]) -> bytes:
    """The content of SHA256SUMS: one line a part, as ``sha256sum -c`` reads it inside the archive's folder."""
    lines = (f"{part.sha256}  {part.object_key.rpartition('/')[2]}\n" for part in parts)
    return "".join(lines).encode()


def read_manifest(store: Store, archive: ArchiveId) -> Manifest | None:
    """Read and check one manifest.

    Returns:
        None if there is none, which means that the archive does not exist, whatever parts lie around.

    Raises:
        IntegrityError: It is not the manifest it should be.
    """
    present = store.read(archive.manifest_key)
    if present is None:
        return None
    try:
        manifest = Manifest.model_validate_json(present[0])
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(
            store, archive, f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
        ) from None
    if manifest.archive_id != str(archive):
        raise _damaged(store, archive, f"the manifest of {manifest.archive_id}")
    if [part.number for part in manifest.parts] != list(range(len(manifest.parts))):
        raise _damaged(store, archive, "parts that are not numbered 0, 1, 2, …")
    if hashlib.sha256(sha256_sums(manifest.parts)).hexdigest() != manifest.checksum:
        raise _damaged(store, archive, "sums of parts that do not give its checksum")
    return manifest


def _damaged(store: Store, archive: ArchiveId, found: str) -> IntegrityError:
    return IntegrityError(
        f"{store}{archive.manifest_key} is not a sound manifest",
        expected=f"the manifest of {archive}, format version {FORMAT_VERSION}",
        found=found,
        hint="Nothing was deleted or loaded. Earlier versions of this object may be sound: list them before anything else.",
    )


def archive_ids(
    store: Store, schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> Iterator[ArchiveId]:
    """Ids of all sealed archives: of all tables, one table, or one partition."""
    for key in store.keys(manifest_prefix(schema_name, table_name, partition_key)):
        archive = manifest_archive_id(key)
        if archive is not None:
            yield archive


def require_manifest(store: Store, archive: ArchiveId) -> Manifest:
    """:func:`read_manifest`, where a missing one is an error.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    manifest = read_manifest(store, archive)
    if manifest is None:
        raise IntegrityError(
            f"there is no archive {archive} in {store}",
            expected=archive.manifest_key,
            hint="No row was deleted. `airflow strongroom list` prints the archives that exist.",
        )
    return manifest


def sealed_part(store: Store, part: PlannedPart) -> VerifiedPart | None:
    """The record of a part whose archive is sealed already, or None while it is not."""
    manifest = read_manifest(store, part.archive)
    if manifest is None:
        return None
    if part.number >= len(manifest.parts):
        raise IntegrityError(
            f"{part.archive_id} is sealed and has no part {part.number}",
            expected=f"a part below {len(manifest.parts)}",
            hint="Nothing was changed. This task's record is of an earlier plan: clear 'plan' and the tasks after it.",
        )
    return manifest.verified_part(part.number)
