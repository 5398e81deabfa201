"""Rebuild archived rows inside the server, to compare them or to load them.

The server itself reads each value into its column's type and writes the row's text again. Equal digests then prove that the
archive holds the row without loss. This needs only the right to create temporary tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import psycopg
from psycopg import sql

from strongroom.database.copy_in import copy_in
from strongroom.database.copy_out import copied_blocks
from strongroom.database.rows import row_columns
from strongroom.database.session import Connection, named_by_server, pin, type_name
from strongroom.formats.line_reader import LineReader, batches, unreadable
from strongroom.records import Column, TableShape

_BATCH_LINES = 2000
_BATCH_BYTES = 1 << 22

_CORRECT_ROWS = (
    "No row was deleted by this step. A stored value breaks a rule of its own type, such as a domain's check that was added NOT "
    "VALID: correct those rows, then clear 'plan' and the tasks after it. SQLSTATE 25006 means that such a check tried to write."
)

UNREADABLE = (msgspec.MsgspecError, psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)
"""What reading lines and :meth:`RebuiltRows.fill` raise if rows do not read back into the types of their columns."""


class RebuiltRows:
    """A temporary table that holds one batch of archived rows at a time; the server reads them from their canonical texts.

    Its columns are called ``c0``, ``c1``, … in the order of the columns, and ``dropped`` for what is kept aside, as jsonb.

    Args:
        columns: The columns of the texts.
        collations: A COLLATE clause for each column whose collation is not the type's own.
        aside: Whether the texts have ``dropped`` as their last field; it is NULL otherwise.
    """

    # The name is qualified, so no other table can be taken for it.
    table = sql.Identifier("pg_temp", "strongroom_rows")

    def __init__(
        self,
        connection: Connection,
        columns: Sequence[Column],
        *,
        collations: Mapping[str, sql.Composable] | None = None,
        aside: bool = False,
    ) -> None:
        self._connection = connection
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
        self._into = sql.SQL("{} ({})").format(self.table, sql.SQL(", ").join(filled))
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

    def fill(self, texts: Sequence[bytes]) -> None:
        """Replace the rows by those of some texts (without their newlines).

        The check of a domain inside a composite type is a user's function, and it runs here.

        Raises:
            psycopg.Error: One of :data:`UNREADABLE`; its message may quote the row.
        """
        self.clear()
        self.add(texts)

    def clear(self) -> None:
        """Remove the rows."""
        self._connection.execute(sql.SQL("TRUNCATE {}").format(self.table))

    def add(self, texts: Sequence[bytes]) -> None:
        """Add rows. Unlike :meth:`fill` this is also allowed in a READ ONLY transaction."""
        copy_in(self._connection, self._into, b"".join([b"%d\t%b\n" % numbered for numbered in enumerate(texts)]))


class Rebuilder:
    """Has the server read archived rows and write their canonical texts. One temporary table serves all of them.

    Args:
        connection: Any session of the server, outside a transaction.
        shape: From the manifest or the plan.
        texts: Whether the rows are canonical texts, as parquet gives them back, and not JSON lines.
    """

    def __init__(self, connection: Connection, shape: TableShape, *, texts: bool = False) -> None:
        self._connection, self._shape = connection, shape
        self._reader = None if texts else LineReader(shape.columns)
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
                raise unreadable(self._shape, told(error), hint=_CORRECT_ROWS) from None

    def _read_back(self, batch: Sequence[bytes]) -> bytes:
        """Fill the table and query it, so that user code that runs meanwhile can change no row and no setting."""
        with self._connection.transaction(force_rollback=True):
            self._connection.execute("SET TRANSACTION READ ONLY")
            texts = batch if self._reader is None else b"".join(self._reader.texts(batch)).split(b"\n")[:-1]
            self._rebuilt.add(texts)
            pin(self._connection)
            with self._connection.cursor() as cursor, cursor.copy(self._query) as copy:
                return b"".join(copied_blocks(copy, most_messages=_BATCH_LINES, most_bytes=_BATCH_BYTES))


def told(error: Exception) -> str:
    """What is wrong with a line, without the error's message, which may quote the row."""
    if not isinstance(error, psycopg.Error):
        return f"{type(error).__name__}"
    about = named_by_server(error.diag)
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate}){f' about {about}' if about else ''}"
