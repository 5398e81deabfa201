"""The warm tier: partitioned tables of schema ``warm`` that rows move to when they leave the live table.

A warm table has the columns of its live table under the same names and types, all of them plain, and one partition for
each calendar month in UTC. Making one needs an owner's rights; the archiver's role then may read it and add rows to it,
and take a partition down only through a function that compares the number of its rows with the number that was proved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from strongroom.calendar import Frequency, Partition, Window, partitions_between
from strongroom.database.inspect import inspect_table, is_key
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.errors import UnarchivableError
from strongroom.records import TableShape
from strongroom.settings import TableSettings

WARM_SCHEMA = "warm"

_LONGEST_NAME_BYTES = 63
_SUFFIX = "_2026_05"
_BOUNDS = re.compile(
    r"FOR VALUES FROM \('(?P<month>\d{4}-\d\d)-01(?P<midnight> 00:00:00(\+00)?)?'\) "
    r"TO \('(?P<next>\d{4}-\d\d)-01(?P=midnight)?'\)"
)


@dataclass(frozen=True)
class WarmTable:
    """A warm table that can take the rows of a live one.

    Attributes:
        name: Its name inside schema ``warm``.
        columns: The live table's columns, in its order.
        key: The columns of its primary key: those of the live table, and the date column.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name."""
        return qualified(WARM_SCHEMA, self.name)

    def __str__(self) -> str:
        return f"{WARM_SCHEMA}.{self.name}"


def warm_name(settings: TableSettings) -> str:
    """Name of a table's warm table: its own in schema public, else with its schema in front.

    Raises:
        UnarchivableError: The name of a month's partition would be longer than PostgreSQL's names are.
    """
    public = settings.schema_name == "public"
    name = settings.table_name if public else f"{settings.schema_name}__{settings.table_name}"
    if len(f"{name}{_SUFFIX}".encode()) > _LONGEST_NAME_BYTES:
        raise UnarchivableError(
            f"{settings.qualified_name} cannot have a warm table: the names of its partitions would be too long",
            expected=f"at most {_LONGEST_NAME_BYTES} bytes",
            found=f"{name}{_SUFFIX}",
            hint="Nothing was read and no row was deleted. Set `warm: false` for this table.",
        )
    return name


def warm_table(
    connection: Connection, settings: TableSettings, shape: TableShape, window: Window, now: datetime
) -> WarmTable | None:
    """Where the rows of a window move to; None where the table has no warm tier, or the window's term there is over.

    Raises:
        UnarchivableError: The warm table cannot take the rows; names each reason, all of them at once.
    """
    if not settings.warm:
        return None
    months = list(months_of(window))
    if now >= settings.warm_retention.after(months[0].window.end):
        return None
    name = warm_name(settings)
    present = warm_months(connection, name)
    if present is None:
        faults = [f"there is no table {WARM_SCHEMA}.{name}"]
    else:
        faults = list(_faults(connection, name, shape))
        faults += [f"it has no partition for {month}" for month in months if month.key not in present]
    if faults:
        raise UnarchivableError(
            f"rows of {settings.qualified_name} cannot be moved to {WARM_SCHEMA}.{name}: " + "; ".join(faults),
            hint=f"No row was moved or deleted. Let an owner of the table run "
            f"`airflow strongroom warm apply {settings.qualified_name}`, then clear the task; "
            "or set `warm: false` to delete rows without keeping them warm.",
        )
    return WarmTable(name, tuple(column.name for column in shape.columns), warm_key(shape))


def warm_months(connection: Connection, name: str) -> dict[str, str] | None:
    """Name of the partition of each month that has one, oldest first, or None if there is no such warm table."""
    oid = _find(connection, name)
    return dict(_months(connection, oid)) if oid is not None else None


def warm_key(shape: TableShape) -> tuple[str, ...]:
    """The primary key of a warm table; that of a partitioned table must hold the column it is partitioned by."""
    return tuple(dict.fromkeys((*shape.primary_key, shape.date_column)))


def months_of(window: Window) -> Iterator[Partition]:
    """The calendar months that a window touches."""
    return partitions_between(Frequency.MONTHLY, window.start, window.end - timedelta(microseconds=1))


def _find(connection: Connection, name: str) -> int | None:
    rows = fetch_rows(
        connection,
        "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')",
        WARM_SCHEMA,
        name,
    )
    return int(rows[0][0]) if rows else None


def _months(connection: Connection, oid: int) -> Iterator[tuple[str, str]]:
    """Month and name of each partition that holds exactly one calendar month."""
    rows = fetch_rows(
        connection,
        "SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = %s AND c.relispartition AND c.relnamespace = %s::regnamespace ORDER BY 1",
        oid,
        WARM_SCHEMA,
    )
    for name, bounds in rows:
        found = _BOUNDS.fullmatch(bounds)
        if found is not None:
            month = Partition.parse(Frequency.MONTHLY, found["month"])
            if month.next().key == found["next"]:
                yield month.key, name


def warm_columns(connection: Connection, name: str) -> tuple[str, ...]:
    """Names of the columns of a warm table or a partition of one; none where there is no such table."""
    oid = _find(connection, name)
    return tuple(_columns(connection, oid)) if oid is not None else ()


def _columns(connection: Connection, oid: int) -> dict[str, tuple[str, bool]]:
    """Type and NOT NULL of each column."""
    rows = fetch_rows(
        connection,
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        oid,
    )
    return {name: (type_, not_null) for name, type_, not_null in rows}


def _faults(connection: Connection, name: str, shape: TableShape) -> Iterator[str]:
    oid = _find(connection, name)
    assert oid is not None  # noqa: S101 - the caller has just found it
    [(kind, partitioned_by, expected, *rights)] = fetch_rows(
        connection,
        "SELECT c.relkind::text, CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END, format('RANGE (%%I)', %s::text), "
        "has_schema_privilege(c.relnamespace, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), "
        "has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE') FROM pg_class c WHERE c.oid = %s",
        shape.date_column,
        oid,
    )
    if kind != "p" or partitioned_by != expected:
        yield f"it is not partitioned by {expected.lower()}"
        return
    wanted = (
        f"USAGE on schema {WARM_SCHEMA}",
        *(f"{right} on {WARM_SCHEMA}.{name}" for right in ("SELECT", "INSERT", "UPDATE")),
    )
    yield from (f"the source role lacks {right}" for right, held in zip(wanted, rights, strict=True) if not held)
    columns = _columns(connection, oid)
    for column in shape.columns:
        if column.name not in columns:
            yield f"it has no column {column.name}"
        elif columns[column.name][0] != column.type:
            yield f"its column {column.name} is {columns[column.name][0]}, not {column.type}"
    live = {column.name for column in shape.columns}
    yield from (
        f"its column {each} is not in the live table and takes no NULL"
        for each, (_, not_null) in columns.items()
        if not_null and each not in live
    )
    if not is_key(connection, oid, warm_key(shape)):
        yield f"its key is not ({', '.join(warm_key(shape))})"


# ------------------------------------------------------------------------------------------------------------- making


def warm_script(
    connection: Connection, settings: TableSettings, *, now: datetime, until: Partition
) -> list[sql.Composed]:
    """The statements that make a table's warm table, view, partitions and rights, or bring them up to date.

    They are for an owner of the live table, in one transaction. What is there already is left as it is; columns that
    the live table gained are added.

    Args:
        connection: A session of the archiver's role; the rights go to that role.
        settings: Of the live table.
        now: Aware instant.
        until: The last month to get a partition.
    """
    shape, name = inspect_table(connection, settings).shape, warm_name(settings)
    oid = _find(connection, name)
    months = warm_months(connection, name) or {}
    lacking = [month.key for month in _wanted(settings, now, until) if month.key not in months]
    partitions = {month: f"{name}_{month.replace('-', '_')}" for month in lacking}
    definitions = _definitions(connection, shape)
    columns = _columns(connection, oid) if oid is not None else definitions
    [(role,)] = fetch_rows(connection, "SELECT current_user::text")
    return [
        # The view keeps the operators that it finds now, and nobody's shall stand in for the server's own.
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
    """The function that takes down a partition of a warm table."""
    return qualified(WARM_SCHEMA, f"{name}_drop")


def _wanted(settings: TableSettings, now: datetime, until: Partition) -> list[Partition]:
    """The months whose rows are still to be warm, oldest first, and those to come."""
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
    """Hot and warm rows together. A row that was restored while it is warm too is read from the live table alone."""
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
    """UPDATE is for rows that come again: restored, changed and archived once more, they replace their older form."""
    to = sql.Identifier(role)
    signature = sql.SQL("{}(name, bigint)").format(function_name(name))
    tables = sql.SQL(", ").join(qualified(WARM_SCHEMA, each) for each in (name, *partitions))
    return [
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(WARM_SCHEMA), to),
        sql.SQL("GRANT SELECT, INSERT, UPDATE ON {} TO {}").format(tables, to),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(signature),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(signature, to),
    ]
