"""Step 2, extract_to_staging: stream one part out of the table, in one read-only snapshot.

The server writes three things for each row in one pass, so they speak of the same version of the row: its primary key,
the SHA-256 of its text, and its JSON line. Rows pass through in small batches; memory does not grow with the part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

import psycopg
from psycopg import sql

from strongroom.catalogue import InspectedTable, inspect_table
from strongroom.errors import IntegrityError, UnarchivableError
from strongroom.plan import due_rows
from strongroom.records import ExtractedPart, PlannedPart
from strongroom.settings import TableSettings
from strongroom.shape import json_line, row_digest, shape_sha256
from strongroom.source import Connection
from strongroom.staging import Staging

_BATCH_ROWS = 2000
_BATCH_BYTES = 1 << 22


def extract_part(
    connection: Connection, staging: Staging, settings: TableSettings, part: PlannedPart, *, now: datetime
) -> ExtractedPart:
    """Write a part's JSON lines, keys and digests to staging.

    A repeat finds the finished files and reads nothing.

    Raises:
        UnarchivableError: The table changed since it was planned, or holds bytes that are no characters.
        StagingError: The disk is full.
        SourceError: The server broke off; nothing is kept of the half-read part.
    """
    finished = staging.finished(ExtractedPart, part)
    if finished is not None and staging.keys(part.number).exists():
        return finished
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        table = inspect_unchanged(connection, settings, part)
        with staging.writing(staging.original(part.number), staging.keys(part.number)) as [lines, keys]:
            written = _Writer(lines, keys)
            for row in _copy_rows(connection, _extract_query(table, part), settings.qualified_name):
                written.add(row)
            written.flush()
        extracted = ExtractedPart(
            **part.model_dump(),
            rows=written.rows,
            original_size_bytes=written.size_bytes,
            original_sha256=written.lines_sha256.hexdigest(),
            keys_sha256=written.keys_sha256.hexdigest(),
            snapshot=_snapshot(connection),
            extracted_at=now,
        )
    staging.save(extracted)
    return extracted


def inspect_unchanged(connection: Connection, settings: TableSettings, part: PlannedPart) -> InspectedTable:
    """Inspect the table again and see that it still looks as it did when the part was planned.

    Raises:
        UnarchivableError: A column was added, dropped, renamed or retyped, or the key changed.
    """
    table = inspect_table(connection, settings)
    if shape_sha256(table.shape) != part.shape_sha256:
        raise UnarchivableError(
            f"{settings.qualified_name} changed its columns or key since {part.archive_id} was planned",
            hint="Nothing was deleted by this step; what was archived before stays valid. "
            "Clear 'plan' and the tasks after it to plan with the table as it is now.",
        )
    return table


def _extract_query(table: InspectedTable, part: PlannedPart) -> sql.Composed:
    keys = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in table.shape.primary_key)
    return sql.SQL("COPY (SELECT {keys}, {digest}, {line} FROM {table} AS t WHERE {due}) TO STDOUT").format(
        keys=keys,
        digest=row_digest(sql.SQL("t")),
        line=json_line(table.shape),
        table=table.name,
        due=due_rows(table, part.window),
    )


def _copy_rows(connection: Connection, query: sql.Composed, table: str) -> Iterator[bytes]:
    """Rows of a COPY in its text format, each with its newline. A message of the protocol need not be one row."""
    rest = b""
    try:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                data = rest + bytes(block) if rest else bytes(block)
                if data.endswith(b"\n") and data.count(b"\n") == 1:
                    rest = b""
                    yield data
                    continue
                *rows, rest = data.split(b"\n")
                for row in rows:
                    yield row + b"\n"
    except psycopg.DataError as error:
        # A server checks text on its way in; taking the digest checks it again, and an old server may hold other bytes.
        raise UnarchivableError(
            f"{table} cannot be archived: not all of its text is text",
            found=f"a value that the server cannot write: {type(error).__name__} (SQLSTATE {error.sqlstate})",
            hint="No row was deleted and nothing was kept of this part. Find the damaged values with "
            "`convert_from(convert_to(column, 'UTF8'), 'UTF8')`, which fails on them, correct them, then clear the task.",
        ) from None
    if rest:
        raise IntegrityError(
            "the COPY stream ended inside a row",
            hint="Nothing was kept of this part and no row was deleted. Clear the task to read it again.",
        )


def _snapshot(connection: Connection) -> str:
    row: Any = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    return str(row[0])


class _Writer:
    """Splits rows into the two files and sums them up, a batch at a time."""

    def __init__(self, lines: IO[bytes], keys: IO[bytes]) -> None:
        self._lines, self._keys = lines, keys
        self._line_batch: list[bytes] = []
        self._key_batch: list[bytes] = []
        self.lines_sha256, self.keys_sha256 = hashlib.sha256(), hashlib.sha256()
        self.rows = 0
        self.size_bytes = 0
        self._waiting_bytes = 0

    def add(self, row: bytes) -> None:
        key_and_digest, _, line = row.rpartition(b"\t")
        # JSON text holds no control character, so a backslash is all that COPY has escaped.
        self._line_batch.append(line.replace(b"\\\\", b"\\"))
        self._key_batch.append(key_and_digest)
        self._waiting_bytes += len(row)
        if len(self._line_batch) >= _BATCH_ROWS or self._waiting_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._line_batch:
            return
        lines = b"".join(self._line_batch)
        keys = b"\n".join(self._key_batch) + b"\n"
        self._lines.write(lines)
        self._keys.write(keys)
        self.lines_sha256.update(lines)
        self.keys_sha256.update(keys)
        self.rows += len(self._line_batch)
        self.size_bytes += len(lines)
        self._line_batch.clear()
        self._key_batch.clear()
        self._waiting_bytes = 0
