"""Step 4 of the retention purge."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from strongroom.retention.sweep import Swept, sweep_query_results, sweep_staging, sweep_store
from strongroom_airflow.connections import connect_purge_store, connect_second, connect_staging, connect_store
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeRun


class PurgeSweepOperator(PurgeStepOperator):
    """Remove what interrupted runs left in the stores, and in the staging that this worker can see."""

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        swept: list[Swept] = []
        longest = max(table.purge.sweep_after_days for table in run.settings.tables.values())
        for store_table in run.store_tables:
            store = connect_store(store_table)
            swept += sweep_store(
                store,
                connect_purge_store(store_table),
                run=run.identity,
                now=run.now(store),
                grace=timedelta(days=longest),
                claim_ttl=store_table.claim_ttl,
                second=connect_second(store_table, store),
            )
        for table in run.settings.tables.values():
            store = connect_store(table)
            swept += sweep_staging(
                store,
                connect_staging(table),
                table,
                run=run.identity,
                now=run.now(store),
                grace=timedelta(days=table.purge.sweep_after_days),
            )
        roots = {table.staging: table for table in run.settings.tables.values()}
        for table in roots.values():
            swept += sweep_query_results(connect_staging(table), now=run.now(connect_store(table)))
        for one in swept:
            self._log_result(one)
        counts = Counter(f"{one.kind}_{one.result}" for one in swept)
        removed = sum(one.result == "removed" for one in swept)
        sentence = f"Removed {removed} of {len(swept)} leftovers"
        return sentence, dict(counts), [one.model_dump(mode="json") for one in swept]

    def _log_result(self, swept: Swept) -> None:
        log = self.log.info if swept.result == "removed" else self.log.warning
        log(
            f"{swept.result}: {swept.kind} {swept.name}",
            **swept.model_dump(mode="json", exclude={"kind", "name", "result"}),
        )
