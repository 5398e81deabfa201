"""A unit goes and comes back as Airflow runs it: mapped tasks, XCom, and names of tasks in the UI."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from airflow.models import dagrun as runs

from tests.support.units import SECTION, rows_of, rows_of_may

NAMES = "SELECT task_id, rendered_map_index FROM task_instance WHERE dag_id = 'archive__orders' AND task_id = 'delete' ORDER BY map_index"


def test_a_run_archives_all_tables_and_names_them_and_a_restore_brings_them_back(
    metadata, parsing, unit, dags_folder, monkeypatch, airflow
):
    before = rows_of(unit.conninfo)
    create = runs.get_or_create_dagrun

    def with_key(**arguments: Any) -> Any:
        """`dag.test()` takes no partition key."""
        run = create(**arguments)
        run.partition_key = "2026-05"
        arguments["session"].commit()
        return run

    monkeypatch.setattr(runs, "get_or_create_dagrun", with_key)
    with parsing("archive_tables.py", "restore_archive.py", tables=SECTION, anew=True):
        from airflow import settings as airflow_settings
        from airflow.dag_processing.dagbag import DagBag

        try:
            run = DagBag(str(dags_folder / "archive_tables.py")).dags["archive__orders"].test()
        finally:
            airflow_settings.Session.remove()  # its transaction stays open, and would block the tests that come after
        gone = not any(rows_of_may(unit.conninfo).values())
        assert (run.state, gone) == ("success", True)
        asked = {"table": "orders", "first_partition": "2026-05", "last_partition": "2026-05", "why": "Case 4711"}
        restored = airflow("dags", "test", "restore_archive", "--conf", json.dumps(asked))

    assert restored.returncode == 0, restored.stderr
    assert rows_of(unit.conninfo) == before
    with psycopg.connect(metadata) as connection:
        assert [name for _, name in connection.execute(NAMES)] == [
            f"public.{name} part 0" for name in ("line_notes", "order_alerts", "order_lines", "orders")
        ]
