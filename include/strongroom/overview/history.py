"""The story of one calendar partition, as the store has it on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from strongroom.errors import StrongroomError
from strongroom.ledger.holds import Hold, read_holds
from strongroom.object_keys.archives import ArchiveId, certified
from strongroom.object_keys.records import evidence_prefix
from strongroom.overview.details import read_run_report
from strongroom.overview.facts import ArchiveFacts
from strongroom.records import Exclusion
from strongroom.restore.history import Restore, read_restores
from strongroom.retention.certificate import Certificate, read_certificate
from strongroom.statistics.proofs import Reading, latest_readings
from strongroom.storage.store import Store

_MOST_READINGS = 20

Told = TypeVar("Told")


@dataclass(frozen=True)
class History:
    """What happened to the archives of a partition, the latest first.

    Attributes:
        excluded: What the run of the newest archive left in the table, and why.
        problems: What could not be read, and why; the rest is here all the same.
    """

    readings: Sequence[Reading]
    restores: Sequence[Restore]
    holds: Sequence[Hold]
    certificates: Sequence[Certificate]
    excluded: Sequence[Exclusion] = ()
    problems: tuple[str, ...] = ()


def read_history(
    store: Store, schema_name: str, table_name: str, partition_key: str, newest: ArchiveId | None
) -> History:
    """Read what the store has on record about a partition. What cannot be read costs its own part alone.

    Args:
        store: Where its archives lie.
        schema_name: Of the table.
        table_name: Of the table.
        partition_key: Which partition.
        newest: Its newest archive, if there is one.
    """
    problems: list[str] = []

    def told(ask: Callable[[], Sequence[Told]]) -> Sequence[Told]:
        try:
            return ask()
        except StrongroomError as error:
            problems.append(str(error))
            return ()

    any_archive = ArchiveId(schema_name, table_name, partition_key, 1)

    def holds() -> list[Hold]:
        found = (hold for hold in read_holds(store) if concerns(hold, any_archive))
        return sorted(found, key=lambda hold: hold.placed_at, reverse=True)

    def certificates() -> list[Certificate]:
        destroyed = certified(store.keys(evidence_prefix(schema_name, table_name, partition_key)))
        found = [read_certificate(store, archive) for archive in destroyed]
        return sorted(filter(None, found), key=lambda one: one.destroyed_at, reverse=True)

    def excluded() -> Sequence[Exclusion]:
        report = read_run_report(store, newest) if newest is not None else None
        return report.exclusions if report is not None else ()

    return History(
        readings=told(lambda: latest_readings(store, schema_name, table_name, partition_key, most=_MOST_READINGS)),
        restores=told(
            lambda: [
                one for one in read_restores(store, schema_name, table_name) if partition_key in one.partition_keys
            ]
        ),
        holds=told(holds),
        certificates=told(certificates),
        excluded=told(excluded),
        problems=tuple(problems),
    )


def concerns(hold: Hold, archive: ArchiveId) -> bool:
    """Whether a hold covers something of the partition that an archive is of: all of it, or one of its archives."""
    return hold.covers(archive) or hold.what.startswith(f"{archive.table_folder}.{archive.partition_key}.")


@dataclass(frozen=True)
class Whereabouts:
    """Where the archived rows of a partition went. The parts add up to ``archived``."""

    archived: int
    parts: tuple[tuple[str, int], ...]


def whereabouts(archives: Iterable[ArchiveFacts]) -> Whereabouts:
    """Add up what the evidence of the deletes says; rows of archives whose delete has not ended are counted apart."""
    sums = dict.fromkeys(
        ("deleted", "gone", "changed", "referenced", "kept by a trigger", "in detached partitions", "not yet deleted"),
        0,
    )
    archived = 0
    for one in archives:
        archived += one.record_count
        left = one.left
        sums["not yet deleted"] += one.record_count - (left.rows if left else 0)
        if left is not None:
            for name, rows in zip(
                sums,
                (left.deleted, left.gone, left.changed, left.referenced, left.kept_by_trigger, left.detached),
                strict=False,
            ):
                sums[name] += rows
    return Whereabouts(archived, tuple((name, rows) for name, rows in sums.items() if rows))
