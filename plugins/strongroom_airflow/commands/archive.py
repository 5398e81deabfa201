"""`airflow strongroom archive`: start the runs of some partitions by hand and follow them to their end.

Airflow lets one partition have any number of runs. Here the run's id follows from the partition, so the same command
typed twice starts one run, and says so; only `--again` starts another.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import count
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import AirflowException, DagRunAlreadyExists
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
from sqlalchemy import select

from strongroom.errors import StrongroomError
from strongroom.partitions import Partition, refuse_if_hot
from strongroom.report import RunReport
from strongroom.settings import TableSettings, load_settings
from strongroom.waiting import count_waiting
from strongroom_airflow.commands.terminal import command, print_json, print_out
from strongroom_airflow.connections import connect_source

POLL_SECONDS = 1.0
"""How often the runs are looked at while the command follows them."""

_FINISHED = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})


class ByHandError(StrongroomError):
    """The runs were not started, or one of them failed."""


@dataclass(frozen=True)
class Run:
    """One partition's run.

    Attributes:
        partition_key: The partition.
        run_id: Airflow's name of the run.
        fate: ``started`` by this command, ``running`` already, or ``ran`` before.
        state: As Airflow has it.
        report: What the run's last task returned; None while it has not.
    """

    partition_key: str
    run_id: str
    fate: str
    state: str
    report: RunReport | None = None

    def words(self) -> str:
        """One line about it."""
        if self.fate == "ran":
            return f"{self.partition_key} already ran as {self.run_id} ({self.state}); --again starts another run"
        return (
            f"{self.partition_key} {'started as' if self.fate == 'started' else 'is already running as'} {self.run_id}"
        )

    def outcome(self) -> str:
        """One line about how it ended, with the archive's id."""
        return self.report.sentence() if self.report else f"{self.partition_key} ended as {self.state} in {self.run_id}"


@command
def archive(args: Namespace) -> int:
    """Start what was asked for, oldest partition first; exit code 1 when a run failed, now or before."""
    if (args.partition is None) == (args.before is None):
        raise ByHandError(
            "archive needs --partition or --before, and only one of them",
            hint="Nothing was started. `airflow strongroom archive audit_events --partition 2026-05` archives one month.",
        )
    table = load_settings().table(args.table)
    dag_id = f"archive__{table.slug}"
    keys = _read_keys(args, table, datetime.now(timezone.utc))
    if args.dry_run or not keys:
        _tell_plan(args, keys)
        return 0
    _refuse_a_paused_dag(dag_id, wait=not args.no_wait)
    runs = [_begin(dag_id, key, again=args.again) for key in keys]
    if not args.json:
        for run in runs:
            print_out(escape(run.words()))
    if not args.no_wait:
        runs = _follow(dag_id, runs, quiet=args.json)
    if args.json:
        print_json([_as_json(run) for run in runs])
    failed = [run.partition_key for run in runs if run.state == DagRunState.FAILED]
    if failed:
        raise ByHandError(
            f"{len(failed)} of {len(runs)} runs of {dag_id} failed: {', '.join(failed)}",
            hint="What is not proved was not deleted. Read the failed task's log, mend the cause and clear the task; or "
            "repeat the command with --again.",
        )
    return 0


def _read_keys(args: Namespace, table: TableSettings, now: datetime) -> list[str]:
    """The partitions that are asked for, oldest first; of `--before` those that have rows in the table.

    Raises:
        PartitionError: A key is malformed, or its partition is not due.
    """
    if args.partition:
        partitions = [Partition.parse(table.frequency, key) for key in args.partition]
        for partition in partitions:
            refuse_if_hot(partition, table.hot_retention, now)
        return sorted({partition.key for partition in partitions})
    with connect_source(table, application_name=f"strongroom archive {table.table}") as connection:
        counts = count_waiting(connection, table, now=now)
    before = args.before.astimezone(timezone.utc)
    waiting = [Partition.parse(table.frequency, one.partition_key) for one in counts.waiting]
    return [partition.key for partition in waiting if partition.window.end <= before]


def _tell_plan(args: Namespace, keys: Sequence[str]) -> None:
    if args.json:
        print_json([{"partition_key": key} for key in keys])
    elif keys:
        print_out(f"Dry run: nothing was started, {', '.join(keys)} would be.")
    else:
        print_out("Nothing to do: no due partition before that date has a row in the table.")


def _refuse_a_paused_dag(dag_id: str, *, wait: bool) -> None:
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
    if paused is None:
        raise ByHandError(
            f"Airflow knows no DAG named {dag_id}",
            hint="Nothing was started. `airflow dags list-import-errors` says what is wrong with the DAGs.",
        )
    if paused and wait:
        raise ByHandError(
            f"{dag_id} is paused, and the scheduler starts no run of a paused DAG",
            hint=f"Nothing was started. Run `airflow dags unpause {dag_id}` first, or add --no-wait to queue the runs.",
        )


def _begin(dag_id: str, key: str, *, again: bool) -> Run:
    """Start the run of a partition, unless one is under way, or ended and nobody asks for another."""
    with create_session() as session:
        found = session.execute(
            select(DagRun.run_id, DagRun.state)
            .where(DagRun.dag_id == dag_id, DagRun.partition_key == key)
            .order_by(DagRun.id)
        ).all()
    for run_id, state in found:
        if state not in _FINISHED:
            return Run(key, run_id, "running", str(state))
    states = dict(map(tuple, found))
    numbered = (f"byhand__{key}__{number}" for number in count(1))
    taken = []
    while (run_id := next(numbered)) in states:
        taken.append(run_id)
    if taken and not again:
        return Run(key, taken[-1], "ran", str(states[taken[-1]]))
    try:
        trigger_dag(
            dag_id,
            triggered_by=DagRunTriggeredByType.CLI,
            triggering_user_name=getuser(),
            run_id=run_id,
            partition_key=key,
        )
    except DagRunAlreadyExists:  # somebody typed the same at the same moment
        return Run(key, run_id, "running", str(DagRunState.QUEUED))
    except (AirflowException, ValueError) as error:
        raise ByHandError(
            f"Airflow did not start {dag_id} for {key}",
            found=" ".join(str(error).split()),
            hint="Earlier partitions of this command may have been started; repeat it when the cause is mended.",
        ) from None
    return Run(key, run_id, "started", str(DagRunState.QUEUED))


def _follow(dag_id: str, runs: Sequence[Run], *, quiet: bool) -> list[Run]:
    """Show how far the runs are, and a line for each that ends, until all have ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ended: dict[str, Run] = {run.run_id: run for run in runs if run.fate == "ran"}
    followed = [run for run in runs if run.fate != "ran"]
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), transient=True) as progress:
        bar = progress.add_task("waiting for the scheduler", total=len(followed))
        while len(ended) < len(runs):
            for run in followed:
                state = _state_of(dag_id, run.run_id)
                if run.run_id in ended or state not in _FINISHED:
                    continue
                ended[run.run_id] = replace(run, state=state, report=_report_of(dag_id, run.run_id))
                progress.advance(bar)
                if not quiet:
                    print_out(escape(ended[run.run_id].outcome()))
            if at := _where(dag_id, [run.run_id for run in followed if run.run_id not in ended]):
                progress.update(bar, description=at)
            if len(ended) < len(runs):
                time.sleep(POLL_SECONDS)
    return [ended[run.run_id] for run in runs]


def _state_of(dag_id: str, run_id: str) -> str:
    with create_session() as session:
        return str(session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)))


def _where(dag_id: str, run_ids: Sequence[str]) -> str | None:
    """Partition and step of the task that started last."""
    with create_session() as session:
        row = session.execute(
            select(DagRun.partition_key, TaskInstance.task_id)
            .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id.in_(run_ids),
                TaskInstance.state == TaskInstanceState.RUNNING,
            )
            .order_by(TaskInstance.start_date.desc())
            .limit(1)
        ).first()
    return f"{row[0]} {row[1].rpartition('.')[2]}" if row else None


def _report_of(dag_id: str, run_id: str) -> RunReport | None:
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key="return_value", task_ids="report", dag_ids=dag_id)
        entry = session.scalars(query).first()
        return RunReport.model_validate(XComModel.deserialize_value(entry)) if entry is not None else None


def _as_json(run: Run) -> dict[str, Any]:
    return {
        "partition_key": run.partition_key,
        "run_id": run.run_id,
        "fate": run.fate,
        "state": run.state,
        "archive_id": run.report.archive_id if run.report else None,
        "report": run.report.model_dump(mode="json") if run.report else None,
    }
