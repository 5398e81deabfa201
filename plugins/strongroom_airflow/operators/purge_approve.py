"""Retention purge, step 2."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Context

from strongroom.purge import BY_POLICY, NOBODY, Approval, Decision
from strongroom_airflow.purge_run import PurgeBatch

_LISTED = 100


class PurgeApproveOperator(ApprovalOperator):
    """Ask a person, under Airflow's Required Actions, where a table's settings want that; an answer is a record.

    A refusal skips nothing: archives that need no approval are purged all the same, the others end as ``refused``.
    Without an answer in time it is refused.

    :param batches: What is to be purged. (templated)
    """

    template_fields: Sequence[str] = ("subject", "body", "batches")
    ui_color = "#f6e3e0"

    def __init__(self, *, batches: Any, **kwargs: Any) -> None:
        super().__init__(subject="Destroy expired archives?", defaults=self.REJECT, **kwargs)
        self.batches = batches

    def execute(self, context: Context) -> Any:
        batches = [PurgeBatch.model_validate(batch) for batch in self.batches or ()]
        waiting = [
            one for batch in batches if batch.needs_approval for one in batch.decisions if one.reason == "expired"
        ]
        if not waiting:
            self.log.info("Nothing needs a person's approval")
            approval = Approval(approved=True, by=BY_POLICY, at=datetime.now(timezone.utc))
            return approval.model_dump(mode="json")
        self.subject = f"Destroy {len(waiting)} expired archives with {_rows(waiting):,} rows, for good?"
        self.body = _describe(waiting)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        approval = Approval(
            approved=answer["chosen_options"] == [self.APPROVE],
            by=NOBODY if user is None else user["name"],
            at=answer["responded_at"],
        )
        self.log.info("Approved" if approval.approved else "Refused", **approval.model_dump(mode="json"))
        return approval.model_dump(mode="json")


def _rows(decisions: Sequence[Decision]) -> int:
    return sum(decision.record_count or 0 for decision in decisions)


def _describe(decisions: Sequence[Decision]) -> str:
    """The list as Markdown, for the page of the required action."""
    lines = [
        "Every version of each of these archives is removed and cannot be brought back. Each leaves a certificate.",
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
        lines.append(f"\nand {len(decisions) - _LISTED} more: the log of `decide` lists them all.")
    return "\n".join(lines)
