"""What the end-to-end tests share: access to Airflow by its API, and to rows and archives by SQL and S3.

Nothing here relies on Strongroom to say what Strongroom did. SQL counts the rows; boto3, zstandard and a JSON parser read
the archives.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import zstandard
from psycopg import sql

from strongroom.settings import FILE_VARIABLE
from strongroom_local.servers.airflow import call_api, inherited_environment
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.s3 import IDENTITIES, TASK_LOG_BUCKET
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET

ENDED = frozenset({"success", "failed"})
STEPS = (
    "plan",
    "part.extract_to_staging",
    "part.compress",
    "part.checksum",
    "part.upload",
    "part.verify",
    "seal",
    "delete",
    "report",
)


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float = 600) -> Any:
    """Poll until the condition is true and return its value. On timeout, fail and say what was waited for.

    Polling leaves most of the CPU time to others: each request costs Airflow's web server tens of milliseconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if answer := condition():
            return answer
        now = time.monotonic()
        assert now < deadline, f"waited {seconds} s for {what}"
        time.sleep(max(0.2, min(2, 15 * (now - asked))))


# ------------------------------------------------------------------------------------------------------------ Airflow


def configuration_of(stack: Stack) -> Path:
    """The archive.yaml with which the stack's processes were started."""
    return stack.folder.parent / "archive.yaml"


def start_airflow(stack: Stack, *words: str) -> subprocess.Popen[str]:
    """Start the real `airflow` command against the stack, in its own process group, as a shell does."""
    configuration = configuration_of(stack)
    given = {FILE_VARIABLE: str(configuration)} if configuration.exists() else {}  # otherwise the repository's
    return subprocess.Popen(
        [sys.executable, "-m", "airflow", *words],
        env={**inherited_environment(), **stack.environment(), **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command to end, and return its exit code and output."""
    try:
        said, told = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, said, told)


def run_airflow(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the real `airflow` command against the stack to its end."""
    return ended(start_airflow(stack, *words))


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    partition_key: str | None
    state: str


@dataclass(frozen=True)
class Task:
    """One task instance of a run."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None


class Airflow:
    """The stack's Airflow as its users meet it: the REST API."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._token = stack.token()

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Call ``/api/v2`` + path. Requests that are safe to repeat are retried if a busy machine does not answer in time."""
        for tries_left in reversed(range(6 if method in ("GET", "PATCH") else 1)):
            try:
                return call_api(self._stack.api_url, method, f"/api/v2{path}", body=body, token=self._token)
            except ServerError as error:
                if not tries_left or "does not answer" not in error.what:
                    raise
        raise AssertionError("unreachable")

    def pause(self, dag_id: str, *, paused: bool = True) -> None:
        """Pause or unpause a DAG. When unpaused, the scheduler starts its newest due partition at once."""
        wait_for(lambda: self.knows(dag_id) or self.import_errors(), f"{dag_id} to be known to Airflow")
        assert not self.import_errors()
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def knows(self, dag_id: str) -> bool:
        """Whether a DAG was parsed."""
        try:
            self.call("GET", f"/dags/{dag_id}")
        except ServerError as error:
            if not str(error.found).startswith("404"):
                raise
            return False
        return True

    def import_errors(self) -> list[str]:
        """Import errors of the DAG files."""
        return [each["stack_trace"] for each in self.call("GET", "/importErrors")["import_errors"]]

    def trigger(
        self, dag_id: str, key: str | None, run_id: str | None = None, *, conf: dict[str, Any] | None = None
    ) -> Run:
        """Start a run by hand."""
        given = {"dag_run_id": run_id} if run_id else {}
        given |= {"conf": conf} if conf else {}
        answer = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "partition_key": key, **given})
        return _run(answer)

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG, oldest first."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=id")
        return [_run(each) for each in answer["dag_runs"]]

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 600) -> Run:
        """Wait until a run has ended."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

        def ended() -> Run | None:
            run = _run(self.call("GET", path))
            return run if run.state in ENDED else None

        run: Run = wait_for(ended, f"{dag_id} {run_id} to end", seconds=seconds)
        return run

    def seconds(self, run: Run) -> float:
        """Seconds from a run's creation to its end, including the scheduler's own."""
        answer = self.call("GET", _path(run))
        began, ended = (
            datetime.fromisoformat(answer[name].replace("Z", "+00:00")) for name in ("queued_at", "end_date")
        )
        return (ended - began).total_seconds()

    def tasks(self, run: Run) -> list[Task]:
        """Task instances of a run."""
        answer = self.call("GET", f"{_path(run)}/taskInstances?limit=100")
        return [
            Task(each["task_id"], each["map_index"], each["state"], each["try_number"], each["pid"])
            for each in answer["task_instances"]
        ]

    def clear(self, run: Run, task_id: str) -> None:
        """Clear a task and all tasks after it, as the UI's button does."""
        body = {
            "dry_run": False,
            "dag_run_id": run.run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
        }
        self.call("POST", f"/dags/{run.dag_id}/clearTaskInstances", body)

    def log(self, run: Run, task: Task) -> list[dict[str, Any]]:
        """The structured log of the last try of a task."""
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        answer = self.call("GET", f"{_path(run)}/taskInstances/{task.task_id}/logs/{task.try_number}?{query}")
        return list(answer["content"])

    def result(self, run: Run, task_id: str, *, map_index: int = -1) -> Any:
        """What a task returned."""
        query = urlencode({"map_index": map_index, "deserialize": "true"})
        answer = self.call("GET", f"{_path(run)}/taskInstances/{task_id}/xcomEntries/return_value?{query}")
        return answer["value"]

    def note(self, run: Run) -> str | None:
        """The note of a run, as lists of runs show it."""
        note: str | None = self.call("GET", _path(run))["note"]
        return note

    def links(self, run: Run, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        """The buttons on the page of a task, each with its address."""
        answer = self.call("GET", f"{_path(run)}/taskInstances/{task_id}/links?map_index={map_index}")
        return dict(answer["extra_links"])


def _path(run: Run) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"


def _run(answer: dict[str, Any]) -> Run:
    return Run(answer["dag_id"], answer["dag_run_id"], answer["partition_key"], answer["state"])


# -------------------------------------------------------------------------------------------------------------- books


def query(conninfo: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement and give its rows."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


class Books:
    """The contents of the bucket, read as an auditor would: with boto3, zstandard and a JSON parser."""

    def __init__(self, stack: Stack, bucket: str = BUCKET) -> None:
        self._client, self._bucket = stack.object_store.client("admin"), bucket

    def objects(self, prefix: str = "") -> list[str]:
        """All keys below a prefix, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        """One object."""
        content: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return content

    def document(self, key: str) -> Any:
        """One JSON object."""
        return json.loads(self.read(key))

    def manifests(self, table: str, key: str = "") -> list[dict[str, Any]]:
        """The manifests of a table, or of one of its partitions. An archive exists if it has one."""
        return [self.document(each) for each in self.objects(f"metadata/{table}/{key}")]

    def archived_rows(self, table: str, key: str = "") -> Iterator[dict[str, Any]]:
        """Each row of each sealed archive."""
        for manifest in self.manifests(table, key):
            for part in manifest["parts"]:
                packed = self.read(part["object_key"])
                lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines()
                yield from map(json.loads, lines)


# ---------------------------------------------------------------------------------------------------------- everything


def everything_said(stack: Stack) -> Iterator[tuple[str, str]]:
    """Everything written about the runs: logs, Airflow's metadata, and every object that is not a part."""
    for folder in (stack.logs, stack.home / "logs"):
        for path in filter(Path.is_file, folder.rglob("*")):
            yield str(path), path.read_text(errors="replace")
    with psycopg.connect(stack.postgres.conninfo("airflow")) as metadata:
        for (name,) in metadata.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            for (row,) in metadata.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(name))):
                yield f"metadata {name}", row
    books = Books(stack)
    for key in books.objects():
        if not re.search(r"/part-\d+\.jsonl", key):
            yield key, books.read(key).decode(errors="replace")
    task_logs = Books(stack, TASK_LOG_BUCKET)
    for key in task_logs.objects():
        yield f"{TASK_LOG_BUCKET}/{key}", task_logs.read(key).decode(errors="replace")


def secrets_of(stack: Stack) -> set[str]:
    """Every password and secret key of the stack."""
    state = json.loads((stack.folder / "stack.json").read_text())
    drawn = {*state["secrets"].values(), stack.postgres.password}
    return drawn | {stack.object_store.keys(identity)[1] for identity in IDENTITIES}
