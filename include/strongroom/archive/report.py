"""Step 9, report: one summary of a run, in the store and for the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field

from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.evidence import read_detached
from strongroom.ledger.journal import checkpoint_of, log_of, record
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import empty_key
from strongroom.records import (
    ArchivePlan,
    DeletedPart,
    Exclusion,
    Record,
    RestoreRecord,
    Sha256,
    VerifiedPart,
    parse_record,
)
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.vacuum import Vacuum


class RunReport(Record):
    """What one run did. ``archived_rows`` is the sum of deleted, gone, changed, referenced, kept_by_trigger and detached rows."""

    outcome: str
    table: str
    partition_key: str
    archive_id: str | None
    archived_rows: int = 0
    deleted_rows: int = 0
    gone_rows: int = 0
    changed_rows: int = 0
    referenced_rows: int = 0
    kept_by_trigger_rows: int = 0
    detached_rows: int = 0
    by_range_rows: int = 0
    detached_until: AwareDatetime | None = None
    excluded_rows: int = 0
    original_size_bytes: int = 0
    compressed_size_bytes: int = 0
    parts: int = 0
    sha256: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    earlier_archives: tuple[str, ...] = ()
    restores: tuple[RestoreRecord, ...] = ()
    vacuum: Vacuum | None = None
    start_at: AwareDatetime | None = None
    """Start of the partition's window; reports of the first versions have no window and no sum of the manifest."""
    end_at: AwareDatetime | None = None
    manifest_sha256: Sha256 | None = None
    checkpoint: str | None = None
    """Signed head of the store's transparency log when the run ended; None if it has none."""
    planned_at: AwareDatetime
    finished_at: AwareDatetime

    @property
    def seconds(self) -> float:
        """From plan to report."""
        return (self.finished_at - self.planned_at).total_seconds()

    @property
    def ratio(self) -> float:
        """Original over compressed size."""
        return self.original_size_bytes / max(1, self.compressed_size_bytes)

    def headline(self) -> str:
        """The outcome for somebody who looks at a list of runs."""
        if self.outcome == "restored":
            return f"{self.partition_key}: left alone, because its rows were restored."
        stayed = [
            f"{rows:,} {why}"
            for rows, why in (
                (self.changed_rows, "changed and stay"),
                (self.referenced_rows, "are referred to and stay"),
                (self.kept_by_trigger_rows, "were kept by a trigger"),
                (self.gone_rows, "were gone before"),
                (self.detached_rows, "wait in detached partitions"),
                (self.excluded_rows, "were excluded and stay"),
            )
            if rows
        ]
        if self.archive_id is None:
            done = "nothing to archive"
        else:
            done = f"archived {self.archived_rows:,} rows as {self.archive_id}, deleted {self.deleted_rows:,}"
        return f"{self.partition_key}: {'; '.join([done, *stayed])}."

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        where = f"{self.table} {self.partition_key}"
        if self.outcome == "restored":
            return f"restored: {where} is left alone for {'; '.join(map(str, self.restores))}"
        if self.archive_id is None:
            before = f"; archived before as {', '.join(self.earlier_archives)}" if self.earlier_archives else ""
            excluded = f"; {self.excluded_rows} rows stay: see exclusions" if self.excluded_rows else ""
            return f"{self.outcome}: {where} has no row to archive{before}{excluded}"
        kept = [
            f"{rows} {why}"
            for rows, why in (
                (self.gone_rows, "were gone before this try came to them"),
                (self.changed_rows, "changed meanwhile and stay"),
                (self.referenced_rows, "came to be referred to and stay"),
                (self.kept_by_trigger_rows, "were kept by a trigger of the table and stay"),
                (self.excluded_rows, "were excluded by plan and stay"),
                (self.detached_rows, f"wait in detached partitions until {self.detached_until:%Y-%m-%d %H:%M} UTC")
                if self.detached_until
                else (0, ""),
            )
            if rows
        ]
        if self.vacuum is not None and (said := self.vacuum.sentence()):
            kept.append(said)
        if self.checkpoint is not None:
            _, size, root, *_ = self.checkpoint.split("\n")
            kept.append(f"the transparency log has {size} entries, root {root}")
        parts = "1 part" if self.parts == 1 else f"{self.parts} parts"
        return (
            f"{self.outcome}: {where} as {self.archive_id}: {self.archived_rows} rows archived in {parts}, "
            f"{self.original_size_bytes} bytes to {self.compressed_size_bytes} ({self.ratio:.1f}x), "
            f"{self.deleted_rows} rows deleted" + ("; " + "; ".join(kept) if kept else "")
        )


class EmptyPartition(Record):
    """That a calendar partition past its hot retention held no row to archive."""

    table: str
    partition_key: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    left_in_table: Facts = Field(description="Rows that stay there, by the reason.")
    found_at: AwareDatetime


def report_run(
    store: Store,
    staging: Staging | None,
    plan: ArchivePlan,
    parts: Sequence[VerifiedPart],
    deleted: Sequence[DeletedPart],
    *,
    now: AwareDatetime,
    vacuum: Vacuum | None = None,
    manifest_sha256: str | None = None,
) -> RunReport:
    """Sum up a run, keep the summary under ``reports/`` and clear its staging folder.

    A run that found nothing to do leaves no object. A repeat returns the report that is there.

    Args:
        vacuum: What became of the table's dead rows, if any row was deleted.
        manifest_sha256: As seal returned it.
    """
    # A run that was cleared and now has less to do may still show records of its earlier try.
    parts = [part for part in parts if part.archive_id == plan.archive_id]
    deleted = [part for part in deleted if part.archive_id == plan.archive_id]
    report = RunReport(
        **_facts_of_plan(plan),
        **_sums_of_parts(parts),
        **_sums_of_deletes(deleted),
        outcome=_outcome(plan, deleted),
        detached_until=_detached_until(store, plan, deleted),
        vacuum=vacuum,
        manifest_sha256=manifest_sha256 if plan.archive_id is not None else None,
        checkpoint=checkpoint_of(store),
        finished_at=now,
    )
    if plan.archive_id is None or staging is None:
        _record_empty(store, plan, now)
        return report
    report = _keep(store, ArchiveId.parse(plan.archive_id), report)
    staging.clear()
    return report


def _record_empty(store: Store, plan: ArchivePlan, now: datetime) -> None:
    """Put on record that a calendar partition held nothing to archive, so that nobody takes the gap for a loss."""
    if plan.outcome != "nothing_due" or plan.earlier_archives or log_of(store) is None:
        return
    key = empty_key(plan.shape.schema_name, plan.shape.table_name, plan.partition_key)
    if store.head(key) is None:
        left: Facts = {exclusion.reason: exclusion.rows for exclusion in plan.exclusions}
        found = EmptyPartition(
            table=plan.table,
            partition_key=plan.partition_key,
            start_at=plan.start_at,
            end_at=plan.end_at,
            left_in_table=left,
            found_at=now,
        )
        act = Act(kind="empty", table=plan.table, partition_key=plan.partition_key, facts=left)
        record(store, key, found.to_bytes(), act)


def _facts_of_plan(plan: ArchivePlan) -> dict[str, Any]:
    return {
        "table": plan.table,
        "partition_key": plan.partition_key,
        "archive_id": plan.archive_id,
        "start_at": plan.start_at,
        "end_at": plan.end_at,
        "excluded_rows": sum(exclusion.rows for exclusion in plan.exclusions),
        "exclusions": plan.exclusions,
        "earlier_archives": plan.earlier_archives,
        "restores": plan.restores,
        "planned_at": plan.planned_at,
    }


def _sums_of_parts(parts: Sequence[VerifiedPart]) -> dict[str, Any]:
    return {
        "archived_rows": sum(part.rows for part in parts),
        "original_size_bytes": sum(part.original_size_bytes for part in parts),
        "compressed_size_bytes": sum(part.compressed_size_bytes for part in parts),
        "parts": len(parts),
        "sha256": tuple(part.sha256 for part in parts),
    }


def _sums_of_deletes(deleted: Sequence[DeletedPart]) -> dict[str, Any]:
    return {
        "deleted_rows": sum(part.deleted for part in deleted),
        "gone_rows": sum(part.gone for part in deleted),
        "changed_rows": sum(part.changed for part in deleted),
        "referenced_rows": sum(part.referenced for part in deleted),
        "kept_by_trigger_rows": sum(part.kept_by_trigger for part in deleted),
        "detached_rows": sum(part.detached for part in deleted),
        "by_range_rows": sum(part.by_range for part in deleted),
    }


def _detached_until(store: Store, plan: ArchivePlan, deleted: Sequence[DeletedPart]) -> datetime | None:
    """When detached partitions with rows of the archive may be dropped; None if no row is in one."""
    if plan.archive_id is None or not sum(part.detached for part in deleted):
        return None
    evidence = read_detached(store, ArchiveId.parse(plan.archive_id))
    return evidence.drop_after if evidence else None


def _keep(store: Store, archive: ArchiveId, report: RunReport) -> RunReport:
    """Write the report; if there is one already, that one counts."""
    present = store.read(archive.report_key)
    return parse_record(
        RunReport,
        present[0] if present else store.put_first(archive.report_key, report.to_bytes()),
        where=f"{store}{archive.report_key}",
        what="a sound report",
        hint="The rows are where the evidence says. List this object's earlier versions and put the right one back.",
    )


def _outcome(plan: ArchivePlan, deleted: Sequence[DeletedPart]) -> str:
    if plan.outcome in ("nothing_due", "restored"):
        return plan.outcome
    stayed = any(part.changed or part.referenced or part.kept_by_trigger for part in deleted)
    return "changed" if stayed else "archived"
