"""Which archives are to be copied to a replica, or compared with their copies again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from strongroom.ledger.copies import Latest, latest_copies, place_of
from strongroom.object_keys.archives import ArchiveId, manifest_archive_id, manifest_prefix
from strongroom.replication.records import ReplicaLane
from strongroom.storage.store import Store

MOST_LANES = 1000
"""Airflow maps a task over at most 1,024 values."""


def choose_due(
    archives: Sequence[ArchiveId], latest: Mapping[ArchiveId, Latest], *, now: datetime, compare_days: int
) -> list[ArchiveId]:
    """The archives without a sound comparison, then those whose comparison is older than some days, the oldest first."""
    before = now - timedelta(days=compare_days)
    sound = {archive: one.at for archive, one in latest.items() if one.result == "same"}
    fresh = [archive for archive in archives if archive not in sound]
    again = sorted(
        (archive for archive in archives if archive in sound and sound[archive] <= before), key=sound.__getitem__
    )
    return fresh + again


def due_in(store: Store, archives: Sequence[ArchiveId], *, now: datetime, compare_days: int) -> list[ArchiveId]:
    """:func:`choose_due` for a store with a replica. An archive that the replica does not list was never compared: it may be emptied."""
    if store.replica is None:
        return []
    there = {manifest_archive_id(key) for key in store.replica.keys(manifest_prefix())}
    latest = latest_copies(store, place_of(store.replica.settings))
    known = {archive: one for archive, one in latest.items() if archive in there}
    return choose_due(archives, known, now=now, compare_days=compare_days)


def cut_lanes(due: Sequence[tuple[str, ArchiveId]]) -> list[ReplicaLane]:
    """Group archives for tasks, one each; where they are too many for that, several of one store.

    Args:
        due: Each with the configured table whose settings open its store.
    """
    by_table: dict[str, list[str]] = {}
    for store_table, archive in due:
        by_table.setdefault(store_table, []).append(str(archive))
    size = 1
    while sum(-(-len(ids) // size) for ids in by_table.values()) > MOST_LANES:
        size += 1
    return [
        ReplicaLane(store_table=table, archives=tuple(ids[start : start + size]))
        for table, ids in by_table.items()
        for start in range(0, len(ids), size)
    ]
