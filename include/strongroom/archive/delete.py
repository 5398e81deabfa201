"""Step 8, delete: take out of the table the rows that are proved, and only those that still equal their archived form.

There is no way in without a verification record, and the record must agree with a sealed manifest. Each batch is one
short transaction by primary key. With a warm tier the same statement moves the rows there. The DELETE itself compares
the SHA-256 of the row's text with the one taken when the row was archived; under READ COMMITTED the server evaluates
that comparison again on the newest version of a row that somebody changed meanwhile, so there is no moment between
looking and deleting. What a batch does is noted with the number of its transaction before it is committed, so that a
try that broke off can ask the server what became of it. Before a batch is committed the catalogue is read once more: a foreign key, trigger or child table
that came after the plan would carry the DELETE to other rows.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg
from psycopg import IsolationLevel, errors, sql
from pydantic import Field

from strongroom.calendar import Partition, Window, refuse_if_hot
from strongroom.database.inspect import InspectedTable, inspect_again
from strongroom.database.key_batch import BATCH, batch_table, fill_batch, join_by_index, same_key
from strongroom.database.rows import dated_inside, digest_of_row, in_window, refers
from strongroom.database.session import Connection, pin, read_identity, read_life
from strongroom.database.triggers import delete_triggers
from strongroom.errors import IntegrityError, SourceError, StrongroomError, UnarchivableError
from strongroom.ledger.claims import KeepClaim, running_clock
from strongroom.ledger.evidence import DeleteEvidence, KeptRow, covers, detached_windows, parse_evidence
from strongroom.ledger.manifests import require_manifest, require_object, require_part_of
from strongroom.ledger.owner import require_owner
from strongroom.ledger.restore_records import require_wanted
from strongroom.records import DeletedPart, Record, RunIdentity, UploadedPart, VerifiedPart, narrow
from strongroom.settings import TableSettings
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.archived_keys import open_keys, restore_keys
from strongroom.tables.pace import Pace
from strongroom.tables.warm import WarmTable, warm_table

_logger = logging.getLogger(__name__)

LISTED_KEYS = 10_000
"""How many keys of rows that stayed one part's evidence lists; it always counts them all."""

_TRIES = 5
_TRANSIENT = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.ForeignKeyViolation,
    errors.RestrictViolation,  # what PostgreSQL 18 makes of a foreign key that restricts
)


class PendingBatch(Record):
    """What a batch comes to if its transaction is committed."""

    transaction: str = Field(description="Its pg_current_xact_id().")
    rows: int
    deleted: int
    gone: int
    detached: int = 0
    kept: tuple[KeptRow, ...]
    seconds: float


class DeleteProgress(VerifiedPart):
    """How far the delete of a part has come; kept in staging before each batch is committed."""

    life: str = Field(default="", description="Of the database that the rows were deleted from: source.read_life().")
    done_rows: int = 0
    deleted: int = 0
    gone: int = 0
    changed: int = 0
    referenced: int = 0
    kept_by_trigger: int = 0
    detached: int = 0
    batches: int = 0
    longest_batch_seconds: float = 0.0
    kept: tuple[KeptRow, ...] = ()
    pending: PendingBatch | None = Field(default=None, description="The batch that is not among the counts yet.")


def delete_part(
    connection: Connection,
    store: Store,
    staging: Staging,
    settings: TableSettings,
    partition: Partition,
    part: VerifiedPart,
    *,
    run: RunIdentity,
    keep_claim: KeepClaim,
    now: datetime,
    stop_at: datetime | None = None,
) -> DeletedPart:
    """Delete a part's rows, or move them to the table's warm tier, and leave the evidence in the store.

    Rows that changed since they were archived stay and are listed; so do rows that others have come to refer to.
    A repeat after success deletes nothing: it returns the evidence, and how many of the rows are in the table now. After a
    crash it goes on behind the last batch.

    Args:
        connection: A session in autocommit mode.
        part: The verification record.
        run: Which Airflow run this is.
        keep_claim: Called in each batch's transaction; raises when the partition's claim is no longer ours.
        stop_at: No batch begins after this instant; None is never.

    Raises:
        ContendedError: Another run has had the claim; nothing more was deleted.
        HeldError: A hold on everything stops all deletion.
        OutOfTimeError: The time is over.
        BusyError: The database was above the limits of the settings for too long.
        IntegrityError: Record, manifest, object or keys do not agree; nothing was deleted.
        NeededError: Rows of the partition were restored and are needed in the table.
        UnarchivableError: The table changed since it was planned, or its warm table cannot take the rows.
        IdentityError: The rows that were archived are those of another database.
    """
    refuse_if_hot(partition, settings.hot_retention, now)
    archive = part.archive
    manifest = require_manifest(store, archive)
    require_part_of(manifest, part)
    evidence_key = archive.delete_evidence_key(part.number)
    present = store.read(evidence_key)
    if present is not None:
        evidence = parse_evidence(f"{store}{evidence_key}", present[0])
        in_table = _count_in_table(connection, store, staging, settings, part, evidence)
        earlier = {"deleted_by": f"{evidence.dag_id} {evidence.run_id}", "in_table": in_table}
        return _summary(evidence).model_copy(update=earlier)
    require_wanted(store, settings, partition, archive, now)
    require_owner(store, read_identity(connection))
    require_object(store, part)
    detached = detached_windows(store, archive)
    if covers(detached, part.window):
        progress = DeleteProgress(**part.model_dump(), detached=part.rows)
        warm = None
    else:
        table = inspect_again(connection, settings, part)
        warm = warm_table(connection, settings, table.shape, partition.window, now)
        restore_keys(store, staging, connection, table.shape, part)

        clock = running_clock(now)
        pace = Pace(connection, store, settings, keep_claim=keep_claim, clock=clock, stop_at=stop_at)
        progress = _delete_rows(connection, staging, settings, table, warm, detached, part, keep_claim, pace)
    evidence = DeleteEvidence(
        archive_id=part.archive_id,
        number=part.number,
        rows=part.rows,
        evidence_key=evidence_key,
        deleted_at=now,
        object_key=part.object_key,
        version_id=part.version_id,
        sha256=part.sha256,
        verified_at=part.verified_at,
        deleted=progress.deleted,
        gone=progress.gone,
        changed=progress.changed,
        referenced=progress.referenced,
        kept_by_trigger=progress.kept_by_trigger,
        detached=progress.detached,
        batches=progress.batches,
        longest_batch_seconds=progress.longest_batch_seconds,
        kept=progress.kept,
        warm_table=str(warm) if warm is not None else None,
        dag_id=run.dag_id,
        run_id=run.run_id,
    )
    kept = store.put_first(evidence_key, evidence.to_bytes(exclude={"deleted_by", "in_table"}))
    staging.discard(staging.keys(part.number))
    return _summary(parse_evidence(f"{store}{evidence_key}", kept))


def _summary(evidence: DeleteEvidence) -> DeletedPart:
    return DeletedPart.model_validate(evidence.model_dump(include=set(DeletedPart.model_fields)))


def _count_in_table(
    connection: Connection,
    store: Store,
    staging: Staging,
    settings: TableSettings,
    part: VerifiedPart,
    evidence: DeleteEvidence,
) -> int | None:
    """How many rows of a part that was deleted are in the table; None where that cannot be told now."""
    try:
        require_owner(store, read_identity(connection))
        table = inspect_again(connection, settings, part)
        some = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE {})").format(table.name, in_window(table, part.window))
        row: Any = connection.execute(some).fetchone()
        if not row[0] and not evidence.changed:
            return 0
        restore_keys(store, staging, connection, table.shape, part)
        return _count_by_key(connection, staging, settings, table, part)
    except (StrongroomError, psycopg.Error) as error:  # what was deleted is proved all the same
        why = error.what if isinstance(error, StrongroomError) else type(error).__name__
        _logger.warning("Whether rows of the part are in the table was not counted: %s", why)
        return None


def _count_by_key(
    connection: Connection, staging: Staging, settings: TableSettings, table: InspectedTable, part: VerifiedPart
) -> int:
    connection.execute(batch_table(table.key_types, "IF NOT EXISTS {} ON COMMIT DELETE ROWS"))
    query = sql.SQL("SELECT count(*) FROM {} AS b JOIN {} AS t ON {}").format(
        BATCH, table.name, same_key(table.shape, "b")
    )
    found = 0
    with open_keys(staging, part) as keys:
        while batch := list(islice(keys, settings.delete_batch_rows)):
            with connection.transaction():
                join_by_index(connection)
                fill_batch(connection, batch)
                row: Any = connection.execute(query).fetchone()
                found += int(row[0])
    staging.discard(staging.keys(part.number))
    return found


def _delete_rows(
    connection: Connection,
    staging: Staging,
    settings: TableSettings,
    table: InspectedTable,
    warm: WarmTable | None,
    detached: Sequence[Window],
    part: VerifiedPart,
    keep_claim: KeepClaim,
    pace: Pace,
) -> DeleteProgress:
    progress, life = staging.load(DeleteProgress, part.number), read_life(connection)
    if progress is None or progress.life != life or narrow(progress, UploadedPart) != narrow(part, UploadedPart):
        # Staging may have outlived the archive, or the database: it was set back, or made anew with the same rows.
        progress = DeleteProgress(**part.model_dump(), life=life)
    if progress.pending is not None:
        progress = _settle(connection, progress, progress.pending)
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.execute(batch_table(table.key_types, "IF NOT EXISTS {} ON COMMIT DELETE ROWS"))
    with open_keys(staging, part) as keys:
        for batch in pace.batches(islice(keys, progress.done_rows, None)):
            pending = _delete_batch(
                connection, staging, settings, table, warm, detached, progress, batch, keep_claim, pace
            )
            progress = _advance(progress, pending)
    if progress.done_rows != part.rows or _counted(progress) != part.rows:
        raise IntegrityError(
            f"the delete of {part.archive_id} part {part.number} does not add up",
            expected=f"{part.rows} rows",
            found=f"{progress.done_rows} seen: {progress.deleted} deleted, {progress.gone} gone, "
            f"{progress.changed} changed, {progress.referenced} referenced, {progress.kept_by_trigger} kept by a trigger, "
            f"{progress.detached} detached",
            hint="Every deleted row was compared with its archived form and lies in the archive. Clear this task.",
        )
    return progress


def _counted(progress: DeleteProgress) -> int:
    stayed = progress.changed + progress.referenced + progress.kept_by_trigger + progress.detached
    return progress.deleted + progress.gone + stayed


def _settle(connection: Connection, progress: DeleteProgress, pending: PendingBatch) -> DeleteProgress:
    """Count the batch that an earlier try was about to commit, if it was committed.

    A server that can no longer tell leaves it to the next look at the rows: those that are not there count as gone.

    Raises:
        SourceError: The earlier try still has its transaction open.
    """
    tries = 1
    while (status := _status(connection, pending.transaction)) == "in progress":
        if tries == _TRIES:
            raise SourceError(
                f"an earlier try of the delete of {progress.archive_id} part {progress.number} has not ended in the database",
                found=f"its transaction {pending.transaction} in progress",
                hint="No row was deleted by this try. Its session ends when the server notices that nobody is there; "
                "the task tries again by itself.",
            )
        time.sleep(tries)
        tries += 1
    return _advance(progress, pending) if status == "committed" else progress.model_copy(update={"pending": None})


def _status(connection: Connection, transaction: str) -> str | None:
    try:
        row: Any = connection.execute("SELECT pg_xact_status(%s::xid8)", (transaction,)).fetchone()
    except (errors.InvalidParameterValue, errors.UndefinedFunction, errors.FeatureNotSupported):
        return None  # a database that was set back knows no such transaction yet; some servers cannot tell at all
    status: str | None = row[0]
    return status


def _advance(progress: DeleteProgress, batch: PendingBatch) -> DeleteProgress:
    reasons = Counter(row.reason for row in batch.kept)
    room = max(0, LISTED_KEYS - len(progress.kept))
    return progress.model_copy(
        update={
            "done_rows": progress.done_rows + batch.rows,
            "deleted": progress.deleted + batch.deleted,
            "gone": progress.gone + batch.gone,
            "changed": progress.changed + reasons["changed"],
            "referenced": progress.referenced + reasons["referenced"],
            "kept_by_trigger": progress.kept_by_trigger + reasons["trigger"],
            "detached": progress.detached + batch.detached,
            "batches": progress.batches + 1,
            "longest_batch_seconds": round(max(progress.longest_batch_seconds, batch.seconds), 3),
            "kept": (*progress.kept, *batch.kept[:room]),
            "pending": None,
        }
    )


def _delete_batch(
    connection: Connection,
    staging: Staging,
    settings: TableSettings,
    table: InspectedTable,
    warm: WarmTable | None,
    detached: Sequence[Window],
    progress: DeleteProgress,
    batch: list[bytes],
    keep_claim: KeepClaim,
    pace: Pace,
) -> PendingBatch:
    tries = 0
    while True:
        tries += 1
        started = time.monotonic()
        try:
            with connection.transaction():
                # The server ends a session that stands still from here on before the claim runs out.
                keep_claim()
                deleted, waiting, kept = _try_batch(connection, settings, table, warm, detached, batch)
                # The DELETE's own lock keeps whoever would change the table waiting until this transaction ends, so
                # what the catalogue shows now is what the DELETE met; an error takes the whole batch back.
                inspect_again(connection, settings, progress)
                pending = PendingBatch(
                    transaction=_transaction(connection),
                    rows=len(batch),
                    deleted=deleted,
                    gone=len(batch) - deleted - waiting - len(kept),
                    detached=waiting,
                    kept=kept,
                    seconds=time.monotonic() - started,
                )
                staging.save(progress.model_copy(update={"pending": pending}))
                pace.before_commit()
            return pending
        except _TRANSIENT:
            # Rolled back whole. A foreign key violation means that a row began to refer to one of ours after the
            # statement had looked; the next look sees it.
            if tries == _TRIES:
                raise
            time.sleep(0.2 * tries)
        except psycopg.Error as error:
            _blame_trigger(connection, settings, progress, error)
            raise


def _blame_trigger(
    connection: Connection, settings: TableSettings, progress: DeleteProgress, error: psycopg.Error
) -> None:
    """Name the trigger that raised an error, if one did; what it said may quote the row.

    Raises:
        UnarchivableError: One did.
        SourceError: One did, for the time being: a guard, or whatever says so by its SQLSTATE.
    """
    if connection.broken or error.diag.context is None:
        return
    for trigger in delete_triggers(connection, settings):
        if trigger.is_in(error.diag.context):
            told: dict[str, Any] = {
                "what": f"the delete of {progress.archive_id} part {progress.number} was refused by {trigger}",
                "found": f"{type(error).__name__} (SQLSTATE {error.sqlstate})",
                "hint": "Nothing of this batch was deleted; what was deleted before lies in a verified archive. Change the trigger, "
                "or the rows that it refuses, then clear this task.",
            }
            raise (SourceError if isinstance(error, psycopg.OperationalError) else UnarchivableError)(**told) from None


def _transaction(connection: Connection) -> str:
    row: Any = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    return str(row[0])


def _try_batch(
    connection: Connection,
    settings: TableSettings,
    table: InspectedTable,
    warm: WarmTable | None,
    detached: Sequence[Window],
    batch: list[bytes],
) -> tuple[int, int, tuple[KeptRow, ...]]:
    """Delete what may be deleted of a batch; how many that was, how many are in detached partitions, and what is there."""
    pin(connection)  # a deferred trigger of the batch before may have run at its commit
    join_by_index(connection)
    fill_batch(connection, batch)
    waiting = _leave_out(connection, table, detached) if detached else 0
    statement = _delete_statement(table)
    deleted = connection.execute(statement).rowcount if warm is None else _move(connection, warm, statement)
    pin(connection)
    return deleted, waiting, tuple(_kept_rows(connection, settings, table)) if deleted < len(batch) else ()


def _leave_out(connection: Connection, table: InspectedTable, detached: Sequence[Window]) -> int:
    """Take out of the batch the rows that left the table in a detached partition; how many they are."""
    condition = dated_inside(table.shape, detached)
    return connection.execute(sql.SQL("DELETE FROM {} AS b WHERE {}").format(BATCH, condition)).rowcount


def _move(connection: Connection, warm: WarmTable, delete: sql.Composed) -> int:
    """Delete rows and put just those into the warm table, in one statement.

    A row that came back and goes again replaces the form of it that is warm.
    """
    names = [sql.Identifier(name) for name in warm.columns]
    columns = sql.SQL(", ").join(names)
    statement = sql.SQL(
        "WITH gone AS ({delete} RETURNING {returned}), moved AS (INSERT INTO {warm} ({columns}) SELECT {columns} FROM gone "
        "ON CONFLICT ({key}) DO UPDATE SET {replaced} RETURNING 1) "
        "SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM moved)"
    ).format(
        delete=delete,
        returned=sql.SQL(", ").join(sql.SQL("t.{}").format(name) for name in names),
        warm=warm.identifier,
        columns=columns,
        key=sql.SQL(", ").join(map(sql.Identifier, warm.key)),
        replaced=sql.SQL(", ").join(sql.SQL("{name} = excluded.{name}").format(name=name) for name in names),
    )
    row: Any = connection.execute(statement).fetchone()
    deleted, moved = map(int, row)
    if moved != deleted:  # a trigger on the warm table can swallow rows
        raise IntegrityError(
            f"rows did not arrive in {warm}",
            expected=f"{deleted} rows",
            found=f"{moved} rows",
            hint="The batch was rolled back: its rows are in the live table. Look for triggers on the warm table, "
            "then clear this task.",
        )
    return deleted


def _delete_statement(table: InspectedTable) -> sql.Composed:
    """Delete what is still equal to its archived form and what nothing refers to."""
    conditions = [
        same_key(table.shape, "b"),
        sql.SQL("{} = b.digest").format(digest_of_row(table.shape, "t")),
        *(sql.SQL("NOT ") + refers(reference) for reference in table.references),
    ]
    return sql.SQL("DELETE FROM {} AS t USING {} AS b WHERE {}").format(
        table.name, BATCH, sql.SQL(" AND ").join(conditions)
    )


def _kept_rows(connection: Connection, settings: TableSettings, table: InspectedTable) -> Iterator[KeptRow]:
    """What of the batch is still in the table after the DELETE, and why.

    A row that is as it was archived and that nothing refers to may have been so only after the DELETE had looked.
    """
    keys = sql.SQL(", ").join(
        # concat() calls the type's own output function, where ::text would follow a cast that somebody made.
        sql.SQL("concat(b.{})").format(sql.Identifier(f"k{p}"))
        for p in range(len(table.key_types))
    )
    referred = sql.SQL(" OR ").join([sql.SQL("false"), *map(refers, table.references)])
    query = sql.SQL("SELECT ARRAY[{}], {} = b.digest, {} FROM {} AS b JOIN {} AS t ON {}").format(
        keys, digest_of_row(table.shape, "t"), referred, BATCH, table.name, same_key(table.shape, "b")
    )
    rows: list[Any] = connection.execute(query).fetchall()
    keeping = any(one.may_keep for one in delete_triggers(connection, settings))
    for key, unchanged, is_referred in rows:
        if not unchanged:
            reason = "changed"
        elif is_referred or (table.references and not keeping):
            reason = "referenced"
        else:
            reason = "trigger" if keeping else "changed"
        yield KeptRow(reason=reason, key=tuple(key))
