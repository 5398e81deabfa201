"""How far the delete of a part has come: kept in staging before each commit, so that a later try can go on behind it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from psycopg import errors
from pydantic import AwareDatetime, Field

from strongroom.database.retry import TRIES
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError, SourceError
from strongroom.ledger.evidence import KeptRow
from strongroom.records import Record, VerifiedPart

LISTED_KEYS = 10_000
"""How many keys of rows that stayed one part's evidence lists; it always counts all of them."""


class PendingBatch(Record):
    """The counts of a batch, valid once its transaction is committed."""

    transaction: str = Field(description="Its pg_current_xact_id().")
    rows: int
    deleted: int
    gone: int
    detached: int = 0
    kept: tuple[KeptRow, ...]
    one_by_one: str | None = Field(
        default=None, description="Why its rows went one by one, each compared; None if by range."
    )
    seconds: float
    at: AwareDatetime | None = Field(
        default=None, description="Right before its commit, by the server's clock; None if an earlier version began it."
    )


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
    by_range: int = Field(default=0, description="How many rows were deleted by ranges of their date.")
    one_by_one: dict[str, int] = Field(default={}, description="How many rows went one by one, by the reason.")
    deleted_at: AwareDatetime | None = Field(
        default=None, description="Right before the last commit that deleted rows, or else the last one."
    )
    pending: PendingBatch | None = Field(default=None, description="The batch that is not yet in the counts.")

    def counted_rows(self) -> int:
        """How many rows the counts add up to."""
        stayed = self.changed + self.referenced + self.kept_by_trigger + self.detached
        return self.deleted + self.gone + stayed

    def with_batch(self, batch: PendingBatch) -> DeleteProgress:
        """The progress after a batch that was committed."""
        reasons = Counter(row.reason for row in batch.kept)
        room = max(0, LISTED_KEYS - len(self.kept))
        one_by_one = Counter(self.one_by_one)
        if batch.one_by_one is not None:
            one_by_one[batch.one_by_one] += batch.rows
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
                "by_range": self.by_range + (batch.deleted if batch.one_by_one is None else 0),
                "one_by_one": dict(one_by_one),
                "deleted_at": batch.at if batch.deleted or not self.deleted else self.deleted_at,
                "pending": None,
            }
        )


def require_all_counted(progress: DeleteProgress, part: VerifiedPart) -> None:
    if progress.done_rows != part.rows or progress.counted_rows() != part.rows:
        raise IntegrityError(
            f"the delete of {part.archive_id} part {part.number} does not add up",
            expected=f"{part.rows} rows",
            found=f"{progress.done_rows} seen: {progress.deleted} deleted, {progress.gone} gone, "
            f"{progress.changed} changed, {progress.referenced} referenced, {progress.kept_by_trigger} kept by a trigger, "
            f"{progress.detached} detached",
            hint="Every deleted row was compared with its archived form and is in the archive. Clear this task.",
        )


def settle(connection: Connection, progress: DeleteProgress, pending: PendingBatch) -> DeleteProgress:
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
