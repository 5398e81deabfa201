"""What the end-to-end tests share: Airflow by its API, an S3 proxy that can stop in mid-request, books kept by SQL and S3.

Nothing here asks Strongroom what Strongroom did: rows are counted by SQL, archives are read with boto3, zstandard and a
JSON parser.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import zstandard

from strongroom_local.airflow import call_api
from strongroom_local.ports import LOOPBACK
from strongroom_local.processes import ServerError
from strongroom_local.stack import BUCKET, Stack

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


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float = 120) -> Any:
    """Ask until the answer is true and give it; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return answer


# ------------------------------------------------------------------------------------------------------------ Airflow


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
        """Call ``/api/v2`` + path; what only reads is asked again when a busy machine did not answer in time."""
        for tries_left in reversed(range(6 if method == "GET" else 1)):
            try:
                return call_api(self._stack.api_url, method, f"/api/v2{path}", body=body, token=self._token)
            except ServerError as error:
                if not tries_left or "does not answer" not in error.what:
                    raise
        raise AssertionError("unreachable")

    def pause(self, dag_id: str, *, paused: bool = True) -> None:
        """Pause a DAG; or let the scheduler have it, which starts its newest due partition at once."""
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
        """What is wrong with the DAG files."""
        return [each["stack_trace"] for each in self.call("GET", "/importErrors")["import_errors"]]

    def trigger(self, dag_id: str, key: str | None, run_id: str | None = None) -> Run:
        """Start a run by hand."""
        given = {"dag_run_id": run_id} if run_id else {}
        answer = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "partition_key": key, **given})
        return _run(answer)

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG, oldest first."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=id")
        return [_run(each) for each in answer["dag_runs"]]

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 120) -> Run:
        """Wait until a run has ended."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

        def ended() -> Run | None:
            run = _run(self.call("GET", path))
            return run if run.state in ENDED else None

        run: Run = wait_for(ended, f"{dag_id} {run_id} to end", seconds=seconds)
        return run

    def tasks(self, run: Run) -> list[Task]:
        """Task instances of a run."""
        answer = self.call("GET", f"{_path(run)}/taskInstances?limit=100")
        return [
            Task(each["task_id"], each["map_index"], each["state"], each["try_number"], each["pid"])
            for each in answer["task_instances"]
        ]

    def clear(self, run: Run, task_id: str) -> None:
        """Clear a task and all after it, as the UI's button does."""
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


def _path(run: Run) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id, safe='')}"


def _run(answer: dict[str, Any]) -> Run:
    return Run(answer["dag_id"], answer["dag_run_id"], answer["partition_key"], answer["state"])


# -------------------------------------------------------------------------------------------------------------- proxy


@dataclass
class Hold:
    """Where a request to the store stops.

    Attributes:
        method: HTTP method.
        path: A piece of the request's path.
        at: ``request``: half of the body has reached the store; ``answer``: the store has done its work and half of
            its answer has come back.
    """

    method: str
    path: str
    at: str
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class HoldingProxy:
    """Stands between a task and the store like a slow network: it can stop for good in the middle of one request."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self._server = _Server((LOOPBACK, 0), _Relay)
        self._server.proxy = self
        self.target: tuple[str, int] | None = None
        """Where the store is; without it each request breaks off."""

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> HoldingProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self.holds:
            hold.over.set()
        self._server.shutdown()
        self._server.server_close()

    def forward_to(self, host: str, port: int) -> None:
        """Say where the store is."""
        self.target = (host, port)

    def hold(self, method: str, path: str, at: str) -> Hold:
        """Stop the first such request that comes."""
        self.holds.append(Hold(method, path, at))
        return self.holds[-1]

    def take_hold(self, method: str, path: str, at: str) -> Hold | None:
        """The hold that a request runs into, if any."""
        for hold in self.holds:
            if (hold.method, hold.at) == (method, at) and hold.path in path and not hold.reached.is_set():
                return hold
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: HoldingProxy


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def relay(self) -> None:
        """Pass one request on and its answer back, byte for byte; the signature covers the Host header, so it stays."""
        proxy = self.server.proxy
        if proxy.target is None:
            self.close_connection = True
            return None
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = HTTPConnection(*proxy.target, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                upstream.putheader(name, value)
        upstream.endheaders()
        if hold := proxy.take_hold(self.command, self.path, "request"):
            upstream.send(body[: len(body) // 2])
            return self._stop(hold, upstream)
        upstream.send(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        held = proxy.take_hold(self.command, self.path, "answer")
        if held is not None and not content:
            return self._stop(held, upstream)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if held is not None:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            return self._stop(held, upstream)
        self.wfile.write(content)
        return None

    def _stop(self, hold: Hold, upstream: HTTPConnection) -> None:
        hold.reached.set()
        hold.over.wait()
        upstream.close()
        self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay  # noqa: N815 (the names that the base class calls)

    def log_message(self, *_: object) -> None:
        """Keep quiet; the tests say what they saw."""


# -------------------------------------------------------------------------------------------------------------- books


def query(conninfo: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement and give its rows."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


class Books:
    """What the bucket holds, read as an auditor would: with boto3, zstandard and a JSON parser."""

    def __init__(self, stack: Stack) -> None:
        self._client = stack.object_store.client("admin")

    def objects(self, prefix: str = "") -> list[str]:
        """All keys below a prefix, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        """One object."""
        content: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def document(self, key: str) -> Any:
        """One JSON object."""
        return json.loads(self.read(key))

    def manifests(self, table: str, key: str = "") -> list[dict[str, Any]]:
        """Manifests of a table, or of one of its partitions: the archives that exist."""
        return [self.document(each) for each in self.objects(f"metadata/{table}/{key}")]

    def archived_rows(self, table: str, key: str = "") -> Iterator[dict[str, Any]]:
        """Each row of each sealed archive."""
        for manifest in self.manifests(table, key):
            for part in manifest["parts"]:
                packed = self.read(part["object_key"])
                lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines()
                yield from map(json.loads, lines)
