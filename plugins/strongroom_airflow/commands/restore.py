"""`airflow strongroom restore`: start a run of the restore DAG and follow it to its end."""

from __future__ import annotations

import hashlib
import json
import time
from argparse import Namespace
from itertools import count
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import AirflowException
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from sqlalchemy import func, select

from strongroom.errors import RestoreError
from strongroom.object_keys import ArchiveId
from strongroom.restore import RestoreReport
from strongroom.restores import make_restore_id
from strongroom.settings import load_settings
from strongroom_airflow.commands.terminal import command, print_json, print_out

DAG_ID = "restore_archive"
POLL_SECONDS = 1.0
"""How often the run is looked at while the command follows it."""

_FINISHED = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})
_DONE = frozenset({TaskInstanceState.SUCCESS, TaskInstanceState.FAILED, TaskInstanceState.UPSTREAM_FAILED})
_LISTED_ROWS = 20


@command
def restore(args: Namespace) -> int:
    """Trigger the DAG, or go along with a run of the very same request that has not ended."""
    conf = _read_request(args)
    _refuse_a_paused_dag(wait=not args.no_wait)
    run_id, begun = _begin(conf)
    if args.no_wait:
        _tell(args, {"dag_id": DAG_ID, "run_id": run_id}, f"{'Started' if begun else 'Already under way:'} {run_id}")
        return 0
    if not args.json:
        print_out(f"{'Started' if begun else 'Already under way:'} {run_id}; Ctrl-C stops following it, not the run.")
    state = _follow(run_id, quiet=args.json)
    found = _xcom(run_id, "report", "return_value")
    report = RestoreReport.model_validate(found) if found else None
    if args.json:
        print_json({"run_id": run_id, "state": state, "report": found})
    elif report is not None:
        _print_report(report)
    if state == DagRunState.SUCCESS:
        return 0
    raise RestoreError(
        f"the run {run_id} of {DAG_ID} failed",
        found=report.sentence() if report else f"failed tasks: {', '.join(_failed_tasks(run_id)) or 'none began'}",
        hint="Rows that are in the table are the archived ones, and are not loaded twice. Read the failed task's log, mend "
        "the cause, then clear the task or repeat the command.",
    )


def _read_request(args: Namespace) -> dict[str, Any]:
    """The run's configuration; what was not given is left to the DAG's defaults."""
    if args.table:
        load_settings().table(args.table)
    for archive in args.archive or ():
        ArchiveId.parse(archive)
    given = {
        "table": args.table,
        "archives": args.archive,
        "first_partition": args.first or args.partition,
        "last_partition": args.last or args.partition,
        "target": args.target,
        "create_target": args.create or None,
        "since": args.since,
        "before": args.before,
        "keys": [_read_key(text) for text in args.key or ()] or None,
        "dropped_columns": args.dropped,
        "keep_days": args.days,
        "why": args.why,
        "who": args.who or getuser(),
        "dry_run": args.dry_run or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _read_key(text: str) -> Any:
    """A key as it is typed, or the JSON list of a key of several columns."""
    if not text.startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise RestoreError(
            "a key of several columns is not a JSON list",
            found=text,
            hint="Nothing was started. Write it like --key '[\"10.0.0.1\", 5]'.",
        ) from None


def _refuse_a_paused_dag(*, wait: bool) -> None:
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == DAG_ID))
    if paused is None:
        raise RestoreError(
            f"Airflow knows no DAG named {DAG_ID}",
            hint="Nothing was started. `airflow dags list-import-errors` says what is wrong with the DAGs.",
        )
    if paused and wait:
        raise RestoreError(
            f"{DAG_ID} is paused, and the scheduler starts no run of a paused DAG",
            hint=f"Nothing was started. Run `airflow dags unpause {DAG_ID}` first, or add --no-wait to queue the run.",
        )


def _begin(conf: dict[str, Any]) -> tuple[str, bool]:
    """Start a run whose name follows from its request; one of the same request that has not ended is taken instead."""
    digest = hashlib.sha256(json.dumps(conf, sort_keys=True).encode()).hexdigest()[:12]
    what = make_restore_id(str(conf.get("table") or conf.get("archives", ["nothing"])[0]))
    for number in count(1):
        run_id = f"restore__{what}__{digest}__{number}"
        state = _state_of(run_id)
        if state is None:
            break
        if state not in _FINISHED:
            return run_id, False
    try:
        trigger_dag(
            DAG_ID,
            triggered_by=DagRunTriggeredByType.CLI,
            triggering_user_name=getuser(),
            run_id=run_id,
            conf=conf,
        )
    except (AirflowException, ValueError) as error:
        raise RestoreError(
            f"Airflow did not start {DAG_ID}",
            found=" ".join(str(error).split()),
            hint="Nothing was started; correct the command.",
        ) from None
    return run_id, True


def _state_of(run_id: str) -> str | None:
    with create_session() as session:
        return session.scalar(select(DagRun.state).where(DagRun.dag_id == DAG_ID, DagRun.run_id == run_id))


def _follow(run_id: str, *, quiet: bool) -> str:
    """Show how many lanes are done, until the run has ended; gives its state."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as progress:
        bar = progress.add_task("locating", total=None)
        while True:
            state = str(_state_of(run_id))
            done, total = _count_lanes(run_id)
            if total:
                progress.update(bar, description="restoring", total=total, completed=done)
            if state in _FINISHED:
                return state
            time.sleep(POLL_SECONDS)


def _count_lanes(run_id: str) -> tuple[int, int]:
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.state, func.count())
            .where(
                TaskInstance.dag_id == DAG_ID,
                TaskInstance.run_id == run_id,
                TaskInstance.task_id == "restore",
                TaskInstance.map_index >= 0,
            )
            .group_by(TaskInstance.state)
        ).all()
    return sum(number for state, number in rows if state in _DONE), sum(number for _, number in rows)


def _failed_tasks(run_id: str) -> list[str]:
    with create_session() as session:
        return list(
            session.scalars(
                select(TaskInstance.task_id)
                .where(
                    TaskInstance.dag_id == DAG_ID,
                    TaskInstance.run_id == run_id,
                    TaskInstance.state == TaskInstanceState.FAILED,
                )
                .distinct()
            )
        )


def _xcom(run_id: str, task_id: str, key: str) -> Any:
    with create_session() as session:
        entry = session.scalars(XComModel.get_many(run_id=run_id, key=key, task_ids=task_id, dag_ids=DAG_ID)).first()
        return XComModel.deserialize_value(entry) if entry is not None else None


def _print_report(report: RestoreReport) -> None:
    table = Table(
        Column("part", overflow="fold"), "result", "inserted", "there and equal", "different", "what is wrong"
    )
    for part in report.parts:
        name = f"{part.archive_id} part {part.number}"
        numbers = (f"{number:,}" for number in (part.inserted, part.unchanged, part.different))
        table.add_row(name, part.result, *numbers, escape(part.detail))
    listed = [(part, row) for part in report.parts for row in part.listed]
    if report.parts:
        print_out(table)
    for part, row in listed[:_LISTED_ROWS]:
        print_out(f"  different: {escape(', '.join(row.key))} ({row.why}, {part.archive_id})")
    if report.different > _LISTED_ROWS:
        print_out(f"  and {report.different - _LISTED_ROWS:,} more: `reports/` in the store lists them")
    print_out(escape(report.sentence()))


def _tell(args: Namespace, document: dict[str, Any], sentence: str) -> None:
    if args.json:
        print_json(document)
    else:
        print_out(escape(sentence))
