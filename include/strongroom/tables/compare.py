"""Compare a table with what an archive holds of the same time range, in bounded memory.

Blocks of archived rows are compared as a whole (:mod:`strongroom.tables.equal_blocks`). The rows of blocks that differ, and those
that no range of dates holds, are looked up by their keys and compared one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.key_batch import BATCH, BY_INDEX, batch_table, fill_batch, same_key
from strongroom.database.rows import dated, line_digest
from strongroom.database.session import Connection, fetch_rows, pin
from strongroom.formats.blocks import Block
from strongroom.records import TableShape, VerifiedPart
from strongroom.tables.archived_rows import ArchivedKeys, KeysInTurn
from strongroom.tables.block_ranges import BlockRange, ranges_of, rows_between
from strongroom.tables.equal_blocks import equal_blocks

BATCH_ROWS = 10_000
"""How many archived rows are compared at a time."""


@dataclass(frozen=True)
class Comparison:
    """How a table and an archive compare.

    Attributes:
        rows: Rows of the table.
        archived: Rows of the archive that are dated inside the table's bounds.
        equal: Rows of the table that equal their archived form.
    """

    rows: int
    archived: int
    equal: int

    @property
    def proved(self) -> bool:
        """Whether the table holds exactly the rows that the archive holds of its time range, as they were archived."""
        return self.rows == self.archived == self.equal

    def __str__(self) -> str:
        return f"{self.rows} rows there, {self.archived} in the archive, {self.equal} equal"


@dataclass(frozen=True)
class ArchivedRows:
    """What an archive holds.

    Attributes:
        shape: From the manifest.
        parts: All parts of the archive.
        keys: The keys and digests of all parts.
        blocks: Finds the blocks of a part; none if its rows are compared by their keys.
    """

    shape: TableShape
    parts: Sequence[VerifiedPart]
    keys: ArchivedKeys
    blocks: Callable[[VerifiedPart], Sequence[Block]]


def compare_with_archive(
    connection: Connection,
    table: sql.Identifier,
    bounds: Window,
    archived: ArchivedRows,
    *,
    transaction: Callable[[], AbstractContextManager[Any]],
    before_batch: Callable[[], None],
) -> Comparison:
    """Compare each archived row with the table's, and count the table's rows.

    All keys of an archive are different, so if the table has as many rows as were found equal, it holds no others. The
    result is exact only while nobody can change the table's rows: see :mod:`strongroom.tables.guard`.

    Args:
        table: The table, without its table partitions and children.
        bounds: The time range that the table holds rows of.
        archived: The archive.
        transaction: Opened around each part, and around the count.
        before_batch: Called before each batch; may raise.
    """
    comparing = _Comparing(connection, table, bounds, archived, before_batch)
    for part in archived.parts:
        if part.window.overlaps(bounds):
            ranges = ranges_of(part, archived.blocks(part))
            with transaction():
                left = comparing.as_blocks(part, ranges)
            if left:
                archived.keys.of(part)  # read before the transaction, which should not wait for the store
                with transaction():
                    comparing.by_key(KeysInTurn(archived.keys, part), left)
    with transaction():
        connection.execute("SET LOCAL enable_seqscan = on")
        return Comparison(count_rows(connection, table), comparing.found, comparing.equal)


def needs_keys(part: VerifiedPart, blocks: Sequence[Block], bounds: Window) -> bool:
    """Whether some rows of a part have to be looked up by their keys even if all of its blocks are equal."""
    whole = [one for one in ranges_of(part, blocks) if bounds.covers(one.window) or not bounds.overlaps(one.window)]
    return any(rows_between(whole, part.rows))


class _Comparing:
    """A comparison under way.

    Attributes:
        found: Archived rows that are dated inside the table's bounds.
        equal: Rows of the table that equal their archived form.
    """

    def __init__(
        self,
        connection: Connection,
        table: sql.Identifier,
        bounds: Window,
        archived: ArchivedRows,
        before_batch: Callable[[], None],
    ) -> None:
        self._connection, self._table, self._bounds = connection, table, bounds
        self._shape, self._keys, self._before_batch = archived.shape, archived.keys, before_batch
        self._query = _query(table, bounds, archived.shape)
        self.found = self.equal = 0

    def as_blocks(self, part: VerifiedPart, ranges: Sequence[BlockRange]) -> list[tuple[int, int]]:
        """Compare the blocks that the table can hold as a whole. Those outside its bounds have no row in it.

        Returns:
            The runs of rows that are left: the first row of each, and how many.
        """
        outside = [one for one in ranges if not self._bounds.overlaps(one.window)]
        inside = [one for one in ranges if self._bounds.covers(one.window)]
        only = sql.SQL("ONLY {}").format(self._table)
        equal = equal_blocks(self._connection, only, self._shape, inside, before_batch=self._before_batch)
        rows = sum(one.block.rows for one in equal)
        self.found, self.equal = self.found + rows, self.equal + rows
        return [*rows_between(sorted([*equal, *outside]), part.rows)]

    def by_key(self, keys: KeysInTurn, runs: Sequence[tuple[int, int]]) -> None:
        """Look up the rows of some runs by their keys, a batch at a time."""
        types = {column.name: column.base_type for column in self._shape.columns}
        form = batch_table([types[name] for name in self._shape.primary_key], "{} ON COMMIT DROP")
        self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(BATCH))
        self._connection.execute(form)
        pin(self._connection, locally=BY_INDEX)
        for first, rows in runs:
            for place in range(first, first + rows, BATCH_ROWS):
                self._before_batch()
                self._connection.execute(sql.SQL("TRUNCATE {}").format(BATCH))
                fill_batch(self._connection, keys.next(place, min(BATCH_ROWS, first + rows - place)))
                row: Any = self._connection.execute(self._query).fetchone()
                self.found, self.equal = self.found + int(row[0]), self.equal + int(row[1])


def count_rows(connection: Connection, table: sql.Identifier) -> int:
    """Count the rows of a table, without its table partitions and children."""
    row: Any = connection.execute(sql.SQL("SELECT count(*) FROM ONLY {}").format(table)).fetchone()
    return int(row[0])


def wrong_columns(connection: Connection, oid: int, shape: TableShape) -> str:
    """How the columns of a table differ from those that were archived, in words; empty if they do not."""
    rows = fetch_rows(
        connection,
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
        oid,
    )
    found, expected = dict(rows), {column.name: column.type for column in shape.columns}
    return ", ".join(sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)))


def _query(table: sql.Identifier, bounds: Window, shape: TableShape) -> sql.Composed:
    date = sql.Identifier("b", f"k{shape.primary_key.index(shape.date_column)}")
    return sql.SQL(
        "SELECT (SELECT count(*) FROM {batch} AS b WHERE {date} >= {start} AND {date} < {end}), "
        "(SELECT count(*) FROM {batch} AS b JOIN ONLY {table} AS t ON {same} WHERE {digest} = b.digest)"
    ).format(
        batch=BATCH,
        date=date,
        start=dated(bounds.start, shape.date_type),
        end=dated(bounds.end, shape.date_type),
        table=table,
        same=same_key(shape, "b"),
        digest=line_digest(shape, "t"),
    )
