"""Rebuild rows from archived JSON lines inside the server, to compare them or to load them.

The server itself parses each line into the column types and writes its text again; equal digests then prove that the
line holds the row without loss. Needs only the right to make temporary tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql

from strongroom.errors import IntegrityError
from strongroom.records import TableShape
from strongroom.shape import read_columns, read_value, row_digest
from strongroom.source import Connection

_BATCH_LINES = 2000
_BATCH_BYTES = 1 << 22

LINES = sql.Identifier("pg_temp", "strongroom_lines")


def stage_lines(connection: Connection, lines: Iterable[bytes]) -> None:
    """Put JSON lines (without their newlines) into an empty temporary table, numbered in their order."""
    # pg_temp takes no part in name look-up unless it is named, so nobody's table can stand in for it.
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS strongroom_lines (n bigint NOT NULL, line text NOT NULL)")
    connection.execute(sql.SQL("TRUNCATE {}").format(LINES))
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(LINES)) as copy:
        for number, line in enumerate(lines):
            copy.write(b"%d\t%s\n" % (number, line.replace(b"\\", b"\\\\")))


def rebuilt_rows(shape: TableShape, *further: sql.Composable) -> sql.Composed:
    """A SELECT of all columns, in the table's order, over the staged lines; its rows are called ``r``.

    Args:
        shape: The columns to read; a line may have others.
        further: Expressions over ``r`` and over the staged line, ``l.line``, that follow the columns.
    """
    columns = (sql.SQL("{} AS {}").format(read_value(column), sql.Identifier(column.name)) for column in shape.columns)
    values = sql.SQL(", ").join([*columns, *further])
    return sql.SQL("SELECT {} FROM {} AS l, LATERAL json_to_record(l.line::json) AS r({}) ORDER BY l.n").format(
        values, LINES, read_columns(shape)
    )


def rebuilt_keys(connection: Connection, shape: TableShape, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Primary key and row digest of each archived line, byte for byte as extract_to_staging wrote them.

    Args:
        connection: Any session of the server, outside a transaction or in a writable one.
        shape: From the manifest or the plan.
        lines: JSON lines without their newlines.

    Yields:
        One line a row, with its newline.

    Raises:
        IntegrityError: A line does not read back into the types of the columns.
    """
    keys = sql.SQL(", ").join(sql.Identifier("t", name) for name in shape.primary_key)
    query = sql.SQL("COPY (SELECT {}, {} FROM ({}) AS t) TO STDOUT").format(
        keys, row_digest(sql.SQL("t")), rebuilt_rows(shape)
    )
    for batch in batches(lines, most_lines=_BATCH_LINES, most_bytes=_BATCH_BYTES):
        try:
            stage_lines(connection, batch)
            with connection.cursor() as cursor, cursor.copy(query) as copy:
                answer = b"".join(map(bytes, copy))
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError) as error:
            raise _unreadable(shape, error) from None
        yield from answer.splitlines(keepends=True)


def batches(lines: Iterable[bytes], *, most_lines: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Group lines so that neither many nor large ones are in memory at once; a single larger line stands alone."""
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


def _unreadable(shape: TableShape, error: psycopg.Error) -> IntegrityError:
    """What the server said of a line, without its message: that may quote the row."""
    about = error.diag.column_name or error.diag.constraint_name or error.diag.datatype_name
    return IntegrityError(
        f"archived rows of {shape.schema_name}.{shape.table_name} do not read back into their column types",
        expected="lines that the server reads as the rows they were made of",
        found=f"{type(error).__name__} (SQLSTATE {error.sqlstate}){f' about {about}' if about else ''}",
        hint="No row was deleted by this step. A stored value breaks a rule of its own type, such as a domain's check "
        "that was added NOT VALID: correct those rows, then clear 'plan' and the tasks after it.",
    )
