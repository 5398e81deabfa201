"""The local stack and the demo against an API that answers late, with errors or not at all, and with earlier demo runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from strongroom_local.demo import api as demo_api
from strongroom_local.demo import runs as demo_runs
from strongroom_local.demo.api import Airflow, RunFailedError
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import SCHEDULED_DAGS, Stack

OURS = ("archive__audit_events", "archive_statistics")


class Api:
    """An HTTP server that stands in for Airflow, and for the stack that it would belong to.

    `answers` has a list of answers for each path, given in order; the last one repeats. An answer is a body, an HTTP
    status, or None to hang up.
    """

    running = True

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.changed: list[tuple[str, Any]] = []

    def token(self) -> str:
        return "a token"

    def answer(self, path: str) -> Any:
        self.asked.append(path)
        given = self.answers[path]
        return given.pop(0) if len(given) > 1 else given[0]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A fake API; its clients poll without waiting."""
    monkeypatch.setattr(demo_api, "POLL_SECONDS", 0)
    monkeypatch.setattr(demo_runs, "POLL_SECONDS", 0)

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stack.changed.append((self.path, words))
            self.do_GET()

        def do_GET(self) -> None:
            answer = stack.answer(self.path.partition("?")[0])
            if answer is None:
                self.close_connection = True
                return
            body = json.dumps({} if isinstance(answer, int) else answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack = Api(f"http://127.0.0.1:{server.server_port}")
        yield stack
        server.shutdown()


def connect(api: Api) -> Airflow:
    return Airflow(api)  # type: ignore[arg-type]  # has all that it uses of a stack


def test_an_answer_that_fails_or_never_comes_is_asked_for_again(api: Api):
    """A busy server hangs up, or has no database connection left."""
    api.answers["/busy"] = [None, 500, 503, {"at": "last"}]

    assert connect(api).get("/busy") == {"at": "last"}
    assert api.asked == ["/busy"] * 4


def test_a_refusal_is_final(api: Api):
    api.answers["/refused"] = [409]

    with pytest.raises(ServerError, match="409"):
        connect(api).get("/refused")

    assert api.asked == ["/refused"]


def test_waiting_for_an_answer_has_an_end(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_api, "_SILENT_SECONDS", -1)
    api.answers["/silent"] = [None]

    with pytest.raises(ServerError, match="does not answer GET /silent"):
        connect(api).get("/silent")


def a_run(dag_id: str, state: str = "running") -> dict[str, str]:
    return {"dag_id": dag_id, "state": state, "partition_key": "2026-05", "dag_run_id": "a run"}


def have_runs(api: Api, *looks: list[dict[str, str]], paused: tuple[str, ...] = ()) -> Callable[[], list[str]]:
    """Answer each poll with the next list of runs. Return a function that waits for them and returns its messages."""
    api.answers["/api/v2/dags"] = [{"dags": [{"dag_id": dag_id} for dag_id in paused]}]
    api.answers["/api/v2/dags/~/dagRuns"] = [{"dag_runs": runs} for runs in looks]
    api.answers["/api/v2/dags/~/dagRuns/~/taskInstances"] = [{"task_instances": []}]

    def wait() -> list[str]:
        told: list[str] = []
        demo_runs.await_quiet(connect(api), OURS, told.append)
        return told

    return wait


def test_a_second_demo_waits_for_the_runs_that_the_first_one_began(api: Api):
    """And says for which. A queued run of a paused DAG never starts, so the demo does not wait for it."""
    queued = a_run("archive__acm_alerts", "queued")
    wait = have_runs(
        api,
        [a_run(OURS[0]), a_run(OURS[1]), queued],
        [a_run(OURS[1], "queued"), queued],
        [queued],
        paused=("archive__acm_alerts",),
    )

    assert wait() == [
        "2 under way, such as archive__audit_events 2026-05",
        "1 under way, such as archive_statistics 2026-05",
    ]


def test_a_demo_does_not_begin_beside_runs_that_no_demo_begins(api: Api):
    """A run that waits for an approval would never end."""
    wait = have_runs(api, [a_run(OURS[0]), a_run("retention_purge")])

    with pytest.raises(RunFailedError, match=r"already busy(.|\n)*1 unfinished runs, such as retention_purge"):
        wait()


def test_waiting_for_earlier_runs_has_an_end(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_runs, "STUCK_SECONDS", -1)
    wait = have_runs(api, [a_run(OURS[0])])

    with pytest.raises(RunFailedError, match=r"no task of the earlier runs(.|\n)*audit_events 2026-05"):
        wait()


@pytest.mark.parametrize("paused", [True, False])
def test_what_has_a_schedule_is_paused_or_not_as_one_says_once_airflow_knows_all_of_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, paused: bool
):
    """Each is set by its own request, and no other DAG is changed."""
    monkeypatch.setattr(Stack, "api_url", api.api_url)
    monkeypatch.setattr(Stack, "token", Api.token)
    known = [{"dag_id": dag_id, "is_paused": not paused} for dag_id in (*OURS, *SCHEDULED_DAGS[1:])]
    api.answers["/api/v2/dags"] = [{"dags": known[:1]}, {"dags": known}]
    for dag_id in SCHEDULED_DAGS:
        api.answers[f"/api/v2/dags/{dag_id}"] = [{}]

    Stack().pause_scheduled(paused)

    assert SCHEDULED_DAGS == (
        "archive_statistics",
        "audit_report",
        "restore_drill",
        "retention_purge",
        "scrub_archives",
    )
    assert api.changed == [(f"/api/v2/dags/{dag_id}", {"is_paused": paused}) for dag_id in SCHEDULED_DAGS]
