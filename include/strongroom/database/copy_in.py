"""The input of ``COPY … FROM STDIN``: rows that are sent to the server at once."""

from __future__ import annotations

from psycopg import sql

from strongroom.database.session import Connection


def copy_in(connection: Connection, into: sql.Composable, rows: bytes) -> None:
    """Copy rows into a table.

    Args:
        into: The table, with a list of columns in parentheses if the rows do not have all of them.
        rows: Lines of COPY's text format, each with its newline.
    """
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(into)) as copy:
        copy.write(rows)
