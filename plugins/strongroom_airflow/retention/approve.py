"""Step 2 of the retention purge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context

from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.approve import keep_answer, keep_question
from strongroom.retention.certificate import BY_POLICY, NOBODY, Approval
from strongroom.retention.decide import Decision, judge_again
from strongroom.retention.policy import PurgePolicy
from strongroom_airflow.connections import connect_store, connect_stores
from strongroom_airflow.retention.run import PurgeBatch, PurgeRun
from strongroom_airflow.step import translated_errors

_LISTED = 100


class PurgeApproveOperator(ApprovalOperator):
    """Ask a person to approve, under Airflow's Required Actions, if a table's settings require it.

    A refusal skips no task: archives that need no approval are purged all the same, the others end as ``refused``. No answer in
    time is a refusal. The stores keep what was shown and what was answered, for `purge`.

    :param batches: The archives to purge. (templated)
    """

    template_fields: Sequence[str] = ("subject", "body", "batches")
    ui_color = "#f6e3e0"

    def __init__(self, *, batches: Any, **kwargs: Any) -> None:
        super().__init__(subject="Destroy expired archives?", defaults=self.REJECT, **kwargs)
        self.batches = batches

    def execute(self, context: Context) -> Any:
        with translated_errors(context):
            waiting = self._ask(PurgeRun(context))
        if not waiting:
            self.log.info("Nothing needs a person's approval")
            approval = Approval(approved=True, by=BY_POLICY, at=datetime.now(timezone.utc))
            return approval.model_dump(mode="json")
        return super().execute(context)

    def _ask(self, run: PurgeRun) -> list[Decision]:
        """Judge the archives that need approval again, and record in their stores which ones are shown."""
        waiting: list[Decision] = []
        reasons: dict[str, PurgePolicy] = {}
        by_store: defaultdict[str, list[ArchiveId]] = defaultdict(list)
        for batch in map(PurgeBatch.model_validate, self.batches or ()):
            by_store[batch.store_table] += [one.archive for one in batch.decisions]
        for store_table, archives in by_store.items():
            store = connect_store(run.settings.table(store_table))
            policies, now = run.policies(store), run.now(store)
            asked = [archive for archive in archives if policies.of(archive).approval]
            expired = [one for one in judge_again(store, asked, now=now) if one.reason == "expired"]
            if expired:
                keep_question(store, expired, run=run.identity, now=now)
            waiting += expired
            reasons |= {one.archive.table_folder: policies.of(one.archive) for one in expired}
        four_eyes = any(policy.four_eyes for policy in reasons.values())
        self.subject = f"Destroy {len(waiting)} expired archives with {_rows(waiting):,} rows, for good?"
        self.body = _describe(waiting, reasons, run.identity.triggered_by if four_eyes else None)
        return waiting

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        approval = Approval(
            approved=answer["chosen_options"] == [self.APPROVE],
            by=NOBODY if user is None else user["name"],
            at=answer["responded_at"],
        )
        run = PurgeRun(context)
        with translated_errors(context):
            for store in connect_stores(run.settings):
                keep_answer(store, approval, run=run.identity)
        record = approval.model_dump(mode="json")
        self.log.info("Approved" if approval.approved else "Refused", **record)
        return record


def _rows(decisions: Sequence[Decision]) -> int:
    return sum(decision.record_count or 0 for decision in decisions)


def _describe(decisions: Sequence[Decision], reasons: Mapping[str, PurgePolicy], starter: str | None) -> str:
    """The list as Markdown, for the page of the required action.

    :param reasons: Why each table's archives need approval.
    :param starter: The person who started the run and may not approve; None if anybody may.
    """
    four_eyes = f"{starter} started this run, so another person must approve (`purge.four_eyes`)."
    lines = [
        *([four_eyes, ""] if starter else []),
        "Every version of these archives is removed and cannot be restored. Each archive leaves a certificate.",
        "",
        *(f"- {table}: {policy.why}" for table, policy in sorted(reasons.items())),
        "",
        "| archive | rows | bytes | kept until | legal basis |",
        "|---|--:|--:|---|---|",
    ]
    for one in decisions[:_LISTED]:
        basis = str(one.legal_basis).replace("|", "\\|")
        lines.append(
            f"| {one.archive_id} | {one.record_count:,} | {one.compressed_size:,} | {one.retention_until:%Y-%m-%d} | {basis} |"
        )
    if len(decisions) > _LISTED:
        lines.append(f"\nand {len(decisions) - _LISTED} more; the log of `decide` lists all of them.")
    return "\n".join(lines)
