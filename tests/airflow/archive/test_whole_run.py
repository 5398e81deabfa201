"""A unit's DAG from plan to report, as Airflow runs it: mapped tasks, XCom, and names of tasks in the UI."""

from __future__ import annotations

from typing import Any

import airflow.models.dagrun
import psycopg
import pytest

from tests.support.database import execute
from tests.support.units import ORDERS, UnitChain, rows_of_may, unit_settings

TABLES = {"orders": {"date_column": "at", "with": ["order_lines", "line_notes", "order_alerts"]}}

NAMES = "SELECT task_id, rendered_map_index FROM task_instance WHERE dag_id = 'archive__orders' AND task_id = 'delete' ORDER BY map_index"


@pytest.fixture
def unit(source, object_store, bucket, tmp_path, deployment) -> UnitChain:
    execute(source, ORDERS)
    deployment.tables(**TABLES)
    deployment.store(object_store, bucket)
    deployment.database(source, "source")
    chain = UnitChain(source, object_store.client("archiver"), unit_settings(bucket, tmp_path / "staging"))
    chain.plan()  # claims the store
    return chain


def test_a_run_of_the_dag_archives_all_tables_and_names_them(metadata, parsing, unit, dags_folder, monkeypatch):
    create = airflow.models.dagrun.get_or_create_dagrun

    def with_key(**arguments: Any) -> Any:
        """`dag.test()` takes no partition key."""
        run = create(**arguments)
        run.partition_key = "2026-05"
        arguments["session"].commit()
        return run

    monkeypatch.setattr(airflow.models.dagrun, "get_or_create_dagrun", with_key)
    with parsing("archive_tables.py", tables=TABLES):
        from airflow.dag_processing.dagbag import DagBag

        run = DagBag(str(dags_folder / "archive_tables.py")).dags["archive__orders"].test()

    assert run.state == "success"
    assert not any(rows_of_may(unit.conninfo).values())
    with psycopg.connect(metadata) as connection:
        assert [name for _, name in connection.execute(NAMES)] == [
            f"public.{name} part 0" for name in ("line_notes", "order_lines", "order_alerts", "orders")
        ]
