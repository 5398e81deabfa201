"""The retention purge with a person's approval, through Airflow's own Required Actions."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from strongroom.partitions import Frequency, Partition
from strongroom.source import open_source
from strongroom.store import Store
from strongroom.warm import warm_script
from strongroom_local.stack import ARCHIVER_ROLE, BUCKET, Stack
from tests.chain import some_settings
from tests.e2e.helpers import Airflow, Run, ended, query, start_airflow, wait_for
from tests.sealing import seal_month

DAG_ID = "retention_purge"
ASKED, UNASKED = "purge_asked", "purge_unasked"
"""Tables of the tests' archive.yaml; archives of the first are destroyed only after approval."""
SETTLING_SECONDS = 8
"""An answer sooner than that after the task began to wait can fail the run under the LocalExecutor."""


@pytest.fixture
def store(stack: Stack) -> Store:
    """The stack's archives, as the archiver sees them."""
    return Store(stack.object_store.client("archiver"), some_settings(BUCKET, Path("/unused")).store)


@pytest.fixture(scope="module")
def warm(stack: Stack) -> None:
    """A warm table with empty partitions: of a year that is long over, and of the last one."""
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
    """Seal an archive whose term of seven years is long over."""
    return str(seal_month(store, some_settings(BUCKET, Path("/unused"), table), month, parts=1))


def waiting_run(airflow: Airflow) -> Run | None:
    """The run whose approval is being waited for."""
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
    ("option", "month", "result"), [("Reject", "2015-01", "refused"), ("Approve", "2015-02", "purged")]
)
def test_an_archive_that_needs_approval_goes_only_after_a_yes_and_the_others_all_the_same(
    stack, airflow, store, warm, option, month, result
):
    """The certificate names who approved: the person, or the policy. The command follows all of it."""
    asked = seal_expired(store, ASKED, "2015-02")
    unasked = seal_expired(store, UNASKED, month)
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
    assert ("dropped" in partitions) == ("public.purge_unasked 2012-06" in followed.stdout) == (option == "Reject")
    results = {
        one["archive_id"]: one["result"] for batch in (0, 1) for one in airflow.result(run, "purge", map_index=batch)
    }
    assert results == {asked: result, unasked: "purged"}
    key = f"evidence/public.{UNASKED}/{month}/{unasked}/destruction.json"
    assert json.loads(store.read(key)[0])["approved_by"] == "by policy"
    certificate = store.read(f"evidence/public.{ASKED}/2015-02/{asked}/destruction.json")
    assert (json.loads(certificate[0])["approved_by"] if certificate else None) == (
        stack.login[0] if result == "purged" else None
    )
