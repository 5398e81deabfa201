"""Find the archived blocks that a table holds exactly: one COPY of its canonical texts in the order of their dates, hashed here.

Each row that the COPY returns belongs to one block at most, and a block is equal only if its rows have the archived digest. So
no row of an equal block is one that was not archived, wherever the borders between blocks were taken to be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import datetime

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.copy_out import copied_rows
from strongroom.database.rows import dated, row_columns
from strongroom.database.session import Connection, pin
from strongroom.formats.blocks import digest
from strongroom.records import TableShape
from strongroom.tables.block_ranges import BlockRange, date_of

ASK_BYTES = 1 << 22
"""How much text is read before the caller is asked again whether to go on."""

_ANY_PLAN = {"enable_seqscan": "on"}
"""The planner knows best: an index on the date gives the order, and without one a sort does."""


def equal_blocks(
    connection: Connection,
    table: sql.Composable,
    shape: TableShape,
    ranges: Sequence[BlockRange],
    *,
    before_batch: Callable[[], None],
) -> list[BlockRange]:
    """Which blocks are, each letter of each row, what the table holds of their dates.

    It is exact only while nobody can change the table's rows. Memory holds the rows of one block.

    Args:
        connection: In the transaction that compares.
        table: What to read, as FROM takes it: ``ONLY public.audit``.
        shape: What was archived of the table.
        ranges: In the order of their dates, none of which is in two of them.
        before_batch: Called before each few megabytes of text; may raise.
    """
    if not ranges:
        return []
    pin(connection, locally=_ANY_PLAN)
    blocks = _Blocks(shape, ranges)
    asked = ASK_BYTES
    query = _texts(table, shape, Window(ranges[0].window.start, ranges[-1].window.end))
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for batch in copied_rows(copy):
            if asked >= ASK_BYTES:
                before_batch()
                asked = 0
            asked += len(batch)
            blocks.add(batch.split(b"\n"))
    return blocks.equal()


def _texts(table: sql.Composable, shape: TableShape, window: Window) -> sql.Composed:
    """Selects the texts of the rows of a window, in the order of their dates."""
    return sql.SQL(
        "COPY (SELECT {columns} FROM {table} AS t WHERE t.{date} >= {start} AND t.{date} < {end} ORDER BY t.{date}) TO STDOUT"
    ).format(
        columns=row_columns(shape, "t"),
        table=table,
        date=sql.Identifier(shape.date_column),
        start=dated(window.start, shape.date_type),
        end=dated(window.end, shape.date_type),
    )


class _Blocks:
    """Rows in the order of their dates, divided among blocks."""

    def __init__(self, shape: TableShape, ranges: Sequence[BlockRange]) -> None:
        self._date = [column.name for column in shape.columns].index(shape.date_column)
        self._left = [*reversed(ranges)]
        self._rows: list[bytes] = []
        self._count = 0
        self._equal: list[BlockRange] = []

    def add(self, rows: list[bytes]) -> None:
        """Take the next rows."""
        while self._left:
            block = self._left[-1]
            behind = self._place(rows, block.window.end)
            own = rows[self._place(rows, block.window.start) : behind]
            self._count += len(own)
            if self._count <= block.block.rows:
                self._rows += own
            else:  # rows of others, however many
                self._rows.clear()
            if behind == len(rows):  # the next rows may be of this block, too
                return
            self._end_block()
            rows = rows[behind:]

    def equal(self) -> list[BlockRange]:
        """The blocks that are equal, when there are no more rows."""
        while self._left:
            self._end_block()
        return self._equal

    def _end_block(self) -> None:
        block = self._left.pop()
        if self._count == block.block.rows and digest(self._rows) == block.block.sha256:
            self._equal.append(block)
        self._rows, self._count = [], 0

    def _place(self, rows: Sequence[bytes], instant: datetime) -> int:
        """How many rows are dated before an instant."""
        return bisect_left(rows, instant, key=lambda row: date_of(row, self._date))
