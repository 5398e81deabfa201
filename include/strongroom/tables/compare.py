"""Compare a table, row by row, with what an archive holds of the same time range: keys and digests, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.key_batch import BATCH, batch_table, fill_batch, join_by_index, same_key
from strongroom.database.rows import dated, line_digest
from strongroom.database.session import Connection, fetch_rows
from strongroom.records import TableShape, VerifiedPart
from strongroom.tables.archived_rows import ArchivedKeys

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
    """

    shape: TableShape
    parts: Sequence[VerifiedPart]
    keys: ArchivedKeys


def compare_with_archive(
    connection: Connection,
    table: sql.Identifier,
    bounds: Window,
    archived: ArchivedRows,
    *,
    transaction: Callable[[], AbstractContextManager[Any]],
    before_batch: Callable[[], None],
) -> Comparison:
    """Look up each archived key in the table, and count the table's rows.

    All keys of an archive are different, so if the table has as many rows as were found equal, it holds no others. The
    result is exact only while nobody can change the table's rows: see :mod:`strongroom.tables.guard`.

    Args:
        table: The table, without its table partitions and children.
        bounds: The time range that the table holds rows of.
        archived: The archive.
        transaction: Opened around each part, and around the count.
        before_batch: Called before each batch; may raise.
    """
    shape, found, equal = archived.shape, 0, 0
    types = {column.name: column.base_type for column in shape.columns}
    form = batch_table([types[name] for name in shape.primary_key], "{} ON COMMIT DROP")
    query = _query(table, bounds, shape)
    for part in archived.parts:
        if not part.window.overlaps(bounds):
            continue
        keys = archived.keys.of(part)
        with transaction():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(BATCH))
            connection.execute(form)
            join_by_index(connection)
            for lines in _batches(keys):
                before_batch()
                connection.execute(sql.SQL("TRUNCATE {}").format(BATCH))
                fill_batch(connection, lines)
                row: Any = connection.execute(query).fetchone()
                found, equal = found + int(row[0]), equal + int(row[1])
    with transaction():
        connection.execute("SET LOCAL enable_seqscan = on")
        return Comparison(count_rows(connection, table), found, equal)


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


def _batches(keys: IO[bytes]) -> Iterator[list[bytes]]:
    while lines := list(islice(keys, BATCH_ROWS)):
        yield lines
