"""How many rows of a table wait in the source database to be archived. Reads counts, never a row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import sql
from pydantic import AwareDatetime, Field

from strongroom.calendar import EPOCH, Frequency, newest_due
from strongroom.database.rights import Rights
from strongroom.database.session import Connection, qualified
from strongroom.errors import SourceAccessError
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.tables.warm import WARM_SCHEMA, warm_name

_KEY_FORMATS = {Frequency.MONTHLY: "YYYY-MM", Frequency.WEEKLY: 'IYYY-"W"IW', Frequency.DAILY: "YYYY-MM-DD"}
"""Formats with which to_char() writes a calendar partition's key."""


class WaitingPartition(Record):
    """A calendar partition whose hot retention is over and that still has rows in the table."""

    partition_key: str
    rows: int


class TableCounts(Record):
    """What a table holds now."""

    hot_rows: int = Field(description="All its rows, as the server's statistics estimate them.")
    hot_bytes: int = Field(description="On disk, with indexes, TOAST and partitions.")
    warm_rows: int | None = Field(default=None, description="The same of the warm table; None if there is none.")
    warm_bytes: int | None = Field(description="Likewise.")
    waiting: tuple[WaitingPartition, ...] = Field(description="Oldest first; only partitions with rows.")
    undated_rows: int = Field(
        description="Without a date, or with one outside all calendar partitions; no run archives them."
    )
    counted_at: AwareDatetime


def count_waiting(connection: Connection, settings: TableSettings, *, now: datetime) -> TableCounts:
    """Count the rows that are due in a table. An index on the date column makes it fast.

    Args:
        connection: A session on the source database.
        settings: Of the table.
        now: Aware UTC instant that hot retention is measured against.

    Raises:
        SourceAccessError: There is no such table or column, or no right to read it.
    """
    _require_table(connection, settings)
    name = qualified(settings.schema_name, settings.table_name)
    hot_rows, hot_bytes = _size(connection, name)
    warm_rows, warm_bytes = _warm_size(connection, settings)
    return TableCounts(
        hot_rows=hot_rows,
        hot_bytes=hot_bytes,
        warm_rows=warm_rows,
        warm_bytes=warm_bytes,
        waiting=_waiting(connection, settings, now),
        undated_rows=_undated(connection, settings),
        counted_at=now,
    )


def _require_table(connection: Connection, settings: TableSettings) -> None:
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
        (settings.schema_name, settings.table_name),
    ).fetchone()
    if found is None:
        raise SourceAccessError(
            f"there is no table {settings.qualified_name} in the source database",
            hint="Nothing was changed. Correct its name in archive.yaml, or the source connection.",
        )
    rights = Rights(connection)
    rights.look_at_table(settings.schema_name, settings.table_name, "SELECT")
    rights.require(settings.qualified_name, safe="Nothing was changed.")


def _warm_size(connection: Connection, settings: TableSettings) -> tuple[int | None, int | None]:
    """Rows and bytes of the warm table; None if the settings want none, or it does not exist yet."""
    if not settings.warm:
        return None, None
    name = warm_name(settings)
    found: Any = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = %s", (WARM_SCHEMA, name)
    ).fetchone()
    return _size(connection, qualified(WARM_SCHEMA, name)) if found else (None, None)


def _size(connection: Connection, name: sql.Identifier) -> tuple[int, int]:
    """Rows and bytes of the table with its table partitions; rows are counted if the server has no estimate yet."""
    row: Any = connection.execute(
        "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint, "
        "bool_or(c.reltuples < 0) FROM pg_catalog.pg_class c WHERE c.relkind <> 'p' AND (c.oid = %(table)s::regclass "
        "OR c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::regclass) WHERE isleaf))",
        {"table": name.as_string(connection)},
    ).fetchone()
    rows, size_bytes, unknown = row
    if unknown:
        counted: Any = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
        rows = counted[0]
    return int(rows), int(size_bytes)


def _waiting(connection: Connection, settings: TableSettings, now: datetime) -> tuple[WaitingPartition, ...]:
    newest = newest_due(settings.frequency, settings.hot_retention, now)
    if newest is None or settings.is_member:  # rows of a member are due with those that date them
        return ()
    # Plain dates take the type of the column, so that its index is used; the session's time zone is UTC.
    query = sql.SQL(
        "SELECT to_char(t.{column}, {form}), count(*) FROM {table} AS t WHERE t.{column} >= {first} AND t.{column} < {end} "
        "GROUP BY 1 ORDER BY 1"
    ).format(
        column=sql.Identifier(settings.date_column),
        form=sql.Literal(_KEY_FORMATS[settings.frequency]),
        table=qualified(settings.schema_name, settings.table_name),
        first=sql.Literal(EPOCH.date().isoformat()),
        end=sql.Literal(newest.window.end.date().isoformat()),
    )
    rows: list[Any] = connection.execute(query).fetchall()
    return tuple(WaitingPartition(partition_key=key, rows=count) for key, count in rows)


def _undated(connection: Connection, settings: TableSettings) -> int:
    if settings.is_member:
        return 0
    query = sql.SQL(
        "SELECT count(*) FROM {table} AS t WHERE t.{column} IS NULL OR t.{column} < {first} OR t.{column} = 'infinity'"
    ).format(
        column=sql.Identifier(settings.date_column),
        table=qualified(settings.schema_name, settings.table_name),
        first=sql.Literal(EPOCH.date().isoformat()),
    )
    row: Any = connection.execute(query).fetchone()
    return int(row[0])
