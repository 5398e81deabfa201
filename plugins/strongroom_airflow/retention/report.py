"""Retention purge, the last step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from strongroom.retention.drop_detached import DetachedResult
from strongroom.retention.drop_warm import WarmResult
from strongroom.retention.purge import Approval, PurgeResult
from strongroom.retention.report import Judged, keep_report
from strongroom.retention.sweep import Swept
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeRun


class PurgeReportOperator(PurgeStepOperator):
    """Sum the run up: a report in each store, one line in the log.

    :param judged: Summary of the decisions. (templated)
    :param approval: Record of the answer. (templated)
    :param results: For each batch its results. (templated)
    :param swept: What became of the leftovers. (templated)
    :param warm: What became of the warm partitions. (templated)
    :param detached: What became of the detached partitions. (templated)
    """

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
        report = keep_report(
            connect_stores(run.settings),
            Judged.model_validate(self.judged),
            Approval.model_validate(self.approval),
            [PurgeResult.model_validate(result) for batch in self.results or () for result in batch],
            [Swept.model_validate(one) for one in self.swept or ()],
            [WarmResult.model_validate(one) for one in self.warm or ()],
            [DetachedResult.model_validate(one) for one in self.detached or ()],
            run=run.identity,
            now=datetime.now(timezone.utc),
        )
        facts = {**report.counts, "swept": dict(report.swept_counts), "warm": dict(report.warm_counts)}
        facts["detached"] = dict(report.detached_counts)
        return report.sentence(), facts, facts
