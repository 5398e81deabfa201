"""What a source database tells of a table: which partitions have rows, and since when. Reads dates and counts, never a row."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from psycopg import sql
from psycopg.errors import QueryCanceled
from pydantic import AwareDatetime, Field

from strongroom.calendar import EPOCH, Frequency, Partition, newest_due
from strongroom.database.session import Connection, qualified
from strongroom.errors import SourceError
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.statistics.waiting import TableCounts, count_waiting

_MOST_HOT = 400
"""Partitions that are looked at one by one; with 90 hot days there are 3, 13 or 91."""


class TableRows(Record):
    """Where a table has rows."""

    counts: TableCounts
    first_at: AwareDatetime | None = Field(
        description="Date of the oldest row that a partition can hold; None if there is none."
    )
    hot_keys: tuple[str, ...] = Field(description="Partitions inside hot retention that have rows, oldest first.")


def look_at_table(connection: Connection, settings: TableSettings, *, now: datetime, seconds: int) -> TableRows:
    """Ask which partitions of a table have rows. An index on the date column makes it fast.

    Args:
        connection: A session on the source database, for this alone.
        settings: Of the table.
        now: Aware UTC instant that hot retention is measured against.
        seconds: After which the server gives up on each statement.

    Raises:
        SourceAccessError: There is no such table or column, or no right to read it.
        SourceError: It took too long.
    """
    connection.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(seconds * 1000)))
    try:
        return TableRows(
            counts=count_waiting(connection, settings, now=now),
            first_at=_first_at(connection, settings),
            hot_keys=_hot_keys(connection, settings, now),
        )
    except QueryCanceled:
        raise SourceError(
            f"the rows of {settings.qualified_name} were not counted within {seconds} s",
            hint=f"Nothing was changed. An index on {settings.date_column} makes it fast; archiving the rows that are overdue does, too.",
        ) from None


def _first_at(connection: Connection, settings: TableSettings) -> datetime | None:
    if settings.is_member:
        return None
    row: Any = connection.execute(
        sql.SQL(
            "SELECT extract(epoch FROM min(t.{column}))::float8 FROM {table} AS t WHERE t.{column} >= {first} AND t.{column} < 'infinity'"
        ).format(
            column=sql.Identifier(settings.date_column),
            table=qualified(settings.schema_name, settings.table_name),
            first=sql.Literal(EPOCH.date().isoformat()),
        )
    ).fetchone()
    try:
        return None if row[0] is None else datetime.fromtimestamp(row[0], timezone.utc)
    except (OverflowError, ValueError, OSError):  # a date beyond the years that Python knows
        return None


def _hot_keys(connection: Connection, settings: TableSettings, now: datetime) -> tuple[str, ...]:
    partitions = _hot(settings.frequency, settings, now)
    if not partitions or settings.is_member:
        return ()
    # The bounds take the type of the column, so that its index is used; the session's time zone is UTC.
    exists = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {key} WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE t.{column} >= {start} AND t.{column} < {end})"
        ).format(
            key=sql.Literal(one.key),
            table=qualified(settings.schema_name, settings.table_name),
            column=sql.Identifier(settings.date_column),
            start=sql.Literal(one.window.start.date().isoformat()),
            end=sql.Literal(one.window.end.date().isoformat()),
        )
        for one in partitions
    )
    found: list[Any] = connection.execute(exists).fetchall()
    return tuple(sorted(key for (key,) in found))


def _hot(frequency: Frequency, settings: TableSettings, now: datetime) -> list[Partition]:
    """The partitions after the newest that is due, up to the one of today."""
    newest = newest_due(frequency, settings.hot_retention, now)
    today = Partition.containing(frequency, now)
    partitions, one = [today], today
    while len(partitions) < _MOST_HOT and newest is not None and one.previous().window.start > newest.window.start:
        one = one.previous()
        partitions.append(one)
    return partitions[::-1]
