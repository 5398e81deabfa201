"""The retention purge with a person's approval, through Airflow's own Required Actions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from strongroom.store import Store
from strongroom_local.stack import BUCKET, Stack
from tests.chain import some_settings
from tests.e2e.helpers import Airflow, Run, wait_for
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
    stack, airflow, store, option, month, result
):
    """The certificate names who approved: the person, or the policy."""
    asked = seal_expired(store, ASKED, "2015-02")
    unasked = seal_expired(store, UNASKED, month)
    airflow.pause(DAG_ID, paused=False)
    run = airflow.trigger(DAG_ID, None)

    waiting = wait_for(lambda: waiting_run(airflow), "the purge to ask for approval", seconds=180)
    answer(airflow, waiting, option)
    ended = airflow.wait_for_run(DAG_ID, waiting.run_id, seconds=180)

    assert ended.state == "success"
    results = {
        one["archive_id"]: one["result"] for batch in (0, 1) for one in airflow.result(ended, "purge", map_index=batch)
    }
    assert results == {asked: result, unasked: "purged"}
    key = f"evidence/public.{UNASKED}/{month}/{unasked}/destruction.json"
    assert json.loads(store.read(key)[0])["approved_by"] == "by policy"
    certificate = store.read(f"evidence/public.{ASKED}/2015-02/{asked}/destruction.json")
    assert (json.loads(certificate[0])["approved_by"] if certificate else None) == (
        stack.login[0] if result == "purged" else None
    )
    airflow.pause(DAG_ID)
    assert run.dag_id == DAG_ID
