"""Step 3 of the retention purge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow.sdk.observability.stats import Stats

from strongroom.ledger.configuration import notice_change
from strongroom.retention.approve import approval_of, refused_in
from strongroom.retention.certificate import BY_POLICY, Approval, Issuer
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.retention.report import enter_refusals
from strongroom_airflow.assets import PURGES, announce, table_asset
from strongroom_airflow.connections import connect_purge_store, connect_second, connect_store
from strongroom_airflow.links import PageLink, page_of_archives
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeBatch, PurgeRun


class PurgeArchivesOperator(PurgeStepOperator):
    """Destroy the archives of one table, one after the other, and write a certificate for each.

    The records only name the archives. Whether each may be destroyed is decided again: by its term, the holds and the manifest
    in the store, by the settings, which say who must approve, and by the question and the answer that the store keeps.

    :param batch: Record of the table's decisions. (templated)
    :param approval: Record of the answer. It only makes this task wait; the store's record counts. (templated)
    """

    operator_extra_links = (PageLink(),)
    template_fields: Sequence[str] = ("batch", "approval")

    def __init__(self, *, batch: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.approval = approval

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        batch = PurgeBatch.model_validate(self.batch)
        self.page = page_of_archives(one.archive for one in batch.decisions)
        table = run.settings.table(batch.store_table)
        store, purge_store = connect_store(table), connect_purge_store(table)
        second = connect_second(table, store)
        for settings in run.settings.tables.values():
            if settings.qualified_name == batch.table:
                notice_change(store, settings)  # they say who must approve
        policies, refused = run.policies(store), refused_in(store, run=run.identity)
        asked = [one for one in batch.decisions if policies.of(one.archive).approval or one.archive_id in refused]
        four_eyes = [one.archive_id for one in asked if policies.of(one.archive).four_eyes]
        approvals = (
            approval_of(store, asked, run=run.identity, four_eyes=four_eyes, now=run.now(store)) if asked else {}
        )
        results = []
        for decision in batch.decisions:
            now = run.now(store)
            approval = approvals.get(decision.archive_id) or Approval(approved=True, by=BY_POLICY, at=now)
            result = purge_archive(
                store,
                purge_store,
                decision,
                approval.model_copy(update={"policy": policies.of(decision.archive).why}),
                run=run.identity,
                now=now,
                claim_ttl=table.claim_ttl,
                issuer=Issuer(organisation=table.organisation, environment=table.environment),
                second=second,
            )
            self._log_result(result)
            results.append(result)
        counts = Counter(result.result for result in results)
        enter_refusals(store, batch.table, results)
        self._announce(run, table.store.bucket, batch, results)
        Stats.incr("strongroom.purged_archives", counts["purged"])
        words = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        return f"{batch.table}: {words}", dict(counts), [result.model_dump(mode="json") for result in results]

    def _announce(self, run: PurgeRun, bucket: str, batch: PurgeBatch, results: Sequence[PurgeResult]) -> None:
        decided = {one.archive_id: one for one in batch.decisions}
        purged = [result for result in results if result.result == "purged"]
        if not purged:
            return
        first = decided[purged[0].archive_id].archive
        facts = {
            "archive_ids": [one.archive_id for one in purged],
            "record_count": sum(decided[one.archive_id].record_count or 0 for one in purged),
            "removed_versions": sum(one.removed_versions for one in purged),
            "removed_bytes": sum(one.removed_bytes for one in purged),
            "certificates": [one.certificate_key for one in purged],
        }
        asset = table_asset(f"{first.schema_name}.{first.table_name}", bucket)
        announce(run.context, PURGES, asset, "purged", facts)

    def _log_result(self, result: PurgeResult) -> None:
        log = self.log.info if result.result == "purged" else self.log.warning
        log(f"{result.result}: {result.archive_id}", **result.model_dump(mode="json", exclude={"archive_id", "result"}))
