"""The five sample tables, archived by the scheduler and by backfill, then checked without Strongroom."""

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

from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom_local.demo import sample
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import SOURCE_DATABASE
from tests.system.e2e.helpers import (
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
from tests.system.e2e.rehearsals import create_table, dag_of, table_of

TOKEN = "marked-7f3a9c-row-content"
"""This is in a text column of every due row. It may be found in rows and parts, and nowhere else."""

DATED = {
    "acm_alerts": ("detected_at", ("alert_id",), "remark"),
    "audit_events": ("created_at", ("event_id",), "message"),
    "call_detail_records": ("call_start_time", ("id",), "remark"),
    "fraud_investigations": ("created_at", ("investigation_id",), "findings"),
    "gateway_blacklist_history": ("created_at", ("gateway_ip", "change_number"), "reason"),
}
"""For each sample table: the column that dates a row, the primary key, and a text column."""

MORE_TABLES = ("call_detail_records", "fraud_investigations", "gateway_blacklist_history")
"""Only `make test-faults` checks these here. tests/system/demo counts the rows of all five; the same DAG file archives them."""

each_table = pytest.mark.parametrize(
    "table", [pytest.param(table, marks=pytest.mark.exhaustive) if table in MORE_TABLES else table for table in DATED]
)


def due_month() -> Partition:
    """The month whose run the scheduler starts when a DAG is unpaused."""
    now = datetime.now(timezone.utc)
    tick = now.replace(day=1, hour=2, minute=0, second=0, microsecond=0)
    if tick > now:
        tick = (tick - timedelta(days=3)).replace(day=1)
    due = newest_due(Frequency.MONTHLY, Term.parse("P90D"), tick)
    assert due is not None
    return due


def hot_month() -> Partition:
    """The month that ended last. It stays in hot retention for at least two more months."""
    return Partition.containing(Frequency.MONTHLY, datetime.now(timezone.utc)).previous()


def keys_in(conninfo: str, table: str, where: str = "true") -> set[tuple[str, ...]]:
    """Primary keys of a table's rows, as JSON writes them."""
    columns = ", ".join(f"to_jsonb({column}) #>> '{{}}'" for column in DATED[table][1])
    return set(query(conninfo, f"SELECT {columns} FROM {table} WHERE {where}"))  # type: ignore[arg-type]


def keys_archived(stack: Stack, table: str, key: str = "") -> list[tuple[str, ...]]:
    """Primary keys of the rows in a table's archives. A key that appears twice is a row archived twice."""
    names = DATED[table][1]
    return [tuple(str(row[name]) for name in names) for row in Books(stack).archived_rows(f"public.{table}", key)]


def backfill(stack: Stack, table: str, first: Partition, last: Partition) -> subprocess.CompletedProcess[str]:
    """Backfill months exactly as operators type it."""
    start, end = first.window.start, last.window.end - timedelta(days=1)
    return run_airflow(
        stack, "dags", "backfill", "-s", f"{start:%Y-%m-%d}", "-e", f"{end:%Y-%m-%d}", f"archive__{table}"
    )


@dataclass(frozen=True)
class Archived:
    """The keys before archiving, and the runs that archived two months of each table."""

    before: dict[str, set[tuple[str, ...]]]
    due: dict[str, set[tuple[str, ...]]]
    referred: set[tuple[str, ...]]
    scheduled: dict[str, Run]
    backfilled: dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def archived(request: pytest.FixtureRequest, stack: Stack, airflow: Airflow) -> Iterator[Archived]:
    """Both months of the tables that the selected tests need, archived: the newer by the scheduler, the older by a backfill of both."""
    selected = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    tables = [table for table in DATED if table not in MORE_TABLES or table in selected]
    newer = due_month()
    older = newer.previous()
    conninfo = stack.source_conninfo()
    sample.load(conninfo, call_records_per_month=1500, months=7, now=datetime.now(timezone.utc))
    before, due = {}, {}
    for table, (date_column, _, text_column) in DATED.items():
        window = f"{date_column} >= '{older.window.start}' AND {date_column} < '{newer.window.end}'"
        query(conninfo, f"UPDATE {table} SET {text_column} = concat({text_column}, ' {TOKEN}') WHERE {window}")
        before[table], due[table] = keys_in(conninfo, table), keys_in(conninfo, table, window)
    referred = set(query(conninfo, "SELECT DISTINCT alert_id::text FROM fraud_investigations"))
    for table in tables:
        airflow.pause(f"archive__{table}", paused=False)
    scheduled = {table: the_run(airflow, table, newer) for table in tables}
    scheduled = {table: airflow.wait_for_run(run.dag_id, run.run_id) for table, run in scheduled.items()}
    with ThreadPoolExecutor(2) as pool:
        backfilled = dict(
            zip(tables, pool.map(lambda table: backfill(stack, table, older, newer), tables), strict=True)
        )
    yield Archived(before, due, referred, scheduled, backfilled)
    for table in tables:
        airflow.pause(f"archive__{table}")


def the_run(airflow: Airflow, table: str, partition: Partition) -> Run:
    """The run of a partition, once the scheduler has created it."""

    def find() -> Run | None:
        return next((run for run in airflow.runs(f"archive__{table}") if run.partition_key == partition.key), None)

    run: Run = wait_for(find, f"a run of {table} {partition.key}")
    return run


# --------------------------------------------------------------------------------------------------------------- books


@each_table
def test_each_row_is_in_the_table_or_in_one_archive(stack, archived, table):
    """By key, the rows before equal the rows left plus the rows archived. None is in both, duplicated or lost."""
    left = keys_in(stack.source_conninfo(), table)
    moved = keys_archived(stack, table)

    assert archived.scheduled[table].state == "success"
    assert archived.backfilled[table].returncode == 0, archived.backfilled[table].stderr
    assert max(Counter(moved).values()) == 1
    assert left.isdisjoint(moved)
    assert left | set(moved) == archived.before[table]


@each_table
def test_only_due_rows_were_moved_and_what_stayed_of_them_is_referred_to(stack, archived, table):
    """Alerts that an investigation refers to may stay. In the other tables every due row is gone."""
    still_due = archived.due[table] - set(keys_archived(stack, table))

    assert set(keys_archived(stack, table)) <= archived.due[table]
    assert still_due <= archived.referred if table == "acm_alerts" else not still_due


@each_table
def test_every_manifest_states_what_its_parts_hold(stack, archived, table):
    """Counts, checksums and sizes in each manifest match its objects, and so does the checksum file."""
    books = Books(stack)

    manifests = books.manifests(f"public.{table}")

    assert {manifest["partition_key"] for manifest in manifests} == {due_month().key, due_month().previous().key}
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


FOLLOWED = ("rows", "original_sha256", "keys_sha256", "sha256", "object_key", "version_id")
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
    run = archived.scheduled["audit_events"]

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
    assert SOURCE_DATABASE in dict(everything_said(stack))["metadata/source.json"]
