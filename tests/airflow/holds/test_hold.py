"""The DAG legal_hold: its form, and real runs through Airflow on a real store."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from types import SimpleNamespace

import psycopg
import pytest

from strongroom.ledger.holds import EVERYTHING, holds_in_force, place_hold, read_holds, release_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.storage.store import Store
from strongroom_airflow.holds.hold import HOLDS_XCOM, HoldOperator
from tests.support.chain import some_settings
from tests.support.dags import read_dags
from tests.support.sealing import seal_month

DAG_ID = "legal_hold"
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
CASE = {"action": "place", "what": "audit", "why": "a case", "reference": "EFCC/17", "hold_id": None, "who": None}


@pytest.fixture
def store(object_store, bucket, tmp_path, deployment) -> Store:
    """One archive, in a store that Airflow finds."""
    deployment.store(object_store, bucket)
    settings = some_settings(bucket, tmp_path / "staging")
    store = Store(object_store.client("archiver"), settings.store)
    seal_month(store, settings, "2026-05", parts=1)
    return store


class Run:
    """A run of the DAG, whose task may be tried again and again."""

    def __init__(self, user: str | None = "grace", run_id: str = "manual__1", **params) -> None:
        self.pushed: dict[str, object] = {}
        dag_run = SimpleNamespace(dag_id=DAG_ID, run_id=run_id, triggering_user_name=user, run_after=NOW)
        ti = SimpleNamespace(xcom_push=lambda key, value: self.pushed.update({key: value}))
        self._context = {"params": CASE | params, "dag_run": dag_run, "ti": ti}

    def attempt(self) -> str:
        """The task once; returns what it returns."""
        return HoldOperator(task_id="hold").execute(self._context)


def test_a_hold_is_placed_with_the_names_of_who_asked_and_who_triggered(store):
    hold_id = Run(what="public.audit.2026-05", who="ada").attempt()

    [hold] = holds_in_force(store)
    assert (hold.hold_id, hold.what, hold.why, hold.reference) == (hold_id, "public.audit.2026-05", "a case", "EFCC/17")
    assert hold.who == "ada (started by grace)"
    assert hold.covers(ArchiveId("public", "audit", "2026-05", 1))


def test_without_a_name_the_user_who_triggers_has_placed_it(store):
    Run().attempt()
    Run(user=None, run_id="manual__2").attempt()

    assert [hold.who for hold in sorted(read_holds(store), key=lambda hold: hold.who)] == ["grace", "unknown"]


def test_a_retry_or_a_clear_places_no_second_hold(store):
    run = Run()

    assert run.attempt() == run.attempt()
    assert len(read_holds(store)) == 1
    assert Run(run_id="manual__2").attempt() != run.attempt()
    assert len(read_holds(store)) == 2


def test_a_clear_of_an_old_run_does_not_place_again_what_was_released_since(store):
    run = Run()
    hold_id = run.attempt()
    release_hold(store, hold_id, who="bob", reason="closed", now=NOW)

    assert run.attempt() == hold_id
    assert holds_in_force(store) == []


def test_a_hold_on_everything_is_one_hold_in_all_stores(store, deployment, object_store, coming_buckets):
    """The same id in each store, so one release lifts it everywhere."""
    other = next(coming_buckets).result()
    deployment.tables(audit={"date_column": "at"}, calls={"date_column": "at", "store": {"bucket": other}})
    second = Store(object_store.client("archiver"), some_settings(other, "staging").store)
    run = Run(what="*")

    hold_id = run.attempt()

    assert [(hold.hold_id, hold.what) for one in (store, second) for hold in read_holds(one)] == [
        (hold_id, EVERYTHING)
    ] * 2
    assert [hold["hold_id"] for hold in run.pushed[HOLDS_XCOM]] == [hold_id] * 2
    Run(action="release", hold_id=hold_id, run_id="manual__2").attempt()
    assert holds_in_force(store) == holds_in_force(second) == []


def test_a_try_that_broke_between_two_stores_is_finished_by_the_next(store, deployment, object_store, coming_buckets):
    other = next(coming_buckets).result()
    run = Run(what="*")
    hold_id = run.attempt()
    deployment.tables(audit={"date_column": "at"}, calls={"date_column": "at", "store": {"bucket": other}})

    assert run.attempt() == hold_id
    second = Store(object_store.client("archiver"), some_settings(other, "staging").store)
    assert [hold.hold_id for hold in read_holds(second)] == [hold_id]
    assert len(read_holds(store)) == 1


def test_a_hold_on_everything_fails_after_it_is_placed_where_a_table_may_have_another_store(store, deployment):
    deployment.tables(audit={"date_column": "at"}, calls={"date_column": "at", "retries": "many"})

    with pytest.raises(Exception, match="the hold was not placed in the store of calls"):
        Run(what="*").attempt()
    assert [hold.what for hold in holds_in_force(store)] == [EVERYTHING]


def test_a_hold_is_released_with_reason_and_names_and_a_repeat_changes_nothing(store):
    placed = place_hold(store, "public.audit", why="a case", who="ada", reference="17", now=NOW)
    run = Run(action="release", hold_id=placed.hold_id, why="closed", who="bob")

    assert run.attempt() == run.attempt() == placed.hold_id
    [hold] = read_holds(store)
    assert (hold.released_by, hold.release_reason) == ("bob (started by grace)", "closed")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"what": None}, "does not say what to hold"),
        ({"what": "public.nope"}, "public.nope is unknown"),
        ({"why": None}, "does not say why"),
        ({"reference": " "}, "does not say reference"),
        ({"action": "release"}, "does not say which hold to release"),
        ({"action": "release", "hold_id": "20261123T120000Z-00000000"}, "there is no hold"),
    ],
)
def test_a_run_that_does_not_say_what_an_auditor_will_ask_for_changes_nothing(store, params, said):
    with pytest.raises(Exception, match=said) as failed:
        Run(**params).attempt()

    assert "HINT: " in str(failed.value)
    assert read_holds(store) == []


def test_a_release_without_a_reason_leaves_the_hold_in_force(store):
    placed = place_hold(store, "public.audit", why="a case", who="ada", reference="17", now=NOW)

    with pytest.raises(Exception, match="does not say who or why"):
        Run(action="release", hold_id=placed.hold_id, why=None).attempt()
    assert holds_in_force(store) == [placed]


def test_an_id_of_this_run_that_somebody_used_for_another_hold_is_an_error(store):
    run = Run()
    run.attempt()

    with pytest.raises(Exception, match="is that of another hold"):
        Run(why="another case").attempt()
    assert len(read_holds(store)) == 1


class TestDag:
    @pytest.fixture(scope="class")
    def parsed(self, metadata, parsing):
        """The DAG in the metadata database; a connection to that database."""
        with parsing("legal_hold.py"), psycopg.connect(metadata, autocommit=True) as connection:
            yield connection

    @pytest.fixture(scope="class")
    def dag(self, metadata):  # noqa: ARG002 - reading DAGs looks into the database
        return read_dags("legal_hold")[DAG_ID]

    def test_it_runs_by_hand_alone_says_what_it_does_and_opens_without_an_error(self, dag):
        dag.params.validate()
        assert (dag.schedule, dag.task_ids) == (None, ["hold"])
        assert dag.get_task("hold").doc_md
        assert dag.params.get_param("what").schema["examples"][-1] == "*"
        assert dag.params.get_param("action").schema["enum"] == ["place", "release"]

    def test_a_run_through_airflow_places_one_hold_and_returns_its_id(self, parsed, store, airflow):
        conf = {"what": "audit", "why": "a case", "reference": "EFCC/17", "who": "ada"}

        ended = airflow("dags", "test", DAG_ID, "--conf", json.dumps(conf))

        assert ended.returncode == 0, ended.stdout + ended.stderr
        [hold] = holds_in_force(store)
        returned = parsed.execute(
            "SELECT value FROM xcom WHERE dag_id = %s AND key = 'return_value'", (DAG_ID,)
        ).fetchall()
        assert returned == [(hold.hold_id,)]
        outcome = parsed.execute("SELECT value FROM xcom WHERE dag_id = %s AND key = 'outcome'", (DAG_ID,)).fetchall()
        who = "ada (started by dag_test)"
        assert outcome == [(f"Placed hold {hold.hold_id} on public.audit by {who} (EFCC/17: a case).",)]
        assert (hold.what, hold.who) == ("public.audit", "ada (started by dag_test)")
