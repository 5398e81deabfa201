"""Step 3 of a restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strongroom.errors import RestoreError
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.claims import release_claims
from strongroom.restore.load import listed_rows
from strongroom.restore.records import RestoredPart, RestorePlan
from strongroom.restore.report import report_restore, require_complete
from strongroom_airflow.assets import RESTORES, announce, table_asset
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.restore.base import RestoreOperator
from strongroom_airflow.restore.run import RestoreRun
from strongroom_airflow.step import conclude


class RestoreReportOperator(RestoreOperator):
    """Move sequences past the restored rows and summarize the run. Fails if a part was not restored.

    :param planned_by: Id of the task that planned the restore. Its plan is not a template: if that task failed there is none,
        and this task says so.
    :param parts: Results of the lanes that have any; None for a dry run. (templated)
    """

    template_fields: Sequence[str] = ("parts",)

    def __init__(self, *, planned_by: str, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned_by = planned_by
        self.parts = parts

    def step(self, run: RestoreRun) -> tuple[str, dict[str, Any], Any]:
        planned = run.context["ti"].xcom_pull(task_ids=self.planned_by, key="plan")
        if planned is None:
            raise RestoreError(
                f"there is nothing to report: {self.planned_by} failed",
                hint=f"Nothing was loaded. Read the log of {self.planned_by}, fix the cause and clear it.",
            )
        plan = RestorePlan.model_validate(planned)
        self.page = page_of_archives(map(ArchiveId.parse, plan.every_archive))
        parts = [_with_keys(run, RestoredPart.model_validate(part)) for lane in self.parts or () for part in lane or ()]
        with run.target() as connection:
            report = report_restore(connection, run.store, plan, parts, now=run.now())
        if not plan.request.dry_run:
            release_claims(run.store, plan, owner=run.owner, now=run.now())
        summary = report.model_dump(mode="json", exclude={"parts": {"__all__": {"listed"}}})
        run.context["ti"].xcom_push(key="return_value", value=summary)
        conclude(run.context, report.headline())
        require_complete(report)
        with run.staging() as staging:
            staging.clear()
        facts = {name: value for name, value in summary.items() if name != "parts"}
        if not plan.request.dry_run:
            asset = table_asset(report.table, run.settings.store.bucket)
            announce(run.context, RESTORES, asset, "restored", facts)
        return report.sentence(), facts, summary


def _with_keys(run: RestoreRun, part: RestoredPart) -> RestoredPart:
    with run.staging(part.archive_id) as staging:
        return part.model_copy(update={"listed": listed_rows(staging, part)})
