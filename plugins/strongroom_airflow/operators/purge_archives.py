"""Retention purge, step 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow.sdk.observability.stats import Stats

from strongroom.purge import BY_POLICY, Approval, PurgeResult, purge_archive
from strongroom_airflow.connections import connect_purge_store, connect_store
from strongroom_airflow.operators.purge_base import PurgeStepOperator
from strongroom_airflow.purge_run import PurgeBatch, PurgeRun


class PurgeArchivesOperator(PurgeStepOperator):
    """Destroy the archives of one table, one after the other, and leave a certificate of each.

    :param batch: Record of the table's decisions. (templated)
    :param approval: Record of the answer. (templated)
    """

    template_fields: Sequence[str] = ("batch", "approval")

    def __init__(self, *, batch: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.approval = approval

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        batch, approval = PurgeBatch.model_validate(self.batch), Approval.model_validate(self.approval)
        if not batch.needs_approval:
            approval = Approval(approved=True, by=BY_POLICY, at=approval.at)
        door = run.settings.table(batch.door)
        store, purge_store = connect_store(door), connect_purge_store(door)
        results = []
        for decision in batch.decisions:
            result = purge_archive(
                store,
                purge_store,
                decision,
                approval,
                run=run.identity,
                now=run.now(store),
                claim_ttl=run.claim_ttl(door),
            )
            self._tell(result)
            results.append(result)
        counts = Counter(result.result for result in results)
        Stats.incr("strongroom.purged_archives", counts["purged"])
        words = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        return f"{batch.table}: {words}", dict(counts), [result.model_dump(mode="json") for result in results]

    def _tell(self, result: PurgeResult) -> None:
        tell = self.log.info if result.result == "purged" else self.log.warning
        tell(
            f"{result.result}: {result.archive_id}", **result.model_dump(mode="json", exclude={"archive_id", "result"})
        )
