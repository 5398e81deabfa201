"""What one task of an archive run knows of its run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.errors import ConfigurationError
from strongroom_airflow.archive.pausing import pause
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.database_connections import connect_database
from tests.support.chain import some_settings

BEGAN = datetime(2026, 11, 23, 22, tzinfo=timezone.utc)
NOW = BEGAN + timedelta(hours=3)


class Run(ArchiveRun):
    """A run whose store's clock shows one in the morning."""

    def now(self) -> datetime:
        return NOW


@pytest.mark.parametrize(
    ("stop_after", "began", "hours"),
    [
        (None, BEGAN, None),
        ("PT4H", BEGAN, 1),
        ("PT2H", BEGAN, -1),
        ("PT4H", None, 4),
        ("22:00-06:00", BEGAN, 5),
        ("22:00-01:00", BEGAN, 0),
    ],
)
def test_a_run_knows_when_its_work_in_the_database_must_end(tmp_path, stop_after, began, hours):
    """Counted from the start of the run as Airflow has it, or by the hours of the store's clock."""
    context = {"dag_run": SimpleNamespace(dag_id="archive__audit", run_id="r", start_date=began)}

    stop_at = Run(some_settings("bucket", tmp_path, stop_after=stop_after), context).stop_at

    assert stop_at == (None if hours is None else NOW + timedelta(hours=hours))


def test_a_run_knows_who_started_it(tmp_path):
    dag_run = SimpleNamespace(dag_id="archive__audit", run_id="r", triggering_user_name="grace")

    identity = Run(some_settings("bucket", tmp_path), {"dag_run": dag_run}).identity

    assert (identity.triggered_by, str(identity)) == ("grace", "archive__audit r")


@pytest.mark.parametrize(
    ("states", "unfinished"),
    [
        ({}, [0, 1, 2]),
        ({"part.verify_0": "success", "part.verify_1": "running", "part.verify_2": None}, [1, 2]),
        ({"part.verify_0": "upstream_failed", "part.verify_1": "failed", "part.verify_2": "up_for_retry"}, [2]),
        ({f"part.verify_{number}": "success" for number in range(3)}, []),
    ],
)
def test_a_part_waits_for_earlier_parts_that_will_still_finish(tmp_path, states, unfinished):
    """A part that failed for good keeps nobody waiting."""

    def answer(dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, task_ids, run_ids) == ("archive__audit", ["part.verify"], ["r"])
        return {"r": states} if states else {}

    task = SimpleNamespace(dag_id="archive__audit", run_id="r", get_task_states=answer)
    run = Run(some_settings("bucket", tmp_path, max_parallel_parts=3), {"dag_run": SimpleNamespace(), "ti": task})

    assert run.earlier_unfinished_parts(3, "part.verify") == unfinished
    assert run.earlier_unfinished_parts(2, "part.verify") == [], "as many may be under way at a time"


def test_a_part_with_many_before_it_checks_seldom(monkeypatch):
    """A thousand parts that all checked every few seconds would cost Airflow more than the parts themselves."""
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")

    assert [pause(too_many).total_seconds() for too_many in (1, 2, 3, 900)] == [5, 5, 6, 1800]


def test_a_task_that_waits_stays_away_longer_than_its_supervisor_lingers(monkeypatch):
    """With Airflow's default of 5 seconds, a pause of 5 made the scheduler take every other waiting delete for killed."""
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")

    assert [pause(too_many).total_seconds() for too_many in (1, 6, 7)] == [13, 13, 14]


@pytest.fixture
def connected(source, deployment) -> str:
    """An environment in which Airflow knows the source, under three names."""
    deployment.database(source, "source", "replica", "restore")
    return source


SETTINGS = {"statement_timeout_seconds": 70, "lock_timeout_seconds": 7, "claim_ttl_seconds": 100}


def time_outs(session: Any) -> list[str]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return [session.execute("SELECT current_setting(%s)", (name,)).fetchone()[0] for name in names]


def test_every_connection_gives_sessions_with_the_time_outs_of_the_settings(connected, tmp_path):
    settings = some_settings("bucket", tmp_path, **SETTINGS)

    for conn_id in (settings.source_conn_id, "strongroom_replica", settings.restore_conn_id):
        with connect_database(settings, conn_id, application_name="test") as session:
            assert time_outs(session) == ["70s", "7s", "50s"]


@pytest.mark.parametrize("replica", [None, "strongroom_replica"])
def test_a_task_reads_from_the_replica_where_the_settings_name_one(connected, tmp_path, caplog, replica):
    """Here that connection leads to the primary, so the task says so and reads from the source."""
    context = {"dag_run": SimpleNamespace(), "ti": SimpleNamespace(task_id="extract")}

    with Run(some_settings("bucket", tmp_path, replica_conn_id=replica), context).reading() as session:
        name = session.execute("SELECT current_setting('application_name')").fetchone()

    assert name == ("strongroom audit extract",)
    assert ("Reads from the primary, not from the replica: it is not a standby" in caplog.text) == (replica is not None)


def test_a_replica_whose_connection_is_missing_is_an_error(connected, tmp_path):
    settings = some_settings("bucket", tmp_path, replica_conn_id="strongroom_nowhere")
    context = {"dag_run": SimpleNamespace(), "ti": SimpleNamespace(task_id="extract")}

    with (
        pytest.raises(ConfigurationError, match="Airflow has no connection strongroom_nowhere"),
        Run(settings, context).reading(),
    ):
        raise AssertionError
