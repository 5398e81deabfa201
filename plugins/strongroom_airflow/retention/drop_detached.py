"""A step of the retention purge beside the others: detached partitions."""

from __future__ import annotations

from typing import Any

from strongroom.retention.drop_detached import DetachedResult, purge_detached
from strongroom_airflow.connections import connect_store
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.retention.base import PurgeStepOperator, dropped
from strongroom_airflow.retention.run import PurgeRun


class PurgeDetachedOperator(PurgeStepOperator):
    """Drop the detached partitions whose cooling-off is over, after each of their rows was found in a sound archive again."""

    def step(self, run: PurgeRun) -> tuple[str, dict[str, Any], Any]:
        results: list[DetachedResult] = []
        for table in run.settings.tables.values():
            if table.partition_delete.enabled:
                name, store = f"strongroom {table.table} {self.task_id}", connect_store(table)
                with connect_database(table, table.partition_delete.conn_id, application_name=name) as connection:
                    results += purge_detached(connection, store, table, run=run.identity, now=run.now(store))
        for one in results:
            log = self.log.info if one.result in ("dropped", "kept") else self.log.warning
            log(f"{one.result}: {one.partition} ({one.archive_id}): {one.detail}")
        return dropped(results, "detached partitions")
