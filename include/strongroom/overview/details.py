"""Everything about one archive: its manifest, each of its objects as the store has it now, and what became of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from strongroom.archive.report import RunReport
from strongroom.errors import IntegrityError, StoreAccessError
from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.journal import Place, place_of
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import read_manifest
from strongroom.ledger.reread import read_deletions
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.retention.certificate import Certificate, read_certificate
from strongroom.storage.store import ObjectVersion, Store
from strongroom.storage.versions import StoredVersion, by_key

MOST_OBJECTS = 100
"""More parts than this are not looked at; the manifest has them all."""


@dataclass(frozen=True)
class StoredObject:
    """One object of an archive: what the manifest says, and what the store has now.

    Attributes:
        version_id: The version that was verified; of SHA256SUMS and of the manifest, the newest.
        rows: None for an object without rows.
        now: ``there``; ``missing``; or ``hidden``: a read by name alone finds something else, or nothing.
        seen: How it is encrypted and locked; None if it is gone, or if this identity may not read it.
    """

    key: str
    version_id: str | None
    sha256: str
    rows: int | None
    size_bytes: int | None
    now: Literal["there", "hidden", "missing"]
    seen: ObjectVersion | None


@dataclass(frozen=True)
class ArchiveDetails:
    """One archive.

    Attributes:
        manifest: None if the archive was destroyed, or its manifest is not sound.
        objects: The first parts in their order, SHA256SUMS and the manifest.
        deletions: What became of each part's rows; None for a part whose delete has not ended.
        report: What its run left out and why; None if there is none.
        certificate: That it was destroyed; None while it exists.
        logged: Where the store's log has its seal, or its destruction; None for a store without a log.
        problems: What could not be read, and why.
    """

    archive: ArchiveId
    manifest: Manifest | None
    objects: Sequence[StoredObject] = ()
    deletions: Sequence[DeleteEvidence | None] = ()
    report: RunReport | None = None
    certificate: Certificate | None = None
    logged: Place | None = None
    problems: tuple[str, ...] = ()


def read_details(store: Store, archive: ArchiveId) -> ArchiveDetails | None:
    """Read everything about an archive. What is damaged is named and costs its own part; None if there never was such an archive.

    Raises:
        StoreError: The store failed.
    """
    problems: list[str] = []
    manifest, certificate, deletions = None, None, []
    try:
        manifest = read_manifest(store, archive)
    except IntegrityError as error:
        problems.append(str(error))
    try:
        certificate = read_certificate(store, archive)
    except IntegrityError as error:
        problems.append(str(error))
    if manifest is None:
        if certificate is None and not problems and store.read(archive.seal_key) is None:
            return None
        logged = place_of(store, proof_key(archive.destruction_key)) if certificate is not None else None
        return ArchiveDetails(archive, None, certificate=certificate, logged=logged, problems=tuple(problems))
    try:
        deletions = read_deletions(store, manifest)
    except IntegrityError as error:
        problems.append(str(error))
    return ArchiveDetails(
        archive,
        manifest,
        _look_at_objects(store, archive, manifest),
        deletions=deletions,
        report=read_run_report(store, archive),
        certificate=certificate,
        logged=place_of(store, proof_key(archive.seal_key)),
        problems=tuple(problems),
    )


def read_run_report(store: Store, archive: ArchiveId) -> RunReport | None:
    """What the archive's run reported; None if it has not ended, or the report cannot be read. It proves nothing."""
    present = store.read(archive.report_key)
    try:
        return None if present is None else RunReport.model_validate_json(present[0])
    except ValidationError:
        return None


def _look_at_objects(store: Store, archive: ArchiveId, manifest: Manifest) -> list[StoredObject]:
    listed = by_key((*store.versions(archive.archive_prefix), *store.versions(archive.manifest_key)))
    wanted: list[tuple[str, str | None, str, int | None]] = [
        (part.object_key, part.version_id, part.sha256, part.record_count) for part in manifest.parts[:MOST_OBJECTS]
    ]
    for key, sha256 in ((archive.sums_key, manifest.checksum), (archive.manifest_key, manifest.sha256)):
        newest = listed.get(key, ())[-1:]
        wanted.append((key, newest[0].version_id if newest else None, sha256, None))
    with ThreadPoolExecutor(store.connections) as lookers:
        return list(lookers.map(lambda one: _look(store, listed.get(one[0], ()), *one), wanted))


def _look(
    store: Store,
    versions: Sequence[StoredVersion],
    key: str,
    version_id: str | None,
    sha256: str,
    rows: int | None,
) -> StoredObject:
    found = [one for one in versions if not one.is_marker and one.version_id == (version_id or "null")]
    if not found:
        return StoredObject(key, version_id, sha256, rows, None, "missing", None)
    now: Literal["there", "hidden"] = "there" if found[0] is versions[-1] else "hidden"
    try:
        seen = store.head(key, version_id)
    except StoreAccessError:  # a reader's identity may list parts, and not read rows
        seen = None
    return StoredObject(key, version_id, sha256, rows, found[0].size_bytes, now, seen)
