"""The five sample tables, archived by the demo and by backfills, then checked without Strongroom."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.archive.report import RunReport
from strongroom.calendar import Frequency, Partition
from strongroom_local.demo.later import RESTORED_TABLE
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.s3 import TASK_LOG_BUCKET
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import SOURCE_DATABASE
from tests.system.demonstration import Demonstration
from tests.system.helpers import (
    STEPS,
    Airflow,
    Books,
    Run,
    everything_said,
    query,
    run_airflow,
    secrets_of,
    wait_for,
)
from tests.system.rehearsals import create_table, dag_of, table_of
from tests.system.sample_rows import DATED, TOKEN, due_month, keys_archived, keys_in, months_archived

BACKFILLED = ("acm_alerts", "audit_events")
"""The tables of which one more month is archived, by the command that operators type."""

BUTTON = "Open in Strongroom"

each_table = pytest.mark.parametrize("table", DATED)


def archived_months(table: str) -> list[Partition]:
    """The months of a table that the demo and the backfills archive."""
    return months_archived() if table in BACKFILLED else months_archived()[:2]


def hot_month() -> Partition:
    """The month that ended last. It stays in hot retention for at least two more months."""
    return Partition.containing(Frequency.MONTHLY, datetime.now(timezone.utc)).previous()


def backfill(stack: Stack, table: str, first: Partition, last: Partition) -> subprocess.CompletedProcess[str]:
    """Backfill months exactly as operators type it."""
    start, end = first.window.start, last.window.end - timedelta(days=1)
    return run_airflow(
        stack, "dags", "backfill", "-s", f"{start:%Y-%m-%d}", "-e", f"{end:%Y-%m-%d}", f"archive__{table}"
    )


@dataclass(frozen=True)
class Archived:
    """The runs of the demo, which archived two months of each table, and backfills that archived one more of some tables."""

    runs: dict[str, Run]
    backfilled: dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def archived(stack: Stack, airflow: Airflow, demonstration: Demonstration) -> Iterator[Archived]:
    """The months of :func:`months_archived`. The backfills also name one month that the demo has archived."""
    newest, middle, oldest = months_archived()
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda table: backfill(stack, table, oldest, middle), BACKFILLED)
        backfilled = dict(zip(BACKFILLED, done, strict=True))
    yield Archived({table: the_run(airflow, table, newest) for table in DATED}, backfilled)
    for table in DATED:
        airflow.pause(f"archive__{table}")


def the_run(airflow: Airflow, table: str, partition: Partition) -> Run:
    """The run of a partition, once the scheduler has created it."""

    def find() -> Run | None:
        return next((run for run in airflow.runs(f"archive__{table}") if run.partition_key == partition.key), None)

    run: Run = wait_for(find, f"a run of {table} {partition.key}")
    return run


# --------------------------------------------------------------------------------------------------------------- books


@each_table
def test_each_row_is_in_the_table_or_in_one_archive(stack, archived, sample, table):
    """By key, the rows before equal the rows left plus the rows archived. None is duplicated or lost, or in both but by a restore."""
    left = keys_in(stack.source_conninfo(), table)
    moved = keys_archived(stack, table)
    restored = set(keys_archived(stack, table, due_month().key)) if table == RESTORED_TABLE else set()

    assert archived.runs[table].state == "success"
    assert max(Counter(moved).values()) == 1
    assert left & set(moved) == restored
    assert left | set(moved) == sample.before[table]


@each_table
def test_each_run_has_its_outcome_as_its_note_and_its_tasks_have_buttons(airflow, archived, table):
    run = archived.runs[table]
    report = RunReport.model_validate(airflow.result(run, "report"))

    assert airflow.note(run) == report.headline()
    archive = f"plugin/archive/strongroom/object?id={report.archive_id}"
    partition = f"plugin/archive/strongroom/partition?table=public.{table}&key={run.partition_key}"
    assert {task_id: airflow.links(run, task_id) for task_id in ("plan", "seal", "report")} == {
        "plan": {BUTTON: partition},
        "seal": {BUTTON: archive},
        "report": {BUTTON: archive},
    }
    assert airflow.links(run, "part.verify", map_index=0) == {BUTTON: partition}
    assert airflow.links(run, "delete", map_index=0) == {BUTTON: archive}


def test_backfills_run_only_the_month_that_has_no_run_yet_and_say_so(archived):
    for table, result in archived.backfilled.items():
        assert result.returncode == 0, result.stderr
        assert f"All 1 run of archive__{table} succeeded." in result.stdout


@each_table
def test_only_due_rows_were_moved_and_what_stayed_of_them_is_referred_to(stack, archived, sample, table):
    """Alerts that an investigation refers to may stay. Of the other tables, every due row of the archived months is gone."""
    moved = set(keys_archived(stack, table))
    due = set().union(*(sample.due[table][month.key] for month in archived_months(table)))

    assert moved <= due
    assert due - moved <= sample.referred if table == "acm_alerts" else due == moved


@each_table
def test_every_manifest_states_what_its_parts_hold(stack, archived, table):
    """Counts, checksums and sizes in each manifest match its objects, and so does the checksum file."""
    books = Books(stack)

    manifests = books.manifests(f"public.{table}")

    assert {manifest["partition_key"] for manifest in manifests} == {month.key for month in archived_months(table)}
    for manifest in manifests:
        rows = keys_archived(stack, table, manifest["partition_key"])
        assert manifest["record_count"] == sum(part["record_count"] for part in manifest["parts"]) == len(rows)
        assert manifest["compressed_size"] == sum(len(books.read(part["object_key"])) for part in manifest["parts"])


def test_a_second_backfill_of_the_same_months_changes_nothing_and_says_so(stack, archived):
    newer = due_month()
    before = Books(stack).objects(), keys_in(stack.source_conninfo(), "audit_events")

    result = backfill(stack, "audit_events", newer.previous(), newer)

    assert result.returncode == 0, result.stderr
    assert "Nothing changed: 2" in result.stdout
    assert (Books(stack).objects(), keys_in(stack.source_conninfo(), "audit_events")) == before


def test_a_second_run_of_a_month_finds_nothing_due_and_says_so(stack, airflow, archived):
    before = Books(stack).objects()

    run = airflow.trigger("archive__audit_events", due_month().key)
    run = airflow.wait_for_run(run.dag_id, run.run_id)

    report = airflow.result(run, "report")
    assert run.state == "success"
    assert (report["outcome"], report["archived_rows"], report["deleted_rows"]) == ("nothing_due", 0, 0)
    assert report["earlier_archives"] == [f"public.audit_events.{due_month().key}.0001"]
    assert Books(stack).objects() == before


# ----------------------------------------------------------------------------------------------------------- refusals


def falls_due() -> str:
    return f"{hot_month().window.end + timedelta(days=90):%Y-%m-%d}"


def test_a_trigger_of_a_hot_month_is_refused_with_the_day_it_falls_due(airflow, archived):
    with pytest.raises(ServerError, match=f"400.*inside hot retention until {falls_due()}"):
        airflow.trigger("archive__audit_events", hot_month().key)


def test_a_backfill_command_for_a_hot_month_is_refused_with_the_day_it_falls_due(stack, archived):
    result = backfill(stack, "audit_events", hot_month(), hot_month())

    assert result.returncode == 1
    assert f"inside hot retention until {falls_due()}" in " ".join(result.stdout.split())
    assert "HINT: Nothing was created" in result.stderr


def test_airflows_own_backfill_creates_no_run_of_a_hot_month(stack, airflow, archived):
    """Neither `airflow backfill create` nor the endpoint behind the UI's dialog does."""
    window = hot_month().window
    first, last = f"{window.start:%Y-%m-%d}", f"{window.end - timedelta(days=1):%Y-%m-%d}"
    before = airflow.runs("archive__audit_events")

    result = run_airflow(
        stack, "backfill", "create", "--dag-id", "archive__audit_events", "--from-date", first, "--to-date", last
    )
    body = {"dag_id": "archive__audit_events", "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}
    with pytest.raises(ServerError, match="422"):
        airflow.call("POST", "/backfills", body)

    assert result.returncode == 1
    assert airflow.runs("archive__audit_events") == before


def test_a_run_without_a_key_is_refused_with_what_to_do(airflow, archived):
    with pytest.raises(ServerError, match=r"400.*the run has no partition key.*HINT: No row was read or deleted"):
        airflow.trigger("archive__audit_events", None)


@pytest.mark.exhaustive
def test_two_runs_of_one_partition_at_once_archive_each_row_once(stack, airflow):
    """A backfill and a trigger of the same day: one does the work. The other is told which run does, or finds nothing due."""
    dag_id, table = dag_of("twice"), table_of("twice")
    newest = datetime.now(timezone.utc) - timedelta(hours=2) - timedelta(days=91)
    day = f"{newest - timedelta(days=3):%Y-%m-%d}"
    query(stack.source_conninfo(), create_table("twice", day))
    airflow.pause(dag_id, paused=False)
    [first] = wait_for(lambda: airflow.runs(dag_id), "the scheduler's run")
    airflow.wait_for_run(dag_id, first.run_id)

    dates = {"from_date": f"{day}T00:00:00Z", "to_date": f"{day}T00:00:00Z"}
    airflow.call("POST", "/backfills", {"dag_id": dag_id, **dates})
    airflow.trigger(dag_id, day)
    runs = [airflow.wait_for_run(run.dag_id, run.run_id) for run in airflow.runs(dag_id) if run.partition_key == day]
    airflow.pause(dag_id)

    outcomes = sorted(outcome_of(airflow, run) for run in runs)
    assert outcomes in (["archived", "contended"], ["archived", "nothing_due"])
    assert sorted(row["id"] for row in Books(stack).archived_rows(table)) == [*range(1, 1441)]
    assert len(Books(stack).manifests(table)) == 1
    assert query(stack.source_conninfo(), f"SELECT count(*) FROM {table}") == [(120,)]


def outcome_of(airflow: Airflow, run: Run) -> str:
    """The outcome of a run: from its report, or from the error that ended it."""
    if run.state == "success":
        return str(airflow.result(run, "report")["outcome"])
    [failed] = [task for task in airflow.tasks(run) if task.state == "failed"]
    return "contended" if "contended: claims/" in json.dumps(airflow.log(run, failed)) else "failed"


# ---------------------------------------------------------------------------------------------------------------- logs


FOLLOWED = ("rows", "original_sha256", "blocks_sha256", "sha256", "object_key", "version_id")
"""The fields that identify the rows and bytes of a part from step to step."""


def facts_of(airflow: Airflow, run: Run) -> dict[str, list[dict[str, Any]]]:
    """The evidence lines of each task of a run, by task."""
    found: dict[str, list[dict[str, Any]]] = {step: [] for step in STEPS}
    for task in airflow.tasks(run):
        log = airflow.log(run, task)
        [begin] = [position for position, line in enumerate(log) if "seconds" in line]
        found[task.task_id].append({name: value for line in log[begin:] for name, value in line.items()})
        assert "credentials retrieved" not in json.dumps(log), task
    return found


def test_the_task_logs_alone_let_an_auditor_follow_the_rows(stack, airflow, archived):
    """From plan to report each step logs archive, part, rows and checksums, and they match those of the previous step."""
    run = archived.runs["audit_events"]

    facts = facts_of(airflow, run)

    [manifest] = Books(stack).manifests("public.audit_events", due_month().key)
    [plan], [seal], [report] = facts["plan"], facts["seal"], facts["report"]
    assert (plan["table"], plan["partition_key"]) == ("public.audit_events", due_month().key)
    assert plan["due_rows"] == seal["rows"] == report["archived_rows"] == report["deleted_rows"]
    assert plan["parts"] == seal["parts"] == len(facts["delete"])
    assert {line["archive_id"] for lines in facts.values() for line in lines} == {plan["archive_id"]}
    steps = [step for step in STEPS if step.startswith("part.")] + ["delete"]
    for number in range(plan["parts"]):
        known: dict[str, Any] = {}
        for step in steps:
            [line] = [line for line in facts[step] if line["part"] == number]
            said = {name: line[name] for name in FOLLOWED if name in line}
            assert said == {name: known.get(name, value) for name, value in said.items()}, step
            known |= said
        assert set(known) == set(FOLLOWED)
        assert line["deleted"] == known["rows"]
        assert known["version_id"] == manifest["parts"][number]["version_id"]


def test_the_log_of_each_ended_task_lies_in_a_bucket_of_its_own(stack, airflow, archived):
    """Airflow's page reads it from there: nothing of it is left on the worker's disk. No archive's bucket has any."""
    run = archived.runs["audit_events"]

    kept = Books(stack, TASK_LOG_BUCKET).objects(f"airflow/dag_id={run.dag_id}/run_id={run.run_id}/")

    tasks = airflow.tasks(run)
    assert {key.split("/task_id=")[1].split("/")[0] for key in kept} == {task.task_id for task in tasks}
    assert all(kept_on_disk.stat().st_size == 0 for key in kept for kept_on_disk in [stack.home / "logs" / key[8:]])
    assert {key.partition("/")[0] for key in Books(stack).objects()}.isdisjoint({"airflow", "logs"})


def test_no_row_content_and_no_secret_is_told_anywhere(stack, archived):
    """Every due row had the token. Passwords and keys are the stack's own."""
    secrets = secrets_of(stack)

    told = {
        (place, "row content" if said == TOKEN else "a secret")
        for place, text in everything_said(stack)
        for said in (TOKEN, *secrets)
        if said in text
    }

    assert told == set()
    said = dict(everything_said(stack))
    assert SOURCE_DATABASE in said["metadata/source.json"]
    assert any("sealed" in text.lower() for place, text in said.items() if place.startswith(TASK_LOG_BUCKET))
