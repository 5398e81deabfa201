"""Failures as the task's log shows them: one error with a hint, no driver traceback, no secret. Then the cause is fixed."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import ARCHIVER_ROLE, SOURCE_DATABASE
from tests.system.helpers import Airflow, Books, Run, Task, query, wait_for
from tests.system.rehearsals import ERRORS, SCHEMA, create_table, dag_of, due_day, table_of

SECRET = "marked-wrong-password-81c4"  # pragma: allowlist secret


def run_once(airflow: Airflow, rehearsal: str) -> Run:
    """Let the scheduler start the rehearsal's run, and wait for its end."""
    dag_id = dag_of(rehearsal)
    airflow.pause(dag_id, paused=False)
    [run] = wait_for(lambda: airflow.runs(dag_id), f"the scheduler's run of {dag_id}")
    return airflow.wait_for_run(dag_id, run.run_id)


def failed_task(airflow: Airflow, run: Run) -> tuple[Task, list[dict]]:
    """The one task that is failed, not upstream_failed, and its log."""
    [task] = [task for task in airflow.tasks(run) if task.state == "failed"]
    return task, airflow.log(run, task)


def errors_in(log: list[dict]) -> list[dict]:
    """The log's error lines, without the supervisor's own."""
    return [line for line in log if line.get("level") in ("error", "critical")]


def require_one_clear_error(log: list[dict], *words: str) -> None:
    """The log has one error, which says what happened, where, and what to do. No other exception is attached to it."""
    [error] = errors_in(log)
    [raised] = error["error_detail"]
    assert all(word in raised["exc_value"] for word in (*words, "HINT: "))
    assert raised["exc_value"].count("HINT: ") == 1
    assert "psycopg" not in json.dumps(log)
    assert "botocore" not in json.dumps(log)


def clear_and_finish(airflow: Airflow, run: Run, task: Task) -> Run:
    """Clear the failed task and all tasks after it, and wait for the run's end."""
    airflow.clear(run, task.task_id)
    wait_for(lambda: airflow.runs(run.dag_id)[0].state != "failed", "the cleared run to start")
    return airflow.wait_for_run(run.dag_id, run.run_id)


def require_archived(stack: Stack, rehearsal: str) -> None:
    """The rehearsal's due rows are in its archive, the others in the table."""
    assert sorted(row["id"] for row in Books(stack).archived_rows(table_of(rehearsal))) == [*range(1, 1441)]
    left = query(stack.source_conninfo(), f"SELECT id FROM {table_of(rehearsal)} ORDER BY id")
    assert [id_ for (id_,) in left] == [*range(-59, 1), *range(1441, 1501)]


@pytest.fixture
def wrong_connection(stack: Stack, airflow: Airflow) -> dict:
    """A connection to the source with a wrong password, as if mistyped in the UI."""
    connection = json.loads(stack.environment()["AIRFLOW_CONN_STRONGROOM_SOURCE"])
    body = {"connection_id": "rehearsal_password", **connection, "password": SECRET}
    airflow.call("POST", "/connections", body)
    return body | {"password": connection["password"]}


@pytest.mark.exhaustive
def test_a_wrong_password(stack, airflow, wrong_connection):
    """The plan fails at its first try. With the right password the cleared run succeeds."""
    query(stack.source_conninfo(), create_table("password", due_day()))

    run = run_once(airflow, "password")

    task, log = failed_task(airflow, run)
    assert (task.task_id, task.try_number) == ("plan", 1)
    where = f"the source database {ARCHIVER_ROLE}@127.0.0.1:{stack.postgres.port}/{SOURCE_DATABASE} refused"
    require_one_clear_error(log, where, "password authentication failed", "Check the source connection")
    assert SECRET not in json.dumps(log)
    airflow.call("PATCH", "/connections/rehearsal_password", wrong_connection)
    assert clear_and_finish(airflow, run, task).state == "success"
    require_archived(stack, "password")


def test_a_missing_connection(stack, airflow):
    """The error names the connection and says how to add it."""
    query(stack.source_conninfo(), create_table("unconnected", due_day()))

    run = run_once(airflow, "unconnected")

    task, log = failed_task(airflow, run)
    assert (task.task_id, task.try_number) == ("plan", 1)
    require_one_clear_error(
        log, "Airflow has no connection rehearsal_unconnected", "AIRFLOW_CONN_REHEARSAL_UNCONNECTED"
    )
    failed = (
        f"{run.partition_key}: failed at plan: Airflow has no connection rehearsal_unconnected: expected a connection"
    )
    assert str(airflow.note(run)).startswith(failed)
    assert set(airflow.links(run, "plan").values()) == {
        f"plugin/archive/strongroom/partition?table={table_of('unconnected')}&key={run.partition_key}"
    }


@pytest.mark.exhaustive
def test_a_missing_table(stack, airflow):
    """The plan fails at its first try. Once the table exists the cleared run succeeds."""
    query(stack.source_conninfo(), create_table("elsewhere", due_day()))

    run = run_once(airflow, "missing")

    task, log = failed_task(airflow, run)
    assert (task.task_id, task.try_number) == ("plan", 1)
    require_one_clear_error(log, f"there is no table {table_of('missing')}", "Correct the table's name in archive.yaml")
    query(stack.source_conninfo(), f"ALTER TABLE {SCHEMA}.elsewhere RENAME TO missing")
    assert clear_and_finish(airflow, run, task).state == "success"
    require_archived(stack, "missing")


@pytest.mark.exhaustive
def test_a_hold_on_everything(stack, airflow):
    """The delete fails at its first try and deletes nothing. Cleared after the release, it succeeds."""
    query(stack.source_conninfo(), create_table("held", due_day()))
    store = stack.archive_store("a test")
    hold = place_hold(store, EVERYTHING, why="a doubt", who="ada", reference="INC-1", now=datetime.now(timezone.utc))

    run = run_once(airflow, "held")

    task, log = failed_task(airflow, run)
    release_hold(store, hold.hold_id, who="ada", reason="none", now=datetime.now(timezone.utc))
    assert (task.task_id, task.try_number) == ("delete", 1)
    require_one_clear_error(log, "held: all deletion in s3://", f"found {hold}")
    assert query(stack.source_conninfo(), f"SELECT count(*) FROM {table_of('held')}") == [(1560,)]
    assert clear_and_finish(airflow, run, task).state == "success"
    require_archived(stack, "held")
    [report] = [Books(stack).document(key) for key in Books(stack).objects(f"reports/{table_of('held')}/")]
    assert report["vacuum"]["result"] == "refused", "the archiver does not own the table"
    [deleting] = [each for each in airflow.tasks(run) if each.task_id == "delete"]
    said = [str(line.get("event")) for line in airflow.log(run, deleting)]
    assert any(line.startswith("The delete rests after each batch: a commit took") for line in said), said


def test_a_run_outside_its_hours(stack, airflow):
    """It does not begin, and uses no tries."""
    query(stack.source_conninfo(), create_table("late", due_day()))

    run = run_once(airflow, "late")

    task, log = failed_task(airflow, run)
    assert (task.task_id, task.try_number) == ("plan", 1)
    require_one_clear_error(log, f"out of time: {table_of('late')}", "Nothing is lost")


def test_a_failed_run_leaves_no_claim_behind(stack, airflow):
    """The next run need not wait for a claim to expire."""
    books = Books(stack)
    claims = [books.document(key) for error in ERRORS for key in books.objects(f"claims/{table_of(error)}/")]

    assert {claim["state"] for claim in claims} == {"released"}


def test_the_store_that_breaks_off_is_told_with_a_hint(stack, airflow, proxy):
    """The proxy in front of the store has no target. Once it has one, the run succeeds."""
    query(stack.source_conninfo(), create_table("unreachable", due_day()))
    target, proxy.target = proxy.target, None

    run = run_once(airflow, "unreachable")

    proxy.target = target
    task, log = failed_task(airflow, run)
    require_one_clear_error(log, "the store failed to look at s3://strongroom-archive/", "HINT")
    assert clear_and_finish(airflow, run, task).state == "success"
    require_archived(stack, "unreachable")
