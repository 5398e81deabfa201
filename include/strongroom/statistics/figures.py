"""What the archives hold, what waits to be archived, and what it costs: pure functions over archives and counts.

A gibibyte has 2^30 bytes, as on the bills for storage. What an archived row would cost in the table is an estimate: it
takes the row to be as large as those in the table now, indexes included, or as its archived form if the table is empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from croniter import croniter  # type: ignore[import-untyped]

from strongroom.calendar import Frequency, Partition, hot_until, newest_due
from strongroom.erasure.clock import StoreCases
from strongroom.ledger.copies import place_of
from strongroom.ledger.holds import Hold, covering
from strongroom.ledger.index import DamagedManifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import Prices, Settings, TableSettings, qualify
from strongroom.statistics.proofs import Proofs
from strongroom.statistics.records import Figures, Growth, NextRun, Statistics, TableStatistics, TierCost, Uncounted
from strongroom.statistics.waiting import TableCounts

GIBIBYTE = 1 << 30
IN_DATABASE = ("hot", "warm")
"""Tiers that are tables; the others are storage classes of S3."""


class Archived(Protocol):
    """What the figures need of an archive: a manifest has it, and so have the facts that the map keeps."""

    @property
    def archive_id(self) -> str: ...
    @property
    def table_name(self) -> str: ...
    @property
    def partition_key(self) -> str: ...
    @property
    def window_start(self) -> datetime: ...
    @property
    def window_end(self) -> datetime: ...
    @property
    def record_count(self) -> int: ...
    @property
    def original_size(self) -> int: ...
    @property
    def compressed_size(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def retention_until(self) -> datetime: ...
    @property
    def storage_class(self) -> str: ...


def make_statistics(
    settings: Settings,
    archives: Iterable[Archived],
    *,
    damaged: Sequence[DamagedManifest] = (),
    counts: Mapping[str, TableCounts | Uncounted] | None = None,
    holds: Sequence[Hold] = (),
    proofs: Proofs | None = None,
    cases: Sequence[StoreCases] = (),
    now: datetime,
) -> Statistics:
    """Put everything together.

    Args:
        settings: Of all tables.
        archives: All sealed ones, as their manifests or as facts, in any order.
        damaged: Manifests that say nothing reliable.
        counts: What the source database holds, or why that is unknown, by the table's qualified name.
        holds: In force.
        proofs: When archives were last read again or restored.
        cases: Requests of persons, by store.
        now: Aware UTC instant.
    """
    counts, proofs = counts or {}, proofs or Proofs()
    configured = {table.qualified_name: table for table in settings.tables.values()}
    named = (*configured, *map(qualify, settings.left_out))
    by_table: dict[str, list[Archived]] = {name: [] for name in named}
    for archive in archives:
        by_table.setdefault(archive.table_name, []).append(archive)
    unknown = sorted(set(by_table) - set(named))
    tables = [
        _table(name, configured.get(name), by_table[name], counts.get(name), holds, proofs, now)
        for name in (*named, *unknown)
    ]
    return Statistics(
        made_at=now,
        total=_total(tables),
        tables=tuple(tables),
        damaged=tuple(damaged),
        holds=len(holds),
        last_restored_at=proofs.last_restored_at,
        cases=tuple(cases),
    )


def next_run(settings: TableSettings, now: datetime) -> NextRun:
    """The next tick of the schedule, and the partition it archives: the oldest if several share the tick."""
    newest = newest_due(settings.frequency, settings.hot_retention, now)
    partition = newest.next() if newest else Partition.containing(settings.frequency, now)
    while newest is not None and run_at(settings, newest) > now:
        partition, newest = newest, newest.previous()
    return NextRun(partition_key=partition.key, at=run_at(settings, partition))


def run_at(settings: TableSettings, partition: Partition) -> datetime:
    """The first tick of the table's cron at or after the end of the partition's hot retention."""
    due_at = hot_until(partition.window, settings.hot_retention)
    tick: datetime = croniter(settings.cron, due_at - timedelta(seconds=1)).get_next(datetime)
    return tick


def _table(
    name: str,
    settings: TableSettings | None,
    archives: Sequence[Archived],
    counts: TableCounts | Uncounted | None,
    holds: Sequence[Hold],
    proofs: Proofs,
    now: datetime,
) -> TableStatistics:
    verified = proofs.verified
    prices = settings.prices if settings else Prices()
    counted = counts if isinstance(counts, TableCounts) else None
    archived = {archive.partition_key for archive in archives}
    held = {one.archive_id for one in archives if covering(holds, ArchiveId.parse(one.archive_id))}
    read_at = [max(verified.get(one.archive_id, one.created_at), one.created_at) for one in archives]
    costs = _costs(archives, counted, settings, now)
    return TableStatistics(
        table=name,
        configured=settings is not None,
        archives=len(archives),
        rows=sum(one.record_count for one in archives),
        original_size_bytes=sum(one.original_size for one in archives),
        compressed_size_bytes=sum(one.compressed_size for one in archives),
        oldest_at=min((one.window_start for one in archives), default=None),
        newest_at=max((one.window_end for one in archives), default=None),
        hot_rows=counted.hot_rows if counted else None,
        hot_bytes=counted.hot_bytes if counted else None,
        overdue_rows=_waiting(counted, lambda key: key not in archived),
        late_rows=_waiting(counted, lambda key: key in archived),
        undated_rows=counted.undated_rows if counted else None,
        uncounted=counts.reason if isinstance(counts, Uncounted) else None,
        growth=_growth(archives),
        costs=costs,
        saved_usd_per_month=_hot_cost_of_archived(archives, counted, prices) - _archive_cost(costs),
        next_run=next_run(settings, now) if settings else None,
        next_expiry_at=min((one.retention_until for one in archives if one.archive_id not in held), default=None),
        held_archives=len(held),
        last_verified_at=max(
            (verified[one.archive_id] for one in archives if one.archive_id in verified), default=None
        ),
        longest_unverified_at=min(read_at, default=None),
        undrilled_since=_undrilled_since(archives, proofs.drilled.get(name)),
        failed_drills=sum(one.archive_id in proofs.failed_drills for one in archives),
        **_copies(archives, settings, proofs),
    )


def _copies(archives: Sequence[Archived], settings: TableSettings | None, proofs: Proofs) -> dict[str, Any]:
    """How far the second copies are, if the table has a replica."""
    replica = settings.replica_store if settings else None
    if replica is None:
        return {}
    copied = proofs.copied.get(place_of(replica), {})
    known = [copied[one.archive_id] for one in archives if one.archive_id in copied]
    return {"uncopied": len(archives) - len(known), "longest_uncompared_at": min(known, default=None)}


def _undrilled_since(archives: Sequence[Archived], drilled_at: datetime | None) -> datetime | None:
    """Since when no drill has proved the table. It ages also if no drill ever ran, so that somebody is told."""
    if not archives:
        return None
    return drilled_at or min(one.created_at for one in archives)


def _waiting(counted: TableCounts | None, wanted: Callable[[str], bool]) -> int | None:
    if counted is None:
        return None
    return sum(one.rows for one in counted.waiting if wanted(one.partition_key))


def _growth(archives: Iterable[Archived]) -> tuple[Growth, ...]:
    by_month: dict[str, list[Archived]] = defaultdict(list)
    for archive in archives:
        month = Partition.containing(Frequency.MONTHLY, archive.created_at).key
        by_month[month].append(archive)
    return tuple(
        Growth(
            month=month,
            archives=len(sealed),
            rows=sum(one.record_count for one in sealed),
            original_size_bytes=sum(one.original_size for one in sealed),
            compressed_size_bytes=sum(one.compressed_size for one in sealed),
        )
        for month, sealed in sorted(by_month.items())
    )


def _costs(
    archives: Iterable[Archived], counted: TableCounts | None, settings: TableSettings | None, now: datetime
) -> tuple[TierCost, ...]:
    prices = settings.prices if settings else Prices()
    by_class: dict[str, list[Archived]] = defaultdict(list)
    for archive in archives:
        by_class[_class_now(archive, settings, now)].append(archive)
    costs = [_tier("hot", counted.hot_rows, counted.hot_bytes, prices.hot)] if counted else []
    if counted and counted.warm_bytes is not None:
        costs.append(_tier("warm", counted.warm_rows, counted.warm_bytes, prices.warm))
    for name, of_class in sorted(by_class.items()):
        rows, size_bytes = sum(one.record_count for one in of_class), sum(one.compressed_size for one in of_class)
        costs.append(_tier(name, rows, size_bytes, prices.of(name)))
    return tuple(costs)


def _class_now(archive: Archived, settings: TableSettings | None, now: datetime) -> str:
    """The storage class at upload, or the one that the configured transitions have brought the parts into since."""
    age_days = (now - archive.created_at).days
    transitions = settings.transitions.days if settings else {}
    reached = [name for name, days in transitions.items() if days <= age_days]
    return reached[-1] if reached else archive.storage_class


def _tier(name: str, rows: int | None, size_bytes: int, price: float) -> TierCost:
    return TierCost(tier=name, rows=rows, size_bytes=size_bytes, usd_per_month=size_bytes / GIBIBYTE * price)


def _archive_cost(costs: Iterable[TierCost]) -> float:
    return sum(cost.usd_per_month for cost in costs if cost.tier not in IN_DATABASE)


def _hot_cost_of_archived(archives: Sequence[Archived], counted: TableCounts | None, prices: Prices) -> float:
    if counted and counted.hot_rows:
        size_bytes = sum(one.record_count for one in archives) * counted.hot_bytes / counted.hot_rows
    else:
        size_bytes = sum(one.original_size for one in archives)
    return size_bytes / GIBIBYTE * prices.hot


def _total(tables: Sequence[TableStatistics]) -> Figures:
    growth: dict[str, list[Growth]] = defaultdict(list)
    costs: dict[str, list[TierCost]] = defaultdict(list)
    for table in tables:
        for month in table.growth:
            growth[month.month].append(month)
        for cost in table.costs:
            costs[cost.tier].append(cost)
    return Figures(
        archives=sum(table.archives for table in tables),
        rows=sum(table.rows for table in tables),
        original_size_bytes=sum(table.original_size_bytes for table in tables),
        compressed_size_bytes=sum(table.compressed_size_bytes for table in tables),
        oldest_at=min(_known(table.oldest_at for table in tables), default=None),
        newest_at=max(_known(table.newest_at for table in tables), default=None),
        hot_rows=_sum_known(table.hot_rows for table in tables),
        hot_bytes=_sum_known(table.hot_bytes for table in tables),
        overdue_rows=_sum_known(table.overdue_rows for table in tables),
        late_rows=_sum_known(table.late_rows for table in tables),
        undated_rows=_sum_known(table.undated_rows for table in tables),
        growth=tuple(_sum_growth(month, growth[month]) for month in sorted(growth)),
        costs=tuple(
            _sum_costs(tier, costs[tier]) for tier in sorted(costs, key=lambda tier: (tier not in IN_DATABASE, tier))
        ),
        saved_usd_per_month=sum(table.saved_usd_per_month for table in tables),
        next_expiry_at=min(_known(table.next_expiry_at for table in tables), default=None),
        held_archives=sum(table.held_archives for table in tables),
        last_verified_at=max(_known(table.last_verified_at for table in tables), default=None),
        longest_unverified_at=min(_known(table.longest_unverified_at for table in tables), default=None),
    )


def _sum_growth(month: str, tables: Sequence[Growth]) -> Growth:
    return Growth(
        month=month,
        archives=sum(one.archives for one in tables),
        rows=sum(one.rows for one in tables),
        original_size_bytes=sum(one.original_size_bytes for one in tables),
        compressed_size_bytes=sum(one.compressed_size_bytes for one in tables),
    )


def _sum_costs(tier: str, tables: Sequence[TierCost]) -> TierCost:
    return TierCost(
        tier=tier,
        rows=_sum_known(one.rows for one in tables),
        size_bytes=sum(one.size_bytes for one in tables),
        usd_per_month=sum(one.usd_per_month for one in tables),
    )


def _known(instants: Iterable[datetime | None]) -> list[datetime]:
    return [instant for instant in instants if instant is not None]


def _sum_known(numbers: Iterable[int | None]) -> int | None:
    """The sum of what was counted; None where nothing was."""
    counted = [number for number in numbers if number is not None]
    return sum(counted) if counted else None
