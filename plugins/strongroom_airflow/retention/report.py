"""The last step of the retention purge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.report import PurgeReport, keep_report
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.links import PageLink, page_of_archives
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeRun
from strongroom_airflow.step import conclude


class PurgeReportOperator(PurgeStepOperator):
    """Summarize the run: a report in each store, a line in the log.

    :param judged: Summary of the decisions. (templated)
    :param approval: Record of the answer. (templated)
    :param results: The results of each batch. (templated)
    :param swept: What happened to the leftovers. (templated)
    :param warm: What happened to the warm partitions. (templated)
    :param detached: What happened to the detached partitions. (templated)
    """

    operator_extra_links = (PageLink(),)
    template_fields: Sequence[str] = ("judged", "approval", "results", "swept", "warm", "detached")

    def __init__(
        self, *, judged: Any, approval: Any, results: Any, swept: Any, warm: Any, detached: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.judged = judged
        self.approval = approval
        self.results = results
        self.swept = swept
        self.warm = warm
        self.detached = detached

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        self.page = page_of_archives(
            ArchiveId.parse(result["archive_id"]) for batch in self.results or () for result in batch
        )
        report = PurgeReport(
            dag_id=run.identity.dag_id,
            run_id=run.identity.run_id,
            finished_at=datetime.now(timezone.utc),
            judged=self.judged,
            approval=self.approval,
            results=[result for batch in self.results or () for result in batch],
            swept=self.swept or (),
            warm=self.warm or (),
            detached=self.detached or (),
        )
        keep_report(connect_stores(run.settings), report)
        conclude(run.context, f"{report.sentence()}.")
        facts = {**report.counts, "swept": dict(report.swept_counts), "warm": dict(report.warm_counts)}
        facts["detached"] = dict(report.detached_counts)
        return report.sentence(), facts, facts
