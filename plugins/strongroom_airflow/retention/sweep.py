"""Retention purge, step 4."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from strongroom.retention.sweep import Swept, sweep_staging, sweep_store
from strongroom_airflow.connections import connect_purge_store, connect_staging, connect_store
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeRun


class PurgeSweepOperator(PurgeStepOperator):
    """Remove what broken runs left in the stores, and in staging as far as this worker sees it."""

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        swept: list[Swept] = []
        longest = max(table.purge.sweep_after_days for table in run.settings.tables.values())
        for door in run.doors:
            store = connect_store(door)
            swept += sweep_store(
                store,
                connect_purge_store(door),
                run=run.identity,
                now=run.now(store),
                grace=timedelta(days=longest),
                claim_ttl=door.claim_ttl,
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
        for one in swept:
            self._tell(one)
        counts = Counter(f"{one.kind}_{one.result}" for one in swept)
        removed = sum(one.result == "removed" for one in swept)
        sentence = f"Swept {removed} of {len(swept)} leftovers away"
        return sentence, dict(counts), [one.model_dump(mode="json") for one in swept]

    def _tell(self, swept: Swept) -> None:
        tell = self.log.info if swept.result == "removed" else self.log.warning
        tell(
            f"{swept.result}: {swept.kind} {swept.name}",
            **swept.model_dump(mode="json", exclude={"kind", "name", "result"}),
        )
