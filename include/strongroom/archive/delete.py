"""Step 8, delete: delete the rows that are proved, and only those that still equal their archived form.

Nothing is deleted without a verification record, and the record must agree with a sealed manifest. Each batch is one short
transaction by primary key; with a warm tier the same statement moves the rows there. :mod:`strongroom.tables.delete_batch`
holds the statements.

Each batch is noted in staging with its transaction's number before it is committed, so a repeat can ask the server what
became of it. Before each commit everything that the table's inspection asked is asked again: a foreign key, trigger or child
table that was added after the plan would carry the DELETE to other rows.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from itertools import islice
from typing import Any

import psycopg
from psycopg import IsolationLevel, errors, sql
from pydantic import Field

from strongroom.database.inspect import InspectedTable, inspect_again
from strongroom.database.key_batch import BATCH, batch_table, fill_batch, join_by_index, same_key
from strongroom.database.questions import Questions
from strongroom.database.retry import TRANSIENT, TRIES, retry_transient
from strongroom.database.rows import in_window
from strongroom.database.session import Connection, read_identity, read_life
from strongroom.database.triggers import delete_triggers
from strongroom.errors import IntegrityError, SourceError, StrongroomError, UnarchivableError
from strongroom.ledger.claims import running_clock
from strongroom.ledger.deletable import DeletingStep, require_deletable, require_sealed
from strongroom.ledger.evidence import DeleteEvidence, KeptRow, covers, detached_windows, parse_evidence
from strongroom.ledger.owner import require_owner
from strongroom.records import DeletedPart, Record, UploadedPart, VerifiedPart, narrow
from strongroom.settings import TableSettings
from strongroom.tables.archived_keys import open_keys, restore_keys
from strongroom.tables.delete_batch import BatchDelete
from strongroom.tables.pace import Pace
from strongroom.tables.warm import WarmTable, warm_table

_logger = logging.getLogger(__name__)

LISTED_KEYS = 10_000
"""How many keys of rows that stayed one part's evidence lists; it always counts all of them."""

_NEWLY_REFERENCED = (
    errors.ForeignKeyViolation,
    errors.RestrictViolation,  # PostgreSQL 18's error for a foreign key with RESTRICT
)
"""A row began to refer to one of the batch after the statement had looked; the next try sees it."""


class PendingBatch(Record):
    """The counts of a batch, valid once its transaction is committed."""

    transaction: str = Field(description="Its pg_current_xact_id().")
    rows: int
    deleted: int
    gone: int
    detached: int = 0
    kept: tuple[KeptRow, ...]
    seconds: float


class DeleteProgress(VerifiedPart):
    """How far the delete of a part has come; saved in staging before each batch is committed."""

    life: str = Field(default="", description="Of the database that the rows were deleted from: session.read_life().")
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
    pending: PendingBatch | None = Field(default=None, description="The batch that is not yet in the counts.")

    def counted_rows(self) -> int:
        """How many rows the counts add up to."""
        stayed = self.changed + self.referenced + self.kept_by_trigger + self.detached
        return self.deleted + self.gone + stayed

    def with_batch(self, batch: PendingBatch) -> DeleteProgress:
        """The progress after a batch that was committed."""
        reasons = Counter(row.reason for row in batch.kept)
        room = max(0, LISTED_KEYS - len(self.kept))
        return self.model_copy(
            update={
                "done_rows": self.done_rows + batch.rows,
                "deleted": self.deleted + batch.deleted,
                "gone": self.gone + batch.gone,
                "changed": self.changed + reasons["changed"],
                "referenced": self.referenced + reasons["referenced"],
                "kept_by_trigger": self.kept_by_trigger + reasons["trigger"],
                "detached": self.detached + batch.detached,
                "batches": self.batches + 1,
                "longest_batch_seconds": round(max(self.longest_batch_seconds, batch.seconds), 3),
                "kept": (*self.kept, *batch.kept[:room]),
                "pending": None,
            }
        )


def delete_part(connection: Connection, part: VerifiedPart, step: DeletingStep) -> DeletedPart:
    """Delete a part's rows, or move them to the table's warm tier, and leave the evidence in the store.

    Rows that changed since they were archived stay and are listed; so do rows that other rows now refer to.
    A repeat after success deletes nothing: it returns the evidence, and how many of the rows are in the table now. After
    a crash a repeat continues after the last batch.

    Args:
        connection: A session in autocommit mode.
        part: The verification record.

    Raises:
        PartitionError: The partition is inside hot retention.
        ContendedError: The run lost its claim; nothing more was deleted.
        HeldError: A hold on everything stops all deletion.
        OutOfTimeError: The time is over.
        BusyError: The database was above the limits of the settings for too long.
        IntegrityError: Record, manifest, object or keys do not agree; nothing was deleted.
        NeededError: Rows of the partition were restored and are needed in the table.
        UnarchivableError: The table changed since it was planned, or its warm table cannot take the rows.
        IdentityError: The rows that were archived are those of another database.
    """
    sealed = require_sealed([part], step)
    evidence_key = part.archive.delete_evidence_key(part.number)
    present = step.store.read(evidence_key) if evidence_key in sealed.evidence else None
    if present is not None:
        return _repeated(connection, part, step, parse_evidence(f"{step.store}{evidence_key}", present[0]))
    require_deletable(connection, sealed, [part], step)
    detached = detached_windows(step.store, part.archive) if part.archive.detach_evidence_key in sealed.evidence else []
    if covers(detached, part.window):
        return _keep_evidence(part, step, DeleteProgress(**part.model_dump(), detached=part.rows), warm=None)
    inspected = Questions(connection)
    table = inspect_again(inspected, step.settings, part)
    warm = warm_table(connection, step.settings, table.shape, step.partition.window, step.now)
    restore_keys(step.store, step.staging, connection, table.shape, part)
    progress = _Deleting(BatchDelete(connection, step.settings, table, warm, detached), inspected, part, step).run()
    return _keep_evidence(part, step, progress, warm)


_OF_THE_PART = {"archive_id", "number", "rows", "object_key", "version_id", "sha256", "verified_at"}
_OF_THE_DELETE = {
    "deleted",
    "gone",
    "changed",
    "referenced",
    "kept_by_trigger",
    "detached",
    "batches",
    "longest_batch_seconds",
    "kept",
}


def _keep_evidence(
    part: VerifiedPart, step: DeletingStep, progress: DeleteProgress, warm: WarmTable | None
) -> DeletedPart:
    """Write the evidence and discard the keys; if another try wrote evidence first, that one counts."""
    key = part.archive.delete_evidence_key(part.number)
    evidence = DeleteEvidence(
        **part.model_dump(include=_OF_THE_PART),
        **progress.model_dump(include=_OF_THE_DELETE),
        evidence_key=key,
        deleted_at=step.now,
        warm_table=str(warm) if warm is not None else None,
        dag_id=step.run.dag_id,
        run_id=step.run.run_id,
    )
    kept = step.store.put_first(key, evidence.to_bytes(exclude={"deleted_by", "in_table"}))
    step.staging.discard(step.staging.keys(part.number))
    return _summary(parse_evidence(f"{step.store}{key}", kept))


def _summary(evidence: DeleteEvidence) -> DeletedPart:
    return DeletedPart.model_validate(evidence.model_dump(include=set(DeletedPart.model_fields)))


def _repeated(connection: Connection, part: VerifiedPart, step: DeletingStep, evidence: DeleteEvidence) -> DeletedPart:
    """What an earlier try deleted, and how many of those rows are in the table now."""
    in_table = _count_in_table(connection, part, step, evidence)
    earlier = {"deleted_by": f"{evidence.dag_id} {evidence.run_id}", "in_table": in_table}
    return _summary(evidence).model_copy(update=earlier)


def _count_in_table(
    connection: Connection, part: VerifiedPart, step: DeletingStep, evidence: DeleteEvidence
) -> int | None:
    """How many rows of a part that was deleted are in the table; None if they cannot be counted now."""
    try:
        require_owner(step.store, read_identity(connection))
        table = inspect_again(connection, step.settings, part)
        some = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE {})").format(table.name, in_window(table, part.window))
        row: Any = connection.execute(some).fetchone()
        if not row[0] and not evidence.changed:
            return 0
        restore_keys(step.store, step.staging, connection, table.shape, part)
        return _count_by_key(connection, part, step, table)
    except (StrongroomError, psycopg.Error) as error:  # the delete is proved even if its rows cannot be counted now
        why = error.what if isinstance(error, StrongroomError) else type(error).__name__
        _logger.warning("Rows of the part that are in the table were not counted: %s", why)
        return None


def _count_by_key(connection: Connection, part: VerifiedPart, step: DeletingStep, table: InspectedTable) -> int:
    connection.execute(batch_table(table.key_types, "IF NOT EXISTS {} ON COMMIT DELETE ROWS"))
    query = sql.SQL("SELECT count(*) FROM {} AS b JOIN {} AS t ON {}").format(
        BATCH, table.name, same_key(table.shape, "b")
    )
    found = 0
    with open_keys(step.staging, part) as keys:
        while batch := list(islice(keys, step.settings.delete_batch_rows)):
            with connection.transaction():
                join_by_index(connection)
                fill_batch(connection, batch)
                row: Any = connection.execute(query).fetchone()
                found += int(row[0])
    step.staging.discard(step.staging.keys(part.number))
    return found


class _Deleting:
    """The delete of one part's rows, batch by batch."""

    def __init__(self, rows: BatchDelete, inspected: Questions, part: VerifiedPart, step: DeletingStep) -> None:
        self._rows, self._inspected, self._part, self._step = rows, inspected, part, step
        self._connection = rows.connection
        self._pace = Pace(
            rows.connection,
            step.store,
            step.settings,
            keep_claim=step.keep_claim,
            clock=running_clock(step.now),
            stop_at=step.stop_at,
        )

    def run(self) -> DeleteProgress:
        """Delete the rows that an earlier try has not deleted."""
        progress = self._earlier_progress()
        self._connection.isolation_level = IsolationLevel.READ_COMMITTED
        self._rows.prepare()
        with open_keys(self._step.staging, self._part) as keys:
            for batch in self._pace.batches(islice(keys, progress.done_rows, None)):
                progress = progress.with_batch(self._delete(batch, progress))
        _require_all_counted(progress, self._part)
        return progress

    def _earlier_progress(self) -> DeleteProgress:
        """How far an earlier try has come, its last batch included if it was committed."""
        progress, life = self._step.staging.load(DeleteProgress, self._part.number), read_life(self._connection)
        if (
            progress is None
            or progress.life != life
            or narrow(progress, UploadedPart) != narrow(self._part, UploadedPart)
        ):
            # Staging may outlive the archive or the database; one that was restored or made anew can hold the same rows.
            progress = DeleteProgress(**self._part.model_dump(), life=life)
        return progress if progress.pending is None else _settle(self._connection, progress, progress.pending)

    def _delete(self, batch: list[bytes], progress: DeleteProgress) -> PendingBatch:
        """Delete one batch; tries again when a transient error rolled it back."""
        try:
            return retry_transient(lambda: self._try(batch, progress), also=_NEWLY_REFERENCED)
        except psycopg.Error as error:
            if not isinstance(error, (*TRANSIENT, *_NEWLY_REFERENCED)):
                _blame_trigger(self._connection, self._step.settings, progress, error)
            raise

    def _try(self, batch: list[bytes], progress: DeleteProgress) -> PendingBatch:
        """Delete one batch in one transaction, and note it in staging before the commit."""
        started = time.monotonic()
        with self._connection.transaction():
            # From here on the server ends an idle session before its claim expires.
            self._step.keep_claim()
            on_rows = time.monotonic()
            result = self._rows.delete(batch)
            rows_seconds = time.monotonic() - on_rows
            # Until this transaction ends, the DELETE's own lock blocks changes to the table. So the catalogue now shows
            # what the DELETE met, and an error rolls the whole batch back.
            transaction = self._require_unchanged(progress)
            pending = PendingBatch(
                transaction=transaction,
                rows=len(batch),
                deleted=result.deleted,
                gone=len(batch) - result.deleted - result.detached - len(result.kept),
                detached=result.detached,
                kept=result.kept,
                seconds=time.monotonic() - started,
            )
            self._step.staging.save(progress.model_copy(update={"pending": pending}))
            self._pace.before_commit(started, rows_seconds)
        return pending

    def _require_unchanged(self, progress: DeleteProgress) -> str:
        """Inspect the table again if anything that its last inspection saw has changed. Returns the transaction's number."""
        unchanged, transaction = self._inspected.ask_again("pg_current_xact_id()::text")
        if not unchanged:
            inspected = Questions(self._connection)
            inspect_again(inspected, self._step.settings, progress)
            self._inspected = inspected
        return str(transaction)


def _require_all_counted(progress: DeleteProgress, part: VerifiedPart) -> None:
    if progress.done_rows != part.rows or progress.counted_rows() != part.rows:
        raise IntegrityError(
            f"the delete of {part.archive_id} part {part.number} does not add up",
            expected=f"{part.rows} rows",
            found=f"{progress.done_rows} seen: {progress.deleted} deleted, {progress.gone} gone, "
            f"{progress.changed} changed, {progress.referenced} referenced, {progress.kept_by_trigger} kept by a trigger, "
            f"{progress.detached} detached",
            hint="Every deleted row was compared with its archived form and is in the archive. Clear this task.",
        )


def _settle(connection: Connection, progress: DeleteProgress, pending: PendingBatch) -> DeleteProgress:
    """Count the batch that an earlier try was about to commit, if it was committed.

    If the server no longer knows, the batch is tried again: rows that are not there count as gone.

    Raises:
        SourceError: The earlier try still has its transaction open.
    """
    tries = 1
    while (status := _status(connection, pending.transaction)) == "in progress":
        if tries == TRIES:
            raise SourceError(
                f"an earlier try of the delete of {progress.archive_id} part {progress.number} has not ended in the database",
                found=f"its transaction {pending.transaction} in progress",
                hint="No row was deleted by this try. The server ends that session when it notices that its client is gone; "
                "the task retries by itself.",
            )
        time.sleep(tries)
        tries += 1
    return progress.with_batch(pending) if status == "committed" else progress.model_copy(update={"pending": None})


def _status(connection: Connection, transaction: str) -> str | None:
    try:
        row: Any = connection.execute("SELECT pg_xact_status(%s::xid8)", (transaction,)).fetchone()
    except (errors.InvalidParameterValue, errors.UndefinedFunction, errors.FeatureNotSupported):
        return None  # a database that was restored does not know the transaction; some servers cannot tell at all
    status: str | None = row[0]
    return status


def _blame_trigger(
    connection: Connection, settings: TableSettings, progress: DeleteProgress, error: psycopg.Error
) -> None:
    """Name the trigger that raised an error, if one did. Its message is left out: it may quote the row.

    Raises:
        UnarchivableError: One did.
        SourceError: One did, with a SQLSTATE that says the cause may pass.
    """
    if connection.broken or error.diag.context is None:
        return
    for trigger in delete_triggers(connection, settings):
        if trigger.is_in(error.diag.context):
            words: dict[str, Any] = {
                "what": f"the delete of {progress.archive_id} part {progress.number} was refused by {trigger}",
                "found": f"{type(error).__name__} (SQLSTATE {error.sqlstate})",
                "hint": "Nothing of this batch was deleted; what was deleted before is in a verified archive. Change the trigger, "
                "or the rows that it refuses, then clear this task.",
            }
            raise (SourceError if isinstance(error, psycopg.OperationalError) else UnarchivableError)(**words) from None
