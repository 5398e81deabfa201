"""Rows that could not be read back from an archive as they were: plan refuses them before anything is read."""

from __future__ import annotations

from psycopg import errors, sql

from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.rebuild import RebuiltRows
from strongroom.database.rows import count_rows_where, in_window, reads_back
from strongroom.database.session import Connection, fetch_rows
from strongroom.errors import UnarchivableError

_SURELY_FITS_BYTES = 7900
"""A row of at most this size also fits on a page with a bigint and one more NULL: a page has 8160 bytes for a row."""


def refuse_unsteady_text(connection: Connection, table: InspectedTable, window: Window) -> None:
    """Refuse values whose text reads back as another value. The caller's transaction is read only: types run code of their own.

    Raises:
        UnarchivableError: There are such values.
    """
    for column in table.text_to_try:
        condition = sql.SQL(" AND NOT ").join([in_window(table, window), reads_back(column)])
        rows = count_rows_where(connection, table, condition)
        if rows:
            where = f"{table.shape.schema_name}.{table.shape.table_name}"
            raise UnarchivableError(
                f"{where} cannot be archived: the text of {rows} values in its column {column.name} ({column.type}) "
                "reads back as other values",
                hint="Nothing was read and no row was deleted. A tsquery that was put together as a & (b & c) is written "
                "without its brackets; give such a column its own text as its value, and the two are the same.",
            )


def refuse_wide_rows(connection: Connection, table: InspectedTable, window: Window) -> None:
    """Refuse rows that fit on a page of their table, but not on a page of the temporary table that they are read back into,
    which has two columns more. The server tries it with each row that may be too wide; few tables have any.

    Raises:
        UnarchivableError: There is such a row.
    """
    if not may_be_too_wide(connection, table):
        return
    rebuilt = RebuiltRows(connection, table.shape.columns)
    try:
        _insert_wide_rows(connection, rebuilt, table, window)
    except errors.ProgramLimitExceeded:
        raise UnarchivableError(
            f"{table.shape.schema_name}.{table.shape.table_name} cannot be archived: a row of it is too wide to be read back",
            expected="rows that leave room on their page for one more bigint and the marks of NULLs",
            found=f"a row that fills its page with its {len(table.shape.columns)} columns",
            hint="Nothing was read and no row was deleted. Move some columns into another table, or give narrower types to them.",
        ) from None


def may_be_too_wide(connection: Connection, table: InspectedTable) -> bool:
    """Whether a row may be too wide to be read back, as far as the types of its columns tell."""
    [(widest,)] = fetch_rows(
        connection,
        "SELECT sum(CASE WHEN t.typlen > 0 THEN t.typlen + 7 WHEN t.typstorage = 'p' THEN %s ELSE 24 END) "
        "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        _SURELY_FITS_BYTES + 1,
        table.shape.schema_name,
        table.shape.table_name,
    )
    return int(widest) > _SURELY_FITS_BYTES


def _insert_wide_rows(connection: Connection, rebuilt: RebuiltRows, table: InspectedTable, window: Window) -> None:
    """Insert the rows that may be too wide into the table that rows are read back into, and roll back."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION READ ONLY")  # which does not apply to a temporary table
        connection.execute(
            sql.SQL("INSERT INTO {} (n, {}) SELECT 0, {} FROM {} AS t WHERE {} AND pg_column_size(t.*) > {}").format(
                rebuilt.table,
                sql.SQL(", ").join(rebuilt.names.values()),
                sql.SQL(", ").join(sql.Identifier("t", column.name) for column in table.shape.columns),
                table.name,
                in_window(table, window),
                sql.Literal(_SURELY_FITS_BYTES),
            )
        )
