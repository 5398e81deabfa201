"""The map of all archives: the states of each partition of each table.

Pure functions over facts that others read. A partition may be in several states; the first is the worst.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from strongroom.calendar import EPOCH, Frequency, Partition, Term, newest_due
from strongroom.ledger.holds import covering
from strongroom.object_keys.archives import ArchiveId
from strongroom.overview.facts import ArchiveFacts, LatestReading, StoreFacts
from strongroom.overview.source import TableRows
from strongroom.overview.states import State, worst_first
from strongroom.settings import Settings, TableSettings, qualify
from strongroom.statistics.figures import next_run, run_at
from strongroom.statistics.records import Uncounted

EXPIRING_DAYS = 90
"""How long before the end of its term an archive counts as expiring."""

_GRACE = timedelta(hours=1)
"""How long after its time a scheduled run may begin before its partition is overdue."""

_ACTIVE = frozenset({"running", "queued"})


@dataclass(frozen=True)
class RunFacts:
    """The latest run of one partition, as Airflow has it."""

    run_id: str
    state: str


Runs = Mapping[tuple[str, str], RunFacts]
"""The latest run by ``schema.table`` and partition key."""


@dataclass(frozen=True)
class Cell:
    """One partition of one table.

    Attributes:
        states: The worst first; never empty.
        rows: Archived.
        waiting: Rows in the table whose hot retention is over; None if they were not counted.
        archives: Ids of its archives, the damaged ones too.
    """

    table: str
    partition: Partition
    states: tuple[State, ...]
    rows: int = 0
    waiting: int | None = None
    archives: tuple[str, ...] = ()

    @property
    def month(self) -> str:
        """The month in which it begins."""
        return f"{self.partition.window.start:%Y-%m}"


@dataclass(frozen=True)
class TableRow:
    """One table of the map.

    Attributes:
        cells: One for each partition, oldest first, without a gap.
        problem: Why its rows were not counted.
        counted_at: When they were.
        next_run_at: The next scheduled run; None if the table is not configured.
    """

    table: str
    configured: bool
    frequency: Frequency
    cells: tuple[Cell, ...]
    problem: str | None = None
    counted_at: datetime | None = None
    next_run_at: datetime | None = None
    oldest_overdue_at: datetime | None = None


@dataclass(frozen=True)
class Chart:
    """All tables."""

    tables: tuple[TableRow, ...]
    now: datetime

    @property
    def cells(self) -> Iterator[Cell]:
        """Every partition of every table."""
        return (cell for table in self.tables for cell in table.cells)

    def counts(self) -> Counter[State]:
        """How many partitions are in each state; one may count in several."""
        return Counter(state for cell in self.cells for state in cell.states)

    def headline(self) -> str:
        """The one sentence above the map."""
        counts = self.counts()
        unverifiable = counts[State.UNVERIFIABLE]
        said = [
            _count(counts[State.OVERDUE], "partition", "overdue"),
            _count(unverifiable, "partition", "with an unverifiable archive") if unverifiable else "",
            _count(counts[State.FAILED], "failed run", "") if counts[State.FAILED] else "",
            _count(counts[State.LEFT], "partition", "with rows left") if counts[State.LEFT] else "",
        ]
        following = min((one.next_run_at for one in self.tables if one.next_run_at), default=None)
        if following is not None:
            said.append(f"next run {following.day} {following:%B %H:%M} UTC")
        oldest = min((one.oldest_overdue_at for one in self.tables if one.oldest_overdue_at), default=None)
        if oldest is not None:
            said.append(f"oldest overdue row {(self.now - oldest).days} days")
        return ", ".join(filter(None, said))


def make_chart(
    settings: Settings,
    stores: Iterable[StoreFacts],
    rows: Mapping[str, TableRows | Uncounted],
    runs: Runs,
    *,
    now: datetime,
    restoring: Collection[str] = (),
    sees: Callable[[str], bool] = lambda table: True,  # noqa: ARG005
) -> Chart:
    """Find the states of all partitions.

    Args:
        settings: Of all tables.
        stores: What each store told.
        rows: By ``schema.table``, what the source databases told.
        runs: The latest runs.
        now: Aware UTC instant.
        restoring: Ids of the restores that are under way.
        sees: Whether a table (``schema.table``) may be shown. It is asked for tables without settings too.
    """
    gathered = _Gathered(stores, restoring)
    configured = {table.qualified_name: table for table in settings.tables.values()}
    left_out = {qualify(name) for name in settings.left_out}
    names = [*configured, *sorted((gathered.tables | left_out) - set(configured))]

    def row(name: str) -> TableRow:
        told = rows.get(name)
        known = told if isinstance(told, TableRows) else None
        waiting = {one.partition_key: one.rows for one in known.counts.waiting} if known else {}
        return _row(_Table(name, configured.get(name), gathered, known, waiting, runs, now), told)

    return Chart(tables=tuple(row(name) for name in names if sees(name)), now=now)


class _Gathered:
    """The facts of all stores, by table and partition."""

    def __init__(self, stores: Iterable[StoreFacts], restoring: Collection[str]) -> None:
        self.archives: defaultdict[str, defaultdict[str, dict[str, ArchiveFacts]]] = defaultdict(_by_key)
        self.damaged: defaultdict[str, defaultdict[str, dict[str, str]]] = defaultdict(_by_key)
        self.destroyed: defaultdict[str, set[str]] = defaultdict(set)
        self.restored: defaultdict[str, set[str]] = defaultdict(set)
        self.restoring: defaultdict[str, set[str]] = defaultdict(set)
        self.readings: dict[str, LatestReading] = {}
        holds = {}
        for facts in stores:
            for one in facts.archives:
                self.archives[one.table_name][one.partition_key].setdefault(one.archive_id, one)
            for damaged in facts.damaged:
                archive = ArchiveId.parse(damaged.archive_id)
                self.damaged[_table_of(archive)][archive.partition_key][damaged.archive_id] = damaged.problem
            for name in facts.destroyed:
                archive = ArchiveId.parse(name)
                self.destroyed[_table_of(archive)].add(archive.partition_key)
            for restore in facts.restores:
                found = self.restoring if restore.restore_id in restoring else self.restored
                found[restore.table].update(restore.partition_keys)
            self.readings.update(facts.readings)
            holds.update({hold.hold_id: hold for hold in facts.holds})
        self.holds = tuple(holds.values())

    @property
    def tables(self) -> set[str]:
        return {*self.archives, *self.damaged, *self.destroyed}

    def keys(self, table: str) -> set[str]:
        """Partition keys of which there is or was an archive."""
        return {*self.archives[table], *self.damaged[table], *self.destroyed[table]}

    def unsound(self, one: ArchiveFacts) -> bool:
        """Whether its last verification found something else than what was archived, or its evidence cannot be read."""
        reading = self.readings.get(one.archive_id)
        return one.problem is not None or (
            reading is not None and reading.at >= one.created_at and reading.result != "sound"
        )


def _by_key() -> defaultdict[str, Any]:
    return defaultdict(dict)


def _table_of(archive: ArchiveId) -> str:
    return f"{archive.schema_name}.{archive.table_name}"


@dataclass(frozen=True)
class _Table:
    """What is known of one table.

    Attributes:
        settings: None if it is not configured.
        rows: None if they were not counted.
        waiting: How many rows wait, by partition key.
    """

    name: str
    settings: TableSettings | None
    gathered: _Gathered
    rows: TableRows | None
    waiting: Mapping[str, int]
    runs: Runs
    now: datetime

    def cell(self, partition: Partition) -> Cell:
        """One partition of it."""
        archives = self.gathered.archives[self.name].get(partition.key, {})
        damaged = self.gathered.damaged[self.name].get(partition.key, {})
        return Cell(
            table=self.name,
            partition=partition,
            states=worst_first(self._states(partition) or {self._nothing}),
            rows=sum(one.record_count for one in archives.values()),
            waiting=self.waiting.get(partition.key, 0) if self.rows else None,
            archives=tuple(sorted({*archives, *damaged})),
        )

    @property
    def _nothing(self) -> State:
        """What a partition is of which there is nothing to say. Rows of a member are dated by those of its root."""
        return State.WITH_ROOT if self.settings is not None and self.settings.is_member else State.EMPTY

    def _states(self, partition: Partition) -> set[State]:
        key = partition.key
        archives = list(self.gathered.archives[self.name].get(key, {}).values())
        states = set(self._states_of_archives(archives))
        if self.gathered.damaged[self.name].get(key):
            states.add(State.UNVERIFIABLE)
        if not archives and key in self.gathered.destroyed[self.name]:
            states.add(State.PURGED)
        run = self.runs.get((self.name, key))
        if key in self.gathered.restoring[self.name] or (run is not None and run.state in _ACTIVE):
            states.add(State.RUNNING)
        elif run is not None and run.state == "failed":
            states.add(State.FAILED)
        return states | self._states_of_rows(partition, archives, states)

    def _states_of_archives(self, archives: Iterable[ArchiveFacts]) -> Iterator[State]:
        for one in archives:
            yield State.ARCHIVED
            if self.gathered.unsound(one):
                yield State.UNVERIFIABLE
            if one.detached_waiting:
                yield State.DETACHED
            if (
                self.settings
                and one.left
                and one.left.warm
                and self.settings.warm_retention.after(one.window_end) > self.now
            ):
                yield State.WARM
            if one.retention_until - self.now <= timedelta(days=EXPIRING_DAYS):
                yield State.EXPIRING
            if covering(self.gathered.holds, one.archive):
                yield State.HELD

    def _states_of_rows(self, partition: Partition, archives: Sequence[ArchiveFacts], states: set[State]) -> set[State]:
        """What the rows in the table add."""
        settings, rows = self.settings, self.rows
        if settings is None or partition.frequency != settings.frequency:
            return set()
        running = State.RUNNING in states
        restored = {State.RESTORED} if partition.key in self.gathered.restored[self.name] else set()
        if partition.window.start >= _hot_since(settings.frequency, settings.hot_retention, self.now):
            if rows is None or partition.key in rows.hot_keys:
                return {State.HOT} | restored
            return restored
        if rows is None:
            if archives:
                undone = any(not one.emptied or (one.left is not None and one.left.stayed) for one in archives)
                return restored | ({State.LEFT} if undone and not running else set())
            return {State.UNKNOWN} if not states - {State.RUNNING, State.FAILED} else set()
        if restored or not self.waiting.get(partition.key):
            return restored
        if archives:
            return set() if running else {State.LEFT}
        if running:
            return set()
        return {State.DUE if self.now <= run_at(settings, partition) + _GRACE else State.OVERDUE}


def _row(table: _Table, told: TableRows | Uncounted | None) -> TableRow:
    name, settings, rows, now = table.name, table.settings, table.rows, table.now
    found = [Partition.named(key) for key in table.gathered.keys(name)]
    frequency = settings.frequency if settings else found[0].frequency if found else Frequency.MONTHLY
    first = _first(frequency, found, rows, table.waiting)
    cells = []
    if first is not None:
        last = max((one.window.start for one in found), default=first.window.start)
        until = max(now, last) if settings else last
        cells = [table.cell(partition) for partition in _partitions(frequency, first, until, found)]
    overdue = [cell.partition.window.start for cell in cells if State.OVERDUE in cell.states]
    return TableRow(
        table=name,
        configured=settings is not None,
        frequency=frequency,
        cells=tuple(cells),
        problem=told.reason if isinstance(told, Uncounted) else None,
        counted_at=rows.counts.counted_at if rows else None,
        next_run_at=next_run(settings, now).at if settings else None,
        oldest_overdue_at=max(min(overdue), rows.first_at or min(overdue)) if overdue and rows else None,
    )


def _first(
    frequency: Frequency, found: Sequence[Partition], rows: TableRows | None, waiting: Mapping[str, int]
) -> Partition | None:
    """The oldest partition with a row or an archive; None if there is none."""
    instants = [one.window.start for one in found]
    instants += [Partition.named(key).window.start for key in waiting]
    instants += [Partition.named(key).window.start for key in rows.hot_keys] if rows else []
    return Partition.containing(frequency, min(instants)) if instants else None


def _partitions(frequency: Frequency, first: Partition, until: datetime, found: Iterable[Partition]) -> list[Partition]:
    """All partitions of the frequency up to an instant, and those of other frequencies that have archives."""
    partitions, one = [], first
    while one.window.start <= until:
        partitions.append(one)
        one = one.next()
    partitions += [other for other in found if other.frequency != frequency]
    return sorted(partitions, key=lambda partition: (partition.window.start, partition.key))


@lru_cache(
    maxsize=64
)  # it takes calendar arithmetic, and is the same for all partitions of a table and for most tables
def _hot_since(frequency: Frequency, hot_retention: Term, now: datetime) -> datetime:
    """Where hot retention begins: the end of the newest partition that is due."""
    newest = newest_due(frequency, hot_retention, now)
    return newest.window.end if newest else EPOCH


def _count(number: int, noun: str, what: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'} {what}".strip()
