"""How pages and commands start runs, on a real metadata database with Airflow's own DAGs and rights."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

ARCHIVE, RESTORE = "archive__audit", "restore_archive"
RUNS = """
SELECT run_id, partition_key, state::text, run_type, triggered_by::text, triggering_user_name, conf
FROM dag_run WHERE dag_id = %s ORDER BY id
"""


@pytest.fixture(scope="module")
def parsed(parsing):
    """The DAGs of a table and of restores in the metadata database, and Airflow's simple auth manager in this process."""
    from airflow.api_fastapi.app import create_auth_manager

    create_auth_manager()
    with parsing("archive_tables.py", "restore_archive.py"):
        yield


@pytest.fixture
def database(metadata, parsed):
    """A connection to the metadata database, where both DAGs are unpaused and have no runs."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id IN (%s, %s)", (ARCHIVE, RESTORE))
        connection.execute("DELETE FROM log")
        connection.execute("UPDATE dag SET is_paused = false WHERE dag_id IN (%s, %s)", (ARCHIVE, RESTORE))
        yield connection


def runs_in(database) -> int:
    """How many runs the two DAGs have; other tests leave runs of other DAGs."""
    return database.execute("SELECT count(*) FROM dag_run WHERE dag_id IN (%s, %s)", (ARCHIVE, RESTORE)).fetchone()[0]


def a_user(name: str = "ada", role: str = "USER"):
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return SimpleAuthManagerUser(username=name, role=role)


def test_a_partition_is_triggered_in_the_name_of_its_user(database):
    """The run names the user and the page, Airflow's audit log as well, and the note is the user's own."""
    from strongroom_airflow.trigger import trigger_partition

    run_id = trigger_partition(ARCHIVE, "2026-05", a_user(), note="for the audit")

    [found] = database.execute(RUNS, (ARCHIVE,)).fetchall()
    assert found[:6] == (run_id, "2026-05", "queued", "manual", "UI", "ada")
    note = database.execute(
        "SELECT n.content, n.user_id FROM dag_run_note n JOIN dag_run r ON r.id = n.dag_run_id"
    ).fetchall()
    assert note == [("for the audit", "ada")]
    [(event, owner, dag_id, run, extra)] = database.execute(
        "SELECT event, owner, dag_id, run_id, extra FROM log"
    ).fetchall()
    assert (event, owner, dag_id, run) == ("trigger_dag_run", "ada", ARCHIVE, run_id)
    assert json.loads(extra) == {"method": "POST", "through": "Strongroom", "partition_key": "2026-05"}


def test_a_partition_that_is_being_archived_gets_no_second_run_and_the_error_names_the_first(database):
    from strongroom_airflow.trigger import UnderWayError, trigger_partition

    first = trigger_partition(ARCHIVE, "2026-05", a_user())
    with pytest.raises(UnderWayError, match="2026-05 is being archived already") as refused:
        trigger_partition(ARCHIVE, "2026-05", a_user("grace"))
    database.execute("UPDATE dag_run SET state = 'success'")
    second = trigger_partition(ARCHIVE, "2026-05", a_user("grace"))

    assert refused.value.run_id == first
    assert [row[0] for row in database.execute(RUNS, (ARCHIVE,))] == [first, second]


def test_two_clicks_at_once_start_one_run(database):
    from strongroom_airflow.trigger import UnderWayError, trigger_partition

    def click(_: int) -> str:
        try:
            return trigger_partition(ARCHIVE, "2026-05", a_user())
        except UnderWayError as error:
            return error.run_id

    with ThreadPoolExecutor(2) as clicks:
        both = set(clicks.map(click, range(2)))

    assert {row[0] for row in database.execute(RUNS, (ARCHIVE,))} == both
    assert len(both) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("May", "is not a monthly partition key"),
        ("2099-01", "hot"),
        ("2026-W21", "is not a monthly"),
        ("", "no partition key"),
    ],
)
def test_a_key_that_names_no_due_partition_starts_nothing_and_airflow_s_reason_is_told(database, key, said):
    from strongroom_airflow.trigger import RunError, trigger_partition

    with pytest.raises(RunError, match=f"Airflow did not start {ARCHIVE}") as refused:
        trigger_partition(ARCHIVE, key, a_user())

    assert said in str(refused.value)
    assert refused.value.hint.startswith("Nothing was started.")
    assert database.execute(RUNS, (ARCHIVE,)).fetchall() == []


def test_parameters_become_the_configuration_of_a_run(database):
    from strongroom_airflow.trigger import trigger_conf

    conf = {"table": "audit", "why": "a case", "keys": [17]}
    run_id = trigger_conf(RESTORE, conf, a_user())

    [found] = database.execute(RUNS, (RESTORE,)).fetchall()
    assert found == (run_id, None, "queued", "manual", "UI", "ada", conf)
    assert run_id.startswith("restore__audit__")
    [extra] = [json.loads(row[0]) for row in database.execute("SELECT extra FROM log")]
    assert extra["parameters"] == ["keys", "table", "why"], "the values of keys are rows' and stay out of the log"


WRONG = [
    ({"why": "x"}, "why", "minLength 3"),
    ({"why": "a case", "keep_days": 0}, "keep_days", "minimum 1"),
    ({"why": "a case", "keys": [{"secret": "row"}]}, "keys", "type"),  # pragma: allowlist secret
    ({"why": "a case", "dropped_columns": "ignore"}, "dropped_columns", "enum ['refuse', 'keep']"),
    ({"why": "a case", "wyh": "a typo"}, "wyh", "has no parameter wyh"),
]


@pytest.mark.parametrize(("conf", "field", "said"), WRONG)
def test_a_wrong_parameter_is_named_by_its_field_and_starts_nothing(database, conf, field, said):
    """What was found is not repeated: the keys of a restore are values of rows."""
    from strongroom_airflow.trigger import ParameterError, trigger_conf

    with pytest.raises(ParameterError) as refused:
        trigger_conf(RESTORE, conf, a_user())

    assert refused.value.field == field
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
    assert database.execute(RUNS, (RESTORE,)).fetchall() == []


def test_the_same_request_that_is_under_way_gets_no_second_run(database):
    from strongroom_airflow.trigger import UnderWayError, trigger_conf

    first = trigger_conf(RESTORE, {"table": "audit", "why": "a case"}, a_user())
    other = trigger_conf(RESTORE, {"table": "audit", "why": "another case"}, a_user())
    with pytest.raises(UnderWayError) as refused:
        trigger_conf(RESTORE, {"why": "a case", "table": "audit"}, a_user())

    assert refused.value.run_id == first != other


def test_who_may_not_trigger_a_dag_starts_nothing(database):
    """Airflow's rights decide: a viewer of the simple auth manager may look and not act."""
    from strongroom_airflow.trigger import RunError, may_trigger, trigger_conf, trigger_partition

    viewer = a_user("eve", "VIEWER")

    assert (may_trigger(ARCHIVE, viewer), may_trigger(ARCHIVE, a_user())) == (False, True)
    with pytest.raises(RunError, match="eve may not trigger archive__audit"):
        trigger_partition(ARCHIVE, "2026-05", viewer)
    with pytest.raises(RunError, match="eve may not trigger restore_archive"):
        trigger_conf(RESTORE, {"why": "a case"}, viewer)
    assert runs_in(database) == 0


@pytest.mark.parametrize(
    ("dag_id", "said"), [(ARCHIVE, "is paused"), ("archive__nope", "knows no DAG named archive__nope")]
)
def test_a_dag_that_no_scheduler_would_run_is_told_before_anything_is_started(database, dag_id, said):
    from strongroom_airflow.trigger import RunError, trigger_partition

    database.execute("UPDATE dag SET is_paused = true WHERE dag_id = %s", (ARCHIVE,))

    with pytest.raises(RunError, match=said):
        trigger_partition(dag_id, "2026-05", a_user())
    assert runs_in(database) == 0
