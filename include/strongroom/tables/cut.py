"""Cut the window of a partition into parts that are about equally large, at whole seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from itertools import pairwise
from typing import Any

from psycopg import sql

from strongroom.calendar import Partition, Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.rows import date_value, json_line, rows_to_archive, share_of
from strongroom.database.session import Connection
from strongroom.errors import UnarchivableError
from strongroom.settings import TableSettings

MOST_PARTS = 1000
"""Airflow maps a task over at most 1024 values (``max_map_length``)."""

_WORTH_A_PART_ROWS = 500_000
"""A part has six tasks, which cost some seconds; smaller parts gain nothing by running side by side."""

_SAMPLE_ROWS = 1000
_BUCKETS = ("hour", "minute", "second")


@dataclass(frozen=True)
class Piece:
    """What one part will hold: a time range, or one share of it where its rows are too many and time cuts no further."""

    window: Window
    rows: int
    share: int = 0
    shares: int = 1


@dataclass(frozen=True)
class Cut:
    """A window in pieces.

    Attributes:
        pieces: In order of time.
        line_bytes: About how long a JSON line is.
    """

    pieces: tuple[Piece, ...]
    line_bytes: float

    @property
    def rows(self) -> int:
        """Rows of all pieces."""
        return sum(piece.rows for piece in self.pieces)


@dataclass(frozen=True)
class _Slice:
    start: datetime
    rows: int


def cut_partition(connection: Connection, table: InspectedTable, partition: Partition, settings: TableSettings) -> Cut:
    """Cut a partition's window into pieces of at most ``part_rows`` rows and about ``part_bytes`` bytes; no pieces if no row is due.

    If there are rows enough, there are as many pieces as run side by side. A second (or a day, for dates without time) that
    holds too many rows is cut further by the keys of its rows.

    Raises:
        UnarchivableError: There would be more pieces than Airflow maps a task over.
    """
    window = partition.window
    slices = _count_by_time(connection, table, window, _BUCKETS[0])
    total = sum(one.rows for one in slices)
    if total == 0:
        return Cut((), 0.0)
    line_bytes = _line_bytes(connection, table, window)
    most = max(1, min(settings.part_rows, int(settings.part_bytes / line_bytes)), math.ceil(total / MOST_PARTS * 1.1))
    side_by_side = min(settings.max_parallel_parts, round(total / _WORTH_A_PART_ROWS))
    parts = max(math.ceil(total / most), side_by_side)
    for finer in _BUCKETS[1:]:
        slices = _refine(connection, table, window, slices, math.ceil(total / parts), finer)
    pieces = [
        part for piece in _pieces(window, slices, most, parts) for part in _share_out(connection, table, piece, most)
    ]
    if len(pieces) > MOST_PARTS:
        raise _too_many(settings, partition.key, len(pieces))
    return Cut(tuple(pieces), line_bytes)


def _pieces(window: Window, slices: Sequence[_Slice], most: int, parts: int) -> list[Piece]:
    groups = _group(slices, most, parts=parts)
    if len(groups) > parts:  # rows of a few seconds that did not fit are not to become a part of their own
        groups = _group(slices, most, parts=len(groups))
    bounds = [window.start, *(group[0].start for group in groups[1:]), window.end]
    return [
        Piece(Window(start, end), sum(one.rows for one in group))
        for (start, end), group in zip(pairwise(bounds), groups, strict=True)
    ]


def _share_out(connection: Connection, table: InspectedTable, piece: Piece, most: int) -> list[Piece]:
    if piece.rows <= most:
        return [piece]
    shares = math.ceil(piece.rows / most)
    query = sql.SQL("SELECT {}, count(*) FROM {} AS t WHERE {} GROUP BY 1 ORDER BY 1").format(
        share_of(table, shares), table.name, rows_to_archive(table, piece.window)
    )
    rows: list[Any] = connection.execute(query).fetchall()
    return [Piece(piece.window, int(count), int(share), shares) for share, count in rows]


def _count_by_time(connection: Connection, table: InspectedTable, window: Window, bucket: str) -> list[_Slice]:
    value = date_value(table)
    bucketed = (
        value if table.shape.date_type == "date" else sql.SQL("date_trunc({}, {})").format(sql.Literal(bucket), value)
    )
    query = sql.SQL("SELECT {}, count(*) FROM {} AS t WHERE {} GROUP BY 1 ORDER BY 1").format(
        bucketed, table.name, rows_to_archive(table, window)
    )
    rows: list[Any] = connection.execute(query).fetchall()
    return [_Slice(_instant(start), int(count)) for start, count in rows]


def _refine(
    connection: Connection, table: InspectedTable, window: Window, slices: list[_Slice], most: int, bucket: str
) -> list[_Slice]:
    if table.shape.date_type == "date":
        return slices
    refined: list[_Slice] = []
    for position, one in enumerate(slices):
        following = slices[position + 1].start if position + 1 < len(slices) else window.end
        if one.rows > most and following > one.start:
            refined += _count_by_time(connection, table, Window(one.start, following), bucket)
        else:
            refined.append(one)
    return refined


def _group(slices: Sequence[_Slice], most: int, *, parts: int) -> list[list[_Slice]]:
    """Neighbours together: what is left is shared evenly by the parts that are left, and none holds too many."""
    groups: list[list[_Slice]] = [[]]
    rows, left = 0, sum(one.rows for one in slices)
    for one in slices:
        even_share = (rows + left) / max(1, parts - len(groups) + 1)
        if groups[-1] and (rows + one.rows > most or rows + one.rows / 2 > even_share):
            groups.append([])
            rows = 0
        groups[-1].append(one)
        rows += one.rows
        left -= one.rows
    return groups


def _line_bytes(connection: Connection, table: InspectedTable, window: Window) -> float:
    query = sql.SQL(
        "SELECT coalesce(avg(octet_length(line::text)) + 1, 1) FROM (SELECT {} AS line FROM {} AS t WHERE {} LIMIT {}) AS lines"
    ).format(json_line(table.shape), table.name, rows_to_archive(table, window), sql.Literal(_SAMPLE_ROWS))
    row: Any = connection.execute(query).fetchone()
    return float(row[0])


def _too_many(settings: TableSettings, partition_key: str, pieces: int) -> UnarchivableError:
    return UnarchivableError(
        f"{settings.qualified_name} {partition_key} falls into {pieces} parts",
        expected=f"at most {MOST_PARTS}",
        hint="Nothing was read and no row was deleted. Raise `part_rows` and `part_bytes`.",
    )


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    raise TypeError(f"a date column gave {type(value).__name__}")
