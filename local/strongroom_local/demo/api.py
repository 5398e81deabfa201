"""The demo's client for Airflow's API: repeats requests, starts and follows runs, reads the error of a failed task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from strongroom.errors import StrongroomError
from strongroom_local.servers.airflow import call_api
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import Stack

POLL_SECONDS = 2.0
"""Each poll costs the API server about 60 ms of CPU that the tasks could use."""
STUCK_SECONDS = 1200
APPEAR_SECONDS = 600
ACTIVE = ("running", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting")
FINISHED = ("success", "failed")

_SILENT_SECONDS = 600
"""How long to repeat a request that gets no response. On two busy cores, the first task can block the API for minutes."""
_SERVER_ERROR = 500
_SHORT_POLL_SECONDS = 0.7
"""For a single run of a few short tasks, which leave the API server time to respond."""


class RunFailedError(StrongroomError):
    """A run did not do what the demo promised."""

    code = "SR-903"


@dataclass
class Airflow:
    """The API of a running stack. Logs in by itself; repeats requests that get no response or a server error."""

    stack: Stack
    _token: str = field(default="", init=False)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Make a GET request; raises what `call` raises."""
        return self.call("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Make a request, and repeat it while the API is too busy to respond. An earlier try may still have worked.

        Raises:
            ServerError: Airflow refused it, a process of the stack has ended, or there was no response for ten minutes.
        """
        deadline = time.monotonic() + _SILENT_SECONDS
        while True:
            try:
                if not self._token:
                    self._token = self.stack.token()
                return call_api(self.stack.api_url, method, path, body=body, token=self._token)
            except ServerError as error:
                refused = (status_of(error) or _SERVER_ERROR) < _SERVER_ERROR
                if refused or time.monotonic() > deadline or not self.stack.running:
                    raise
            time.sleep(POLL_SECONDS)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return the XCom value that an unmapped task stored under a key; raises what `call` raises."""
        return self.get(f"{run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}")["value"]


def status_of(error: ServerError) -> int | None:
    """Return the HTTP status of a refused request; None if there was no response."""
    first = str(error.found).partition(" ")[0]
    return int(first) if first.isdigit() and len(first) == 3 else None


def run_path(dag_id: str, run_id: str) -> str:
    """Return a run's path in the API."""
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def read_instant(text: str) -> datetime:
    """Parse an instant in the API's format."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def wait_for_dags(airflow: Airflow, dag_ids: Sequence[str]) -> None:
    """Wait until Airflow has read the DAG files.

    Raises:
        ServerError: A DAG did not appear in time; quotes Airflow's import errors.
    """
    deadline = time.monotonic() + APPEAR_SECONDS
    while missing := set(dag_ids) - {dag["dag_id"] for dag in airflow.get("/api/v2/dags", limit=100)["dags"]}:
        if time.monotonic() > deadline:
            errors = airflow.get("/api/v2/importErrors")["import_errors"]
            raise ServerError(
                f"Airflow did not read the files of {', '.join(sorted(missing))} within {APPEAR_SECONDS} s",
                found="; ".join(str(error["stack_trace"])[-600:] for error in errors) or "no import errors",
                hint="nothing was archived or deleted; fix the DAG file, then run the demo again",
            )
        time.sleep(0.5)


def unpause(airflow: Airflow, dag_ids: Sequence[str]) -> None:
    """Unpause DAGs, so that the scheduler starts their runs."""
    for dag_id in dag_ids:
        airflow.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})


def trigger(airflow: Airflow, dag_id: str, run_id: str, conf: Mapping[str, object]) -> None:
    """Start a run as the UI's form does, and unpause its DAG. An existing run is left alone."""
    body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
    try:
        airflow.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
    except ServerError as error:
        if status_of(error) != 409:  # created by an earlier request whose response was lost
            raise
    unpause(airflow, [dag_id])


def await_run(airflow: Airflow, dag_id: str, run_id: str, progress: Callable[[str], None]) -> None:
    """Wait until a run succeeds; `progress` is called with each task that starts.

    Raises:
        RunFailedError: The run failed, with its task's error; or no task started or ended for a long time.
    """
    known, moved_at = "", time.monotonic()
    while (state := airflow.get(run_path(dag_id, run_id))["state"]) not in FINISHED:
        tasks = airflow.get(f"{run_path(dag_id, run_id)}/taskInstances", state=ACTIVE, limit=100)["task_instances"]
        now = ", ".join(sorted({str(task["task_id"]) for task in tasks}))
        if now and now != known:
            progress(now)
        if now != known:
            known, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > STUCK_SECONDS:
            raise RunFailedError(
                f"no task of {dag_id} started or ended for {STUCK_SECONDS} s",
                found=f"{state}, {known or 'no task running'}",
                hint="no row was deleted that is not in a proved archive; read the stack's logs.",
            )
        time.sleep(_SHORT_POLL_SECONDS)
    if state == "failed":
        raise tell_failure(airflow, dag_id, run_id, dag_id)


def tell_failure(airflow: Airflow, dag_id: str, run_id: str, where: str) -> RunFailedError:
    """Build the error for a failed run from its first failed task; `where` names the run in the message."""
    tasks = airflow.get(f"{run_path(dag_id, run_id)}/taskInstances", state="failed", limit=10)["task_instances"]
    if not tasks:
        return RunFailedError(f"{where} failed without a failed task", hint="nothing is lost; open the run in the UI.")
    task = min(tasks, key=lambda one: str(one["end_date"]))
    path = f"{run_path(dag_id, run_id)}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    events = airflow.get(path, map_index=task["map_index"], full_content="true")["content"]
    return RunFailedError(
        f"{where} failed in {task['task_id']}",
        found=_last_error(events),
        hint="no row was deleted that is not in a proved archive; fix what the error names, then run the demo again.",
    )


def _last_error(events: Sequence[Any]) -> str:
    """Return the last exception in a task's log, or else the log's last lines."""
    for event in reversed(events):
        details = event.get("error_detail") if isinstance(event, dict) else None
        if details:
            return f"{details[0]['exc_type']}: {details[0]['exc_value']}"
    lines = [str(event.get("event", "")) if isinstance(event, dict) else str(event) for event in events]
    return "\n".join(lines[-10:])
