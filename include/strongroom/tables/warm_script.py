"""The statements that create a table's warm table, and keep it up to date. An owner of the live table runs them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg import sql

from strongroom.calendar import Frequency, Partition
from strongroom.database.inspect import inspect_table
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.records import TableShape
from strongroom.settings import TableSettings
from strongroom.tables.warm import WARM_SCHEMA, warm_columns, warm_key, warm_months, warm_name


def warm_script(
    connection: Connection, settings: TableSettings, *, now: datetime, until: Partition
) -> list[sql.Composed]:
    """The statements that create a table's warm table, view, table partitions and rights, or bring them up to date.

    An owner of the live table runs them in one transaction. Whatever exists already stays as it is; columns that
    the live table gained are added.

    Args:
        connection: A session of the archiver's role; the rights go to that role.
        settings: Of the live table.
        now: Aware instant.
        until: The last month to get a partition.
    """
    shape, name = inspect_table(connection, settings).shape, warm_name(settings)
    months = warm_months(connection, name) or {}
    lacking = [month.key for month in _wanted(settings, now, until) if month.key not in months]
    partitions = {month: f"{name}_{month.replace('-', '_')}" for month in lacking}
    definitions = _definitions(connection, shape)
    columns = warm_columns(connection, name) or tuple(definitions)
    [(role,)] = fetch_rows(connection, "SELECT current_user::text")
    return [
        # The view keeps the operators that it finds now, and they must be the server's own.
        sql.SQL("SET LOCAL search_path = pg_catalog, pg_temp").format(),
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(WARM_SCHEMA)),
        _create_table(name, shape, definitions),
        *(
            sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(qualified(WARM_SCHEMA, name), definition)
            for column, definition in definitions.items()
            if column not in columns
        ),
        *(_create_partition(name, shape, month, partition) for month, partition in partitions.items()),
        _create_view(shape, name),
        _create_function(name),
        *_grants(name, str(role), [*months.values(), *partitions.values()]),
    ]


def view_name(shape: TableShape) -> sql.Identifier:
    """The view that reads hot and warm rows together."""
    return qualified(shape.schema_name, f"{shape.table_name}_all")


def function_name(name: str) -> sql.Identifier:
    """The function that drops a partition of a warm table."""
    return qualified(WARM_SCHEMA, f"{name}_drop")


def _wanted(settings: TableSettings, now: datetime, until: Partition) -> list[Partition]:
    """The months whose rows are still within the warm term, oldest first, and the months to come."""
    month = max(until, Partition.containing(Frequency.MONTHLY, now), key=lambda one: one.window.start)
    wanted = []
    while now < settings.warm_retention.after(month.window.end):
        wanted.append(month)
        month = month.previous()
    return wanted[::-1]


def _literal(shape: TableShape, instant: datetime) -> sql.Literal:
    """A midnight in UTC as the text of a date column's type."""
    return sql.Literal(f"{instant:%Y-%m-%d} 00:00:00+00" if shape.date_type == "timestamptz" else f"{instant:%Y-%m-%d}")


def _definitions(connection: Connection, shape: TableShape) -> dict[str, sql.Composed]:
    """Each column's name, type and collation: no default, no identity, nothing generated."""
    rows = fetch_rows(
        connection,
        "SELECT a.attname::text, n.nspname::text, l.collname::text FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation "
        "JOIN pg_namespace n ON n.oid = l.collnamespace JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE s.nspname = %s AND c.relname = %s AND a.attnum > 0 AND a.attcollation <> t.typcollation",
        shape.schema_name,
        shape.table_name,
    )
    collations = {
        column: sql.SQL(" COLLATE {}").format(sql.Identifier(schema, collation)) for column, schema, collation in rows
    }
    return {
        column.name: sql.SQL("{} {}{}").format(
            sql.Identifier(column.name), sql.SQL(column.type), collations.get(column.name, sql.SQL(""))
        )
        for column in shape.columns
    }


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _create_table(name: str, shape: TableShape, definitions: dict[str, sql.Composed]) -> sql.Composed:
    return sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})) PARTITION BY RANGE ({})").format(
        qualified(WARM_SCHEMA, name),
        sql.SQL(", ").join(definitions.values()),
        _names(warm_key(shape)),
        sql.Identifier(shape.date_column),
    )


def _create_partition(name: str, shape: TableShape, month: str, partition: str) -> sql.Composed:
    window = Partition.parse(Frequency.MONTHLY, month).window
    return sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
        qualified(WARM_SCHEMA, partition),
        qualified(WARM_SCHEMA, name),
        _literal(shape, window.start),
        _literal(shape, window.end),
    )


def _create_view(shape: TableShape, name: str) -> sql.Composed:
    """Hot and warm rows together. A row that was restored while it is still warm is read from the live table only."""
    return sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT {columns} FROM {hot} UNION ALL SELECT {columns} FROM {warm} AS w "
        "WHERE NOT EXISTS (SELECT FROM {hot} AS h WHERE {same})"
    ).format(
        view=view_name(shape),
        columns=_names(column.name for column in shape.columns),
        hot=qualified(shape.schema_name, shape.table_name),
        warm=qualified(WARM_SCHEMA, name),
        same=sql.SQL(" AND ").join(
            sql.SQL("h.{key} OPERATOR(pg_catalog.=) w.{key}").format(key=sql.Identifier(key))
            for key in shape.primary_key
        ),
    )


def _create_function(name: str) -> sql.Composed:
    """A function that runs with its owner's rights, since only an owner may drop a table."""
    body = sql.SQL(
        """
DECLARE
  found bigint;
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE c.relispartition AND c.relname = partition AND c.relnamespace = {schema}::regnamespace
      AND p.relname = {name} AND p.relnamespace = {schema}::regnamespace
  ) THEN
    RAISE EXCEPTION '% is no partition of this warm table', partition;
  END IF;
  EXECUTE format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', {schema}, partition);
  EXECUTE format('SELECT count(*) FROM %I.%I', {schema}, partition) INTO found;
  IF found <> proved_rows THEN
    RAISE EXCEPTION '% has % rows, and % were proved', partition, found, proved_rows;
  END IF;
  EXECUTE format('DROP TABLE %I.%I', {schema}, partition);
END
"""
    ).format(schema=sql.Literal(WARM_SCHEMA), name=sql.Literal(name))
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {}(partition name, proved_rows bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER "
        "SET search_path = pg_catalog, pg_temp AS {}"
    ).format(function_name(name), sql.Literal(body.as_string()))


def _grants(name: str, role: str, partitions: Iterable[str]) -> list[sql.Composed]:
    """UPDATE is for rows that arrive again: a row that was restored, changed and archived again replaces its older form."""
    to = sql.Identifier(role)
    signature = sql.SQL("{}(name, bigint)").format(function_name(name))
    tables = sql.SQL(", ").join(qualified(WARM_SCHEMA, each) for each in (name, *partitions))
    return [
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(WARM_SCHEMA), to),
        sql.SQL("GRANT SELECT, INSERT, UPDATE ON {} TO {}").format(tables, to),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(signature),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(signature, to),
    ]
