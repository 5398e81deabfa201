"""Step 3 of a run: evidence and log, and the sum of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from strongroom.errors import IntegrityError
from strongroom.replication.records import ArchiveCopy, ReplicaLane, require_same, sum_up
from strongroom.replication.rest import replicate_rest
from strongroom_airflow.replication.run import ReplicaOperator, ReplicaRun
from strongroom_airflow.step import leave_summary


class ReplicaConcludeOperator(ReplicaOperator):
    """Copy and compare evidence, holds, reports and the log, then sum up. Fails if anything is not the same.

    :param chosen_by: Id of the task that chose the archives. Its result is not a template: if that task failed there is none.
    :param found: What each lane found. (templated)
    """

    template_fields: Sequence[str] = ("found",)

    def __init__(self, *, chosen_by: str, found: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chosen_by = chosen_by
        self.found = found

    def step(self, run: ReplicaRun) -> tuple[str, dict[str, Any], Any]:
        ti = run.context["ti"]
        chosen = ti.xcom_pull(task_ids=self.chosen_by)
        if chosen is None:
            raise IntegrityError(
                f"there is nothing to conclude: {self.chosen_by} failed",
                hint=f"Nothing was copied. Read the log of {self.chosen_by}, fix the cause and clear it.",
            )
        rests = []
        for table in run.stores:
            store, replica = run.pair(table)
            rest = replicate_rest(
                store,
                replica,
                filled_by="strongroom" if table.replica.filled_by == "strongroom" else "store",
                compare_days=table.replica.compare_days,
                who=run.who,
                now=run.now(store),
            )
            self.log.info("%s", rest.sentence())
            rests.append(rest)
        wanted = sum(len(ReplicaLane.model_validate(lane).archives) for lane in chosen)
        found = [ArchiveCopy.model_validate(one) for lane in self.found or () for one in lane or ()]
        report = sum_up(wanted, found, rests, who=run.who, now=datetime.now(timezone.utc))
        summary = report.model_dump(mode="json")
        leave_summary(run.context, report.sentence(), summary)
        require_same(report)
        facts = {name: value for name, value in summary.items() if name != "wrong"}
        return report.sentence(), facts, summary
