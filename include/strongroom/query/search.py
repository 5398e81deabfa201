"""Search one part: DuckDB sieves its rows, and the archived texts decide.

This runs in a process of its own (:mod:`strongroom.query.child`), which has no credentials and sees the part alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from strongroom.formats.copy_text import unescape_all
from strongroom.formats.line_reader import LineReader
from strongroom.query.conditions import Check, check_conditions
from strongroom.query.records import PartJob
from strongroom.query.sandbox import open_sandbox, stream_batches
from strongroom.query.sieve import Statement, line_statement, parquet_statement
from strongroom.records import Column

Row = tuple[str | None, ...]
"""The texts of the columns to show; None is NULL, and what the archive has no column for."""

_BATCH_ROWS = 1000
_DUCKDB_SHARE = 2
"""DuckDB gets this fraction of the memory; the rest is for the rows that it lets through."""

_LONGEST_LINE_SHARE = 16
"""A line that takes more than this fraction of the memory is too long: it is held several times."""


def search_part(path: str, job: PartJob) -> Iterator[Row]:
    """The matching rows of a part, in its order; one more than the limit, if there are so many.

    Args:
        path: A file that holds the part as the store has it.
    """
    checks = check_conditions(job.conditions, job.columns)
    rows = _parquet_rows if job.format == "parquet" else _line_rows
    left = job.limit + 1
    for row in rows(path, job, checks):
        yield row
        left -= 1
        if not left:
            return


def _line_rows(path: str, job: PartJob, checks: Sequence[Check]) -> Iterator[Row]:
    longest = max(job.memory_bytes // _LONGEST_LINE_SHARE, 1 << 20)
    statement = line_statement(path, job.compression_type, checks, longest_line_bytes=longest)
    known = {column.name: column for column in job.columns}
    shown = _Texts([known[name] for name in job.selected if name in known])
    tried = [(_Texts([check.column]), check.deciding()) for check in checks]
    for lines in _lines(path, statement, job):
        for texts, holds in tried:
            if lines:
                [values] = texts.of(lines)
                lines = [line for line, value in zip(lines, values, strict=True) if holds(value)]
        if lines:
            yield from _in_places(job, known, shown.of(lines), len(lines))


class _Texts:
    """Reads the texts of some columns of lines."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._reader = LineReader(columns) if columns else None

    def of(self, lines: Sequence[bytes]) -> list[list[str | None]]:
        """The texts, column by column."""
        return [] if self._reader is None else [unescape_all(column) for column in self._reader.columns(lines)]


def _lines(path: str, statement: Statement, job: PartJob) -> Iterator[list[bytes]]:
    with open_sandbox(path, memory_bytes=job.memory_bytes // _DUCKDB_SHARE) as connection:
        result = connection.execute(statement.text, list(statement.parameters))
        while found := result.fetchmany(_BATCH_ROWS):
            yield [line.encode() for (line,) in found]


def _parquet_rows(path: str, job: PartJob, checks: Sequence[Check]) -> Iterator[Row]:
    from strongroom.formats.arrow import pa  # which a part of JSON lines can do without
    from strongroom.formats.parquet import texts_of

    names = {*job.selected, *(check.column.name for check in checks)}
    wanted = [position for position, column in enumerate(job.columns) if column.name in names]
    statement = parquet_statement(path, job.columns, wanted, checks)
    known = {column.name: column for column in job.columns}
    place = {job.columns[position].name: number for number, position in enumerate(wanted)}
    shown = [known[name] for name in job.selected if name in known]
    tried = [(check.column, check.deciding()) for check in checks]

    def texts(batch: Any, columns: Sequence[Column]) -> list[list[str | None]]:
        arrays = [batch.column(place[column.name]) for column in columns]
        return [column.to_pylist() for column in texts_of(columns, arrays, batch.column(len(wanted)))]

    for whole in _batches(path, statement, job):
        batch = whole
        for column, holds in tried:
            if batch.num_rows:
                [values] = texts(batch, [column])
                batch = batch.filter(pa.array([holds(value) for value in values]))
        if batch.num_rows:
            yield from _in_places(job, known, texts(batch, shown), batch.num_rows)


def _batches(path: str, statement: Statement, job: PartJob) -> Iterator[Any]:
    with open_sandbox(path, memory_bytes=job.memory_bytes // _DUCKDB_SHARE) as connection:
        yield from stream_batches(connection, statement.text, statement.parameters, rows=_BATCH_ROWS)


def _in_places(
    job: PartJob, known: dict[str, Column], texts: Iterable[Sequence[str | None]], rows: int
) -> Iterator[Row]:
    """Rows of the columns to show; a column that the archive does not have is None in all of them."""
    found, nothing = iter(texts), [None] * rows
    return zip(*(next(found) if name in known else nothing for name in job.selected), strict=True)
