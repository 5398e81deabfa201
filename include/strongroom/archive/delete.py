"""Step 8, delete: delete the rows that are proved, and only those that still equal their archived form.

Nothing is deleted without a verification record, and the record must agree with a sealed manifest. Rows go in short
transactions. Whole blocks go by the range of their dates: the DELETE returns the rows' texts, and what differs from the
archived block in anything is rolled back (:mod:`strongroom.tables.delete_range`). The rows of such a block, and those of a part
that has no ranges, go one by one: each is looked up by its key and compared (:mod:`strongroom.tables.delete_batch`). With a warm
tier the same statement moves the rows there.

Each batch is noted in staging with its transaction's number before it is committed, so a repeat can ask the server what
became of it. Before each commit everything that the table's inspection asked is asked again: a foreign key, trigger or child
table that was added after the plan would carry the DELETE to other rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, errors, sql

from strongroom.database.inspect import InspectedTable, inspect_again
from strongroom.database.key_batch import BATCH, batch_table, fill_batch, join_by_index, same_key
from strongroom.database.questions import Questions
from strongroom.database.retry import TRANSIENT, retry_transient
from strongroom.database.rows import in_window
from strongroom.database.session import Connection, pin, read_identity, read_life
from strongroom.database.triggers import delete_triggers
from strongroom.errors import SourceError, StrongroomError, UnarchivableError
from strongroom.ledger.claims import running_clock
from strongroom.ledger.deletable import DeletingStep, require_deletable, require_sealed
from strongroom.ledger.entries import subject_of
from strongroom.ledger.evidence import DeleteEvidence, KeptRow, covers, detached_windows, keep_annex, parse_evidence
from strongroom.ledger.journal import enter
from strongroom.ledger.manifests import manifest_of
from strongroom.ledger.owner import require_owner
from strongroom.records import DeletedPart, VerifiedPart, upload_of
from strongroom.settings import TableSettings
from strongroom.tables.archived_rows import ArchivedKeys, KeysInTurn, restore_blocks
from strongroom.tables.block_ranges import BlockRange, ranges_of
from strongroom.tables.delete_batch import BatchDelete
from strongroom.tables.delete_progress import DeleteProgress, PendingBatch, require_all_counted, settle
from strongroom.tables.delete_range import NEAREST_INDEX, delete_range
from strongroom.tables.pace import Pace
from strongroom.tables.warm import WarmTable, warm_table

_logger = logging.getLogger(__name__)

_NEWLY_REFERENCED = (
    errors.ForeignKeyViolation,
    errors.RestrictViolation,  # PostgreSQL 18's error for a foreign key with RESTRICT
)
"""A row began to refer to one of the batch after the statement had looked; the next try sees it."""

_NUMBER_AND_TIME = (
    "concat(pg_current_xact_id(), to_char(clock_timestamp() AT TIME ZONE 'UTC', ' YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00'))"
)
"""Of a transaction that is about to be committed, by the server's own clock."""

_NO_RANGE = "no range of dates holds just them"
_REFERENCED = "a row of their block came to be referred to"
"""Why rows are looked up one by one. Of a part in no order, none has a range."""

_OF_ANY_ROW = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.NotSupportedError)
"""What a row that came late or changed can raise, by a trigger for example; and what a server says that cannot copy a DELETE. If it
was one of the archived rows, the keys meet it again."""


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
        PausedError: An operator's pause was too long.
        IntegrityError: Record, manifest, object or keys do not agree; nothing was deleted.
        NeededError: Rows of the partition were restored and are needed in the table.
        UnarchivableError: The table changed since it was planned, or its warm table cannot take the rows.
        IdentityError: The rows that were archived are those of another database.
    """
    sealed = require_sealed([part], step)
    evidence_key = part.archive.delete_evidence_key(part.number)
    present = step.store.read(evidence_key) if evidence_key in sealed.evidence else None
    if present is not None:
        evidence = parse_evidence(f"{step.store}{evidence_key}", present[0])
        _enter(step, part, evidence, present[0])  # again, because an earlier try may have died before it
        return _repeated(connection, part, step, evidence)
    require_deletable(connection, sealed, [part], step)
    enter(
        step.store, step.act(part.archive, "delete intended", part=part.number, rows=part.rows), [manifest_of(sealed)]
    )
    detached = detached_windows(step.store, part.archive) if part.archive.detach_evidence_key in sealed.evidence else []
    if covers(detached, part.window):
        return _keep_evidence(part, step, DeleteProgress(**part.model_dump(), detached=part.rows), warm=None)
    inspected = Questions(connection)
    table = inspect_again(inspected, step.settings, part)
    warm = warm_table(connection, step.settings, table.shape, step.partition.window, step.now)
    batches = BatchDelete(connection, step.settings, table, warm, detached)
    progress = _Deleting(batches, inspected, part, step).run(_ranges(batches, part, step))
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
    "by_range",
    "one_by_one",
}


def _keep_evidence(
    part: VerifiedPart, step: DeletingStep, progress: DeleteProgress, warm: WarmTable | None
) -> DeletedPart:
    """Write the evidence and discard the blocks; if another try wrote evidence first, that one counts."""
    key = part.archive.delete_evidence_key(part.number)
    annex = keep_annex(step.store, part.archive, part.number, progress.kept)
    evidence = DeleteEvidence(
        **part.model_dump(include=_OF_THE_PART),
        **progress.model_dump(include=_OF_THE_DELETE),
        evidence_key=key,
        annex=annex,
        deleted_at=progress.deleted_at or step.now,
        warm_table=str(warm) if warm is not None else None,
        dag_id=step.run.dag_id,
        run_id=step.run.run_id,
    )
    kept = step.store.put_first(key, evidence.to_bytes(exclude={"deleted_by": True, "in_table": True}))
    step.staging.discard(step.staging.blocks(part.number))
    counts = parse_evidence(f"{step.store}{key}", kept)
    _enter(step, part, counts, kept)
    return _summary(counts)


def _enter(step: DeletingStep, part: VerifiedPart, evidence: DeleteEvidence, body: bytes) -> None:
    stayed = {
        "changed": evidence.changed,
        "gone": evidence.gone,
        "referenced": evidence.referenced,
        "kept_by_trigger": evidence.kept_by_trigger,
        "detached": evidence.detached,
    }
    facts = {"part": part.number, "rows": part.rows, "deleted": evidence.deleted, **stayed}
    subject = subject_of(part.archive.delete_evidence_key(part.number), body)
    enter(step.store, step.act(part.archive, "deleted", **facts), [subject])


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
    with _archived_keys(step, table) as archived:
        keys = archived.of(part)
        while batch := list(islice(keys, step.settings.delete_batch_rows)):
            with connection.transaction():
                join_by_index(connection)
                fill_batch(connection, batch)
                row: Any = connection.execute(query).fetchone()
                found += int(row[0])
    return found


def _archived_keys(step: DeletingStep, table: InspectedTable) -> ArchivedKeys:
    return ArchivedKeys(step.store, table.shape, step.staging.folder)


def _ranges(rows: BatchDelete, part: VerifiedPart, step: DeletingStep) -> list[BlockRange]:
    """The blocks that can go by ranges of their dates."""
    if not part.ordered or step.settings.delete_by == "key":
        return []
    blocks = restore_blocks(step.store, step.staging, rows.table.shape, part)
    return [
        one
        for one in ranges_of(part, blocks)
        if one.block.rows <= step.settings.delete_batch_rows and not any(map(one.window.overlaps, rows.detached))
    ]


class _Gone(NamedTuple):
    """What became of the rows of one batch. ``one_by_one`` says why they went so; None if by range."""

    rows: int
    deleted: int
    detached: int = 0
    kept: tuple[KeptRow, ...] = ()
    one_by_one: str | None = None


class _Deleting:
    """The delete of one part's rows, batch by batch."""

    def __init__(self, rows: BatchDelete, inspected: Questions, part: VerifiedPart, step: DeletingStep) -> None:
        self._rows, self._inspected, self._part, self._step = rows, inspected, part, step
        self._connection = rows.connection
        self._ranges: dict[int, BlockRange] = {}
        self._left_out, self._why = 0, _NO_RANGE  # rows before this one go one by one for that reason
        self._pace = Pace(
            rows.connection,
            step.store,
            step.settings,
            keep_claim=step.keep_claim,
            clock=running_clock(step.now),
            stop_at=step.stop_at,
            steering=step.steering,
        )

    def run(self, ranges: Sequence[BlockRange]) -> DeleteProgress:
        """Delete the rows that an earlier try has not deleted.

        Args:
            ranges: Blocks that are tried by range first.
        """
        progress = self._earlier_progress()
        self._ranges = {one.first: one for one in ranges}
        self._connection.isolation_level = IsolationLevel.READ_COMMITTED
        self._rows.prepare()
        with _archived_keys(self._step, self._rows.table) as archived:
            keys = KeysInTurn(archived, self._part)
            while progress.done_rows < self._part.rows:
                self._step.steering.tell(done_rows=progress.done_rows)
                with self._pace.turn() as most:
                    progress = progress.with_batch(self._delete(most, progress, keys))
        require_all_counted(progress, self._part)
        return progress

    def _earlier_progress(self) -> DeleteProgress:
        """How far an earlier try has come, its last batch included if it was committed."""
        progress, life = self._step.staging.load(DeleteProgress, self._part.number), read_life(self._connection)
        if progress is None or progress.life != life or upload_of(progress) != upload_of(self._part):
            # Staging may outlive the archive or the database; one that was restored or made anew can hold the same rows.
            progress = DeleteProgress(**self._part.model_dump(), life=life)
        return progress if progress.pending is None else settle(self._connection, progress, progress.pending)

    def _delete(self, most: int, progress: DeleteProgress, keys: KeysInTurn) -> PendingBatch:
        """Delete the next batch: blocks by range, or if that is not possible, rows one by one."""
        while blocks := self._next_blocks(progress.done_rows, most):
            try:
                if (batch := self._tried(progress, lambda: self._by_range(blocks))) is not None:
                    return batch
            except _NEWLY_REFERENCED:  # by the end of the transaction, so any of them may be the one
                for one in blocks:
                    self._leave_out(one, _REFERENCED)
        rows, why = self._rows_without_range(progress.done_rows)
        lines = keys.next(progress.done_rows, min(most, rows))
        batch = self._tried(progress, lambda: self._one_by_one(lines, why), also=_NEWLY_REFERENCED)
        assert batch is not None  # noqa: S101 - it has rows
        return batch

    def _next_blocks(self, first: int, most: int) -> list[BlockRange]:
        """Neighbouring blocks from a row on that may go by range: one in any case, and no more than some rows."""
        blocks: list[BlockRange] = []
        place = first
        while (block := self._ranges.get(place)) is not None and (not blocks or block.behind - first <= most):
            blocks.append(block)
            place = block.behind
        return blocks

    def _rows_without_range(self, first: int) -> tuple[int, str]:
        """How many rows from one on go one by one, and for which one reason."""
        if first < self._left_out:
            return self._left_out - first, self._why
        return min((place for place in self._ranges if place > first), default=self._part.rows) - first, _NO_RANGE

    def _by_range(self, blocks: Sequence[BlockRange]) -> _Gone:
        """Delete blocks up to the first that differs. That one is rolled back, and not tried by range again."""
        rows = 0
        for block in blocks:
            if (why := self._delete_block(block)) is not None:
                self._leave_out(block, why)
                break
            rows += block.block.rows
        pin(self._connection)
        return _Gone(rows, rows)

    def _delete_block(self, block: BlockRange) -> str | None:
        """Delete a block by its range; or leave everything as it is, and say why."""
        equal = False
        try:
            with self._connection.transaction() as savepoint:
                pin(self._connection, locally=NEAREST_INDEX)
                equal = delete_range(self._connection, self._rows.table, self._rows.warm, block)
                if not equal:
                    raise psycopg.Rollback(savepoint)
        except _NEWLY_REFERENCED:
            return _REFERENCED
        except errors.LockNotAvailable:  # of a row that came late, too, for which a row that is looked up does not wait
            return "a row of their block was locked for long"
        except _OF_ANY_ROW:
            return "a row of their block raised an error"
        return None if equal else "their block is not what was archived"

    def _leave_out(self, block: BlockRange, why: str) -> None:
        """Try a block no more by its range. A transaction that is tried again may come to it twice."""
        self._ranges.pop(block.first, None)
        self._left_out, self._why = block.behind, why

    def _one_by_one(self, batch: list[bytes], why: str) -> _Gone:
        result = self._rows.delete(batch)
        return _Gone(len(batch), result.deleted, result.detached, result.kept, why)

    def _tried(
        self, progress: DeleteProgress, delete: Callable[[], _Gone], also: tuple[type[psycopg.Error], ...] = ()
    ) -> PendingBatch | None:
        """Delete one batch; tries again when a transient error rolled it back. None if it deleted no rows."""
        try:
            return retry_transient(lambda: self._try(progress, delete), also=also)
        except psycopg.Error as error:
            if isinstance(error, psycopg.ProgrammingError):
                inspect_again(self._connection, self._step.settings, progress)  # a column may be gone
            if not isinstance(error, (*TRANSIENT, *_NEWLY_REFERENCED)):
                _blame_trigger(self._connection, self._step.settings, progress, error)
            raise

    def _try(self, progress: DeleteProgress, delete: Callable[[], _Gone]) -> PendingBatch | None:
        """Delete one batch in one transaction, and note it in staging before the commit."""
        started, pending = time.monotonic(), None
        with self._connection.transaction() as whole:
            # From here on the server ends an idle session before its claim expires.
            self._step.keep_claim()
            on_rows = time.monotonic()
            gone = delete()
            rows_seconds = time.monotonic() - on_rows
            if not gone.rows:
                raise psycopg.Rollback(whole)
            # Until this transaction ends, the DELETE's own lock blocks changes to the table. So the catalogue now shows
            # what the DELETE met, and an error rolls the whole batch back.
            transaction, at = self._require_unchanged(progress)
            pending = PendingBatch(
                transaction=transaction,
                rows=gone.rows,
                deleted=gone.deleted,
                gone=gone.rows - gone.deleted - gone.detached - len(gone.kept),
                detached=gone.detached,
                kept=gone.kept,
                one_by_one=gone.one_by_one,
                seconds=time.monotonic() - started,
                at=at,
            )
            self._step.staging.save(progress.model_copy(update={"pending": pending}))
            self._pace.before_commit(started, gone.rows, rows_seconds)
        return pending

    def _require_unchanged(self, progress: DeleteProgress) -> tuple[str, datetime]:
        """Inspect the table again if anything that its last inspection saw has changed. Returns the transaction's number and the time."""
        unchanged, answer = self._inspected.ask_again(_NUMBER_AND_TIME)
        if not unchanged:
            inspected = Questions(self._connection)
            inspect_again(inspected, self._step.settings, progress)
            self._inspected = inspected
        transaction, at = str(answer).split(" ")
        return transaction, datetime.fromisoformat(at)


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
