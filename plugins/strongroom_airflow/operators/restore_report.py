"""Restore, step 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from strongroom.restore import RestoredPart, RestorePlan, release_claims, report_restore, require_complete
from strongroom_airflow.operators.restore_base import RestoreOperator
from strongroom_airflow.restore_run import RestoreRun


class RestoreReportOperator(RestoreOperator):
    """Move sequences past what came back and sum up; fails the run when a part did not come back.

    :param plan: Record of the restore's plan. (templated)
    :param parts: Results of the lanes that have any, or None for a dry run. (templated)
    """

    template_fields: Sequence[str] = ("plan", "parts")

    def __init__(self, *, plan: Any, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.parts = parts

    def step(self, context: Context) -> tuple[str, dict[str, Any], Any]:
        plan = RestorePlan.model_validate(self.plan)
        run = RestoreRun(context, plan.table)
        parts = [RestoredPart.model_validate(part) for lane in self.parts or () for part in lane or ()]
        with run.target() as connection:
            report = report_restore(connection, run.store, plan, parts, now=run.now())
        if not plan.request.dry_run:
            release_claims(run.store, plan, owner=run.owner, now=run.now())
        summary = report.model_dump(mode="json")
        context["ti"].xcom_push(key="return_value", value=summary)
        require_complete(report)
        run.staging().clear()
        facts = {name: value for name, value in summary.items() if name != "parts"}
        return report.sentence(), facts, summary
