"""Retention purge, step 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow.sdk.observability.stats import Stats

from strongroom.retention.approve import approval_of
from strongroom.retention.certificate import BY_POLICY, Approval
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom_airflow.connections import connect_purge_store, connect_store
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeBatch, PurgeRun, needs_approval, needs_four_eyes


class PurgeArchivesOperator(PurgeStepOperator):
    """Destroy the archives of one table, one after the other, and leave a certificate of each.

    The records say what is to be looked at. Whether it may go is found out anew: the term, holds and the manifest in the store,
    who must approve in the settings, and what a person was shown and answered in the store again.

    :param batch: Record of the table's decisions. (templated)
    :param approval: Record of the answer; it makes this task wait for it, and is not believed. (templated)
    """

    template_fields: Sequence[str] = ("batch", "approval")

    def __init__(self, *, batch: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.approval = approval

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        batch = PurgeBatch.model_validate(self.batch)
        door = run.settings.table(batch.door)
        store, purge_store = connect_store(door), connect_purge_store(door)
        asked = [one for one in batch.decisions if needs_approval(run.settings, one.archive)]
        four_eyes = [one.archive_id for one in asked if needs_four_eyes(run.settings, one.archive)]
        approvals = (
            approval_of(store, asked, run=run.identity, four_eyes=four_eyes, now=run.now(store)) if asked else {}
        )
        results = []
        for decision in batch.decisions:
            result = purge_archive(
                store,
                purge_store,
                decision,
                approvals.get(decision.archive_id) or Approval(approved=True, by=BY_POLICY, at=run.now(store)),
                run=run.identity,
                now=run.now(store),
                claim_ttl=door.claim_ttl,
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
