"""`airflow strongroom status` of a unit: each table's steps, and what keeps any of them waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from strongroom.ledger.claims import take_claim
from strongroom.object_keys.records import claim_key
from strongroom.records import VerifiedPart
from strongroom.tables.steering import StepProgress, progress_name
from tests.support.database import scalar
from tests.support.units import SECTION

DAG = "archive__orders"
ROWS = {"line_notes": 120, "order_alerts": 30, "order_lines": 270, "orders": 100}


@pytest.fixture
def deleting(unit, parsing, airflow, monkeypatch) -> Iterator[list[VerifiedPart]]:
    """A run as Airflow has it while all deletes work, each of which has told how far it is; the parts, in the order of the tasks."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, insert, select, update

    monkeypatch.setenv("STRONGROOM__STAGING", unit.root.settings.staging)
    with parsing("archive_tables.py", tables=SECTION):
        started = airflow("strongroom", "archive", "orders", "--partition", "2026-05", "--no-wait", "--json")
    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)[0]["run_id"]
    plan = unit.plan()
    parts = unit.seal(plan)
    for place, part in enumerate(parts):
        facts = {"archive_id": part.archive_id, "number": part.number, "run": "r", "host": "h", "rows": part.rows}
        told = StepProgress(step="delete", **facts, done_rows=place + 1, began_at=unit.now, told_at=unit.now)
        with unit.root.staging(part.archive_id) as staging:
            staging.keep(progress_name("delete", part.number), told)
    of_run = (TaskInstance.dag_id == DAG, TaskInstance.run_id == run_id)
    table = TaskInstance.__table__
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state="running"))
        task = select(table).where(table.c.run_id == run_id, table.c.task_id == "delete")
        row = dict(session.execute(task).mappings().one())
        for number in range(1, len(parts)):
            session.execute(insert(table).values(row | {"id": uuid4(), "map_index": number, "state": "running"}))
        session.execute(
            update(TaskInstance)
            .where(*of_run, TaskInstance.task_id == "delete", TaskInstance.map_index < 1)
            .values(state="running", map_index=0)
        )
        planned = plan.model_dump(mode="json")
        XComModel.set(key="plan", value=planned, dag_id=DAG, task_id="plan", run_id=run_id, session=session)
    yield parts
    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == DAG))


def comes(condition: Any) -> Any:
    """What comes true within a time that is long enough on a busy machine."""
    return next((found for _ in range(1500) if (found := condition()) or time.sleep(0.04)), None)


def test_status_tells_of_each_table_and_what_any_of_them_waits_for(unit, deleting, airflow):
    """Asked about a member, because that is what an operator sees waiting. Deletes are mapped with children first."""
    claimed = claim_key("public", "line_notes", "2026-05")
    take_claim(unit.store, claimed, owner="restore_archive x", now=unit.store.clock(), ttl=unit.root.settings.claim_ttl)
    waiting = f"{unit.conninfo} application_name='strongroom order_lines delete'"
    with psycopg.connect(f"{unit.conninfo} application_name='a migration'") as other, psycopg.connect(waiting) as mine:
        other.execute("LOCK TABLE order_lines")
        blocked = threading.Thread(target=lambda: mine.execute("SELECT count(*) FROM order_lines"), daemon=True)
        blocked.start()
        assert comes(lambda: scalar(unit.conninfo, "SELECT count(*) FROM pg_locks WHERE NOT granted"))
        try:
            document = json.loads(airflow("strongroom", "status", "order_lines", "--json").stdout)
            shown = " ".join(airflow("strongroom", "status").stdout.split())
        finally:
            other.rollback()
            blocked.join(timeout=30)

    [table] = document
    [run] = table["runs"]
    steps = [step for step in run["steps"] if step["step"] == "delete"]
    assert table["table"] == "public.orders"
    assert sorted((one["table"], one["part"], one["rows"], one["done_rows"]) for one in steps) == [
        (f"public.{part.archive.table_name}", 0, ROWS[part.archive.table_name], place + 1)
        for place, part in enumerate(deleting)
    ]
    assert {one["table"]: one["why"][0].partition(" (")[0] for one in steps if one["why"]} == {
        "public.order_lines": "waits for a lock of a migration"
    }
    assert run["why"][0] == "the claim on public.line_notes is held by restore_archive x"
    assert "public.orders 2026-05: running" in shown
    assert "no run is under way" not in shown, "a member has no run of its own"
    assert "1 of 120" in shown
    assert "4 of 100" in shown
