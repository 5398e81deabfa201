"""The warm tier: partitioned tables of schema ``warm`` that rows move to when they leave the live table.

A warm table has the columns of its live table with the same names and types, all of them plain, and one table partition for
each calendar month in UTC. Only an owner can create it (:mod:`strongroom.tables.warm_script`). The archiver's role may read it
and add rows to it. It can drop a partition only through a function that compares the number of rows with the number proved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from strongroom.calendar import Frequency, Partition, Window, partitions_between
from strongroom.database.inspect import is_key
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
    """Name of a table's warm table: the table's own name if its schema is public, else with the schema in front.

    Raises:
        UnarchivableError: The name of a month's partition would be too long for PostgreSQL.
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
    """Where the rows of a window move to; None if the table has no warm tier, or the window's warm term is over.

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
    first = Partition.containing(Frequency.MONTHLY, window.start)
    return partitions_between(Frequency.MONTHLY, first.window.start, window.end - timedelta(microseconds=1))


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
    """Names of the columns of a warm table or of one of its partitions; empty if there is no such table."""
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
