"""Verify sealed archives again, with nothing but the store, and read what became of their rows."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from strongroom.checksum import ReadingBack, require_equal
from strongroom.delete import DeleteEvidence
from strongroom.errors import IntegrityError
from strongroom.manifest import Manifest, require_manifest, sha256_sums
from strongroom.object_keys import ArchiveId
from strongroom.records import Record, VerifiedPart
from strongroom.store import Store


class PartVerdict(Record):
    """What became of one object of an archive.

    ``sound``: read back and equal. ``corrupted``: other bytes. ``missing``: not there.
    """

    object_key: str
    rows: int
    result: Literal["sound", "corrupted", "missing"]
    detail: str = ""


class ArchiveVerdict(Record):
    """What a sealed archive is worth now."""

    archive_id: str
    record_count: int
    objects: tuple[PartVerdict, ...]
    problem: str | None = Field(default=None, description="Why nothing can be said of its objects.")

    @property
    def result(self) -> Literal["sound", "corrupted", "missing", "unverifiable"]:
        """The worst of its objects' results; ``unverifiable`` where there is no manifest to compare them with."""
        if self.problem is not None:
            return "unverifiable"
        results = {one.result for one in self.objects}
        return "missing" if "missing" in results else "corrupted" if "corrupted" in results else "sound"

    @property
    def sound(self) -> bool:
        """Whether each object was read back and matched."""
        return self.result == "sound"


def read_deletions(store: Store, manifest: Manifest) -> list[DeleteEvidence | None]:
    """For each part of an archive the evidence that its rows were deleted, or None while they were not."""
    archive = ArchiveId.parse(manifest.archive_id)
    found = (store.read(archive.delete_evidence_key(part.number)) for part in manifest.parts)
    return [DeleteEvidence.model_validate_json(present[0]) if present else None for present in found]


def verify_archive(store: Store, archive: ArchiveId) -> ArchiveVerdict:
    """Read every object of a sealed archive and compare it with the manifest.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    manifest = require_manifest(store, archive)
    parts = [_verify(store, manifest.verified_part(part.number)) for part in manifest.parts]
    return ArchiveVerdict(
        archive_id=manifest.archive_id,
        record_count=manifest.record_count,
        objects=(*parts, _verify_sums(store, archive, manifest)),
    )


def _verify(store: Store, part: VerifiedPart) -> PartVerdict:
    if store.head(part.object_key, part.version_id) is None:
        return PartVerdict(object_key=part.object_key, rows=part.rows, result="missing")
    reading = ReadingBack(part, store.chunks(part.object_key, part.version_id))
    try:
        for _ in reading.blocks():
            pass
        require_equal(part, reading.result())
    except IntegrityError as error:
        detail = f"{error.what}: expected {error.expected}, found {error.found}"
        return PartVerdict(object_key=part.object_key, rows=part.rows, result="corrupted", detail=detail)
    return PartVerdict(object_key=part.object_key, rows=part.rows, result="sound")


def _verify_sums(store: Store, archive: ArchiveId, manifest: Manifest) -> PartVerdict:
    present = store.read(archive.sums_key)
    expected = sha256_sums(manifest.parts)
    if present is None:
        return PartVerdict(object_key=archive.sums_key, rows=0, result="missing")
    if present[0] != expected:
        found = hashlib.sha256(present[0]).hexdigest()
        detail = f"SHA-256 of SHA256SUMS: expected {manifest.checksum}, found {found}"
        return PartVerdict(object_key=archive.sums_key, rows=0, result="corrupted", detail=detail)
    return PartVerdict(object_key=archive.sums_key, rows=0, result="sound")
