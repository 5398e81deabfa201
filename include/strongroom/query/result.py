"""The result of a query in staging: a file of rows, and the outcome that says what they are.

The outcome is written last, after the store has recorded the query, and nothing opens the rows without it. Both are personal
data: they lie only in staging, nobody can open them after a day, and the next sweep removes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from strongroom.errors import IntegrityError, QueryError
from strongroom.formats.codecs import Codec, Writable, blocks, compressing, decompress
from strongroom.formats.line_reader import split_lines
from strongroom.query.records import QueryOutcome, ResultRow
from strongroom.query.row_lines import read_line
from strongroom.storage.staging import OF_QUERIES, Staging, StagingRoot

_ROWS, _OUTCOME = "rows.jsonl.zst", "outcome.json"
_CHUNK_ROWS = 500

_ALIVE = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""What begins a formula in a spreadsheet."""

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$|^$')


def make_query_id(run_id: str) -> str:
    """The name of a run's result in staging: safe as a folder, and another one for each run."""
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', run_id)[:80]}.{digest}"


class QueryResult:
    """The rows of a query, and what is known of them.

    Attributes:
        outcome: Columns, counts, what was not searched, when it expires.
    """

    def __init__(self, outcome: QueryOutcome, path: Path) -> None:
        self.outcome = outcome
        self._path = path

    def rows(self) -> Iterator[ResultRow]:
        """The rows in their order: those of the oldest window first. Each call begins anew, and holds few rows in memory.

        Raises:
            IntegrityError: The file is damaged; known at its end at the latest.
        """
        digest = hashlib.sha256()
        with self._path.open("rb") as handle:
            for line in split_lines(decompress("zstd", blocks(handle), on_chunk=digest.update)):
                yield read_line(line)
        if digest.hexdigest() != self.outcome.rows_sha256:
            raise IntegrityError(
                f"the rows of query {self.outcome.query_id} in staging are damaged",
                expected=f"SHA-256 {self.outcome.rows_sha256}",
                found=digest.hexdigest(),
                hint="The archives are untouched. Do not use this result; run the query again.",
            )

    def csv(self) -> Iterator[bytes]:
        """The rows as CSV by RFC 4180 in UTF-8, a chunk of some rows at a time, with a line of names first.

        NULL is an empty field, an empty text is ``""``. Text that a spreadsheet would take for a formula gets an apostrophe in
        front; plain numbers, signed ones too, stay as they are.
        """
        yield _csv_line([column.name for column in self.outcome.columns]).encode()
        for some in _chunks(self.rows()):
            yield "".join(_csv_line(row.values) for row in some).encode()

    def json_lines(self) -> Iterator[bytes]:
        """The rows as JSON lines, a chunk of some rows at a time: an object of each row, every value a string or null."""
        names = [column.name for column in self.outcome.columns]
        encode = msgspec.json.Encoder().encode
        for some in _chunks(self.rows()):
            yield b"".join(encode(dict(zip(names, row.values, strict=True))) + b"\n" for row in some)


@contextmanager
def open_result(root: StagingRoot, run_id: str, *, now: datetime) -> Iterator[QueryResult]:
    """Open the result of a run. What is read of it must be read inside the block.

    It is the caller who must know that the reader may see the run.

    Args:
        root: The staging of the table that was searched.
        run_id: Airflow's id of the run of ``query_archive``.
        now: Aware instant.

    Raises:
        QueryError: There is none, or it has expired.
    """
    query_id = make_query_id(run_id)
    with root.of(OF_QUERIES, query_id) as staging:
        outcome = staging.kept(_OUTCOME, QueryOutcome)
        if outcome is None or outcome.run_id != run_id:
            raise QueryError(
                f"there is no result of the query {run_id[:300]}",
                hint="Nothing was changed. Results are removed after a day, and a run that failed leaves none. Run the query "
                "again. If it just succeeded, this machine does not reach the folder that `staging` names.",
            )
        if now >= outcome.expires_at:
            raise QueryError(
                f"the result of the query {run_id[:300]} expired at {outcome.expires_at:%Y-%m-%d %H:%M} UTC",
                hint="Nothing was changed; the archives are as they were. Run the query again.",
            )
        path = staging.fetch(staging.folder / _ROWS, outcome.rows_sha256)
        if path is None:
            raise QueryError(
                f"the rows of the query {run_id[:300]} are gone from staging",
                hint="Nothing else was changed; the archives are as they were. Run the query again.",
            )
        yield QueryResult(outcome, path)


@contextmanager
def writing_rows(staging: Staging) -> Iterator[Writable]:
    """A file for the rows of a query, compressed, in place of an earlier try's. Nothing shows them before :func:`publish`.

    Each line is one of :mod:`strongroom.query.row_lines`.
    """
    staging.clear()
    with staging.writing(staging.folder / _ROWS) as [handle], compressing(Codec("zstd", 3), handle) as packed:
        yield packed


def rows_file(staging: Staging) -> tuple[str, int]:
    """SHA-256 and size in bytes of the file that :func:`writing_rows` wrote."""
    path = staging.folder / _ROWS
    return staging.sha256_of(path), path.stat().st_size


def publish(staging: Staging, outcome: QueryOutcome) -> None:
    """Let the rows be opened."""
    staging.keep(_OUTCOME, outcome)


def _chunks(rows: Iterator[ResultRow]) -> Iterator[list[ResultRow]]:
    some: list[ResultRow] = []
    for row in rows:
        some.append(row)
        if len(some) == _CHUNK_ROWS:
            yield some
            some = []
    if some:
        yield some


def _csv_line(values: Sequence[str | None]) -> str:
    line = ",".join(map(_csv_field, values))
    return f"{line or _csv_field('')}\r\n"  # a line without anything would be skipped


def _csv_field(value: str | None) -> str:
    if value is None:
        return ""
    if _ALIVE.match(value) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    return '"{}"'.format(value.replace('"', '""')) if _TO_QUOTE.search(value) else value
