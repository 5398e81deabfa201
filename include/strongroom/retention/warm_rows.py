"""Count the rows of a warm partition, and those of them that some archives hold byte for byte.

A month may hold rows of several archives, and of several shapes that the table had. First whole blocks are compared: where the
partition's rows of a range of dates are exactly those of an archived block, they are counted as proved. The other rows are looked
up by their keys. Each row is counted once: the ranges do not overlap, and only rows outside them are looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import sql

from strongroom.calendar import Frequency, Partition, Window
from strongroom.database.rows import dated, line_digest
from strongroom.database.session import Connection, qualified
from strongroom.ledger.manifest_record import Manifest
from strongroom.records import Sha256, TableShape, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import ArchivedKeys, KeysInTurn, blocks_read_back
from strongroom.tables.block_ranges import BlockRange, ranges_of, rows_between
from strongroom.tables.equal_blocks import equal_blocks
from strongroom.tables.warm import WARM_SCHEMA, warm_columns

_ROWS = 10_000
"""How many keys are sent at a time."""


class _Part(NamedTuple):
    record: VerifiedPart
    ranges: Sequence[BlockRange]


@dataclass
class _Shape:
    """What the archives of one shape hold.

    Attributes:
        staged: The temporary table for keys and digests.
        parts: Those whose blocks are compared first.
        ranges: The blocks to compare.
    """

    shape: TableShape
    staged: sql.Identifier
    parts: list[_Part] = field(default_factory=list)
    ranges: list[BlockRange] = field(default_factory=list)


class WarmRows:
    """The rows of one warm partition, to be compared with the archives of its month."""

    def __init__(
        self, connection: Connection, store: Store, settings: TableSettings, partition: str, month: str
    ) -> None:
        self._connection, self._store, self._settings, self._partition = connection, store, settings, partition
        self._name = qualified(WARM_SCHEMA, partition)
        self._month = Partition.parse(Frequency.MONTHLY, month).window
        self._shapes: dict[Sha256, _Shape] = {}
        self._chosen: list[Window] = []

    def read_back(self, archives: Sequence[Manifest]) -> None:
        """Read archives back before anything is locked: their blocks, and the keys of parts that have none.

        Raises:
            IntegrityError: An object in the store is not what was archived.
        """
        columns = set(warm_columns(self._connection, self._partition))
        fitting = [one for one in archives if {column.name for column in one.table.columns} <= columns]
        # Where blocks of two archives overlap, late rows of one lie among the many of the other.
        for manifest in sorted(fitting, key=lambda one: one.record_count, reverse=True):
            if manifest.shape_sha256 not in self._shapes:
                self._shapes[manifest.shape_sha256] = self._new_shape(manifest.table)
            for number in range(len(manifest.parts)):
                self._read_back(self._shapes[manifest.shape_sha256], manifest.verified_part(number))

    def count(self) -> tuple[int, int]:
        """The number of rows in the partition, and how many of them are archived as they are.

        Call it in the transaction that locks the partition against writers.
        """
        proved = [block for one in self._shapes.values() for block in self._equal(one)]
        windows = _joined(block.window for block in proved)
        for one in self._shapes.values():
            for part in one.parts:
                settled = [block for block in part.ranges if self._is_settled(block.window, windows)]
                self._stage(one, part.record, [*rows_between(settled, part.record.rows)])
            self._index(one)
        rows = sum(block.block.rows for block in proved)
        others, equal = self._count_others(windows)
        return rows + others, rows + equal

    def _new_shape(self, shape: TableShape) -> _Shape:
        """Its temporary table has columns of the keys' own types and collations."""
        one = _Shape(shape, sql.Identifier("pg_temp", f"strongroom_archived_{len(self._shapes)}"))
        keys = sql.SQL(", ").join(
            sql.SQL("w.{} AS {}").format(sql.Identifier(name), sql.Identifier(f"k{position}"))
            for position, name in enumerate(shape.primary_key)
        )
        self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(one.staged))
        self._connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {}, ''::text AS digest FROM {} AS w WITH NO DATA").format(
                one.staged, keys, self._name
            )
        )
        return one

    def _read_back(self, one: _Shape, part: VerifiedPart) -> None:
        folder, _ = self._settings.working_folder
        ranges: list[BlockRange] = []
        if one.shape.date_column == self._settings.date_column:  # else its ranges are of other dates
            ranges = ranges_of(part, blocks_read_back(self._store, folder, one.shape, part))
        if not ranges:
            self._stage(one, part, [(0, part.rows)])
            return
        one.parts.append(_Part(part, ranges))
        one.ranges += [block for block in ranges if self._choose(block)]

    def _choose(self, block: BlockRange) -> bool:
        """Whether a block is to be compared: it lies in the month, and overlaps none that was chosen before."""
        place = _place(self._chosen, block.window)
        if not self._month.covers(block.window) or any(
            map(block.window.overlaps, self._chosen[max(0, place - 1) : place + 1])
        ):
            return False
        self._chosen.insert(place, block.window)
        return True

    def _equal(self, one: _Shape) -> list[BlockRange]:
        ranges = sorted(one.ranges, key=lambda block: block.window.start)
        return equal_blocks(self._connection, self._name, one.shape, ranges, before_batch=lambda: None)

    def _is_settled(self, window: Window, proved: Sequence[Window]) -> bool:
        """Whether all rows that the partition has of a window are proved."""
        if not window.overlaps(self._month):
            return True
        inside = Window(max(window.start, self._month.start), min(window.end, self._month.end))
        place = _place(proved, inside)
        return place > 0 and proved[place - 1].covers(inside)

    def _stage(self, one: _Shape, part: VerifiedPart, runs: Sequence[tuple[int, int]]) -> None:
        """Copy the keys and digests of some runs of a part's rows to the server."""
        folder, _ = self._settings.working_folder
        statement = sql.SQL("COPY {} FROM STDIN").format(one.staged)
        with (
            ArchivedKeys(self._store, one.shape, folder) as archived,
            self._connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            keys = KeysInTurn(archived, part)
            for first, rows in runs:
                for place in range(first, first + rows, _ROWS):
                    copy.write(b"".join(keys.next(place, min(_ROWS, first + rows - place))))

    def _index(self, one: _Shape) -> None:
        keys = sql.SQL(", ").join(sql.Identifier(f"k{position}") for position in range(len(one.shape.primary_key)))
        self._connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(one.staged, keys))
        self._connection.execute(sql.SQL("ANALYZE {}").format(one.staged))

    def _count_others(self, proved: Sequence[Window]) -> tuple[int, int]:
        """The number of rows outside some windows, and how many of them have the key and the digest of an archived row."""
        archived = sql.SQL(" OR ").join([sql.SQL("false"), *map(_is_archived, self._shapes.values())])
        query = sql.SQL("SELECT count(*), count(*) FILTER (WHERE {}) FROM {} AS w WHERE {}").format(
            archived, self._name, self._outside(proved)
        )
        row: Any = self._connection.execute(query).fetchone()
        return int(row[0]), int(row[1])

    def _outside(self, windows: Sequence[Window]) -> sql.Composable:
        """A condition on the row ``w``: it is dated in none of some windows, which are in order and touch none other."""
        if not windows:
            return sql.SQL("true")
        borders = sql.SQL(", ").join(dated(end, "timestamptz") for one in windows for end in (one.start, one.end))
        return sql.SQL("width_bucket(w.{}::timestamptz, ARRAY[{}]) % 2 = 0").format(
            sql.Identifier(self._settings.date_column), borders
        )


def _is_archived(one: _Shape) -> sql.Composed:
    """A condition on the row ``w``: its key and digest are staged."""
    same = sql.SQL(" AND ").join(
        sql.SQL("a.{} = w.{}").format(sql.Identifier(f"k{position}"), sql.Identifier(name))
        for position, name in enumerate(one.shape.primary_key)
    )
    # The columns that the table had when it was archived, in their order then.
    return sql.SQL("EXISTS (SELECT FROM {} AS a WHERE {} AND a.digest = {})").format(
        one.staged, same, line_digest(one.shape, "w")
    )


def _place(windows: Sequence[Window], window: Window) -> int:
    """How many of some windows, which are in order, begin no later than another."""
    return bisect_right(windows, window.start, key=lambda one: one.start)


def _joined(windows: Iterable[Window]) -> list[Window]:
    """Windows in order, those that touch as one."""
    joined: list[Window] = []
    for window in sorted(windows, key=lambda one: one.start):
        if joined and joined[-1].end == window.start:
            joined[-1] = Window(joined[-1].start, window.end)
        else:
            joined.append(window)
    return joined
