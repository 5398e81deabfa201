"""Step 3 of a run of drills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from strongroom.drill.records import ArchiveDrill, DrillLane, Skip
from strongroom.drill.report import require_complete, sum_up
from strongroom.errors import RestoreError
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import decode_table
from strongroom_airflow.drill.base import DrillOperator
from strongroom_airflow.drill.choose import SKIPS_XCOM
from strongroom_airflow.drill.run import DrillRun
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.notices.sending import tell_of_tables
from strongroom_airflow.notices.texts import tell_drill_failed
from strongroom_airflow.step import leave_summary


class DrillReportOperator(DrillOperator):
    """Sum up the run. Fails if an archive did not come back, or was not tried without a reason.

    :param chosen_by: Id of the task that chose the archives. Its result is not a template: if that task failed there is none, and
        this task says so.
    :param found: What each lane found. (templated)
    """

    template_fields: Sequence[str] = ("found",)

    def __init__(self, *, chosen_by: str, found: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chosen_by = chosen_by
        self.found = found

    def step(self, run: DrillRun) -> tuple[str, dict[str, Any], Any]:
        ti = run.context["ti"]
        chosen = ti.xcom_pull(task_ids=self.chosen_by)
        if chosen is None:
            raise RestoreError(
                f"there is nothing to report: {self.chosen_by} failed",
                hint=f"Nothing was restored. Read the log of {self.chosen_by}, fix the cause and clear it.",
            )
        lanes = [DrillLane.model_validate(lane) for lane in chosen]
        self.page = page_of_archives(ArchiveId.parse(one.archive_id) for lane in lanes for one in lane.choices)
        skips = [Skip.model_validate(one) for one in ti.xcom_pull(task_ids=self.chosen_by, key=SKIPS_XCOM) or ()]
        found = [ArchiveDrill.model_validate(one) for lane in self.found or () for one in lane or ()]
        report = sum_up(lanes, skips, found, who=run.who, now=datetime.now(timezone.utc))
        summary = report.model_dump(mode="json")
        leave_summary(run.context, report.sentence(), summary)
        failed: dict[str, list[str]] = {}
        for one in found:
            if one.result == "failed":
                failed.setdefault(decode_table(one.archive_id), []).append(one.sentence())
        tell_of_tables(
            run.settings, "drill_failed", failed, lambda some: tell_drill_failed(some, run.context), run.context
        )
        require_complete(report)
        facts = {name: value for name, value in summary.items() if name not in ("failed", "skipped")}
        return report.sentence(), facts, summary
