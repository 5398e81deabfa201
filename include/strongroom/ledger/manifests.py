"""The manifest: the JSON commit record of an archive, and the only thing that makes parts an archive.

``docs/reference/archive-format.md`` describes each field for a reader without this code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.calendar import FIRST_YEAR, LAST_YEAR, Partition, Window
from strongroom.errors import IntegrityError, PartitionError
from strongroom.formats.type_names import is_type_name
from strongroom.object_keys import ArchiveId, manifest_archive_id, manifest_prefix
from strongroom.records import (
    PartFormat,
    PlannedPart,
    Record,
    Sha256,
    SourceIdentity,
    TableShape,
    VerifiedPart,
    shape_sha256,
)
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, is_there

FORMAT_VERSIONS: Mapping[PartFormat, Literal[1, 2]] = {"jsonl": 1, "parquet": 2}
"""Archives of JSON lines are still of version 1, so that whoever reads that version reads them."""

_SNAPSHOT = re.compile(r"[0-9]{1,20}:[0-9]{1,20}:([0-9]{1,20}(,[0-9]{1,20})*)?")
"""A snapshot as PostgreSQL writes it: the lowest and the next transaction, and those that ran."""


Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""How many rows or bytes: more than PostgreSQL or S3 can count is nonsense, and breaks whoever computes with it."""


class ManifestPart(Record):
    """One part object, as it was verified before the manifest was written."""

    number: Count
    object_key: str
    version_id: str | None
    etag: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    share: Count = 0
    shares: Count = 1
    record_count: Count
    original_size: Count
    compressed_size: Count
    original_sha256: Sha256
    sha256: Sha256
    keys_sha256: Sha256
    snapshot: str
    extracted_at: AwareDatetime
    verified_at: AwareDatetime
    proved_rows: Count


class Manifest(Record):
    """What an archive is, where it came from and how long it must be kept. Sizes are bytes, instants UTC."""

    format_version: Literal[1, 2]
    format: PartFormat = Field(default="jsonl", description="What the parts are. Not there in version 1: JSON lines.")
    archive_id: str
    table_name: str = Field(description="schema.table, as PostgreSQL names it.")
    partition_key: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    table: TableShape
    shape_sha256: Sha256
    source: SourceIdentity
    record_count: Count
    original_size: Count
    compressed_size: Count
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
    triggered_by: str | None = Field(
        default=None, description="Who started the run. Not there where the schedule did, nor in older manifests."
    )
    software: dict[str, str]

    @property
    def window(self) -> Window:
        """The window of its partition."""
        return Window(self.window_start, self.window_end)

    def to_json(self) -> bytes:
        """The bytes that lie in the store."""
        unknown = {"format"} if self.format_version == 1 else set()
        if self.triggered_by is None:
            unknown.add("triggered_by")
        return self.to_bytes(exclude=unknown)

    def verified_part(self, number: int) -> VerifiedPart:
        """The verification record of one part, as it was when the archive was sealed."""
        part = self.parts[number]
        return VerifiedPart(
            archive_id=self.archive_id,
            number=part.number,
            start_at=part.start_at,
            end_at=part.end_at,
            share=part.share,
            shares=part.shares,
            expected_rows=part.record_count,
            shape_sha256=self.shape_sha256,
            format=self.format,
            rows=part.record_count,
            original_size_bytes=part.original_size,
            original_sha256=part.original_sha256,
            packed_sha256=part.sha256 if self.format == "parquet" else None,
            compressed_sha256=part.sha256,
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
        share=part.share,
        shares=part.shares,
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


def read_manifest(store: Store, archive: ArchiveId, *, attested: bool = True) -> Manifest | None:
    """Read and check one manifest.

    Args:
        attested: Whether it must be, byte for byte, its copy under ``evidence/``, which was written just before it; both
            must have one version only, and the archive no certificate of destruction. Whoever deletes, loads or
            proves anything wants that; a listing, which sees versions and evidence by itself, does without the requests.

    Returns:
        None if there is none, which means that the archive does not exist, whatever parts lie around.

    Raises:
        IntegrityError: It is not the manifest it should be, or the archive was destroyed.
    """
    if not attested:
        present = store.read(archive.manifest_key)
        return None if present is None else parse_manifest(store, archive, present[0])
    body = _read_only_version(store, archive, archive.manifest_key)
    if body is None:
        return None
    _refuse_destroyed(store, archive)
    manifest = parse_manifest(store, archive, body)
    _require_attested(store, archive, body)
    return manifest


def fault_of_versions(versions: Sequence[StoredVersion]) -> str | None:
    """What is wrong with the versions of a manifest, or of its copy, oldest first; None if there is one and nothing else.

    Both are created once and never written over, so somebody else put there whatever else there is.
    """
    if len(versions) == 1:
        return None
    if versions[-1].is_marker:
        return "a delete marker that hides it"
    kept = [version for version in versions if not version.is_marker]
    markers = len(versions) - len(kept)
    beside = f" and {markers} delete {'marker' if markers == 1 else 'markers'}" if markers else ""
    first = kept[0]
    count = f"{len(kept)} version{'s' if len(kept) > 1 else ''}{beside}"
    return f"{count}, of which the first is {first.version_id} of {first.modified_at:%Y-%m-%d %H:%M:%S} UTC"


def _read_only_version(store: Store, archive: ArchiveId, key: str) -> bytes | None:
    """The manifest, or its copy, where it has one version and that alone; None where it has none."""
    versions = store.history(key)
    if not is_there(versions):
        return None
    if (fault := fault_of_versions(versions)) is not None:
        raise _damaged(store, archive, fault, key)
    present = store.read(key, versions[0].version_id)
    return None if present is None else present[0]


def _refuse_destroyed(store: Store, archive: ArchiveId) -> None:
    if is_destroyed(store, archive):
        raise IntegrityError(
            f"{archive} was destroyed, and somebody has put it back since",
            found=f"its certificate {store}{archive.destruction_key}",
            hint="Nothing was deleted or loaded, and nothing will be: what was destroyed does not come back. Find out who put it "
            "there, and let an administrator of the bucket remove it.",
        )


def is_destroyed(store: Store, archive: ArchiveId) -> bool:
    """Whether a certificate of an archive's destruction was ever written, even if somebody has hidden it."""
    return is_there(store.history(archive.destruction_key))


def parse_manifest(store: Store, archive: ArchiveId, body: bytes) -> Manifest:
    """Read a manifest from its bytes and see that it does not contradict itself.

    Raises:
        IntegrityError: Says what is wrong with it.
    """
    try:
        manifest = Manifest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise _damaged(
            store, archive, f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
        ) from None
    if manifest.archive_id != str(archive):
        raise _damaged(store, archive, f"the manifest of {manifest.archive_id}")
    for fault in (
        *_faults_of_format(manifest),
        *_faults_of_place(manifest, archive),
        *_faults_of_table(manifest),
        *_faults_of_parts(manifest, archive),
    ):
        raise _damaged(store, archive, fault)
    return manifest


def _faults_of_format(manifest: Manifest) -> Iterator[str]:
    """Version 1 has no word for the format, and version 2 is only used where there is something to say."""
    if manifest.format_version == 1 and "format" in manifest.model_fields_set:
        yield "a format, which version 1 does not have"
    elif FORMAT_VERSIONS[manifest.format] != manifest.format_version:
        yield f"parts of format {manifest.format} in version {manifest.format_version}"


def _faults_of_place(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    """What a manifest says of its table and window, against what its archive id says."""
    schema_name, table_name = archive.schema_name, archive.table_name
    if (manifest.table.schema_name, manifest.table.table_name) != (schema_name, table_name):
        yield f"another table in table: {manifest.table.schema_name}.{manifest.table.table_name}"
    if manifest.table_name != f"{schema_name}.{table_name}":
        yield f"another table in table_name: {manifest.table_name}"
    if manifest.partition_key != archive.partition_key:
        yield f"another partition in partition_key: {manifest.partition_key}"
    try:
        window = Partition.named(archive.partition_key).window
    except PartitionError as error:
        yield error.what
        return
    if (manifest.window_start, manifest.window_end) != (window.start, window.end):
        yield f"a window that is not that of {archive.partition_key}"
    for field, last_year in (("created_at", LAST_YEAR), ("retention_until", LAST_YEAR + 1)):
        instant = getattr(manifest, field)
        if instant.utcoffset() or not FIRST_YEAR <= instant.year <= last_year:
            yield f"a {field} that is not in UTC, or that no calendar has"
    if manifest.retention_until <= manifest.window_end:
        yield "a retention_until that is not after its window"


def _faults_of_table(manifest: Manifest) -> Iterator[str]:
    """What would go into statements, and the sum of it."""
    columns = manifest.table.columns
    names = [column.name for column in columns]
    for column in columns:
        for field, text in (("type", column.type), ("base_type", column.base_type)):
            if not is_type_name(text):
                yield f"no name of a type in the {field} of column {column.name!r}"
    if len(set(names)) != len(names) or any(not name or "\0" in name for name in names):
        yield "columns whose names are not names, or not each its own"
    if not manifest.table.primary_key or not {*manifest.table.primary_key, manifest.table.date_column} <= set(names):
        yield "a primary key or date column that is none of its columns"
    if shape_sha256(manifest.table) != manifest.shape_sha256:
        yield "a table that does not give its shape_sha256"


def _faults_of_parts(manifest: Manifest, archive: ArchiveId) -> Iterator[str]:
    parts = manifest.parts
    if not parts or [part.number for part in parts] != list(range(len(parts))):
        yield "parts that are not numbered 0, 1, 2, …"
    for part in parts:
        if part.object_key != archive.part_key(part.number, manifest.compression_type, manifest.format):
            yield f"part {part.number} at {part.object_key}, not in the archive's own folder and of its own name"
        if not manifest.window_start <= part.start_at < part.end_at <= manifest.window_end:
            yield f"part {part.number} with a slice outside the window"
        if _SNAPSHOT.fullmatch(part.snapshot) is None:
            yield f"part {part.number} with a snapshot that is none"
        if part.share >= part.shares:
            yield f"part {part.number} that is share {part.share} of {part.shares}"
    for field in ("record_count", "original_size", "compressed_size"):
        if getattr(manifest, field) != sum(getattr(part, field) for part in parts):
            yield f"a {field} that is not the sum of its parts"
    if hashlib.sha256(sha256_sums(parts)).hexdigest() != manifest.checksum:
        yield "sums of parts that do not give its checksum"


def _require_attested(store: Store, archive: ArchiveId, body: bytes) -> None:
    copy = _read_only_version(store, archive, archive.seal_key)
    if copy is None:
        raise _damaged(store, archive, f"no copy of it at {archive.seal_key}")
    if copy != body:
        try:
            written = json.loads(copy)
            fields = sorted(name for name, value in json.loads(body).items() if written.get(name) != value)
        except (ValueError, AttributeError, RecursionError):
            fields = []
        what = f"in {', '.join(fields)}" if fields else "in its bytes"
        raise _damaged(store, archive, f"one that differs {what} from its copy at {archive.seal_key}")


def _damaged(store: Store, archive: ArchiveId, found: str, key: str | None = None) -> IntegrityError:
    one_version = key is not None
    return IntegrityError(
        f"{store}{key or archive.manifest_key} is not a sound manifest",
        expected="one version and no delete marker"
        if one_version
        else f"the manifest of {archive}, format version 1 or 2",
        found=found,
        hint=f"Nothing was deleted or loaded. It and its copy {archive.seal_key} were written once, with the same bytes. "
        "List all versions of both. Let an administrator of the bucket remove, by their version ids, delete markers and all "
        "versions but the right one, which is the first unless that one is damaged; put nothing over it. If no version of "
        "one is right, remove them all, then write the bytes of the other. docs/howto/when-a-task-fails.md shows the commands.",
    )


def archive_ids(
    store: Store, schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> Iterator[ArchiveId]:
    """Ids of all sealed archives, of all tables, one table, or one partition; also where a delete marker hides one."""
    seen = set()
    for version in store.versions(manifest_prefix(schema_name, table_name, partition_key)):
        archive = None if version.is_marker else manifest_archive_id(version.key)
        if archive is not None and archive not in seen:
            seen.add(archive)
            yield archive


def require_manifest(store: Store, archive: ArchiveId) -> Manifest:
    """:func:`read_manifest`, where a missing one is an error.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    manifest = read_manifest(store, archive)
    if manifest is None and is_destroyed(store, archive):
        raise IntegrityError(
            f"{archive} was destroyed",
            found=f"its certificate {store}{archive.destruction_key}",
            hint="Nothing was deleted or loaded. Its term was over; nothing of it is left to restore.",
        )
    if manifest is None and store.head(archive.seal_key) is not None:
        raise IntegrityError(
            f"the manifest of {archive} is gone from {store}",
            expected=archive.manifest_key,
            found=f"only its copy {archive.seal_key}",
            hint="Nothing was deleted or loaded. If no run is sealing it just now, somebody removed the manifest: let an "
            "administrator of the bucket remove what delete markers lie there, then write it, byte for byte as the copy.",
        )
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


def require_part_of(manifest: Manifest, part: VerifiedPart) -> None:
    """See that a verification record speaks of the part that the manifest lists.

    Raises:
        IntegrityError: Object, version, sums or counts differ.
    """
    sealed = manifest.verified_part(part.number) if part.number < len(manifest.parts) else None
    volatile = {"verified_at", "proved_rows", "expected_rows"}
    if sealed is None or sealed.model_dump(exclude=volatile) != part.model_dump(exclude=volatile):
        raise IntegrityError(
            f"the verification record of {part.archive_id} part {part.number} does not agree with its manifest",
            expected="no such part"
            if sealed is None
            else f"{sealed.object_key} version {sealed.version_id} {sealed.sha256}",
            found=f"{part.object_key} version {part.version_id} {part.sha256}",
            hint="No row was deleted. Clear 'plan' and the tasks after it.",
        )


def require_object(store: Store, part: VerifiedPart) -> None:
    """See that the version that was verified is still in the store.

    Raises:
        IntegrityError: It is gone, or another object.
    """
    found = store.head(part.object_key, part.version_id)
    if found is None or (found.etag, found.size_bytes) != (part.etag, part.compressed_size_bytes):
        raise IntegrityError(
            f"{store}{part.object_key} is no longer the object that was verified",
            expected=f"version {part.version_id}, {part.compressed_size_bytes} bytes, ETag {part.etag}",
            found="nothing" if found is None else f"{found.size_bytes} bytes, ETag {found.etag}",
            hint="No row was deleted. Find out who changed the store before anything else; then run the partition again.",
        )
