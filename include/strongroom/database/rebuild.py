"""Rebuild rows from archived JSON lines inside the server, to compare them or to load them.

The server itself reads each value into its column's type and writes the row's text again. Equal digests then prove that the line
holds the row without loss. This needs only the right to create temporary tables.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import psycopg
from psycopg import sql

from strongroom.database.copy_out import copied_blocks
from strongroom.database.rows import row_columns
from strongroom.database.session import Connection, named_by_server, pin, type_name
from strongroom.errors import IntegrityError
from strongroom.formats.copy_text import copy_rows
from strongroom.formats.line_reader import LineReader
from strongroom.records import Column, TableShape

_Batch = TypeVar("_Batch")

_BATCH_LINES = 2000
_BATCH_BYTES = 1 << 22

UNREADABLE = (msgspec.MsgspecError, psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)
"""What :meth:`RebuiltRows.fill` raises if lines do not read back into the types of their columns."""


class RebuiltRows:
    """A temporary table of rows that the server reads back from JSON lines, a batch at a time.

    Its columns are called ``c0``, ``c1``, … in the order of the columns, and ``dropped`` for fields that are kept aside.

    Args:
        columns: The columns to read; a line may have others.
        collations: A COLLATE clause for each column whose collation is not the type's own.
        aside: Fields of the lines that go into ``dropped`` together, as jsonb; NULL if there are none.
    """

    # The name is qualified, so no other table can be taken for it.
    table = sql.Identifier("pg_temp", "strongroom_rows")

    def __init__(
        self,
        connection: Connection,
        columns: Sequence[Column],
        *,
        collations: Mapping[str, sql.Composable] | None = None,
        aside: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self.reader = LineReader(columns, aside)
        self.names = {column.name: sql.Identifier(f"c{position}") for position, column in enumerate(columns)}
        self.described = {
            column.name: sql.SQL("{} {}{}").format(
                self.names[column.name],
                type_name(column.base_type),
                (collations or {}).get(column.name, sql.SQL("")),
            )
            for column in columns
        }
        filled = [sql.SQL("n"), *self.names.values(), *([sql.SQL("dropped")] if aside else [])]
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN").format(self.table, sql.SQL(", ").join(filled))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))
        connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} (n bigint NOT NULL, {}, dropped jsonb)").format(
                self.table, sql.SQL(", ").join(self.described.values())
            )
        )

    def shape_of(self, shape: TableShape) -> TableShape:
        """A shape with the names that the columns have here."""
        columns = (column.model_copy(update={"name": f"c{at}"}) for at, column in enumerate(shape.columns))
        return shape.model_copy(update={"columns": tuple(columns)})

    def fill(self, lines: Sequence[bytes]) -> None:
        """Replace the rows by those of some lines (without their newlines).

        The check of a domain inside a composite type is a user's function, and it runs here.

        Raises:
            msgspec.MsgspecError, psycopg.Error: One of :data:`UNREADABLE`; its message may quote the row.
        """
        self.clear()
        self.add(lines)

    def clear(self) -> None:
        """Remove the rows."""
        self._connection.execute(sql.SQL("TRUNCATE {}").format(self.table))

    def add(self, lines: Sequence[bytes]) -> None:
        """Add rows. Unlike :meth:`fill` this is also allowed in a READ ONLY transaction."""
        columns = self.reader.columns(lines)
        self._send(copy_rows([map(str, range(len(lines))), *columns]))

    def add_texts(self, texts: Sequence[bytes]) -> None:
        """:meth:`add` of rows that are canonical texts of these columns."""
        self._send(b"".join([b"%d\t%b\n" % numbered for numbered in enumerate(texts)]))

    def _send(self, rows: bytes) -> None:
        with self._connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.write(rows)


class Rebuilder:
    """Has the server read archived rows and write their canonical texts. One temporary table serves all of them.

    Args:
        connection: Any session of the server, outside a transaction.
        shape: From the manifest or the plan.
        texts: Whether the rows are canonical texts, as parquet gives them back, and not JSON lines.
    """

    def __init__(self, connection: Connection, shape: TableShape, *, texts: bool = False) -> None:
        self._connection, self._shape, self._texts = connection, shape, texts
        self._rebuilt = RebuiltRows(connection, shape.columns)
        self._query = sql.SQL("COPY (SELECT {} FROM {} AS t ORDER BY n) TO STDOUT").format(
            row_columns(self._rebuilt.shape_of(shape), "t"), self._rebuilt.table
        )

    def texts_of(self, rows: Iterable[bytes]) -> Iterator[bytes]:
        """Canonical texts of some rows, in their order.

        Args:
            rows: Without their newlines.

        Yields:
            Some texts at a time, each with its newline.

        Raises:
            IntegrityError: A row does not read back into the types of the columns.
        """
        for batch in batches(rows, most_lines=_BATCH_LINES, most_bytes=_BATCH_BYTES):
            try:
                self._rebuilt.clear()
                yield self._read_back(batch)
            except (*UNREADABLE, psycopg.errors.ReadOnlySqlTransaction) as error:
                raise _unreadable(self._shape, error) from None

    def _read_back(self, batch: Sequence[bytes]) -> bytes:
        """Fill the table and query it, so that user code that runs meanwhile can change no row and no setting."""
        with self._connection.transaction(force_rollback=True):
            self._connection.execute("SET TRANSACTION READ ONLY")
            self._rebuilt.add_texts(batch) if self._texts else self._rebuilt.add(batch)
            pin(self._connection)
            with self._connection.cursor() as cursor, cursor.copy(self._query) as copy:
                return b"".join(copied_blocks(copy, most_messages=_BATCH_LINES, most_bytes=_BATCH_BYTES))


def batches(lines: Iterable[bytes], *, most_lines: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Group lines, limited by number and by bytes; a single larger line forms its own batch."""
    batch: list[bytes] = []
    size_bytes = 0
    for line in lines:
        batch.append(line)
        size_bytes += len(line)
        if len(batch) >= most_lines or size_bytes >= most_bytes:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def read_ahead(batches: Iterator[_Batch]) -> Generator[_Batch]:
    """Yield the same batches; while one is in use, another thread reads the next one, and no more."""
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(next, batches, None)
        while (batch := reading.result()) is not None:
            reading = reader.submit(next, batches, None)
            yield batch


def told(error: Exception) -> str:
    """What is wrong with a line, without the error's message, which may quote the row."""
    if not isinstance(error, psycopg.Error):
        return f"{type(error).__name__}"
    about = named_by_server(error.diag)
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate}){f' about {about}' if about else ''}"


def _unreadable(shape: TableShape, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"archived rows of {shape.schema_name}.{shape.table_name} do not read back into their column types",
        expected="lines that the server reads as the original rows",
        found=told(error),
        hint="No row was deleted by this step. A stored value breaks a rule of its own type, such as a domain's check "
        "that was added NOT VALID: correct those rows, then clear 'plan' and the tasks after it. SQLSTATE 25006 means that such a "
        "check tried to write.",
    )
