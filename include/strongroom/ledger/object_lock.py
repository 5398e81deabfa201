"""S3's Object Lock on archives: parts, SHA256SUMS, manifest and its copy cannot be removed before the term is over.

A lock ends at the manifest's `retention_until`. It is only ever extended. Nothing here lifts a lock: in governance mode
an administrator can, in compliance mode nobody can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record
from strongroom.storage.store import Store

_LOCKERS = 8


class ShortLock(Record):
    """An object of an archive that could be removed before the archive's term is over."""

    archive_id: str
    key: str
    locked_until: datetime | None
    retention_until: datetime


def lock_archive(store: Store, manifest: Manifest, *, mode: str, now: datetime) -> int:
    """Lock every object of a sealed archive until its term is over; a repeat changes nothing.

    Args:
        mode: ``governance`` or ``compliance``.
        now: Aware instant; an archive whose term is over is left as it is.

    Returns:
        How many objects were locked, or locked for longer.

    Raises:
        IntegrityError: One of them is gone.
        StoreAccessError: This identity may not lock.
    """
    if manifest.retention_until <= now:
        return 0
    with ThreadPoolExecutor(_LOCKERS) as lockers:
        locked = lockers.map(
            lambda place: store.lock(*place, mode=mode, until=manifest.retention_until), _objects(store, manifest)
        )
        return sum(locked)


def short_locks(store: Store, manifests: Iterable[Manifest], *, now: datetime) -> Iterator[ShortLock]:
    """Objects that are locked for less than the rest of their archive's term, or not at all, archive by archive."""
    for manifest in manifests:
        if manifest.retention_until <= now:
            continue
        for key, version_id in _objects(store, manifest):
            present = store.locked_until(key, version_id)
            until = None if present is None else present[1]
            if until is None or until < manifest.retention_until.replace(microsecond=0):
                yield ShortLock(
                    archive_id=manifest.archive_id,
                    key=key,
                    locked_until=until,
                    retention_until=manifest.retention_until,
                )


def _objects(store: Store, manifest: Manifest) -> list[tuple[str, str | None]]:
    """Key and version of each object of an archive; for SHA256SUMS, the manifest and its copy the newest version."""
    archive = ArchiveId.parse(manifest.archive_id)
    parts = [(part.object_key, part.version_id) for part in manifest.parts]
    newest = ((key, store.head(key)) for key in (archive.sums_key, archive.seal_key, archive.manifest_key))
    return [*parts, *((key, found.version_id if found else None) for key, found in newest)]
