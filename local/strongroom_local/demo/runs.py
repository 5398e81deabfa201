"""The demo's archive runs: start backfills over the REST API, follow the runs to their end, read their reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from strongroom.archive.report import RunReport
from strongroom.calendar import Partition
from strongroom_local.demo.api import (
    ACTIVE,
    APPEAR_SECONDS,
    FINISHED,
    POLL_SECONDS,
    STUCK_SECONDS,
    Airflow,
    RunFailedError,
    read_instant,
    run_path,
    status_of,
    tell_failure,
    unpause,
)
from strongroom_local.demo.proof import Look
from strongroom_local.servers.processes import ServerError

STEPS = ("plan", "extract_to_staging", "compress", "checksum", "upload", "verify", "seal", "delete", "report")

_RUNS = 40
"""How many runs to read at a time: this demo's, and some from before or meanwhile."""
_CLOSE_SECONDS = 600


@dataclass(frozen=True)
class Target:
    """A wanted run: a table's DAG and a month."""

    table: str
    dag_id: str
    month: str


@dataclass(frozen=True)
class RunView:
    """The progress of one run.

    Args:
        state: Airflow's state; ``waiting`` while there is no run yet.
        step: The current or last step.
        rows: Rows that plan found due; None until then.
        seconds: From the run's start to now, or to its end.
        report: The report of the run's last task; None until then.
    """

    target: Target
    run_id: str = ""
    state: str = "waiting"
    step: str = ""
    rows: int | None = None
    seconds: float = 0.0
    report: RunReport | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


def await_quiet(airflow: Airflow, dag_ids: Collection[str], progress: Callable[[str], None]) -> None:
    """Wait until no run is under way, because the demo could not tell its rows from their rows.

    Runs that are queued behind a paused DAG are ignored: they do not start. An earlier demo may have left them.

    Args:
        airflow: The API.
        dag_ids: DAGs that a demo runs, whose runs end without help. Runs of other DAGs are not waited for.
        progress: Called with a few words about what it waits for.

    Raises:
        RunFailedError: A run of another DAG is under way, or nothing changed for a long time.
    """
    known: list[tuple[str, ...]] = []
    moved_at = time.monotonic()
    while runs := _under_way(airflow):
        foreign = [run for run in runs if run["dag_id"] not in dag_ids]
        first, *_ = foreign or runs
        named = f"{first['dag_id']} {first['partition_key'] or first['dag_run_id']}"
        tasks = airflow.get("/api/v2/dags/~/dagRuns/~/taskInstances", state=ACTIVE, limit=100)["task_instances"]
        now = sorted(tuple(str(task[key]) for key in ("dag_run_id", "task_id", "map_index", "state")) for task in tasks)
        if now != known:
            known, moved_at = now, time.monotonic()
        if foreign or time.monotonic() - moved_at > STUCK_SECONDS:
            raise RunFailedError(
                "the running stack is already busy"
                if foreign
                else f"no task of the earlier runs started or ended for {STUCK_SECONDS} s",
                found=f"{len(foreign or runs)} unfinished runs, such as {named}",
                hint="nothing was changed; wait until these runs end (see the UI), then run the demo again.",
            )
        progress(f"{len(runs)} under way, such as {named}")
        time.sleep(POLL_SECONDS)


def _under_way(airflow: Airflow) -> list[dict[str, Any]]:
    paused = {dag["dag_id"] for dag in airflow.get("/api/v2/dags", paused="true", limit=100)["dags"]}
    runs = airflow.get("/api/v2/dags/~/dagRuns", state=["running", "queued"], limit=_RUNS)["dag_runs"]
    return [run for run in runs if run["state"] == "running" or run["dag_id"] not in paused]


def start_runs(airflow: Airflow, dag_ids: Sequence[str], months: Sequence[Partition]) -> None:
    """Create a backfill for each DAG with one run per month, oldest month first. The DAGs stay paused.

    A run that an earlier demo left unfinished resumes when its DAG is unpaused. For a failed run, the failed tasks are
    cleared.

    Airflow gives an unpaused DAG the run that its schedule has due. So the DAGs stay paused until the DAG file has been
    read again: by then the schedule has moved past the backfill's runs, and no month runs twice.

    Raises:
        ServerError: Airflow refused a backfill, or a schedule does not move past it.
    """
    for dag_id in dag_ids:
        airflow.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})
    states = {key: (run["dag_run_id"], run["state"]) for key, run in _newest_runs(airflow).items()}
    for dag_id in dag_ids:
        existing = [states[dag_id, month.key] for month in months if (dag_id, month.key) in states]
        for run_id, state in existing:
            if state == "failed":
                path = f"{run_path(dag_id, run_id)}/clear"
                airflow.call("POST", path, {"dry_run": False, "only_failed": True})
        if len(existing) < len(months):
            _create_backfill(airflow, dag_id, months)
    _have_dags_read(airflow, dag_ids[0])
    deadline = time.monotonic() + APPEAR_SECONDS
    while due := [dag_id for dag_id in dag_ids if _has_run_due(airflow, dag_id)]:
        if time.monotonic() > deadline:
            raise ServerError(
                f"Airflow's schedule for {', '.join(due)} did not move past the backfill",
                hint="nothing was archived or deleted; the log of the dag-processor may say why",
            )
        time.sleep(0.5)


def follow(airflow: Airflow, targets: Sequence[Target], after: Mapping[str, str]) -> Iterator[list[RunView]]:
    """Yield the progress of the runs every two seconds until all have succeeded. The last one has all reports.

    Args:
        airflow: The API.
        targets: The runs to follow; the views have the same order.
        after: Maps a paused DAG to the DAG whose runs must end before it is unpaused.

    Raises:
        RunFailedError: A run failed, with its task's error; or nothing changed for a long time.
    """
    views = [RunView(target) for target in targets]
    waiting = dict(after)
    moved_at = time.monotonic()
    while True:
        known = views
        views = _look(airflow, known)
        yield views
        if failed := [view for view in views if view.state == "failed"]:
            target = failed[0].target
            raise tell_failure(airflow, target.dag_id, failed[0].run_id, f"{target.dag_id} {target.month}")
        if all(view.finished for view in views):
            return
        for dag_id, first in list(waiting.items()):
            if all(view.finished for view in views if view.target.dag_id == first):
                unpause(airflow, [dag_id])
                del waiting[dag_id]
        if [(view.state, view.step) for view in views] != [(view.state, view.step) for view in known]:
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > STUCK_SECONDS:
            raise RunFailedError(
                f"no task started or ended for {STUCK_SECONDS} s",
                found=", ".join(
                    f"{view.target.dag_id} {view.state} {view.step}" for view in views if not view.finished
                ),
                hint="no row was deleted that is not in a proved archive; read the stack's logs.",
            )
        time.sleep(POLL_SECONDS)


def describe_run(view: RunView, look: Look) -> dict[str, Any]:
    """Describe a successful run, and the rows left in its table, for ``demo.json``."""
    report = view.report
    assert report is not None, "a run that succeeded has a report"
    return {
        "table": view.target.table,
        "month": view.target.month,
        "outcome": report.outcome,
        "archive_id": report.archive_id,
        "archived_rows": report.archived_rows,
        "deleted_rows": report.deleted_rows,
        "left_rows": look.in_table.count,
        "left_because": {
            "excluded": [exclusion.model_dump() for exclusion in report.exclusions],
            "changed": report.changed_rows,
            "referenced": report.referenced_rows,
        },
        "original_size_bytes": report.original_size_bytes,
        "compressed_size_bytes": report.compressed_size_bytes,
        "ratio": round(report.ratio, 2),
        "sha256": list(report.sha256),
        "objects": [one.key for one in look.objects],
        "seconds": round(view.seconds, 1),
        "dag_id": view.target.dag_id,
        "run_id": view.run_id,
    }


def _create_backfill(airflow: Airflow, dag_id: str, months: Sequence[Partition]) -> None:
    """Create one backfill. Airflow refuses it until it has closed the DAG's last one, up to half a minute after its runs."""
    body = {
        "dag_id": dag_id,
        "from_date": months[0].window.start.isoformat(),
        "to_date": months[-1].window.start.isoformat(),
        "reprocess_behavior": "none",
        "max_active_runs": 1,
    }
    deadline = time.monotonic() + _CLOSE_SECONDS
    while True:
        try:
            airflow.call("POST", "/api/v2/backfills", body)
        except ServerError as error:
            if status_of(error) != 409 or time.monotonic() > deadline:
                raise
        if all((dag_id, month.key) in _newest_runs(airflow) for month in months):
            return
        time.sleep(POLL_SECONDS)


def _have_dags_read(airflow: Airflow, dag_id: str) -> None:
    """Have the DAG file read at once. 409 means that this was already requested."""
    token = airflow.get(f"/api/v2/dags/{dag_id}")["file_token"]
    try:
        airflow.call("PUT", f"/api/v2/parseDagFile/{token}")
    except ServerError as error:
        if status_of(error) != 409:
            raise


def _has_run_due(airflow: Airflow, dag_id: str) -> bool:
    run_after = airflow.get(f"/api/v2/dags/{dag_id}")["next_dagrun_run_after"]
    return run_after is not None and read_instant(run_after) <= datetime.now(timezone.utc)


def _look(airflow: Airflow, known: list[RunView]) -> list[RunView]:
    """Read the progress of the runs with two requests, and one more for each new plan or report."""
    newest = _newest_runs(airflow)
    active = airflow.get("/api/v2/dags/~/dagRuns/~/taskInstances", state=ACTIVE, limit=100)["task_instances"]
    views = []
    for view in known:
        run = newest.get((view.target.dag_id, view.target.month))
        if run is None or view.finished:
            views.append(view)
            continue
        seen = replace(
            view,
            run_id=run["dag_run_id"],
            state=run["state"],
            step=_step_of(run["dag_run_id"], active) or view.step,
            seconds=_seconds_of(run),
        )
        views.append(_read_results(airflow, seen))
    return views


def _newest_runs(airflow: Airflow) -> dict[tuple[str, str], dict[str, Any]]:
    """The newest run of each DAG and partition, among the runs that Airflow created last."""
    runs = airflow.get("/api/v2/dags/~/dagRuns", limit=_RUNS, order_by="-id")["dag_runs"]
    return {(run["dag_id"], run["partition_key"]): run for run in reversed(runs)}


def _step_of(run_id: str, active: Sequence[Mapping[str, Any]]) -> str:
    """Name a run's most advanced active step, and say if it waits for a retry."""
    tasks = [task for task in active if task["dag_run_id"] == run_id]
    steps = {task["task_id"].rpartition(".")[2]: task["state"] for task in tasks}
    furthest = max(steps, key=STEPS.index, default="")
    return f"{furthest} (again soon)" if str(steps.get(furthest)).startswith("up_for_") else furthest


def _seconds_of(run: Mapping[str, Any]) -> float:
    if run["start_date"] is None:
        return 0.0
    end = read_instant(run["end_date"]) if run["end_date"] else datetime.now(timezone.utc)
    return (end - read_instant(run["start_date"])).total_seconds()


def _read_results(airflow: Airflow, view: RunView) -> RunView:
    """Add the due rows as soon as plan is done, and the report when the run is done."""
    if view.rows is None and (view.state == "success" or view.step not in ("", "plan", "plan (again soon)")):
        view = replace(view, rows=int(airflow.xcom(view.target.dag_id, view.run_id, "plan", "plan")["due_rows"]))
    if view.state == "success":
        report = RunReport.model_validate(airflow.xcom(view.target.dag_id, view.run_id, "report"))
        view = replace(view, step="", report=report)
    return view
