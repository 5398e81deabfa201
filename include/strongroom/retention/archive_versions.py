"""All versions of the objects of an archive, and the Object Locks that keep them, their second copies, or what was sealed together with them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.units import ids_of_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.second_copy import SecondCopy
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion

_READERS = 8


def versions_of(store: Store, archive: ArchiveId) -> list[StoredVersion]:
    """All versions and delete markers of an archive, in the order in which a purge removes them.

    The parts come first, with anything else in their folder, then SHA256SUMS, and the manifest last. Of one object, older
    versions come before newer ones, so that none is uncovered, and delete markers after the versions they hide.
    """
    folder = store.versions(archive.archive_prefix)
    manifest = (version for version in store.versions(archive.manifest_key) if version.key == archive.manifest_key)
    ranks = {archive.sums_key: 1, archive.manifest_key: 2}
    return sorted(
        (*folder, *manifest),
        key=lambda one: (ranks.get(one.key, 0), one.key, one.is_marker, one.modified_at, one.is_latest),
    )


def locks_on(
    purge_store: PurgeStore,
    versions: Sequence[StoredVersion],
    second: SecondCopy | None,
    copies: Sequence[StoredVersion],
) -> list[str]:
    """A sentence for each lock on the versions of an archive's objects.

    Args:
        versions: In the store.
        second: The replica, if there is one.
        copies: In the replica.
    """
    found = _locks(purge_store, versions)
    if second is not None:
        found += [f"in the replica {lock}" for lock in _locks(second.purge_store, copies)]
    return found


def locks_on_unit(purge_store: PurgeStore, second: SecondCopy | None, manifest: Manifest) -> list[str]:
    """A sentence for each lock on other archives that were sealed together with one: objects are kept whole."""
    found = []
    for other in map(ArchiveId.parse, ids_of_unit(manifest)[1:]):
        copies = [] if second is None else versions_of(second.purge_store, other)
        locks = locks_on(purge_store, versions_of(purge_store, other), second, copies)
        found += [f"{other} was sealed together with it, and {lock}" for lock in locks]
    return found


def _locks(purge_store: PurgeStore, versions: Sequence[StoredVersion]) -> list[str]:
    if not versions or not purge_store.may_hold_locks:
        return []
    with ThreadPoolExecutor(_READERS) as lookers:
        locks = lookers.map(purge_store.lock_of, versions)
        return [
            f"{version.key} version {version.version_id} is under {lock}"
            for version, lock in zip(versions, locks, strict=True)
            if lock is not None
        ]
