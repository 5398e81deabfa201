"""Read sealed archives back again and compare them, with nothing but the store; and read what became of their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from strongroom.errors import FrozenError, IntegrityError, StrongroomError
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.ledger.evidence import DeleteEvidence, parse_evidence
from strongroom.ledger.manifest_record import Manifest, sha256_sums
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record, VerifiedPart
from strongroom.storage.either import read_copy
from strongroom.storage.store import Store

_GRAVITY = ("sound", "hidden", "corrupted", "missing")


class PartVerdict(Record):
    """What became of one object of an archive.

    ``sound``: read back and equal. ``corrupted``: other bytes. ``missing``: not there. ``hidden``: the version that was
    verified is sound, but a delete marker or another version lies over it, so a read by name alone returns something
    else, and a lifecycle rule for old versions would remove it.
    """

    object_key: str
    rows: int
    result: Literal["sound", "corrupted", "missing", "hidden"]
    detail: str = ""
    replica: Literal["sound", "unsound"] | None = Field(
        default=None,
        exclude_if=lambda state: state is None,
        description="What its second copy is, which is read only if this one is corrupted or missing.",
    )


class ArchiveVerdict(Record):
    """The state of a sealed archive now."""

    archive_id: str
    record_count: int
    objects: tuple[PartVerdict, ...]
    problem: str | None = Field(default=None, description="Why its objects could not be compared.")

    @property
    def result(self) -> Literal["sound", "corrupted", "missing", "hidden", "unverifiable"]:
        """The worst result of its objects; ``unverifiable`` if there is no manifest to compare them with."""
        if self.problem is not None:
            return "unverifiable"
        return max((one.result for one in self.objects), key=_GRAVITY.index, default="sound")

    @property
    def sound(self) -> bool:
        """Whether each object was read back and matched."""
        return self.result == "sound"


def read_deletions(store: Store, manifest: Manifest) -> list[DeleteEvidence | None]:
    """For each part of an archive, the evidence that its rows were deleted; None if they were not."""
    archive = ArchiveId.parse(manifest.archive_id)
    keys = [archive.delete_evidence_key(part.number) for part in manifest.parts]
    found = ((f"{store}{key}", store.read(key)) for key in keys)
    return [parse_evidence(where, present[0]) if present else None for where, present in found]


def verify_archive(store: Store, archive: ArchiveId) -> ArchiveVerdict:
    """Read every object of a sealed archive and compare it with the manifest.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    return verify_manifest(store, archive, require_manifest(store, archive))


def verify_manifest(store: Store, archive: ArchiveId, manifest: Manifest) -> ArchiveVerdict:
    """Read every object of a sealed archive and compare it with a manifest."""
    parts = [_verify(store, manifest.verified_part(part.number)) for part in manifest.parts]
    return ArchiveVerdict(
        archive_id=manifest.archive_id,
        record_count=manifest.record_count,
        objects=(*parts, _verify_sums(store, archive, manifest)),
    )


def doubt_about(store: Store, archive: ArchiveId) -> str:
    """Verify an archive again, and say why rows must not be dropped because of it; empty if they may.

    Raises:
        IntegrityError: There is no manifest, or it is damaged.
    """
    try:
        verdict = verify_archive(store, archive)
    except FrozenError as error:
        return error.what
    return "" if verdict.sound else f"its archive {archive} is {verdict.result}"


def _verify(store: Store, part: VerifiedPart) -> PartVerdict:
    if store.head(part.object_key, part.version_id) is None:
        detail = f"version {part.version_id} is not there"
        other = read_copy(store, part.object_key, lambda chunks: _require_part(part, chunks))
        if other is not None and _is_newest(store, part, other[1]):
            detail = f"{detail}; version {other[1]} has the same content"
            return PartVerdict(object_key=part.object_key, rows=part.rows, result="sound", detail=detail)
        return _unsound(store, part, "missing", detail)
    if (difference := _difference(store, part)) is not None:
        return _unsound(store, part, "corrupted", difference)
    if (hidden := what_hides(store, part)) is not None:
        return PartVerdict(object_key=part.object_key, rows=part.rows, result="hidden", detail=hidden)
    return PartVerdict(object_key=part.object_key, rows=part.rows, result="sound")


def _unsound(store: Store, part: VerifiedPart, result: Literal["missing", "corrupted"], detail: str) -> PartVerdict:
    """The verdict on an object that is not sound, after a look at its second copy."""
    state: Literal["sound", "unsound"] | None = None
    try:
        if store.replica is not None:
            found = read_copy(store.replica, part.object_key, lambda chunks: _require_part(part, chunks))
            state = "sound" if found is not None else "unsound"
            detail = f"{detail}; its copy in the replica {store.replica} is {state}"
    except StrongroomError as error:
        detail = f"{detail}; the replica could not be read: {error.what}"
    return PartVerdict(object_key=part.object_key, rows=part.rows, result=result, detail=detail, replica=state)


def _is_newest(store: Store, part: VerifiedPart, version_id: str) -> bool:
    newest = store.head(part.object_key)
    return newest is not None and newest.version_id == version_id


def _require_part(part: VerifiedPart, chunks: Iterator[bytes]) -> None:
    reading = ReadingBack(part, chunks)
    for _ in reading.blocks():
        pass
    require_equal(part, reading.result())


def _difference(store: Store, part: VerifiedPart) -> str | None:
    """Why an object is not the part; None if it is."""
    try:
        _require_part(part, store.chunks(part.object_key, part.version_id))
    except IntegrityError as error:
        expected = "" if error.expected is None else f"expected {error.expected}, "
        return f"{error.what}: {expected}found {error.found}"
    return None


def what_hides(store: Store, part: VerifiedPart) -> str | None:
    """What lies over the version that was verified; None if nothing does, or only a copy with the same content."""
    newest = store.head(part.object_key)
    if newest is None:
        return f"a delete marker covers version {part.version_id}"
    if newest.version_id == part.version_id:
        return None
    over = part.model_copy(update={"version_id": newest.version_id})
    if newest.size_bytes == part.compressed_size_bytes and _difference(store, over) is None:
        return None
    return f"version {newest.version_id}, which is another object, covers version {part.version_id}"


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
