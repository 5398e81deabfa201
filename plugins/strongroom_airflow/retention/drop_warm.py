"""A step of the retention purge beside the others: warm partitions."""

from __future__ import annotations

from typing import Any

from strongroom.retention.drop_warm import WarmResult, purge_warm
from strongroom_airflow.connections import connect_store
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.retention.base import PurgeStepOperator, dropped
from strongroom_airflow.retention.run import PurgeRun


class PurgeWarmOperator(PurgeStepOperator):
    """Drop the warm partitions whose term is over, after each of their rows was found in a sound archive again."""

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        results: list[WarmResult] = []
        for table in run.settings.tables.values():
            if table.warm:
                name = f"strongroom {table.table} {self.task_id}"
                store = connect_store(table)
                with connect_database(table, table.source_conn_id, application_name=name) as connection:
                    results += purge_warm(connection, store, table, run=run.identity, now=run.now(store))
        for one in results:
            log = self.log.warning if one.result in ("held", "unverifiable") else self.log.info
            log(f"{one.result}: {one.table} {one.month}: {one.detail}")
        return dropped(results, "warm partitions")
