"""Runs of a DAG, as commands find them in Airflow's metadata database: state, tasks, results, problems."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf as airflow_conf
from airflow.jobs.job import most_recent_job
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

from strongroom_airflow import trigger
from strongroom_airflow.step import ERROR_XCOM
from strongroom_airflow.trigger import Starter

REMOVED = "removed"
"""State of a run that somebody deleted while a command followed it."""


@dataclass(frozen=True)
class Task:
    """One task of a run, as Airflow has it now; ``map_index`` is -1 for a task that is not mapped."""

    run_id: str
    task_id: str
    map_index: int
    state: str
    try_number: int = 0
    max_tries: int = 0

    def __str__(self) -> str:
        return f"{self.task_id} {self.map_index}" if self.map_index >= 0 else self.task_id

    def page(self, dag_id: str) -> str:
        """Where the UI shows it."""
        mapped = f"/mapped/{self.map_index}" if self.map_index >= 0 else ""
        return f"{page_of(dag_id, self.run_id)}/tasks/{quote(self.task_id, safe='')}{mapped}"


@dataclass(frozen=True)
class RunState:
    """State of one run; ``partition_key`` is None for a DAG without partitions."""

    state: str
    partition_key: str | None


@dataclass(frozen=True)
class Snapshot:
    """Some runs of a DAG and their tasks at one moment.

    Attributes:
        runs: By run id; a run that was deleted is missing.
        tasks: In the order in which they began.
    """

    runs: Mapping[str, RunState]
    tasks: tuple[Task, ...]

    def state_of(self, run_id: str) -> str:
        """State of a run; ``removed`` if it was deleted."""
        return self.runs[run_id].state if run_id in self.runs else REMOVED

    def label(self, run_id: str) -> str:
        """The run's partition and a space, to stand before the name of a task; empty for a run without partition."""
        run = self.runs.get(run_id)
        return f"{run.partition_key} " if run and run.partition_key else ""


@dataclass(frozen=True)
class Problem:
    """A task that failed, with the error that it left in XCom; None if it left none."""

    task: Task
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"task_id": self.task.task_id, "map_index": self.task.map_index, "error": self.error}


def page_of(dag_id: str, run_id: str) -> str:
    """Where the UI shows a run; only the path if Airflow's `[api] base_url` is not set."""
    base = str(airflow_conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


refuse_a_paused_dag = partial(trigger.refuse_a_paused_dag, instead=", or add --no-wait to queue the runs")
"""Refuse to start a run that would never begin. Without waiting a run may stay queued."""


def shell_user() -> Starter:
    """The user of this shell, who starts the runs of a command."""
    return Starter(getuser(), DagRunTriggeredByType.CLI)


def read_snapshot(dag_id: str, run_ids: Collection[str]) -> Snapshot:
    """Read the state of some runs and of their tasks."""
    columns = ("run_id", "task_id", "map_index", "state", "try_number", "max_tries")
    with create_session() as session:
        runs = session.execute(
            select(DagRun.run_id, DagRun.state, DagRun.partition_key).where(
                DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids)
            )
        ).all()
        tasks = session.execute(
            select(*(getattr(TaskInstance, column) for column in columns))
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_(run_ids))
            .order_by(TaskInstance.start_date)
        ).all()
    found = (Task(row[0], row[1], row[2], str(row[3] or ""), row[4], row[5]) for row in tasks)
    return Snapshot(
        {run_id: RunState(str(state), key) for run_id, state, key in map(tuple, runs)},
        tuple(task for task in found if task.state != "removed"),
    )


def running_run(dag_id: str, *, other_than: Collection[str]) -> str | None:
    """Another run of a DAG that is running now, which those that are queued may have to wait for."""
    with create_session() as session:
        return session.scalar(
            select(DagRun.run_id)
            .where(DagRun.dag_id == dag_id, DagRun.state == DagRunState.RUNNING, DagRun.run_id.not_in(other_than))
            .limit(1)
        )


def results(dag_id: str, run_id: str, task_id: str, *, key: str = "return_value") -> list[Any]:
    """What the instances of a task returned, in the order of their map indexes; empty if none did."""
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key=key, task_ids=task_id, dag_ids=dag_id)
        entries = sorted(session.scalars(query), key=lambda entry: entry.map_index)
        return [XComModel.deserialize_value(entry) for entry in entries]


def find_problems(dag_id: str, run_id: str) -> list[Problem]:
    """The failed tasks of a run, in the order in which they failed."""
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run_id,
                TaskInstance.state == TaskInstanceState.FAILED,
            )
            .order_by(TaskInstance.end_date)
        ).all()
    failed = [
        Task(run_id, task_id, map_index, str(TaskInstanceState.FAILED)) for task_id, map_index in map(tuple, rows)
    ]
    return [Problem(task, error_of(dag_id, task)) for task in failed]


def error_of(dag_id: str, task: Task) -> str | None:
    """The error that the last try of a task left in XCom; None if it left none."""
    with create_session() as session:
        query = XComModel.get_many(
            run_id=task.run_id, key=ERROR_XCOM, task_ids=task.task_id, dag_ids=dag_id, map_indexes=task.map_index
        )
        entry = session.scalars(query).first()
        return None if entry is None else str(XComModel.deserialize_value(entry))


def scheduler_is_alive() -> bool:
    """Whether a scheduler has sent a heartbeat lately."""
    with create_session() as session:
        job = most_recent_job("SchedulerJob", session=session)
        return bool(job is not None and job.is_alive())
