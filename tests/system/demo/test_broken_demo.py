"""`make demo`, interrupted and run again, and with a run that fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from strongroom_local.demo.later import RESTORED_TABLE
from strongroom_local.servers.airflow import call_api
from strongroom_local.servers.stack import Stack
from tests.system.demo.looking import count_rows, keys_left
from tests.system.demonstration import Demonstration, run_demo, start_demo
from tests.system.helpers import Books
from tests.system.sample_rows import ROWS_A_MONTH, keys_archived

pytestmark = (
    pytest.mark.exhaustive
)  # tests/system/e2e stops the stack and starts it again; tests/system/faults kills each step

ALERTS = "archive__acm_alerts"


@pytest.fixture(scope="module")
def demo_stack(session_folder: Path) -> Iterator[Stack]:
    """A stack in a folder that only these demos use."""
    stack = Stack(session_folder / "broken" / "stack")
    try:
        yield stack
    finally:
        stack.destroy()


@pytest.fixture(scope="module")
def interrupted(demo_stack: Stack) -> tuple[int, str, bool]:
    """A demo that got Ctrl-C while Airflow was archiving: its exit status, its output, and whether a process was left."""
    with start_demo(demo_stack) as demo:
        output = ""
        for line in demo.stdout:
            output += line
            if "call_detail_records" in line and "begins" in line:
                break
        time.sleep(4)
        demo.send_signal(signal.SIGINT)
        output += demo.stdout.read()
    alive = any(part.pid for part in demo_stack.status())
    return demo.returncode, output, alive


@pytest.fixture(scope="module")
def finished(demo_stack: Stack, interrupted: tuple[int, str, bool]) -> Demonstration:
    """The demo after the interrupted one. Its stack is kept."""
    return run_demo(demo_stack, "--keep")


@pytest.fixture(scope="module")
def failed(demo_stack: Stack, finished) -> tuple[int, str, int]:
    """A demo with a table that must not be archived: exit status, output, and the table's rows before."""
    with psycopg.connect(demo_stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("CREATE FUNCTION public.watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
        connection.execute(
            "CREATE TRIGGER watched BEFORE DELETE ON public.audit_events FOR EACH ROW EXECUTE FUNCTION public.watch()"
        )
    rows = count_rows(demo_stack, "audit_events")
    with start_demo(demo_stack) as demo:
        output, _ = demo.communicate(timeout=1800)
    return demo.returncode, output, rows


def test_ctrl_c_stops_everything_and_says_so(interrupted):
    """No process is left, and the last lines say what is safe."""
    status, output, alive = interrupted

    assert status == 130
    assert "interrupted: no row was deleted that is not in a proved archive" in output
    assert not alive


def test_the_next_demo_finds_all_that_the_interrupted_one_left(demo_stack, interrupted, finished):
    """Rows and secrets are kept while the stack is down."""
    login = "user {}, password {}".format(*demo_stack.login)

    assert login in interrupted[1]
    assert login in finished.output
    assert " rows in five tables, 0 of them new" in finished.output


def test_a_run_that_fails_ends_the_demo_with_the_words_of_its_task(demo_stack, finished, failed):
    """Exit status 1, and the task's own error with its hint. That table has lost no row, and the stack stays up."""
    status, output, rows_before = failed

    assert status == 1, output
    assert "archive__audit_events" in output
    assert "failed in plan" in output
    assert "watched" in output
    assert "HINT" in output
    assert count_rows(demo_stack, "audit_events") == rows_before
    assert demo_stack.running


def test_the_next_demo_finishes_what_failed_and_repeats_nothing(demo_stack, finished, failed):
    """With the cause removed it archives the two months before the first ones, and leaves the stack running as it was."""
    first = finished.result
    with psycopg.connect(demo_stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("DROP FUNCTION public.watch() CASCADE")
    wait_for_the_other_runs(demo_stack)
    before = set(Books(demo_stack).objects("archives/"))

    again = run_demo(demo_stack)
    output, second = again.output, again.result

    assert f"archived before: {', '.join(first['months'])}" in output
    assert second["proved"]
    assert len(second["months"]) == 2
    assert max(second["months"]) < min(first["months"])
    assert {line["outcome"] for line in second["archives"]} == {"archived"}
    assert demo_stack.running
    assert second["restore"]["month"] == second["months"][-1]
    assert count_rows(demo_stack, RESTORED_TABLE, first["restore"]["month"]) == ROWS_A_MONTH[RESTORED_TABLE]
    new = set(Books(demo_stack).objects("archives/")) - before
    assert {key.split("/")[1] for key in new} == {"public.audit_events", "public.acm_alerts"}
    for table, made in ROWS_A_MONTH.items():
        for month in second["months"]:
            left, archived = keys_left(demo_stack, second, table, month), keys_archived(demo_stack, table, month)
            assert (len(left) + len(archived), left & set(archived)) == (made, set()), (table, month)


def wait_for_the_other_runs(stack: Stack) -> None:
    """Wait until only the alerts are unfinished. They stay paused until a demo archives the cases first."""
    token, deadline = stack.token(), time.monotonic() + 1800
    query = "/api/v2/dags/~/dagRuns?state=running&state=queued&limit=50"
    while {run["dag_id"] for run in call_api(stack.api_url, "GET", query, token=token)["dag_runs"]} - {ALERTS}:
        assert time.monotonic() < deadline, "the runs of the failed demo did not end"
        time.sleep(2)
