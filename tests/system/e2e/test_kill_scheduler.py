"""Kill -9 of the scheduler during a delete: the next scheduler starts the task again while the orphaned try still runs."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest

from strongroom.settings import FILE_VARIABLE
from strongroom_local.servers.processes import wait_until
from strongroom_local.servers.stack import Stack
from tests.system.helpers import Airflow, Books, configuration_of, query, wait_for
from tests.system.rehearsals import ORPHANED, create_table, dag_of, due_day, table_of


def scheduler_of(stack: Stack) -> int | None:
    return {part.name: part.pid for part in stack.status()}["scheduler"]


@pytest.mark.exhaustive
def test_a_scheduler_that_is_killed_in_mid_delete_loses_nothing(stack: Stack, airflow: Airflow, monkeypatch):
    """The third of three batches is waiting for a locked row when the scheduler dies."""
    table, dag_id = table_of(ORPHANED), dag_of(ORPHANED)
    source = stack.source_conninfo()
    query(source, create_table(ORPHANED, due_day()))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"

    with psycopg.connect(source) as other:
        other.execute(f"SELECT 1 FROM {table} WHERE id = 1200 FOR UPDATE")
        airflow.pause(dag_id, paused=False)
        wait_for(lambda: query(source, waiting, f"strongroom {table} delete"), "the delete to wait", seconds=300)
        killed = scheduler_of(stack)
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda: scheduler_of(stack) is None, timeout_seconds=10)
        monkeypatch.setenv(FILE_VARIABLE, str(configuration_of(stack)))  # as for the first scheduler
        stack.up()

    [run] = airflow.runs(dag_id)
    ended = airflow.wait_for_run(dag_id, run.run_id, seconds=900)
    if ended.state == "failed":  # the new scheduler may count the orphan as failed
        airflow.clear(run, "delete")
        wait_for(lambda: airflow.runs(dag_id)[0].state == "success", "the cleared run to end", seconds=300)
    airflow.pause(dag_id)

    books = Books(stack)
    [evidence] = [books.document(key) for key in books.objects(f"evidence/{table}/") if "/delete-" in key]
    left = [id_ for (id_,) in query(source, f"SELECT id FROM {table} ORDER BY id")]
    assert left == [*range(-59, 1), *range(1441, 1501)]
    assert sorted(row["id"] for row in books.archived_rows(table)) == [*range(1, 1441)]
    assert evidence["deleted"] + evidence["gone"] == 1440
    assert scheduler_of(stack) not in (None, killed)
