"""`make demo` as a newcomer runs it: stopped in the middle, then run again twice. SQL and boto3 check its claims."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard
from psycopg import sql

from strongroom.calendar import Frequency, Partition
from strongroom.settings import load_settings
from strongroom_local.demo import sample
from strongroom_local.demo.later import RESTORED_TABLE
from strongroom_local.demo.proof import look_at
from strongroom_local.servers.airflow import call_api
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET

ROWS = 1000
ALERTS = "archive__acm_alerts"
DATE_COLUMNS = {
    "acm_alerts": "detected_at",
    "audit_events": "created_at",
    "call_detail_records": "call_start_time",
    "gateway_blacklist_history": "created_at",
    "fraud_investigations": "created_at",
}
KEYS = {
    "acm_alerts": ("alert_id",),
    "audit_events": ("event_id",),
    "call_detail_records": ("id",),
    "gateway_blacklist_history": ("gateway_ip", "change_number"),
    "fraud_investigations": ("investigation_id",),
}
ROWS_A_MONTH = {table.name: table.wanted_rows(ROWS) for table in sample.TABLES}


@pytest.fixture(scope="module")
def demo_stack(session_folder: Path) -> Iterator[Stack]:
    """A stack in a folder that only the demo uses."""
    stack = Stack(session_folder / "demo")
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
def finished(demo_stack: Stack, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Output and result of a demo whose stack is kept. It runs after the interrupted one if a selected test needs that."""
    if any("interrupted" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("interrupted")
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


@pytest.mark.exhaustive
def test_ctrl_c_stops_everything_and_says_so(interrupted):
    """No process is left, and the last lines say what is safe."""
    status, output, alive = interrupted

    assert status == 130
    assert "interrupted: no row was deleted that is not in a proved archive" in output
    assert not alive


@pytest.mark.exhaustive
def test_the_next_demo_finds_all_that_the_interrupted_one_left(demo_stack, interrupted, finished):
    """Rows and secrets are kept while the stack is down."""
    login = "user {}, password {}".format(*demo_stack.login)

    assert login in interrupted[1]
    assert login in finished[0]
    assert " rows in five tables, 0 of them new" in finished[0]


def test_output_without_a_terminal_is_plain_lines(finished):
    """No control codes and no redrawn lines. A newcomer reads first what will happen and last what to do."""
    output, _ = finished

    assert "\x1b" not in output
    assert "\r" not in output
    assert output.startswith("Strongroom demo")
    assert "Three things to try" in output
    assert "'make down' stops everything" in output.splitlines()[-1]


def test_every_row_is_in_its_table_or_in_an_archive(demo_stack, finished):
    """For each table and month, the sample's rows are the rows left plus the archived ones. No row is in both."""
    _, result = finished

    assert len(result["months"]) == 2
    for table, made in ROWS_A_MONTH.items():
        for month in result["months"]:
            left, archived = keys_left(demo_stack, result, table, month), keys_in_archives(demo_stack, table, month)
            assert len(archived) == len(set(archived)), (table, month)
            assert not left & set(archived), (table, month)
            assert len(left) + len(archived) == made, (table, month)


def test_the_result_says_what_sql_and_s3_say(demo_stack, finished):
    """demo.json has a line for each table and month. Its rows, objects and checksums match what SQL and S3 show."""
    _, result = finished

    assert result["proved"]
    assert all(check["holds"] for check in result["checks"])
    assert [(line["table"], line["month"]) for line in result["archives"]] == [
        (table, month) for table in ROWS_A_MONTH for month in result["months"]
    ]
    for line in result["archives"]:
        objects = read_archives(demo_stack, line["table"], line["month"])
        assert line["left_rows"] == len(keys_left(demo_stack, result, line["table"], line["month"]))
        assert line["archived_rows"] == len(keys_in_archives(demo_stack, line["table"], line["month"]))
        assert line["objects"] == list(objects)
        assert line["compressed_size_bytes"] == sum(map(len, objects.values()))
        stayed = line["left_because"]
        assert line["left_rows"] == sum(one["rows"] for one in stayed["excluded"]) + stayed["referenced"]


def test_a_month_comes_back_and_only_once(demo_stack, finished):
    """Every row of the sample is in the table again, the second restore inserted none, and the archive still exists."""
    _, result = finished
    table, month, runs = (result["restore"][name] for name in ("table", "month", "runs"))

    archived = keys_in_archives(demo_stack, table, month)

    assert (table, month) == (RESTORED_TABLE, result["months"][-1])
    assert [(run["inserted"], run["unchanged"], run["different"]) for run in runs] == [
        (len(archived), 0, 0),
        (0, len(archived), 0),
    ]
    assert keys_in_table(demo_stack, table, month) >= set(archived)
    assert count_rows(demo_stack, table, month) == ROWS_A_MONTH[table]
    assert "restoring it again changes nothing: 0 rows inserted" in finished[0]


def test_a_look_knows_rows_that_were_restored_and_are_needed(demo_stack, finished):
    """They are in the table and in the archive, and the next demo does not report that as a fault."""
    _, result = finished
    settings = load_settings().table(result["restore"]["table"])
    partition = Partition.parse(Frequency.MONTHLY, result["restore"]["month"])

    with psycopg.connect(demo_stack.source_conninfo(), autocommit=True) as connection:
        look = look_at(connection, demo_stack.object_store.client("archiver"), settings, partition, bucket=BUCKET)

    assert look.needed
    assert look.in_both == look.archived
    assert look.all == look.in_table


def test_the_statistics_tell_what_lies_in_the_store(demo_stack, finished):
    """Archives and rows match what S3 shows, and the page exists."""
    output, result = finished
    statistics = result["statistics"]

    page = demo_stack.object_store.client("archiver").get_object(
        Bucket=BUCKET, Key=statistics["page"].removeprefix(f"s3://{BUCKET}/")
    )

    assert statistics["total"]["archives"] == len(result["archives"])
    assert {one["table"].removeprefix("public."): one["rows"] for one in statistics["tables"]} == {
        table: sum(len(keys_in_archives(demo_stack, table, month)) for month in result["months"])
        for table in ROWS_A_MONTH
    }
    assert b"<html" in page["Body"].read()
    assert statistics["page"] in output


def test_the_purge_is_foretold_and_removes_nothing(demo_stack, finished):
    """Today no archive is due. Seven years after the newest month all of the demo's archives are. All still exist."""
    output, result = finished
    today, day = result["purge_dry_run"]
    year, month = map(int, result["months"][-1].split("-"))
    end = f"{year + 7 + month // 12}-{month % 12 + 1:02}-01"

    archives = sorted(line["archive_id"] for line in result["archives"])

    assert (today["would_destroy"], today["reasons"]) == ([], {"kept": len(archives)})
    assert (sorted(day["would_destroy"]), day["at"][:10]) == (archives, end)
    assert f"{end}  {len(archives)} expired" in output
    assert all(read_archives(demo_stack, line["table"], line["month"]) for line in result["archives"])


def test_no_other_month_has_lost_a_row(demo_stack, finished):
    """Full months that were not archived, including those in hot retention, have every row of the sample."""
    _, result = finished
    with psycopg.connect(demo_stack.source_conninfo()) as connection:
        made = connection.execute("SELECT DISTINCT month FROM strongroom_sample.progress ORDER BY month").fetchall()
    months = [f"{month:%Y-%m}" for (month,) in made[:-1]]

    untouched = [month for month in months if month not in result["months"]]

    assert len(untouched) >= 11
    for table, rows in ROWS_A_MONTH.items():
        for month in untouched:
            assert len(keys_in_table(demo_stack, table, month)) == rows, (table, month)


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_the_next_demo_finishes_what_failed_and_repeats_nothing(demo_stack, finished, failed):
    """With the cause removed it archives the two months before the first ones, and leaves the stack running as it was."""
    _, first = finished
    with psycopg.connect(demo_stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("DROP FUNCTION public.watch() CASCADE")
    wait_for_the_other_runs(demo_stack)
    before = dict(list_objects(demo_stack, "archives/"))

    output, second = run_demo(demo_stack)

    assert f"archived before: {', '.join(first['months'])}" in output
    assert second["proved"]
    assert len(second["months"]) == 2
    assert max(second["months"]) < min(first["months"])
    assert {line["outcome"] for line in second["archives"]} == {"archived"}
    assert demo_stack.running
    assert second["restore"]["month"] == second["months"][-1]
    assert count_rows(demo_stack, RESTORED_TABLE, first["restore"]["month"]) == ROWS_A_MONTH[RESTORED_TABLE]
    new = dict(list_objects(demo_stack, "archives/")).keys() - before.keys()
    assert {key.split("/")[1] for key in new} == {"public.audit_events", "public.acm_alerts"}
    for table, made in ROWS_A_MONTH.items():
        for month in second["months"]:
            left, archived = keys_left(demo_stack, second, table, month), keys_in_archives(demo_stack, table, month)
            assert (len(left) + len(archived), left & set(archived)) == (made, set()), (table, month)


def start_demo(stack: Stack, *words: str) -> subprocess.Popen[str]:
    """Start the demo as `make demo` does, with few rows and without the settings of other tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM")}
    command = [sys.executable, "-m", "strongroom_local", "--folder", str(stack.folder), "demo", "--rows", str(ROWS)]
    return subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": "1"},
    )


def run_demo(stack: Stack, *words: str) -> tuple[str, dict[str, Any]]:
    """Run a demo that succeeds. Return its output and demo.json."""
    with start_demo(stack, *words) as demo:
        output, _ = demo.communicate(timeout=1800)
    assert demo.returncode == 0, output
    return output, json.loads((stack.folder / "demo.json").read_text())


def wait_for_the_other_runs(stack: Stack) -> None:
    """Wait until only the alerts are unfinished. They stay paused until a demo archives the cases first."""
    token, deadline = stack.token(), time.monotonic() + 1800
    query = "/api/v2/dags/~/dagRuns?state=running&state=queued&limit=50"
    while {run["dag_id"] for run in call_api(stack.api_url, "GET", query, token=token)["dag_runs"]} - {ALERTS}:
        assert time.monotonic() < deadline, "the runs of the failed demo did not end"
        time.sleep(2)


def count_rows(stack: Stack, table: str, month: str | None = None) -> int:
    """The number of rows of a table, or of those dated in a month."""
    query = sql.SQL(
        "SELECT count(*) FROM {} WHERE coalesce(to_char({} AT TIME ZONE 'UTC', 'YYYY-MM'), '') LIKE %s"
    ).format(sql.Identifier("public", table), sql.Identifier(DATE_COLUMNS[table]))
    with psycopg.connect(stack.source_conninfo()) as connection:
        [[rows]] = connection.execute(query, (month or "%",)).fetchall()
    return rows


def keys_left(stack: Stack, result: dict[str, Any], table: str, month: str) -> set[tuple[str, ...]]:
    """Primary keys, as JSON writes them, of the rows that archiving left in the table, without those that the demo restored."""
    keys = keys_in_table(stack, table, month)
    if (table, month) != (result["restore"]["table"], result["restore"]["month"]):
        return keys
    return keys - set(keys_in_archives(stack, table, month))


def keys_in_table(stack: Stack, table: str, month: str) -> set[tuple[str, ...]]:
    """Primary keys, as JSON writes them, of the rows dated in a month."""
    query = sql.SQL("SELECT {keys} FROM {table} WHERE to_char({date} AT TIME ZONE 'UTC', 'YYYY-MM') = %s").format(
        keys=sql.SQL(", ").join(sql.SQL("to_json({}) #>> '{{}}'").format(sql.Identifier(key)) for key in KEYS[table]),
        table=sql.Identifier("public", table),
        date=sql.Identifier(DATE_COLUMNS[table]),
    )
    with psycopg.connect(stack.source_conninfo()) as connection:
        return set(connection.execute(query, (month,)).fetchall())


def keys_in_archives(stack: Stack, table: str, month: str) -> list[tuple[str, ...]]:
    """Primary keys, as JSON writes them, of the lines in a month's archives."""
    keys = []
    for body in read_archives(stack, table, month).values():
        for line in zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read().splitlines():
            row = json.loads(line)
            keys.append(tuple(str(row[key]) for key in KEYS[table]))
    return keys


def read_archives(stack: Stack, table: str, month: str) -> dict[str, bytes]:
    """The parts of a month's sealed archives, by key."""
    client = stack.object_store.client("archiver")
    keys = [key for key, _ in list_objects(stack, "")]
    sealed = [key for key in keys if key.startswith(f"metadata/public.{table}/{month}/")]
    folders = [f"archives/public.{table}/partition={month}/{Path(key).stem}/part-" for key in sealed]
    return {
        key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys if key.startswith(tuple(folders))
    }


def list_objects(stack: Stack, prefix: str) -> list[tuple[str, int]]:
    """Keys and sizes of the objects under a prefix."""
    lister = stack.object_store.client("archiver").get_paginator("list_objects_v2")
    pages = lister.paginate(Bucket=BUCKET, Prefix=prefix)
    return [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", ())]
