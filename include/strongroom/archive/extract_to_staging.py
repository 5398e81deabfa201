"""Step 2, extract_to_staging: stream one part out of the table, in one read-only snapshot.

The server writes each row's text and nothing else. The row's digest, its JSON line and its key are all made of that one
text here. Rows pass through in small batches; memory does not grow with the part.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from strongroom.database.copy_out import copied_blocks
from strongroom.database.inspect import InspectedTable, inspect_unchanged
from strongroom.database.rows import row_text, rows_of_part
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError, UnarchivableError
from strongroom.formats.type_names import xml_columns
from strongroom.records import ExtractedPart, PlannedPart
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.staging import Staging

_BATCH_ROWS = 2000
_BATCH_BYTES = 1 << 21


def extract_part(
    connection: Connection,
    staging: Staging,
    settings: TableSettings,
    part: PlannedPart,
    *,
    now: datetime,
    stop_at: datetime | None = None,
) -> ExtractedPart:
    """Write a part's rows, as JSON lines or as parquet, and their keys and digests to staging.

    A repeat finds the finished files and reads nothing.

    Args:
        stop_at: No extraction begins after this instant; None means no limit.

    Raises:
        OutOfTimeError: The time is over.
        UnarchivableError: The table changed since it was planned, or holds bytes that are not UTF-8.
        StagingError: The disk is full.
        SourceError: The server broke off; nothing is kept of the half-read part.
    """
    finished = staging.finished(ExtractedPart, part)
    if finished is not None and staging.has(staging.keys(part.number), finished.keys_sha256):
        return finished
    require_time(f"{part.archive_id} part {part.number}", stop_at, now)
    extracted = _extract(connection, staging, settings, part, now)
    staging.save(extracted)
    return extracted


def _extract(
    connection: Connection, staging: Staging, settings: TableSettings, part: PlannedPart, now: datetime
) -> ExtractedPart:
    from strongroom.formats.part_writer import part_files  # it imports Arrow, which few steps need

    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    original = staging.original(part.number, settings.format)
    with connection.transaction():
        table = inspect_unchanged(connection, settings, part)
        rows = _extract_query(table, part)
        with (
            staging.writing(original, staging.keys(part.number)) as [handle, keys],
            part_files(table.shape, settings, handle, keys) as written,
        ):
            for batch in copy_rows(connection, rows, settings.qualified_name):
                written.add(batch)
        snapshot = _snapshot(connection)
    return ExtractedPart(
        **part.model_dump(),
        format=settings.format,
        packed_sha256=written.packed_sha256,
        rows=written.rows,
        original_size_bytes=written.size_bytes,
        original_sha256=written.lines_sha256.hexdigest(),
        keys_sha256=written.keys_sha256.hexdigest(),
        snapshot=snapshot,
        extracted_at=now,
    )


def _extract_query(table: InspectedTable, part: PlannedPart) -> sql.Composed:
    columns = table.shape.columns
    xml = [sql.Identifier(columns[position].name) for position in xml_columns(columns)]
    return sql.SQL("COPY (SELECT {text} FROM {table} AS t WHERE {due}) TO STDOUT").format(
        text=row_text(sql.Identifier("t"), xml), table=table.name, due=rows_of_part(table, part)
    )


def copy_rows(connection: Connection, query: sql.Composed, table: str) -> Iterator[bytes]:
    """Yield batches of rows of a COPY in its text format, each without its last newline.

    Raises:
        UnarchivableError: The table holds bytes that are not UTF-8.
        IntegrityError: The stream ended inside a row.
    """
    rest = b""
    try:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copied_blocks(copy, most_messages=_BATCH_ROWS, most_bytes=_BATCH_BYTES):
                whole, _, rest = (rest + block).rpartition(b"\n")
                if whole:
                    whole.decode()  # raises if it is not UTF-8
                    yield whole
    except (psycopg.DataError, UnicodeDecodeError) as error:
        # A server checks text on its way in, but an old one may hold other bytes.
        found = f" (SQLSTATE {error.sqlstate})" if isinstance(error, psycopg.Error) else ""
        raise UnarchivableError(
            f"{table} cannot be archived: not all of its text is text",
            found=f"a value that is no UTF-8: {type(error).__name__}{found}",
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
