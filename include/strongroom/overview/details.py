"""Everything about one archive: its manifest, each of its objects as the store has it now, and what became of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from strongroom.archive.report import RunReport
from strongroom.errors import IntegrityError
from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.manifests import read_manifest
from strongroom.ledger.reread import read_deletions
from strongroom.object_keys import ArchiveId
from strongroom.retention.certificate import Certificate, read_certificate
from strongroom.storage.store import ObjectVersion, Store

MOST_OBJECTS = 100
"""More parts than this are not looked at; the manifest has them all."""


@dataclass(frozen=True)
class PartObject:
    """One part: what the manifest says, and what the store has now.

    Attributes:
        present: The very version that was verified; None if it is gone.
        hidden: Whether a read by name alone finds something else, or nothing.
    """

    part: ManifestPart
    present: ObjectVersion | None
    hidden: bool


@dataclass(frozen=True)
class ArchiveDetails:
    """One archive.

    Attributes:
        manifest: None if the archive was destroyed, or its manifest is not sound.
        objects: The first parts, in their order.
        sums: SHA256SUMS as the store has it now; None if it is gone.
        sealed: The manifest's own object; None if it is gone.
        deletions: What became of each part's rows; None for a part whose delete has not ended.
        report: What its run left out and why; None if there is none.
        certificate: That it was destroyed; None while it exists.
        problems: What could not be read, and why.
    """

    archive: ArchiveId
    manifest: Manifest | None
    objects: Sequence[PartObject] = ()
    sums: ObjectVersion | None = None
    sealed: ObjectVersion | None = None
    deletions: Sequence[DeleteEvidence | None] = ()
    report: RunReport | None = None
    certificate: Certificate | None = None
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
        if certificate is None and not problems and store.head(archive.seal_key) is None:
            return None
        return ArchiveDetails(archive, None, certificate=certificate, problems=tuple(problems))
    try:
        deletions = read_deletions(store, manifest)
    except IntegrityError as error:
        problems.append(str(error))
    with ThreadPoolExecutor(store.connections) as lookers:
        objects = list(lookers.map(lambda part: _look(store, part), manifest.parts[:MOST_OBJECTS]))
    return ArchiveDetails(
        archive,
        manifest,
        objects,
        sums=store.head(archive.sums_key),
        sealed=store.head(archive.manifest_key),
        deletions=deletions,
        report=read_run_report(store, archive),
        certificate=certificate,
        problems=tuple(problems),
    )


def read_run_report(store: Store, archive: ArchiveId) -> RunReport | None:
    """What the archive's run reported; None if it has not ended, or the report cannot be read. It proves nothing."""
    present = store.read(archive.report_key)
    try:
        return None if present is None else RunReport.model_validate_json(present[0])
    except ValidationError:
        return None


def _look(store: Store, part: ManifestPart) -> PartObject:
    present = store.head(part.object_key, part.version_id)
    newest = store.head(part.object_key)
    return PartObject(part, present, hidden=newest is None or newest.version_id != part.version_id)
