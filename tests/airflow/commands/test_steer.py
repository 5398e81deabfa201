"""`airflow strongroom status`, `throttle`, `pause` and `resume`, as a user types them, while a real delete runs in another thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from strongroom.ledger.claims import take_claim
from strongroom.ledger.orders import read_orders
from strongroom.object_keys.records import claim_key
from strongroom.records import ArchivePlan, DeletedPart, RunIdentity, VerifiedPart
from strongroom.tables import steering
from tests.support.chain import Chain
from tests.support.database import execute, scalar

RUN = "2026-05__byhand__1"


def comes(condition: Callable[[], Any]) -> Any:
    """What comes true within a time that is long enough on a busy machine."""
    return next((found for _ in range(1500) if (found := condition()) or time.sleep(0.04)), None)


@pytest.fixture
def running(chain, deployment, monkeypatch) -> Iterator[tuple[Chain, ArchivePlan, VerifiedPart]]:
    """An archive of 600 late rows, sealed, whose delete takes three rows at a time."""
    monkeypatch.setattr(steering, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(steering, "TELL_SECONDS", 0.05)
    deployment.database(chain.conninfo, "source")
    monkeypatch.setenv("STRONGROOM__STAGING", chain.settings.staging)
    execute(chain.conninfo, "INSERT INTO audit SELECT n, '2026-05-03Z' FROM generate_series(1001, 1600) AS n")
    settings = chain.settings.model_copy(update={"delete_batch_rows": 3})
    identity = RunIdentity(dag_id="archive__audit", run_id=RUN)
    steered = replace(chain, settings=settings, identity=identity, steered=True)
    plan = steered.plan()
    [part] = steered.seal(plan).parts
    return steered, plan, part


def rows_left(chain: Chain) -> int:
    return int(scalar(chain.conninfo, "SELECT count(*) FROM audit"))


def asked(ended: Any) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def deleting(running) -> Iterator[list[Any]]:
    """The delete, in another thread; its outcome when it has ended."""
    chain, _, part = running
    chain.keep_claim = lambda: time.sleep(0.02)  # a server elsewhere
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(chain.delete(part)), daemon=True)
    thread.start()
    yield outcomes
    thread.join(timeout=120)
    assert not thread.is_alive()


@pytest.fixture
def in_airflow(running, parsing, airflow, monkeypatch) -> Iterator[None]:
    """The run as Airflow has it: the delete works, what comes before it is done."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    _, plan, _ = running
    with parsing("archive_tables.py"):
        started = airflow("strongroom", "archive", "audit", "--partition", "2026-05", "--no-wait", "--json")
    assert asked(started)[0]["run_id"] == RUN
    of_run = (TaskInstance.dag_id == "archive__audit", TaskInstance.run_id == RUN)
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == RUN).values(state="running"))
        session.execute(update(TaskInstance).where(*of_run, TaskInstance.task_id == "plan").values(state="success"))
        session.execute(
            update(TaskInstance).where(*of_run, TaskInstance.task_id == "delete").values(state="running", map_index=0)
        )
        session.execute(update(TaskInstance).where(*of_run, TaskInstance.task_id == "report").values(state="scheduled"))
        XComModel.set(
            key="plan",
            value=plan.model_dump(mode="json"),
            dag_id="archive__audit",
            task_id="plan",
            run_id=RUN,
            session=session,
        )
    yield
    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == "archive__audit"))


def test_a_delete_that_runs_is_paused_seen_and_resumed(running, in_airflow, deleting, airflow):
    chain, _, part = running
    paused = asked(airflow("strongroom", "pause", "audit", "--reason", "an index is built", "--who", "ada", "--json"))
    still = comes(lambda: (left := rows_left(chain)) == (time.sleep(0.5) or rows_left(chain)) and left)

    document = asked(airflow("strongroom", "status", "audit", "--json"))
    shown = airflow("strongroom", "status")

    assert paused["pause"]["who"] == "ada"
    assert 0 < still < 600
    assert deleting == []
    [run] = document[0]["runs"]
    [step] = [one for one in run["steps"] if one["step"] == "delete"]
    assert (run["archive_id"], run["rows"], run["parts"]) == (part.archive_id, 600, 1)
    assert (step["part"], step["rows"], step["done_rows"]) == (0, 600, 600 - still)
    assert step["why"][0].startswith("paused by ada at")
    assert f"{600 - still} of 600" in shown.stdout
    assert "an index is built" in shown.stdout
    assert "waits for the scheduler or a worker" in shown.stdout  # the report, which is scheduled
    resumed = airflow("strongroom", "resume", "audit", "--reason", "the index is there")
    assert "its steps continue" in resumed.stdout
    assert comes(lambda: deleting)
    assert isinstance(deleting[0], DeletedPart)
    assert (deleting[0].deleted, rows_left(chain)) == (600, 0)


def test_status_names_a_lock_the_claim_of_another_run_and_a_pool_that_is_full(running, in_airflow, airflow):
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import update

    chain, *_ = running
    key = claim_key("public", "audit", "2026-05")
    take_claim(
        chain.store, key, owner="archive__audit other", now=datetime.now(timezone.utc), ttl=chain.settings.claim_ttl
    )
    with create_session() as session:
        session.execute(update(Pool).where(Pool.pool == "default_pool").values(slots=1))
    waiting = f"{chain.conninfo} application_name='strongroom audit delete'"
    with psycopg.connect(f"{chain.conninfo} application_name='a migration'") as other, psycopg.connect(waiting) as mine:
        other.execute("LOCK TABLE audit")
        blocked = threading.Thread(target=lambda: mine.execute("SELECT count(*) FROM audit"), daemon=True)
        blocked.start()
        assert comes(lambda: scalar(chain.conninfo, "SELECT count(*) FROM pg_locks WHERE NOT granted"))
        try:
            said = " ".join(airflow("strongroom", "status", "audit").stdout.split())
        finally:
            other.rollback()
            blocked.join(timeout=30)
            with create_session() as session:
                session.execute(update(Pool).where(Pool.pool == "default_pool").values(slots=128))

    assert "waits for a lock of a migration" in said
    assert "the claim is held by archive__audit other" in said
    assert "waits for a slot of the pool default_pool: all 1 are taken" in said


def test_orders_are_on_record_in_airflows_audit_log_and_in_force_until_they_are_lifted(chain, metadata, airflow):
    words = ("--reason", "a busy hour", "--who", "ada")
    airflow("strongroom", "throttle", "audit", "--rows-per-second", "500", *words)
    in_force = read_orders(chain.store, chain.settings)
    shown = airflow("strongroom", "status", "audit")
    lifted = asked(airflow("strongroom", "throttle", "audit", "--off", "--reason", "it is over", "--json"))

    with psycopg.connect(metadata) as connection:
        query = "SELECT event, dag_id, extra FROM log WHERE event LIKE 'strongroom_throttle' ORDER BY id DESC LIMIT 2"
        [second, first] = connection.execute(query).fetchall()
    assert (in_force.throttle.rows_per_second, in_force.throttle.who) == (500, "ada")
    assert "no run is under way; throttled to 500 rows a second by ada: a busy hour" in shown.stdout
    assert lifted == {"throttle": None, "pause": None}
    assert first[:2] == ("strongroom_throttle", "archive__audit")
    assert json.loads(first[2]) == {
        "through": "Strongroom",
        "table": "public.audit",
        "who": "ada",
        "why": "a busy hour",
        "rows_per_second": 500,
    }
    assert json.loads(second[2])["rows_per_second"] is None


def test_damaged_orders_are_seen_and_an_order_that_replaces_them_says_so(chain, metadata, airflow):
    words = ("--reason", "a bad edit", "--who", "ada")
    found = chain.store.read("claims/orders/public.audit.json")
    assert chain.store.swap("claims/orders/public.audit.json", b"slip", etag=None if found is None else found[1])

    shown = airflow("strongroom", "status", "audit")
    resumed = airflow("strongroom", "resume", "audit", *words)
    again = airflow("strongroom", "resume", "audit", *words)

    with psycopg.connect(metadata) as connection:
        query = "SELECT extra FROM log WHERE event = 'strongroom_resume' ORDER BY id DESC LIMIT 2"
        [second, first] = [json.loads(extra) for (extra,) in connection.execute(query).fetchall()]
    assert "orders/public.audit.json is not a sound record of orders; steps wait as in a pause until" in shown.stdout
    assert "`airflow strongroom resume audit --reason …` replaces it" in shown.stdout
    assert resumed.returncode == 0
    assert "public.audit is not paused; its steps continue." in resumed.stdout
    assert "It was replaced: if it held a pause or a throttle, that is over" in resumed.stderr
    assert first["replaces"].endswith("claims/orders/public.audit.json is not a sound record of orders")
    assert read_orders(chain.store, chain.settings).model_dump() == {"throttle": None, "pause": None}
    assert "replaced" not in again.stderr
    assert "replaces" not in second


def test_an_order_without_a_reason_or_a_speed_is_refused(chain, airflow):
    without_reason = airflow("strongroom", "pause", "audit")
    without_speed = airflow("strongroom", "throttle", "audit", "--reason", "a busy hour")

    assert without_reason.returncode == 2
    assert without_speed.returncode == 1
    assert "either --rows-per-second N, or --off" in without_speed.stderr
    assert read_orders(chain.store, chain.settings).model_dump() == {"throttle": None, "pause": None}


def test_an_order_for_a_member_of_a_unit_is_refused_because_its_steps_obey_those_of_the_root(
    chain, deployment, airflow
):
    deployment.tables(orders={"date_column": "at", "with": ["audit"]})

    for words in (("pause", "audit"), ("throttle", "audit", "--rows-per-second", "5"), ("resume", "audit")):
        refused = airflow("strongroom", *words, "--reason", "an index is built")
        assert refused.returncode == 1
        assert f"`airflow strongroom {words[0]} orders`" in refused.stderr

    assert read_orders(chain.store, chain.settings).model_dump() == {"throttle": None, "pause": None}
