"""Step 1, plan: what is due, what stays and why, and into which parts the window is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any, Literal

from psycopg import errors, sql

from strongroom.calendar import Partition, Window, refuse_if_hot
from strongroom.database.delete_allowed import require_delete_allowed
from strongroom.database.inspect import InspectedTable, inspect_table
from strongroom.database.rebuild import RebuiltRows
from strongroom.database.rows import due_rows, in_window, json_line, reads_back, refers, share_of
from strongroom.database.session import Connection, fetch_rows, read_identity
from strongroom.errors import StagingError, UnarchivableError
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import archive_ids, require_manifest
from strongroom.ledger.owner import require_owner
from strongroom.ledger.restore_records import active_restores_of
from strongroom.object_keys import ArchiveId, emptied_and_kept, evidence_prefix, partition_prefix
from strongroom.records import ArchivePlan, Exclusion, PlannedPart, narrow, shape_sha256
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.bucket import refuse_early_expiry
from strongroom.storage.staging_folder import free_bytes
from strongroom.storage.store import LARGEST_PUT_BYTES, Store
from strongroom.tables.warm import warm_table

MOST_PARTS = 1000
"""Airflow maps a task over at most 1024 values (``max_map_length``)."""

_LONGEST_ID_BYTES = 250
"""An archive id names a folder in staging, and with its ending an object that some stores keep as a file."""

_WORTH_A_PART_ROWS = 500_000
"""A part has six tasks, which cost some seconds; smaller ones gain nothing by going side by side."""

_SURELY_FITS_BYTES = 7900
"""A row of at most as many also fits on a page with a bigint and a NULL more: 8160 bytes of it are for one row."""

_SAMPLE_ROWS = 1000
_BUCKETS = ("hour", "minute", "second")


@dataclass(frozen=True)
class _Slice:
    start: datetime
    rows: int


@dataclass(frozen=True)
class _Piece:
    window: Window
    rows: int
    share: int = 0
    shares: int = 1


def plan_archive(
    connection: Connection,
    store: Store,
    settings: TableSettings,
    partition: Partition,
    *,
    now: datetime,
    stop_at: datetime | None = None,
) -> ArchivePlan:
    """Decide what one run archives. Writes nothing.

    An archive of this partition that was sealed but whose rows are not all deleted is taken up again
    (``resumed``); else every due row that is still in the table goes into a new archive (``planned``);
    where there is none, the outcome is ``nothing_due``. Rows that were restored and are still needed are left alone,
    all of their partition, until the restore record runs out (``restored``).

    Args:
        stop_at: No plan is made after this instant; None is never.

    Raises:
        PartitionError: The window is open or inside hot retention.
        OutOfTimeError: The time is over.
        UnarchivableError: The table cannot be archived without loss, no row of it can be deleted, or its warm table cannot take
            the rows.
        SourceAccessError: A right is missing, or the source is a standby or read-only.
        IdentityError: The store belongs to another database, or to none.
        StagingError: Staging cannot hold the parts.
        StoreAccessError: The bucket is missing, keeps no versions, or removes archives before their term.
    """
    refuse_if_hot(partition, settings.hot_retention, now)
    require_time(f"{settings.qualified_name} {partition.key}", stop_at, now)
    store.prepare()
    until = settings.cold_retention.after(partition.window.end)
    doubt = refuse_early_expiry(store, settings, now=now, until=until)
    table = inspect_table(connection, settings)
    require_delete_allowed(connection, settings)
    warm_table(connection, settings, table.shape, partition.window, now)
    source = read_identity(connection)
    require_owner(store, source)

    where = (settings.schema_name, settings.table_name, partition.key)
    # An archive by which rows were deleted is looked for even where nothing but evidence is left of it.
    earlier = sorted({*archive_ids(store, *where), *emptied_and_kept(store.keys(evidence_prefix(*where)))})
    restores = active_restores_of(store, settings.qualified_name, partition, now)
    unfinished = None if restores else _first_unfinished(store, earlier, table)
    window = partition.window
    exclusions: tuple[Exclusion, ...] = ()
    parts: tuple[PlannedPart, ...] = ()
    archive_id = ""
    known: list[ArchiveId] = []
    if restores:
        outcome: Literal["planned", "resumed", "nothing_due", "restored"] = "restored"
    elif unfinished is not None:
        outcome = "resumed"
        archive_id = unfinished.archive_id
        parts = tuple(narrow(unfinished.verified_part(number), PlannedPart) for number in range(len(unfinished.parts)))
    else:
        known = begun_archives(store, settings.schema_name, settings.table_name, partition.key)
        sequence = max((one.sequence for one in (*earlier, *known)), default=0) + 1
        archive_id = str(ArchiveId(settings.schema_name, settings.table_name, partition.key, sequence))
        _refuse_long_id(settings, archive_id)
        _refuse_wide_rows(connection, table, window)
        with connection.transaction():
            # What the owner of a type wrote runs when rows are looked at, and shall change nothing.
            connection.execute("SET TRANSACTION READ ONLY")
            _refuse_unsteady_text(connection, table, window)
            exclusions = _exclusions(connection, table, window)
            parts = _cut(connection, table, window, settings, archive_id)
        outcome = "planned" if parts else "nothing_due"
    return ArchivePlan(
        outcome=outcome,
        table=settings.qualified_name,
        partition_key=partition.key,
        start_at=window.start,
        end_at=window.end,
        archive_id=archive_id if parts else None,
        shape=table.shape,
        source=source,
        parts=parts,
        due_rows=sum(part.expected_rows for part in parts),
        exclusions=exclusions,
        earlier_archives=tuple(map(str, earlier)),
        known_archives=tuple(map(str, known)),
        restores=restores,
        planned_at=now,
        notes=(doubt,) if doubt else (),
    )


def _first_unfinished(store: Store, earlier: Sequence[ArchiveId], table: InspectedTable) -> Manifest | None:
    """The first archive whose delete is still to be done, but for those made of other columns than the table has now
    and those that were condemned: a delete by them is refused, so the rows that they left go into a new archive."""
    digest = shape_sha256(table.shape)
    for archive in earlier:
        done = set(store.keys(archive.evidence_prefix))
        if archive.condemnation_key in done:
            continue
        manifest = require_manifest(store, archive)
        if manifest.shape_sha256 != digest:
            continue
        if any(archive.delete_evidence_key(part.number) not in done for part in manifest.parts):
            return manifest
    return None


def begun_archives(store: Store, schema_name: str, table_name: str, partition_key: str) -> list[ArchiveId]:
    """Archives of one partition that left a part or evidence; what a broken run left, and what was purged, counts too."""
    where = (schema_name, table_name, partition_key)
    prefixes = (partition_prefix(*where), evidence_prefix(*where))
    begun = {key.removeprefix(prefix).partition("/")[0] for prefix in prefixes for key in store.keys(prefix)}
    return sorted(filter(None, map(ArchiveId.parse_or_none, begun)))


def _refuse_long_id(settings: TableSettings, archive_id: str) -> None:
    if len(archive_id) > _LONGEST_ID_BYTES:
        raise UnarchivableError(
            f"{settings.qualified_name} cannot be archived: its names are too long for the name of a folder",
            expected=f"an archive id of at most {_LONGEST_ID_BYTES} characters",
            found=f"{len(archive_id)}; whatever is not A-Z, a-z, 0-9, _ or - takes three for each byte",
            hint="Nothing was read and no row was deleted. Give the schema or the table a shorter name.",
        )


def _refuse_unsteady_text(connection: Connection, table: InspectedTable, window: Window) -> None:
    for column in table.text_to_try:
        condition = sql.SQL(" AND NOT ").join([in_window(table, window), reads_back(column)])
        rows = _count(connection, table, condition)
        if rows:
            where = f"{table.shape.schema_name}.{table.shape.table_name}"
            raise UnarchivableError(
                f"{where} cannot be archived: the text of {rows} values in its column {column.name} ({column.type}) "
                "reads back as other values",
                hint="Nothing was read and no row was deleted. A tsquery that was put together as a & (b & c) is written "
                "without its brackets; give such a column its own text as its value, and the two are the same.",
            )


def _refuse_wide_rows(connection: Connection, table: InspectedTable, window: Window) -> None:
    """Refuse rows that fit on the table's page and not on that of the temporary table, with its two columns more, that they are
    read back into. The server tries it with all rows that may be too wide; few tables have any."""
    [(widest,)] = fetch_rows(
        connection,
        "SELECT sum(CASE WHEN t.typlen > 0 THEN t.typlen + 7 WHEN t.typstorage = 'p' THEN %s ELSE 24 END) "
        "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        _SURELY_FITS_BYTES + 1,
        table.shape.schema_name,
        table.shape.table_name,
    )
    if widest <= _SURELY_FITS_BYTES:
        return
    columns = table.shape.columns
    rebuilt = RebuiltRows(connection, columns)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")  # which a temporary table does not heed
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (n, {}) SELECT 0, {} FROM {} AS t WHERE {} AND pg_column_size(t.*) > {}"
                ).format(
                    rebuilt.table,
                    sql.SQL(", ").join(rebuilt.names.values()),
                    sql.SQL(", ").join(sql.Identifier("t", column.name) for column in columns),
                    table.name,
                    in_window(table, window),
                    sql.Literal(_SURELY_FITS_BYTES),
                )
            )
    except errors.ProgramLimitExceeded:
        raise UnarchivableError(
            f"{table.shape.schema_name}.{table.shape.table_name} cannot be archived: a row of it is too wide to be read back",
            expected="rows that leave room on their page for one more bigint and the marks of NULLs",
            found=f"a row that fills its page with its {len(columns)} columns",
            hint="Nothing was read and no row was deleted. Move some columns into another table, or give narrower types to them.",
        ) from None


def _exclusions(connection: Connection, table: InspectedTable, window: Window) -> tuple[Exclusion, ...]:
    """Rows that stay, each counted once: under the first foreign key that holds it."""
    exclusions = []
    for position, reference in enumerate(table.references):
        earlier = (sql.SQL("NOT ") + refers(one) for one in table.references[:position])
        condition = sql.SQL(" AND ").join([in_window(table, window), refers(reference), *earlier])
        rows = _count(connection, table, condition)
        if rows:
            detail = f"{reference.schema_name}.{reference.table_name} refers to them ({reference.name})"
            exclusions.append(Exclusion(reason="referenced", detail=detail, rows=rows))
    if table.date_nullable:
        column = sql.Identifier(table.shape.date_column)
        rows = _count(connection, table, sql.SQL("t.{} IS NULL").format(column))
        if rows:
            detail = f"their {table.shape.date_column} is NULL; they belong to no partition"
            exclusions.append(Exclusion(reason="no_date", detail=detail, rows=rows))
    return tuple(exclusions)


def _count(connection: Connection, table: InspectedTable, condition: sql.Composed) -> int:
    query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(table.name, condition)
    row: Any = connection.execute(query).fetchone()
    return int(row[0])


def _cut(
    connection: Connection, table: InspectedTable, window: Window, settings: TableSettings, archive_id: str
) -> tuple[PlannedPart, ...]:
    """Cut the window into parts of at most ``part_rows`` rows and about ``part_bytes`` bytes, at whole seconds.

    They are of about one size, and as many as go side by side where there are rows enough for that. A second, or a day
    where dates have no time, that alone holds too many is cut by its rows' keys.
    """
    slices = _count_by_time(connection, table, window, _BUCKETS[0])
    total = sum(one.rows for one in slices)
    if total == 0:
        return ()
    line_bytes = _line_bytes(connection, table, window)
    most = max(1, min(settings.part_rows, int(settings.part_bytes / line_bytes)), math.ceil(total / MOST_PARTS * 1.1))
    side_by_side = min(settings.max_parallel_parts, round(total / _WORTH_A_PART_ROWS))
    parts = max(math.ceil(total / most), side_by_side)
    for finer in _BUCKETS[1:]:
        slices = _refine(connection, table, window, slices, math.ceil(total / parts), finer)
    groups = _group(slices, most, parts=parts)
    if len(groups) > parts:  # what a few seconds' rows were too many for is no part of its own
        groups = _group(slices, most, parts=len(groups))
    starts = [window.start, *(group[0].start for group in groups[1:])]
    windows = map(Window, starts, [*starts[1:], window.end])
    pieces = [
        piece
        for each, group in zip(windows, groups, strict=True)
        for piece in _share_out(connection, table, _Piece(each, sum(one.rows for one in group)), most)
    ]
    if len(pieces) > MOST_PARTS:
        raise UnarchivableError(
            f"{settings.qualified_name} {archive_id.rsplit('.', 2)[1]} falls into {len(pieces)} parts",
            expected=f"at most {MOST_PARTS}",
            hint="Nothing was read and no row was deleted. Raise `part_rows` and `part_bytes`.",
        )
    _check_room(settings, archive_id, max(piece.rows for piece in pieces), total, line_bytes)
    digest = shape_sha256(table.shape)
    return tuple(
        PlannedPart(
            archive_id=archive_id,
            number=number,
            start_at=piece.window.start,
            end_at=piece.window.end,
            share=piece.share,
            shares=piece.shares,
            expected_rows=piece.rows,
            shape_sha256=digest,
        )
        for number, piece in enumerate(pieces)
    )


def _share_out(connection: Connection, table: InspectedTable, piece: _Piece, most: int) -> list[_Piece]:
    if piece.rows <= most:
        return [piece]
    shares = math.ceil(piece.rows / most)
    query = sql.SQL("SELECT {}, count(*) FROM {} AS t WHERE {} GROUP BY 1 ORDER BY 1").format(
        share_of(table, shares), table.name, due_rows(table, piece.window)
    )
    rows: list[Any] = connection.execute(query).fetchall()
    return [_Piece(piece.window, int(count), int(share), shares) for share, count in rows]


def _count_by_time(connection: Connection, table: InspectedTable, window: Window, bucket: str) -> list[_Slice]:
    column = sql.Identifier(table.shape.date_column)
    bucketed = (
        sql.SQL("t.{}").format(column)
        if table.shape.date_type == "date"
        else sql.SQL("date_trunc({}, t.{})").format(sql.Literal(bucket), column)
    )
    query = sql.SQL("SELECT {}, count(*) FROM {} AS t WHERE {} GROUP BY 1 ORDER BY 1").format(
        bucketed, table.name, due_rows(table, window)
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
    ).format(json_line(table.shape), table.name, due_rows(table, window), sql.Literal(_SAMPLE_ROWS))
    row: Any = connection.execute(query).fetchone()
    return float(row[0])


def _check_room(settings: TableSettings, archive_id: str, largest_part: int, total: int, line_bytes: float) -> None:
    """A folder that all share holds the originals of the parts in flight, and of all parts the keys and at worst half the
    bytes. A machine's own folder beside staging on S3 holds that of one part, for each step that the machine does at a time.
    """
    folder, name = settings.working_folder
    shared = name == "staging"
    if not shared and settings.format == "jsonl" and largest_part * line_bytes > LARGEST_PUT_BYTES:
        raise StagingError(
            f"staging at {settings.staging} cannot take the parts of {archive_id}",
            expected=f"at most {LARGEST_PUT_BYTES:,} bytes of JSON lines in one",
            found=f"about {int(largest_part * line_bytes):,}",
            hint="Nothing was read and no row was deleted. Lower `part_rows` or `part_bytes`; where the partition would fall "
            "into too many parts then, cut the table into weeks or days (`frequency`), or take `format: parquet`.",
        )
    free = free_bytes(folder, name)
    at_once = min(settings.max_parallel_parts, math.ceil(total / largest_part)) if shared else 1
    needed = int(largest_part * line_bytes * at_once * 1.5 + (total if shared else largest_part) * 120)
    if needed > free:
        lower = "`part_rows` or `max_parallel_parts`" if shared else "`part_rows`"
        raise StagingError(
            f"{name} at {folder} cannot hold {'the parts' if shared else 'a part'} of {archive_id}",
            expected=f"about {needed:,} bytes free",
            found=f"{free:,} bytes free",
            hint=f"Nothing was read and no row was deleted. Free space, or point `{name}` at a larger disk, or lower {lower}.",
        )


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    raise TypeError(f"a date column gave {type(value).__name__}")
