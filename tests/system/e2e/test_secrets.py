"""Runs with marked passwords, rows and keys fail in every way that makes PostgreSQL quote a row. Then all output is searched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import ARCHIVER_ROLE, RESTORER_ROLE
from tests.system.helpers import Airflow, Books, Run, everything_said, query, secrets_of, wait_for
from tests.system.rehearsals import SCHEMA, dag_of, due_day, table_of

RESTORE = "restore_archive"
TABLE = table_of("marked")
PASSWORD = "marked-wrong-password-5d1e"  # pragma: allowlist secret
CONTENT = "marked-row-content-77ab"
MOOD = "marked-enum-label-90cd"
KEY = "marked-primary-key-31ef"

SCHEMA_SQL = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TYPE {SCHEMA}.mood AS ENUM ('{MOOD}');
CREATE TABLE {TABLE} (id text PRIMARY KEY, at timestamptz NOT NULL, who text, mood {SCHEMA}.mood, details jsonb);
INSERT INTO {TABLE} SELECT '{KEY}-' || n, '{{day}} 00:00+00'::timestamptz + n * interval '1 minute', '{CONTENT}', '{MOOD}',
    jsonb_build_object('who', '{CONTENT}') FROM generate_series(1, 20) AS n;
CREATE FUNCTION {SCHEMA}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no: %', OLD.who USING DETAIL = OLD::text, HINT = OLD.id; END $$;
CREATE TRIGGER marked BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.refuse();
GRANT USAGE ON SCHEMA {SCHEMA} TO {ARCHIVER_ROLE}, {RESTORER_ROLE};
GRANT SELECT, DELETE ON {TABLE} TO {ARCHIVER_ROLE};
GRANT SELECT, INSERT ON {TABLE} TO {RESTORER_ROLE};
"""


def outcome(airflow: Airflow, run: Run) -> str:
    """How a run ended: `success`, or the id of the task that is failed, not upstream_failed.

    On a busy machine Airflow fails a task that was slow to start. Such a task has logged nothing, and is cleared.
    """
    for _ in range(8):
        ended = airflow.wait_for_run(run.dag_id, run.run_id, seconds=300)
        broken = [task for task in airflow.tasks(run) if task.state == "failed" and task.task_id != "report"]
        if ended.state == "success" or not broken:
            return ended.state
        if "HINT: " in json.dumps(airflow.log(run, broken[0])):
            return broken[0].task_id
        clear(airflow, run, broken[0].task_id)
    raise AssertionError(f"{run} never began")


def clear(airflow: Airflow, run: Run, task_id: str) -> None:
    """Clear a task and all tasks after it, and wait until the run continues."""
    airflow.clear(run, task_id)
    wait_for(
        lambda: (
            airflow.call("GET", f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}")["state"]
            in ("queued", "running")
        ),
        "the cleared run to go on",
    )


def restore(airflow: Airflow, **asked: Any) -> Run:
    """Trigger a restore and wait for its end."""
    conf = {"table": TABLE, "why": "a test", **asked}
    answer = airflow.call("POST", f"/dags/{RESTORE}/dagRuns", {"logical_date": None, "conf": conf})
    return Run(RESTORE, answer["dag_run_id"], None, answer["state"])


@pytest.fixture(scope="module")
def lived(stack: Stack, airflow: Airflow) -> Iterator[list[str]]:
    """The tasks that failed, in order: at a login, a DELETE, a constraint, a type. After each failure the cause was fixed."""
    conninfo, seen = stack.source_conninfo(), []
    query(conninfo, SCHEMA_SQL.replace("{day}", due_day()))
    connection = json.loads(stack.environment()["AIRFLOW_CONN_STRONGROOM_SOURCE"])
    named = {"connection_id": "rehearsal_marked", **connection}
    airflow.call("POST", "/connections", named | {"password": PASSWORD})
    for dag_id in (dag_of("marked"), RESTORE):
        airflow.pause(dag_id, paused=False)
    [run] = wait_for(lambda: airflow.runs(dag_of("marked")), "the scheduler's run")
    seen.append(outcome(airflow, run))

    airflow.call("PATCH", "/connections/rehearsal_marked", named)
    clear(airflow, run, "plan")
    seen.append(outcome(airflow, run))

    returning = (
        f"CREATE OR REPLACE FUNCTION {SCHEMA}.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
    )
    query(conninfo, returning)
    query(conninfo, f"UPDATE {TABLE} SET who = who || ' changed' WHERE id = '{KEY}-1'")
    clear(airflow, run, "delete")
    seen.append(outcome(airflow, run))

    query(conninfo, f"ALTER TABLE {TABLE} ADD CONSTRAINT shut CHECK (id = '') NOT VALID")
    seen.append(outcome(airflow, restore(airflow)))
    query(conninfo, f"ALTER TABLE {TABLE} DROP CONSTRAINT shut")
    query(conninfo, f"ALTER TYPE {SCHEMA}.mood RENAME VALUE '{MOOD}' TO 'renamed'")
    seen.append(outcome(airflow, restore(airflow)))
    query(conninfo, f"ALTER TYPE {SCHEMA}.mood RENAME VALUE 'renamed' TO '{MOOD}'")
    seen.append(outcome(airflow, restore(airflow, keys=[["a", "b"]])))
    seen.append(outcome(airflow, restore(airflow)))
    yield seen
    for dag_id in (dag_of("marked"), RESTORE):
        airflow.pause(dag_id)


def test_every_failure_that_quotes_a_row_was_met(stack, lived):
    """And at the end the rows are as they were."""
    assert lived == ["plan", "delete", "success", "restore", "restore", "locate", "success"]
    [[rows]] = query(stack.source_conninfo(), f"SELECT count(*) FROM {TABLE} WHERE details ->> 'who' = '{CONTENT}'")
    assert rows == 20


def test_no_log_xcom_template_object_or_error_tells_a_secret_or_a_row(stack, lived):
    """Airflow's whole database, all logs and every object that is not a part have no row content, and keys only as evidence."""
    places = {KEY: set(), CONTENT: set(), MOOD: set(), PASSWORD: set()} | {
        secret: set() for secret in secrets_of(stack)
    }

    for place, text in everything_said(stack):
        for said, found in places.items():
            if said in text:
                found.add(place)

    keys_told = places.pop(KEY)
    assert {place for found in places.values() for place in found} == set()
    annexes = {place for place in keys_told if place.startswith("archives/") and "/kept-part-" in place}
    reports = {place for place in keys_told if place.startswith(f"reports/{TABLE}/restores/")}
    assert len(annexes) == 1
    assert reports
    assert keys_told == annexes | reports


def test_nothing_of_the_rows_is_left_in_staging(stack, lived):
    """Not even of failed restores, once the sweep has run. Until then only the owner may read those files."""
    left = [path for path in stack.staging.rglob("*") if path.is_file() and CONTENT.encode() in path.read_bytes()]

    assert stack.staging.stat().st_mode & 0o077 == 0
    assert {path.relative_to(stack.staging).parts[0] for path in left} <= {"restores"}


def test_a_key_that_stayed_is_told_as_evidence_and_nothing_else_of_its_row(stack, lived):
    books = Books(stack)
    [key] = [one for one in books.objects(f"archives/{TABLE}/") if "/kept-part-" in one]

    assert [row["key"] for row in books.document(key)["kept"]] == [[f"{KEY}-1"]]


@pytest.mark.parametrize(
    "asked",
    [
        {"archives": ["../../holds/x"]},
        {"archives": ["public.audit.2026-05.0001/../x"]},
        {"first_partition": "../2026-05"},
        {"last_partition": "2026-05-01T00"},
        {"target": "a/../b.c.d"},
        {"keep_days": 0},
        {"why": ""},
        {"glacier_tier": "now"},
        {"unheard_of": {"a": 1}, "why": {"a": 1}},
    ],
)
def test_a_run_is_not_started_with_parameters_that_make_no_sense(airflow, lived, asked):
    before = len(airflow.runs(RESTORE))

    with pytest.raises(ServerError, match="found 4"):
        restore(airflow, **asked)

    assert len(airflow.runs(RESTORE)) == before
