"""The retention purge in a whole stack: a person's approval through Airflow's Required Actions, and detached partitions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from strongroom.calendar import Frequency, Partition
from strongroom.database.session import open_source
from strongroom.storage.store import Store
from strongroom.tables.warm_script import warm_script
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import ARCHIVER_ROLE, BUCKET
from tests.support.chain import some_settings
from tests.support.sealing import seal_month
from tests.system.helpers import Airflow, Books, Run, ended, query, start_airflow, wait_for
from tests.system.rehearsals import OWNER, PARTITIONED, create_partitions, dag_of, due_day, table_of

DAG_ID = "retention_purge"
ASKED, UNASKED = "purge_asked", "purge_unasked"
"""Tables of the tests' archive.yaml. Archives of the first are destroyed only after approval."""
SETTLING_SECONDS = 8
"""An answer that comes sooner after the task began to wait can fail the run under the LocalExecutor."""


@pytest.fixture
def store(stack: Stack) -> Store:
    """The stack's archives, as the archiver sees them."""
    return stack.archive_store("a test")


@pytest.fixture(scope="module", autouse=True)
def owner(stack: Stack, airflow: Airflow) -> None:
    """The role that owns the partitioned table, and the connection that the purge uses to find its detached partitions."""
    query(stack.source_conninfo(), f"CREATE ROLE {OWNER} LOGIN PASSWORD '{OWNER}'")
    connection = json.loads(stack.environment()["AIRFLOW_CONN_STRONGROOM_SOURCE"])
    body = {"connection_id": OWNER, **connection, "login": OWNER, "password": OWNER}
    airflow.call("POST", "/connections", body)


@pytest.fixture
def purging(airflow: Airflow) -> Iterator[None]:
    """The purge DAG, unpaused. The scheduler's own run has ended."""
    airflow.pause(DAG_ID, paused=False)
    for run in wait_for(lambda: airflow.runs(DAG_ID), "the scheduler's own run"):
        airflow.wait_for_run(DAG_ID, run.run_id)
    yield
    airflow.pause(DAG_ID)


@pytest.fixture(scope="module")
def warm(stack: Stack) -> None:
    """A warm table with empty partitions: one of a year long past, and one of last year."""
    settings = some_settings(BUCKET, Path("/unused"), UNASKED, warm=True)
    query(stack.source_conninfo(), f"CREATE TABLE {UNASKED} (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    query(stack.source_conninfo(), f"GRANT SELECT, DELETE ON {UNASKED} TO {ARCHIVER_ROLE}")
    archiver = psycopg.conninfo.make_conninfo(stack.source_conninfo(), options=f"-c role={ARCHIVER_ROLE}")
    for now in (datetime(2013, 2, 15, tzinfo=timezone.utc), datetime.now(timezone.utc)):
        with open_source(archiver, application_name="test") as connection:
            until = Partition.containing(Frequency.MONTHLY, now)
            script = warm_script(connection, settings, now=now, until=until)
        with psycopg.connect(stack.source_conninfo()) as connection:
            for statement in script:
                connection.execute(statement)


def seal_expired(store: Store, table: str, month: str) -> str:
    """Seal an archive whose seven-year term ended long ago."""
    return str(seal_month(store, some_settings(BUCKET, Path("/unused"), table), month, parts=1))


def waiting_run(airflow: Airflow) -> Run | None:
    """The run that waits for approval, if there is one."""
    for run in airflow.runs(DAG_ID):
        if any(task.task_id == "approve" and task.state == "awaiting_input" for task in airflow.tasks(run)):
            return run
    return None


def answer(airflow: Airflow, run: Run, option: str) -> None:
    path = f"/dags/{DAG_ID}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/approve/-1/hitlDetails"
    asked = airflow.call("GET", path)
    assert "public.purge_asked" in asked["body"]
    assert asked["subject"] == "Destroy 1 expired archives with 10 rows, for good?"
    time.sleep(SETTLING_SECONDS)
    airflow.call("PATCH", path, {"chosen_options": [option], "params_input": {}})


@pytest.mark.parametrize(
    ("option", "month", "result"),
    [
        ("Approve", "2015-01", "purged"),
        # tests/airflow/retention tests asking and refusing without a stack
        pytest.param("Reject", "2015-02", "refused", marks=pytest.mark.exhaustive),
    ],
)
def test_an_archive_that_needs_approval_goes_only_after_a_yes_and_the_others_all_the_same(
    stack, airflow, store, warm, option, month, result
):
    """The certificate names who approved: the person or the policy. The command follows the run to its end."""
    asked = seal_expired(store, ASKED, month)
    unasked = seal_expired(store, UNASKED, month)
    [[over]] = query(stack.source_conninfo(), f"SELECT to_regclass('warm.{UNASKED}_2012_06') IS NOT NULL")
    airflow.pause(DAG_ID, paused=False)
    wait_for(lambda: airflow.runs(DAG_ID), "the scheduler's own run")
    command = start_airflow(stack, "strongroom", "purge")

    waiting = wait_for(lambda: waiting_run(airflow), "the purge to ask for approval", seconds=180)
    answer(airflow, waiting, option)
    run = airflow.wait_for_run(DAG_ID, waiting.run_id, seconds=180)
    followed = ended(command)
    airflow.pause(DAG_ID)

    assert (run.state, followed.returncode) == ("success", 0), followed.stderr
    assert f"approve waits for approval: {stack.api_url}/dags/{DAG_ID}/runs/" in followed.stderr
    for words in (asked, unasked, result, "warm partitions are within their term"):
        assert words in followed.stdout
    partitions = airflow.result(run, "report")["warm"]
    assert partitions["kept"] > 0
    assert ("dropped" in partitions) == ("public.purge_unasked 2012-06" in followed.stdout) == over
    results = {
        one["archive_id"]: one["result"] for batch in (0, 1) for one in airflow.result(run, "purge", map_index=batch)
    }
    assert results == {asked: result, unasked: "purged"}
    key = f"evidence/public.{UNASKED}/{month}/{unasked}/destruction.json"
    assert json.loads(store.read(key)[0])["approved_by"] == "by policy"
    certificate = store.read(f"evidence/public.{ASKED}/{month}/{asked}/destruction.json")
    assert (json.loads(certificate[0])["approved_by"] if certificate else None) == (
        stack.login[0] if result == "purged" else None
    )


def let_it_cool_off(stack: Stack, key: str) -> None:
    """Move the end of the cooling-off, which takes at least a day, into the past."""
    evidence = Books(stack).document(key)
    assert datetime.fromisoformat(evidence["drop_after"]) > datetime.now(timezone.utc) + timedelta(hours=23)
    evidence["drop_after"] = f"{datetime.now(timezone.utc) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    stack.object_store.client("admin").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(evidence).encode())


@pytest.mark.exhaustive
def test_a_partition_is_detached_by_the_scheduler_and_dropped_by_the_purge_after_its_cooling_off(
    stack, airflow, purging
):
    """The other half of the day is deleted by key, and a row that arrives there late stays."""
    source, day, table, dag_id = stack.source_conninfo(), due_day(), table_of(PARTITIONED), dag_of(PARTITIONED)
    query(source, create_partitions(day))
    airflow.pause(dag_id, paused=False)
    [run] = wait_for(lambda: airflow.runs(dag_id), f"the scheduler's run of {dag_id}")
    assert airflow.wait_for_run(dag_id, run.run_id).state == "success"
    query(source, f"INSERT INTO {table} VALUES (9000, '{day} 13:00+00', 'late')")

    waits = query(source, "SELECT count(*) FROM strongroom_detached.partitioned_morning")
    let_it_cool_off(stack, f"evidence/{table}/{day}/{table}.{day}.0001/detach.json")
    purge = airflow.wait_for_run(DAG_ID, airflow.trigger(DAG_ID, None).run_id)

    report = airflow.result(run, "report")
    assert (report["archived_rows"], report["detached_rows"], report["deleted_rows"]) == (1440, 720, 720)
    assert (waits, purge.state) == ([(720,)], "success")
    dropped = [(one["partition"], one["result"], one["rows"]) for one in airflow.result(purge, "detached")]
    assert dropped == [("strongroom_detached.partitioned_morning", "dropped", 720)]
    assert query(source, "SELECT to_regclass('strongroom_detached.partitioned_morning')") == [(None,)]
    assert sorted(row["id"] for row in Books(stack).archived_rows(table)) == [*range(1, 1441)]
    left = query(source, f"SELECT id FROM {table} ORDER BY id")
    assert [id_ for (id_,) in left] == [*range(-59, 1), *range(1441, 1501), 9000]
