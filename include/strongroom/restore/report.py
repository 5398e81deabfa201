"""Restore, last step: sum up what became of each part, move the sequences, and keep the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from strongroom.database.session import Connection
from strongroom.errors import RestoreError
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import enter
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.reports import restore_report_key
from strongroom.records import make_salt
from strongroom.restore.progress import highest_of
from strongroom.restore.records import RestoredPart, RestorePlan, RestoreReport
from strongroom.restore.sequences import move_sequences
from strongroom.restore.target import find_target
from strongroom.storage.store import Store

_RESULT_ORDER = ("missing", "corrupted", "different", "restored", "unchanged")


def report_restore(
    connection: Connection, store: Store, plan: RestorePlan, parts: Sequence[RestoredPart], *, now: datetime
) -> RestoreReport:
    """Move the sequences past what was loaded, sum up, and keep the report under ``reports/``.

    A repeat replaces the report; the older one stays as a version in the bucket. A dry run leaves no object.

    Raises:
        SourceAccessError: A sequence must be moved and the role may not.
    """
    parts = sorted(parts, key=lambda part: (part.archive_id, part.number))
    moved = [name for one in plan.all_tables for name in _move_sequences(connection, one, parts)]
    report = RestoreReport(
        outcome=_outcome(plan, parts),
        restore_id=plan.restore_id,
        table=plan.table,
        target=plan.target,
        archive_ids=plan.every_archive,
        partition_keys=plan.partition_keys,
        rows=plan.rows,
        wanted=sum(part.wanted for part in parts),
        inserted=sum(part.inserted for part in parts),
        unchanged=sum(part.unchanged for part in parts),
        different=sum(part.different for part in parts),
        results=_count_results(plan, parts),
        moved_sequences=tuple(moved),
        parts=tuple(parts),
        who=plan.request.who,
        triggered_by=plan.request.triggered_by,
        why=plan.request.why,
        until=plan.until,
        planned_at=plan.planned_at,
        finished_at=now,
        salt=make_salt(),
    )
    if not plan.request.dry_run:
        key = restore_report_key(*split_table(plan.target), plan.restore_id)
        present = store.read(key)
        store.swap(key, report.to_bytes(), etag=present[1] if present else None)
        facts: Facts = {"restore_id": report.restore_id, "outcome": report.outcome, "inserted": report.inserted}
        act = Act(kind="restored", table=report.table, who=report.who, facts=facts)
        enter(store, act, [subject_of(key, report.to_bytes())])
    return report


def _move_sequences(connection: Connection, plan: RestorePlan, parts: Sequence[RestoredPart]) -> Sequence[str]:
    """Move the sequences of one table past what was loaded into it."""
    highest: dict[str, int] = {}
    for part in parts:
        if part.archive_id in plan.archive_ids:
            highest = highest_of(highest, part.highest)
    target = find_target(connection, *split_table(plan.target)) if highest else None
    return () if target is None else move_sequences(connection, target, highest)


def _count_results(plan: RestorePlan, parts: Sequence[RestoredPart]) -> dict[str, int]:
    counts = {result: sum(part.result == result for part in parts) for result in _RESULT_ORDER}
    counts["unfinished"] = len(plan.parts) - len(parts)
    return {result: number for result, number in counts.items() if number}


def _outcome(
    plan: RestorePlan, parts: Sequence[RestoredPart]
) -> Literal["restored", "unchanged", "different", "incomplete", "dry_run"]:
    if plan.request.dry_run:
        return "dry_run"
    if len(parts) < len(plan.parts) or any(part.failed for part in parts):
        return "incomplete"
    if any(part.different for part in parts):
        return "different"
    return "restored" if any(part.inserted for part in parts) else "unchanged"


def require_complete(report: RestoreReport) -> None:
    """Check that every part was restored.

    Raises:
        RestoreError: Names the parts that were not, and why.
    """
    if report.outcome != "incomplete":
        return
    failed = [f"{part.archive_id} part {part.number} is {part.result}" for part in report.parts if part.failed]
    unfinished = report.results.get("unfinished", 0)
    raise RestoreError(
        f"restore {report.restore_id} into {report.target} is incomplete",
        found="; ".join([*failed[:10], *([f"{unfinished} parts unfinished: see their tasks"] if unfinished else [])]),
        hint="Nothing was loaded from those parts; rows of the others are in the table. `airflow strongroom verify` says "
        "what is wrong with an archive, and earlier versions of a damaged object may still be in the bucket. "
        "Clear the failed tasks when the objects are sound again: rows that are in the table are not loaded twice.",
    )
