"""Which rows of a window stay in the table, and why: counted before anything is read."""

from __future__ import annotations

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.rows import count_rows_where, exclusions_by_reference, in_window
from strongroom.database.session import Connection
from strongroom.records import Exclusion


def find_exclusions(connection: Connection, table: InspectedTable, window: Window) -> tuple[Exclusion, ...]:
    """Rows that stay; each is counted once, under the first foreign key that refers to it or to its object."""
    exclusions = []
    by_reference = exclusions_by_reference(table)
    for position, (detail, referred) in enumerate(by_reference):
        earlier = (sql.SQL("NOT ") + one for _, one in by_reference[:position])
        condition = sql.SQL(" AND ").join([in_window(table, window), referred, *earlier])
        rows = count_rows_where(connection, table, condition)
        if rows:
            exclusions.append(Exclusion(reason="referenced", detail=detail, rows=rows))
    if table.date_nullable:
        column = sql.Identifier(table.shape.date_column)
        rows = count_rows_where(connection, table, sql.SQL("t.{} IS NULL").format(column))
        if rows:
            detail = f"their {table.shape.date_column} is NULL; they belong to no partition"
            exclusions.append(Exclusion(reason="no_date", detail=detail, rows=rows))
    nullable = {column.name for column in table.shape.columns if column.nullable}
    own = table.shape.dated_through[0].columns if table.shape.dated_through else ()
    if names := [name for name in own if name in nullable]:
        null = sql.SQL(" OR ").join(sql.SQL("t.{} IS NULL").format(sql.Identifier(name)) for name in names)
        rows = count_rows_where(connection, table, sql.Composed([null]))
        if rows:
            detail = (
                f"their {' or '.join(names)} is NULL; they belong to no row of {table.shape.dated_through[0].parent}"
            )
            exclusions.append(Exclusion(reason="no_parent", detail=detail, rows=rows))
    return tuple(exclusions)
