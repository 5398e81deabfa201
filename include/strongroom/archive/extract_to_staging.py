"""Step 2, extract_to_staging: stream one part out of the table, in one read-only snapshot.

The server writes each row's canonical text and nothing else. The digests of blocks of rows, and JSON lines or parquet, are made
of that one text here. Rows pass through a block at a time; memory does not grow with the part.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from strongroom.database.copy_out import copied_rows
from strongroom.database.inspect import InspectedTable, inspect_unchanged
from strongroom.database.rows import row_columns, rows_of_part
from strongroom.database.session import Connection
from strongroom.errors import UnarchivableError
from strongroom.formats.blocks import cut_into_blocks
from strongroom.formats.codecs import codec_as_read
from strongroom.ledger.claims import KeepClaim, running_clock
from strongroom.ledger.orders import Steering
from strongroom.records import ExtractedPart, PlannedPart
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.staging import Staging


def extract_part(
    connection: Connection,
    staging: Staging,
    settings: TableSettings,
    part: PlannedPart,
    *,
    now: datetime,
    stop_at: datetime | None = None,
    keep_claim: KeepClaim = lambda: None,
    steering: Steering | None = None,
) -> ExtractedPart:
    """Write a part's rows, as JSON lines or as parquet, and the list of their blocks to staging.

    A repeat finds the finished files and reads nothing.

    Args:
        stop_at: No extraction begins after this instant; None means no limit.
        keep_claim: Renews the partition's claim in a pause.
        steering: What an operator ordered, and who is told how far it has come. A pause keeps a part from being begun. One that
            is being read is read to its end: its snapshot would keep vacuum from its work for as long as the pause.

    Raises:
        OutOfTimeError: The time is over.
        PausedError: An operator's pause was too long.
        UnarchivableError: The table changed since it was planned, or holds bytes that are not UTF-8.
        StagingError: The disk is full.
        SourceError: The server broke off; nothing is kept of the half-read part.
    """
    finished = staging.finished(ExtractedPart, part)
    if finished is not None and staging.has(staging.blocks(part.number), str(finished.blocks_sha256)):
        return finished
    steering, clock = steering or Steering(), running_clock(now)

    def look_after() -> None:
        keep_claim()
        require_time(f"{part.archive_id} part {part.number}", stop_at, clock())

    paused = steering.wait(look_after)
    require_time(f"{part.archive_id} part {part.number}", stop_at, clock())
    extracted = _extract(connection, staging, settings, part, clock() if paused else now, steering)
    staging.save(extracted)
    return extracted


def _extract(
    connection: Connection,
    staging: Staging,
    settings: TableSettings,
    part: PlannedPart,
    now: datetime,
    steering: Steering,
) -> ExtractedPart:
    from strongroom.formats.part_writer import part_files  # it imports Arrow, which few steps need

    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    codec = codec_as_read(settings)
    extracted = staging.extracted(part.number, codec.type, settings.format)
    with connection.transaction():
        table = inspect_unchanged(connection, settings, part)
        rows = extract_query(table, part)
        with (
            staging.writing(extracted, staging.blocks(part.number)) as [handle, blocks],
            part_files(table.shape, settings.format, codec, handle, blocks) as written,
        ):
            batches = _batches(connection, rows, settings.qualified_name)
            for block in cut_into_blocks(
                batches, table.date_position if part.ordered else None, part.end_at.isoformat()
            ):
                written.add(block)
                steering.tell(done_rows=written.rows)
        snapshot = _snapshot(connection)
    return ExtractedPart(
        **part.model_dump(),
        format=settings.format,
        packed=written.packed,
        rows=written.rows,
        original_size_bytes=written.size_bytes,
        original_sha256=written.original_sha256.hexdigest(),
        blocks_sha256=written.blocks_sha256.hexdigest(),
        snapshot=snapshot,
        extracted_at=now,
    )


def extract_query(table: InspectedTable, part: PlannedPart) -> sql.Composed:
    """The statement that reads a part."""
    order = sql.SQL(" ORDER BY t.{}").format(sql.Identifier(table.shape.date_column)) if part.ordered else sql.SQL("")
    return sql.SQL("COPY (SELECT {columns} FROM {table} AS t WHERE {due}{order}) TO STDOUT").format(
        columns=row_columns(table.shape, "t"), table=table.name, due=rows_of_part(table, part), order=order
    )


def _batches(connection: Connection, query: sql.Composed, table: str) -> Iterator[bytes]:
    """Yield batches of rows of a COPY in its text format, each without its last newline.

    Raises:
        UnarchivableError: The table holds bytes that are not UTF-8.
        IntegrityError: The stream ended inside a row.
    """
    try:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for batch in copied_rows(copy):
                batch.decode()  # raises if it is not UTF-8
                yield batch
    except (psycopg.DataError, UnicodeDecodeError) as error:
        # A server checks text on its way in, but an old one may hold other bytes.
        found = f" (SQLSTATE {error.sqlstate})" if isinstance(error, psycopg.Error) else ""
        raise UnarchivableError(
            f"{table} cannot be archived: not all of its text is text",
            found=f"a value that is no UTF-8: {type(error).__name__}{found}",
            hint="No row was deleted and nothing was kept of this part. Find the damaged values with "
            "`convert_from(convert_to(column, 'UTF8'), 'UTF8')`, which fails on them, correct them, then clear the task.",
        ) from None


def _snapshot(connection: Connection) -> str:
    row: Any = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    return str(row[0])
