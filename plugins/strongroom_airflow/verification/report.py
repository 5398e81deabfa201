"""Step 3 of a verification run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from strongroom.object_keys.archives import ArchiveId
from strongroom.statistics.rereading import Lane, Reread, VerificationError, require_complete, sum_up
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.step import leave_summary
from strongroom_airflow.verification.base import VerificationOperator
from strongroom_airflow.verification.run import VerificationRun


class VerificationReportOperator(VerificationOperator):
    """Sum up the run. Fails if an archive is not sound, or was not read.

    :param located_by: Id of the task that found the archives. Its result is not a template: if that task failed there is none, and
        this task says so.
    :param found: What each lane found. (templated)
    """

    template_fields: Sequence[str] = ("found",)

    def __init__(self, *, located_by: str, found: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.located_by = located_by
        self.found = found

    def step(self, run: VerificationRun) -> tuple[str, dict[str, Any], Any]:
        located = run.context["ti"].xcom_pull(task_ids=self.located_by)
        if located is None:
            raise VerificationError(
                f"there is nothing to report: {self.located_by} failed",
                hint=f"Nothing was read. Read the log of {self.located_by}, fix the cause and clear it.",
            )
        wanted = [archive for lane in located for archive in Lane.model_validate(lane).archives]
        self.page = page_of_archives(map(ArchiveId.parse, wanted))
        found = [Reread.model_validate(one) for lane in self.found or () for one in lane or ()]
        report = sum_up(len(wanted), found, who=run.who, why=run.why, now=datetime.now(timezone.utc))
        summary = report.model_dump(mode="json")
        leave_summary(run.context, report.sentence(), summary)
        require_complete(report)
        facts = {name: value for name, value in summary.items() if name != "unsound"}
        return report.sentence(), facts, summary
