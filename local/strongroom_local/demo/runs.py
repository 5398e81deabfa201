"""The demo's archive runs: start backfills over the REST API, follow the runs to their end, read what they say."""

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
"""How many runs are read at a time: those of this demo and some that were begun before or meanwhile."""
_CLOSE_SECONDS = 600


@dataclass(frozen=True)
class Target:
    """One run that is wanted: a table's DAG and a month."""

    table: str
    dag_id: str
    month: str


@dataclass(frozen=True)
class RunView:
    """How far one run has come.

    Args:
        state: Airflow's word; ``waiting`` while there is no run yet.
        step: The step that is under way, or was last.
        rows: Rows that plan found due; None before.
        seconds: From the start of the run to now, or to its end.
        report: What the run's last task said; None before.
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
    """Wait until no run is under way, because the demo could not tell their rows from its own.

    Runs that are queued behind a paused DAG do not move; an earlier demo may have left them.

    Args:
        airflow: The API.
        dag_ids: DAGs that a demo runs, and whose runs end by themselves. Others are not waited for.
        progress: Told in a few words what it waits for.

    Raises:
        RunFailedError: A run of another DAG is under way, or nothing moved for long.
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
                "the running stack is at work already"
                if foreign
                else f"no task of the runs that were begun before began or ended for {STUCK_SECONDS} s",
                found=f"{len(foreign or runs)} unfinished runs, such as {named}",
                hint="nothing was changed; wait until these runs are done (see the UI), then run the demo again.",
            )
        progress(f"{len(runs)} under way, such as {named}")
        time.sleep(POLL_SECONDS)


def _under_way(airflow: Airflow) -> list[dict[str, Any]]:
    paused = {dag["dag_id"] for dag in airflow.get("/api/v2/dags", paused="true", limit=100)["dags"]}
    runs = airflow.get("/api/v2/dags/~/dagRuns", state=["running", "queued"], limit=_RUNS)["dag_runs"]
    return [run for run in runs if run["state"] == "running" or run["dag_id"] not in paused]


def start_runs(airflow: Airflow, dag_ids: Sequence[str], months: Sequence[Partition]) -> None:
    """Give each DAG a run of each month: a backfill, oldest month first. The DAGs stay paused.

    A run that an earlier demo left unfinished goes on when its DAG may; of one that failed, the failed tasks are cleared.

    Airflow gives an unpaused DAG the run that its schedule has due. Paused, with the backfill's runs behind it, the
    schedule has moved on when the DAG file has been read again, and no month is run twice.

    Raises:
        ServerError: Airflow refused one, or its schedule does not move on.
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
                f"Airflow's schedule of {', '.join(due)} does not go on behind the backfill",
                hint="nothing was archived or deleted; the log of the dag-processor may say why",
            )
        time.sleep(0.5)


def follow(airflow: Airflow, targets: Sequence[Target], after: Mapping[str, str]) -> Iterator[list[RunView]]:
    """Yield how far the runs are, every other second, until all have succeeded; the last time with all reports.

    Args:
        airflow: The API.
        targets: The runs to follow; views come in this order.
        after: A DAG that waits, paused, for all runs of another one.

    Raises:
        RunFailedError: A run failed, with its task's own words; or nothing moved for long.
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
                f"no task began or ended for {STUCK_SECONDS} s",
                found=", ".join(
                    f"{view.target.dag_id} {view.state} {view.step}" for view in views if not view.finished
                ),
                hint="no row was deleted that is not in a proved archive; read the logs beside the stack.",
            )
        time.sleep(POLL_SECONDS)


def describe_run(view: RunView, look: Look) -> dict[str, Any]:
    """A run that succeeded, and what is left in its table after it, for ``demo.json``."""
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
    """Create one backfill; Airflow closes the last one of a DAG up to half a minute after its runs, and waits so long."""
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
    """Have the DAG file read at once; 409 says that somebody asked for it already."""
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
    """See how far the runs are in two requests, and one more for each plan or report that is new."""
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
    """The newest run of each DAG and partition, of those that Airflow made last."""
    runs = airflow.get("/api/v2/dags/~/dagRuns", limit=_RUNS, order_by="-id")["dag_runs"]
    return {(run["dag_id"], run["partition_key"]): run for run in reversed(runs)}


def _step_of(run_id: str, active: Sequence[Mapping[str, Any]]) -> str:
    """Name the step of a run that is furthest on; a step that waits for another try says so."""
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
    """Add what plan found due as soon as it is done, and the report when the run is."""
    if view.rows is None and (view.state == "success" or view.step not in ("", "plan", "plan (again soon)")):
        view = replace(view, rows=int(airflow.xcom(view.target.dag_id, view.run_id, "plan", "plan")["due_rows"]))
    if view.state == "success":
        report = RunReport.model_validate(airflow.xcom(view.target.dag_id, view.run_id, "report"))
        view = replace(view, step="", report=report)
    return view
