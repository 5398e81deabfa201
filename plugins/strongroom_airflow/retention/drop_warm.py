"""Retention purge, beside the other steps: warm partitions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from strongroom.retention.drop_warm import WarmResult, purge_warm
from strongroom_airflow.connections import connect_source, connect_store
from strongroom_airflow.retention.base import PurgeStepOperator
from strongroom_airflow.retention.run import PurgeRun


class PurgeWarmOperator(PurgeStepOperator):
    """Take down the warm partitions whose term is over, once each of their rows was found in a sound archive again."""

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        results: list[WarmResult] = []
        for table in run.settings.tables.values():
            if table.warm:
                name = f"strongroom {table.table} {self.task_id}"
                store = connect_store(table)
                with connect_source(table, application_name=name) as connection:
                    results += purge_warm(connection, store, table, run=run.identity, now=run.now(store))
        for one in results:
            tell = self.log.warning if one.result in ("held", "unverifiable") else self.log.info
            tell(f"{one.result}: {one.table} {one.month}: {one.detail}")
        counts = Counter(one.result for one in results)
        sentence = f"Took {counts['dropped']} of {len(results)} warm partitions down"
        return sentence, dict(counts), [one.model_dump(mode="json") for one in results]
