"""`airflow dags backfill` as it was typed in Airflow 2, on a real metadata database and, at the end, a real scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import psycopg
import pytest

from strongroom.calendar import Frequency, Partition, Term, newest_due

DAG_FILE = """
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from strongroom_airflow.timetable import RetentionPartitionTimetable

START = datetime(2020, 1, 1, tzinfo=timezone.utc)


def archive(dag_id, **settings):
    schedule = RetentionPartitionTimetable("0 2 1 * *", frequency="monthly", hot_retention="P90D")
    with DAG(dag_id, schedule=schedule, start_date=START, catchup=False, max_active_runs=1, **settings):
        EmptyOperator(task_id="plan")


archive("archive__sample")
archive("archive__late", dagrun_timeout=timedelta(microseconds=1))
with DAG("plain__daily", schedule="@daily", start_date=START, catchup=False):
    EmptyOperator(task_id="work")
with DAG("plain__by_hand", schedule=None):
    EmptyOperator(task_id="work")
"""
HOT = Term.parse("P90D")
OUTCOME = "SELECT partition_key, state FROM dag_run WHERE dag_id = %s ORDER BY id"
TODAY = datetime.now(timezone.utc)

Airflow = Callable[..., subprocess.CompletedProcess[str]]


def months(first: int, last: int) -> list[str]:
    """Keys of the months from `first` to `last`, counted from the newest one that is due (0), both included."""
    newest = newest_due(Frequency.MONTHLY, HOT, TODAY).window.start
    count = newest.year * 12 + newest.month - 1
    return [f"{(count + step) // 12:04d}-{(count + step) % 12 + 1:02d}" for step in range(first, last + 1)]


def due_on(key: str) -> str:
    return f"{HOT.after(Partition.parse(Frequency.MONTHLY, key).window.end):%Y-%m-%d} 00:00 UTC"


class Metadata:
    """What the tests look at, and how they set the scene, in Airflow's metadata database."""

    def __init__(self, conninfo: str) -> None:
        # A session that another test left open must fail this one, and not keep it waiting for ever.
        self.connection = psycopg.connect(conninfo, autocommit=True, options="-c lock_timeout=60s")

    def rows(self, query: str, *values: object) -> list[tuple]:
        return self.connection.execute(query, values).fetchall()

    def runs(self, dag_id: str = "archive__sample") -> list[tuple[str, str]]:
        return self.rows(OUTCOME, dag_id)

    def end_all_runs(self, state: str) -> None:
        self.connection.execute("UPDATE dag_run SET state = %s", [state])

    def start_anew(self) -> None:
        """Without runs, all DAGs unpaused, and with nothing that a scheduler would start by itself."""
        self.connection.execute("TRUNCATE dag_run, backfill, backfill_dag_run CASCADE")
        self.connection.execute("UPDATE dag SET is_paused = false, next_dagrun_create_after = now() + interval '1 day'")

    def close_all_backfills(self) -> None:
        self.connection.execute("UPDATE backfill SET completed_at = now() WHERE completed_at IS NULL")

    def pause(self, dag_id: str, paused: bool) -> None:
        self.connection.execute("UPDATE dag SET is_paused = %s WHERE dag_id = %s", [paused, dag_id])


@pytest.fixture(scope="module")
def deployed(metadata: str, dags_folder: Path, airflow: Airflow) -> str:
    """The metadata database with the DAGs of this module parsed into it."""
    (dags_folder / "backfilled.py").write_text(DAG_FILE)
    parsed = airflow("dags", "reserialize")
    assert parsed.returncode == 0, parsed.stderr
    return metadata


@pytest.fixture
def db(deployed: str) -> Iterator[Metadata]:
    """The metadata database without runs, its DAGs unpaused, and nothing that a scheduler would start by itself."""
    metadata = Metadata(deployed)
    metadata.start_anew()
    yield metadata
    metadata.connection.close()


@pytest.fixture
def cli(db: Metadata, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command through Airflow's own parser in this process; gives the exit code and everything printed."""
    from airflow.cli.cli_parser import get_parser

    def run(*arguments: str) -> tuple[int, str]:
        code: int | str | None = 0
        try:
            args = get_parser().parse_args(arguments)
            args.func(args)
        except SystemExit as left:
            code = left.code
        printed = capsys.readouterr()
        if isinstance(code, str):
            return 1, printed.out + printed.err + code
        return code or 0, printed.out + printed.err

    return run


def backfill_of(first: str, last: str, *options: str, dag_id: str = "archive__sample") -> tuple[str, ...]:
    """The command as operators have typed it since Airflow 2."""
    return ("dags", "backfill", "-s", f"{first}-01", "-e", f"{last}-01", *options, dag_id)


class TestCreating:
    def test_months_that_are_due_get_a_run_and_the_others_their_day(self, cli, db):
        [first, *_, hot, open_soon] = months(-3, 2)

        code, said = cli(*backfill_of(first, open_soon, "--no-wait"))

        assert code == 0
        assert db.runs() == [(key, "queued") for key in months(-3, 0)]
        ids = [run_id for (run_id,) in db.rows("SELECT run_id FROM dag_run ORDER BY id")]
        assert [run_id.split("__")[:2] for run_id in ids] == [[key, "backfill"] for key in months(-3, 0)]
        assert f"inside hot retention until {due_on(hot)}" in said
        assert f"inside hot retention until {due_on(open_soon)}" in said
        assert "4 to run, 2 inside hot retention." in said
        assert said.rstrip().splitlines()[-1].startswith("Created 4 runs in backfill")

    def test_a_second_one_changes_nothing_and_says_so(self, cli, db):
        command = backfill_of(*months(-2, 0)[::2], "--no-wait")
        cli(*command)
        db.end_all_runs("success")
        before = db.rows("SELECT * FROM dag_run ORDER BY id"), db.rows("SELECT * FROM backfill ORDER BY id")

        code, said = cli(*command)

        assert code == 0
        assert said.count("already ran (success)") == 3
        assert said.rstrip().endswith("Nothing changed: 3 already there.")
        assert before == (db.rows("SELECT * FROM dag_run ORDER BY id"), db.rows("SELECT * FROM backfill ORDER BY id"))

    def test_a_month_that_is_still_running_is_left_alone(self, cli, db):
        [month] = months(0, 0)
        cli(*backfill_of(month, month, "--no-wait"))

        code, said = cli(*backfill_of(month, month, "--reset-dagruns"))

        assert (code, len(db.runs())) == (0, 1)
        assert "already has a run (queued)" in said

    def test_nothing_but_hot_months_is_an_error_that_names_their_day(self, cli, db):
        [hot] = months(1, 1)

        code, said = cli(*backfill_of(hot, hot))

        assert (code, db.runs(), db.rows("SELECT 1 FROM backfill")) == (1, [], [])
        assert "may be archived yet: 1 inside hot retention" in said
        assert due_on(hot) in said
        assert "HINT: Nothing was created" in said

    def test_a_dry_run_creates_nothing(self, cli, db):
        code, said = cli(*backfill_of(*months(-1, 0), "--dry-run"))

        assert (code, db.runs()) == (0, [])
        assert "Dry run: nothing was created, 2 runs would be." in said

    def test_backwards_begins_with_the_newest_month(self, cli, db):
        code, _ = cli(*backfill_of(*months(-2, 0)[::2], "-B", "--no-wait"))

        assert code == 0
        assert [key for key, _ in db.runs()] == months(-2, 0)[::-1]

    def test_failed_months_run_again_only_when_asked(self, cli, db):
        older, newer = months(-1, 0)
        cli(*backfill_of(older, newer, "--no-wait"))
        db.end_all_runs("success")
        db.connection.execute("UPDATE dag_run SET state = 'failed' WHERE partition_key = %s", [older])
        db.close_all_backfills()

        unasked = cli(*backfill_of(older, newer))
        asked = cli(*backfill_of(older, newer, "--rerun-failed-tasks", "--no-wait"))

        assert "already ran (failed)" in unasked[1]
        assert "Nothing changed" in unasked[1]
        assert "1 to run, 1 already there." in asked[1]
        assert db.runs() == [(older, "failed"), (newer, "success"), (older, "queued")]

    def test_runs_take_the_limit_of_the_dag_and_the_conf_of_the_command(self, cli, db):
        [month] = months(0, 0)

        cli(*backfill_of(month, month, "--no-wait", "--conf", '{"reason": "audit"}'))

        assert db.rows("SELECT max_active_runs, dag_run_conf FROM backfill") == [(1, {"reason": "audit"})]

    def test_the_scheduler_goes_on_behind_a_backfill_that_ran_ahead(self, cli, db):
        [newest] = months(0, 0)
        db.connection.execute(
            "UPDATE dag SET next_dagrun_partition_key = %s WHERE dag_id = 'archive__sample'", [newest]
        )

        cli(*backfill_of(newest, newest, "--no-wait"))

        query = "SELECT next_dagrun_partition_key, next_dagrun_create_after > now() FROM dag WHERE dag_id = 'archive__sample'"
        assert db.rows(query) == [(months(1, 1)[0], True)]

    def test_any_other_dag_can_be_backfilled_too(self, cli, db):
        command = ("dags", "backfill", "-s", "2025-01-01", "-e", "2025-01-03", "--no-wait", "plain__daily")

        code, said = cli(*command)
        db.end_all_runs("success")
        again = cli(*command)

        assert (code, again[0]) == (0, 0)
        assert "3 to run." in said
        assert again[1].rstrip().endswith("Nothing changed: 3 already there.")
        assert db.rows("SELECT logical_date::date::text FROM dag_run ORDER BY id") == [
            ("2025-01-01",),
            ("2025-01-02",),
            ("2025-01-03",),
        ]


class TestRefusing:
    def test_a_second_open_backfill(self, cli, db):
        older, newer = months(-1, 0)
        cli(*backfill_of(older, older, "--no-wait"))

        code, said = cli(*backfill_of(newer, newer, "--no-wait"))

        assert (code, db.runs()) == (1, [(older, "queued")])
        assert "is still open, and Airflow runs one at a time for each DAG" in said
        assert "HINT: Nothing was created; wait for it" in said

    def test_a_paused_dag_unless_nobody_waits_for_it(self, cli, db):
        [month] = months(0, 0)
        db.pause("archive__sample", True)

        waiting = cli(*backfill_of(month, month))
        runs_after_waiting = db.runs()
        queued = cli(*backfill_of(month, month, "--no-wait"))

        assert (waiting[0], runs_after_waiting) == (1, [])
        assert "archive__sample is paused" in waiting[1]
        assert "airflow dags unpause archive__sample" in waiting[1]
        assert (queued[0], db.runs()) == (0, [(month, "queued")])

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("archive__sample",), 1, "needs a start date, an end date, or both"),
            (("-s", "2025-01-01", "nowhere"), 1, "Airflow knows no DAG named nowhere"),
            (("-s", "2025-02-01", "-e", "2025-01-01", "archive__sample"), 1, "must not be after"),
            (("-s", "2025-01-02", "-e", "2025-01-31", "archive__sample"), 1, "no run of archive__sample falls between"),
            (("-s", "2025-01-01", "plain__by_hand"), 1, "non-periodic schedule"),
            (("-s", "2025-01-01", "-c", "[1]", "archive__sample"), 1, "--conf is not a JSON object"),
            (("-s", "2025-01-01", "-t", "plan", "archive__sample"), 2, "a run always has all its tasks"),
            (("-s", "2025-01-01", "--mark-success", "archive__sample"), 2, "Airflow 3 has no --mark-success"),
            (("-s", "2025-01-01", "-x", "archive__sample"), 2, "never pickled any more; leave it out"),
        ],
    )
    def test_what_cannot_be_done_is_said_with_a_hint(self, cli, db, arguments, code, words):
        left_with, said = cli("dags", "backfill", *arguments)

        assert left_with == code
        assert words in said
        assert "HINT: Nothing was created" in said
        assert db.rows("SELECT 1 FROM dag_run") == []


class TestAirflowsOwnCommands:
    def test_backfill_create_honours_hot_retention_as_well(self, cli, db):
        first, *_, hot = months(-1, 1)
        command = ("backfill", "create", "--dag-id", "archive__sample", "--from-date", f"{first}-01")

        code, _ = cli(*command, "--to-date", f"{hot}-28")

        assert code == 0
        assert [key for key, _ in db.runs()] == months(-1, 0)

    @pytest.mark.parametrize("key", [None, "2025-W01", months(1, 1)[0]])
    def test_a_trigger_cannot_reach_into_hot_retention_nor_go_without_a_key(self, db, key):
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.exceptions import InvalidPartitionKeyError
        from airflow.utils.types import DagRunTriggeredByType

        with pytest.raises(InvalidPartitionKeyError, match="HINT: No row was read or deleted"):
            trigger_dag("archive__sample", triggered_by=DagRunTriggeredByType.REST_API, partition_key=key)

        assert db.runs() == []

    def test_next_execution_shows_the_partitions_in_order(self, cli):
        code, said = cli("dags", "next-execution", "archive__sample", "--num-executions", "3")

        assert code == 0
        shown = said.split()
        assert [Partition.parse(Frequency.MONTHLY, key).next().key for key in shown[:2]] == shown[1:]

    def test_the_groups_stay_as_they_were_with_one_command_more(self, airflow):
        top, dags = airflow("--help"), airflow("dags", "--help")

        assert (top.returncode, dags.returncode) == (0, 0)
        assert "Manage backfills" in top.stdout
        assert dags.stdout.count("Run a DAG for past dates, as in Airflow 2") == 1
        assert all(name in dags.stdout for name in ("list-runs", "next-execution", "trigger", "unpause"))

    def test_the_provider_is_listed_with_its_plugin(self, airflow):
        providers, plugins = airflow("providers", "list"), airflow("plugins", "--output", "json")

        assert "strongroom" in providers.stdout
        assert "strongroom_airflow.timetable.RetentionPartitionTimetable" in plugins.stdout


class TestFollowing:
    @pytest.fixture(scope="class")
    def scheduler(self, deployed: str) -> Iterator[None]:
        """Airflow's scheduler; it ends the tasks of these DAGs itself, since they do nothing."""
        db = Metadata(deployed)
        db.start_anew()
        environment = os.environ | {"AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1"}
        command = [sys.executable, "-m", "airflow", "scheduler"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        try:
            wait_until(lambda: db.rows("SELECT 1 FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"))
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)
            db.connection.close()

    @pytest.mark.usefixtures("scheduler")
    def test_it_waits_for_the_last_run_and_counts_what_became_of_them(self, airflow, db):
        """In a process of its own; afterwards the next backfill need not wait for this one to be closed."""
        succeeded = airflow(*backfill_of(*months(-2, 0)[::2]))
        failed = airflow(*backfill_of(*months(-1, 0), dag_id="archive__late"))
        repeated = airflow(*backfill_of(*months(-2, 0)[::2]))

        assert succeeded.returncode == 0, succeeded.stderr
        assert db.runs() == [(key, "success") for key in months(-2, 0)]
        assert succeeded.stdout.rstrip().endswith("All 3 runs of archive__sample succeeded.")
        assert db.rows("SELECT 1 FROM backfill WHERE completed_at IS NULL") == []
        assert failed.returncode == 1
        assert f"2 of 2 runs of archive__late failed: {', '.join(months(-1, 0))}" in failed.stderr
        assert "--rerun-failed-tasks" in failed.stderr
        assert (repeated.returncode, repeated.stdout.rstrip().splitlines()[-1]) == (
            0,
            "Nothing changed: 3 already there.",
        )

    @pytest.mark.usefixtures("scheduler")
    def test_every_run_that_began_says_its_partition_in_a_note_and_keeps_one_that_somebody_wrote(self, airflow, db):
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.utils.types import DagRunTriggeredByType

        keys = months(-2, 0)
        for key, note in zip(keys[:2], (None, "for the audit"), strict=True):
            by = DagRunTriggeredByType.REST_API
            trigger_dag("archive__sample", triggered_by=by, partition_key=key, note=note)
        backfilled = airflow(*backfill_of(keys[2], keys[2]))
        wait_until(lambda: db.runs() == [(key, "success") for key in keys])

        assert backfilled.returncode == 0, backfilled.stderr
        notes = db.rows("SELECT content FROM dag_run_note JOIN dag_run ON id = dag_run_id ORDER BY id")
        assert [note for (note,) in notes] == [
            f"Archives the partition {keys[0]}.",
            "for the audit",
            f"Archives the partition {keys[2]}.",
        ]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.5)
