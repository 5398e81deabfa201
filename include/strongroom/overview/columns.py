"""The map as a screen shows it: columns of months, or of one table's partitions, and what stands in each field."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.calendar import Frequency, Partition
from strongroom.overview.chart import Cell, TableRow
from strongroom.overview.states import State, worst_first


@dataclass(frozen=True)
class Column:
    """One column of the map: a month, or one partition of a single table.

    Attributes:
        key: The month, or the partition's key.
        month: In which it begins.
        label: The last part of the key.
        group: The rest of it.
        whole_month: Whether it stands for all partitions that begin in the month.
    """

    key: str
    month: str
    label: str
    group: str
    whole_month: bool = True


@dataclass(frozen=True)
class Square:
    """What one field of the map shows: one partition, or the partitions of one month.

    Attributes:
        cells: None where the table has no such partition.
        states: Of all its partitions together, the worst first; never empty.
    """

    column: Column
    cells: tuple[Cell, ...]
    states: tuple[State, ...]

    @property
    def words(self) -> str:
        """What a screen reader says of it."""
        if not self.cells:
            return f"{self.column.key}: {self.states[0].words}"
        if len(self.cells) == 1:
            [cell] = self.cells
            said = [", ".join(state.words for state in cell.states)]
            said += [f"{cell.rows:,} rows archived"] if cell.archives else []
            said += [f"{cell.waiting:,} rows wait in the table"] if cell.waiting else []
            return f"{cell.table} {cell.partition.key}: {'; '.join(said)}"
        counts = Counter(state for cell in self.cells for state in cell.states)
        said = [f"{counts[state]} of {len(self.cells)} {state.words}" for state in self.states]
        return f"{self.cells[0].table} {self.column.key}: {', '.join(said)}"


def squares(row: TableRow, columns: Sequence[Column]) -> list[Square]:
    """One square for each column. What lies before the table's first row or archive is ``BEFORE``."""
    by_month: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in row.cells:
        by_month[cell.month].append(cell)
    by_key = {cell.partition.key: [cell] for cell in row.cells}
    first = row.cells[0].month if row.cells else None
    made = []
    for column in columns:
        cells = (by_month if column.whole_month else by_key).get(column.key, [])
        before = first is None or column.month < first
        states = {state for cell in cells for state in cell.states}
        if states != {State.EMPTY}:
            states.discard(State.EMPTY)
        made.append(Square(column, tuple(cells), worst_first(states or {State.BEFORE if before else State.EMPTY})))
    return made


def columns_of(rows: Sequence[TableRow]) -> list[Column]:
    """The columns that show some tables, oldest first: months without a gap, or all partitions of a single table."""
    if len(rows) == 1 and any(cell.partition.frequency is not Frequency.MONTHLY for cell in rows[0].cells):
        return [
            Column(cell.partition.key, cell.month, _label(cell.partition), _group(cell.partition), whole_month=False)
            for cell in rows[0].cells
        ]
    months = sorted({cell.month for row in rows for cell in row.cells})
    columns = []
    if months:
        month = Partition.parse(Frequency.MONTHLY, months[0])
        while month.key <= months[-1]:
            columns.append(Column(month.key, month.key, _label(month), _group(month)))
            month = month.next()
    return columns


def _label(partition: Partition) -> str:
    """`05` for May, `W21`, or `31`."""
    return partition.key.rpartition("-")[2]


def _group(partition: Partition) -> str:
    """What stands above the label: the year, or the month of a day."""
    return partition.key.rpartition("-")[0]
