"""Start runs of a DAG by hand and follow them to their end: the one way of every `airflow strongroom` command.

How far the runs are goes to standard error: a bar on a terminal, elsewhere a line for each task that ends. Standard output
is left to what a command has to say. Ctrl-C ends the following, never a run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow.api.common.trigger_dag import trigger_dag
from airflow.configuration import conf as airflow_conf
from airflow.exceptions import AirflowException, DagRunAlreadyExists
from airflow.jobs.job import most_recent_job
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from strongroom.errors import StrongroomError
from strongroom_airflow.commands.terminal import Stopped, error_console, print_json, print_out, progress_bar
from strongroom_airflow.step import ERROR_XCOM

POLL_SECONDS = 1.0
"""How often the runs are looked at while a command follows them."""

FINISHED = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})

_IDLE = frozenset({TaskInstanceState.SKIPPED, TaskInstanceState.UPSTREAM_FAILED})
REMOVED = "removed"
"""State of a run that somebody deleted while it was followed."""

_ENDED = frozenset(
    {
        TaskInstanceState.SUCCESS,
        TaskInstanceState.FAILED,
        TaskInstanceState.UPSTREAM_FAILED,
        TaskInstanceState.SKIPPED,
    }
)
_TOLD_PROBLEMS = 5
NO_SCHEDULER = "No scheduler is alive: the runs stay queued until one is."


class RunError(StrongroomError):
    """A run was not started, or it failed."""


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
class Problem:
    """Why a task failed: the error that it left behind; None where it left none and its log must tell."""

    task: Task
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"task_id": self.task.task_id, "map_index": self.task.map_index, "error": self.error}


def page_of(dag_id: str, run_id: str) -> str:
    """Where the UI shows a run; a path alone where Airflow's `[api] base_url` is not set."""
    base = str(airflow_conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def refuse_a_paused_dag(dag_id: str, *, wait: bool) -> None:
    """Say that a run would never begin, before one is made; without waiting a run may queue."""
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
    if paused is None:
        raise RunError(
            f"Airflow knows no DAG named {dag_id}",
            hint="Nothing was started. `airflow dags list-import-errors` says what is wrong with the DAGs.",
        )
    if paused and wait:
        raise RunError(
            f"{dag_id} is paused, and the scheduler starts no run of a paused DAG",
            hint=f"Nothing was started. Run `airflow dags unpause {dag_id}` first, or add --no-wait to queue the runs.",
        )


def start(
    dag_id: str, run_id: str, *, hint: str, partition_key: str | None = None, conf: Mapping[str, Any] | None = None
) -> bool:
    """Start a run; False if one of that name is there, such as when the same was typed twice at once.

    Raises:
        RunError: Airflow refused, with its reason and the hint.
    """
    try:
        trigger_dag(
            dag_id,
            triggered_by=DagRunTriggeredByType.CLI,
            triggering_user_name=getuser(),
            run_id=run_id,
            partition_key=partition_key,
            conf=dict(conf or {}),
        )
    except DagRunAlreadyExists:
        return False
    except IntegrityError:  # Airflow looks first and inserts then; the other one was quicker
        if state_of(dag_id, run_id) is None:
            raise
        return False
    except (AirflowException, ValueError) as error:
        what = f"Airflow did not start {dag_id}{f' for {partition_key}' if partition_key else ''}"
        raise RunError(what, found=" ".join(str(error).split()), hint=hint) from None
    return True


def state_of(dag_id: str, run_id: str) -> str | None:
    """State of a run; None if there is no such run."""
    with create_session() as session:
        return session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))


def results(dag_id: str, run_id: str, task_id: str, *, key: str = "return_value") -> list[Any]:
    """What the instances of a task returned, in their order; empty if none did."""
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key=key, task_ids=task_id, dag_ids=dag_id)
        entries = sorted(session.scalars(query), key=lambda entry: entry.map_index)
        return [XComModel.deserialize_value(entry) for entry in entries]


def find_problems(dag_id: str, run_id: str) -> list[Problem]:
    """The failed tasks of a run, the first to fail first."""
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
    return [Problem(task, _error_of(dag_id, task)) for task in failed]


def _error_of(dag_id: str, task: Task) -> str | None:
    with create_session() as session:
        query = XComModel.get_many(
            run_id=task.run_id, key=ERROR_XCOM, task_ids=task.task_id, dag_ids=dag_id, map_indexes=task.map_index
        )
        entry = session.scalars(query).first()
        return None if entry is None else str(XComModel.deserialize_value(entry))


def tell_problems(dag_id: str, run_id: str, problems: Sequence[Problem]) -> None:
    """The errors of failed tasks, each with its hint, on standard error; the same error of several tasks once."""
    console = error_console()
    first_of = {problem.error or str(problem.task): problem for problem in reversed(problems)}
    told = list(reversed(first_of.values()))[:_TOLD_PROBLEMS]
    for problem in told:
        words = problem.error or f"it left no error behind; its log: {problem.task.page(dag_id)}"
        console.print(f"[bold red]failed:[/] {escape(f'{problem.task}: {words}')}", soft_wrap=True)
    if len(problems) > len(told):
        console.print(f"{len(problems)} tasks failed in all", soft_wrap=True)
    console.print(f"The run and its logs: {escape(page_of(dag_id, run_id))}", soft_wrap=True)


def require_success(dag_id: str, run_id: str, state: str, problems: Sequence[Problem], *, hint: str) -> None:
    """Tell why a run did not end well.

    Raises:
        RunError: It did not.
    """
    if state != DagRunState.SUCCESS:
        tell_problems(dag_id, run_id, problems)
        raise RunError(
            f"the run {run_id} of {dag_id} {'failed' if state == DagRunState.FAILED else f'is {state}'}", hint=hint
        )


def tell_start(dag_id: str, run_id: str, *, begun: bool, wait: bool, as_json: bool) -> None:
    """Say which run a command started or goes along with, and where the UI shows it."""
    if as_json:
        if not wait:
            print_json({"dag_id": dag_id, "run_id": run_id, "page": page_of(dag_id, run_id)})
        return
    words = f"{'Started' if begun else 'Already under way:'} {run_id}: {page_of(dag_id, run_id)}"
    print_out(escape(words) + ("\nCtrl-C stops following it, not the run." if wait else ""))


def follow_one(dag_id: str, run_id: str, *, quiet: bool, explain: Callable[[Task], str | None] = lambda _: None) -> str:
    """Follow one run to its end, as :func:`follow` does; gives its state."""
    again = "The same command goes along with it again."
    return follow(dag_id, [run_id], again=again, quiet=quiet, explain=explain)[run_id]


def follow(
    dag_id: str,
    run_ids: Collection[str],
    *,
    again: str,
    quiet: bool,
    on_end: Callable[[str, str], None] = lambda *_: None,
    explain: Callable[[Task], str | None] = lambda _: None,
) -> dict[str, str]:
    """Show how far runs are until all have ended.

    Args:
        dag_id: Of all the runs.
        run_ids: In the order in which they are told.
        again: What typing the same command again would do, for who stops following.
        quiet: Shows no progress. What a run waits for is told all the same.
        on_end: Called with id and state of each run that ends.
        explain: Words for a task that waits for somebody or something; None if there is nothing to say about it.

    Returns:
        The state of each run.

    Raises:
        Stopped: Ctrl-C.
    """
    ended: dict[str, str] = {}
    try:
        with _Shown(dag_id, quiet=quiet, explain=explain) as shown:
            shown.warn_without_scheduler()
            while len(ended) < len(run_ids):
                runs, tasks = _look(dag_id, run_ids)
                shown.show(runs, tasks)
                for run_id in run_ids:
                    state = runs[run_id].state if run_id in runs else REMOVED
                    if run_id not in ended and state in (*FINISHED, REMOVED):
                        ended[run_id] = state
                        on_end(run_id, state)
                if len(ended) < len(run_ids):
                    time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        left = [run_id for run_id in run_ids if run_id not in ended]
        raise stopped(dag_id, left, again) from None
    return ended


def stopped(dag_id: str, run_ids: Sequence[str], again: str) -> Stopped:
    """What to say to who stops following runs."""
    go_on = "the run goes on" if len(run_ids) == 1 else f"{len(run_ids)} runs go on"
    return Stopped("\n".join([f"Stopped following; {go_on}. {again}", *(page_of(dag_id, each) for each in run_ids)]))


@dataclass(frozen=True)
class _Run:
    run_id: str
    state: str
    partition_key: str | None


def _look(dag_id: str, run_ids: Collection[str]) -> tuple[dict[str, _Run], list[Task]]:
    with create_session() as session:
        runs = session.execute(
            select(DagRun.run_id, DagRun.state, DagRun.partition_key).where(
                DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids)
            )
        ).all()
        tasks = session.execute(
            select(
                TaskInstance.run_id,
                TaskInstance.task_id,
                TaskInstance.map_index,
                TaskInstance.state,
                TaskInstance.try_number,
                TaskInstance.max_tries,
            )
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_(run_ids))
            .order_by(TaskInstance.start_date)
        ).all()
    found = [Task(row[0], row[1], row[2], str(row[3] or ""), row[4], row[5]) for row in tasks]
    return {row[0]: _Run(row[0], str(row[1]), row[2]) for row in runs}, [
        task for task in found if task.state != "removed"
    ]


class _Shown(AbstractContextManager["_Shown"]):
    """What somebody who follows runs sees of them."""

    def __init__(self, dag_id: str, *, quiet: bool, explain: Callable[[Task], str | None]) -> None:
        self._dag_id, self._explain = dag_id, explain
        self._console = error_console()
        self._lines = not quiet and not self._console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress: Progress = progress_bar(*columns, console=self._console, shown=not quiet and not self._lines)
        self._bar = self._progress.add_task("waiting for the scheduler", total=None)
        self._last_step = ""  # between two tasks it stays, so that the line keeps still
        self._told: set[Any] = set()

    def __enter__(self) -> _Shown:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def warn_without_scheduler(self) -> None:
        """Say so when nobody is there to run the runs."""
        if not scheduler_is_alive():
            self._print(f"[yellow]{NO_SCHEDULER}[/]")

    def show(self, runs: Mapping[str, _Run], tasks: Sequence[Task]) -> None:
        """Bring the bar up to date, and tell what has not been told."""
        labels = {run.run_id: f"{run.partition_key} " if run.partition_key else "" for run in runs.values()}
        done = sum(task.state in _ENDED for task in tasks)
        self._progress.update(
            self._bar, description=escape(self._where(runs, tasks, labels)), total=len(tasks) or None, completed=done
        )
        for task in tasks:
            if words := self._words(task):
                self._tell_once(task, f"  {labels.get(task.run_id, '')}{task} {words}")
        if self._lines:
            self._tell_ends(tasks, labels)

    def _where(self, runs: Mapping[str, _Run], tasks: Sequence[Task], labels: Mapping[str, str]) -> str:
        """Partition and step of the task that began last, or what is waited for."""
        count = f"{sum(run.state in FINISHED for run in runs.values())} of {len(runs)} runs, " if len(runs) > 1 else ""
        for state, words in (
            ("running", ""),
            ("awaiting_input", " waits"),
            ("deferred", " waits"),
            ("up_for_retry", " is tried again soon"),
        ):
            for task in reversed(tasks):
                if task.state == state:
                    self._last_step = f"{labels.get(task.run_id, '')}{task.task_id.rpartition('.')[2]}{words}"
                    return f"{count}{self._last_step}"
        return f"{count}{self._why_nothing_runs(runs)}"

    def _why_nothing_runs(self, runs: Mapping[str, _Run]) -> str:
        if all(run.state in FINISHED for run in runs.values()):
            return self._last_step
        with create_session() as session:
            if session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == self._dag_id)):
                return f"{self._dag_id} is paused"
            if any(run.state == DagRunState.RUNNING for run in runs.values()):
                return self._last_step or "waiting for the scheduler"
            ahead = session.scalar(
                select(DagRun.run_id)
                .where(DagRun.dag_id == self._dag_id, DagRun.state == DagRunState.RUNNING, DagRun.run_id.not_in(runs))
                .limit(1)
            )
        return f"waiting for {ahead} to end" if ahead else "waiting for the scheduler"

    def _words(self, task: Task) -> str | None:
        if task.state == TaskInstanceState.UP_FOR_RETRY:
            why = (_error_of(self._dag_id, task) or "").partition("\n")[0]
            return f"failed and is tried again (try {task.try_number} of {task.max_tries + 1})" + (
                f": {why}" if why else ""
            )
        return self._explain(task)

    def _tell_ends(self, tasks: Sequence[Task], labels: Mapping[str, str]) -> None:
        """A line for each task all of whose instances have ended, and that had something to do."""
        open_ones = {(task.run_id, task.task_id) for task in tasks if task.state not in _ENDED}
        ends: dict[tuple[str, str], Counter[str]] = {}
        for task in tasks:
            if (task.run_id, task.task_id) not in open_ones:
                ends.setdefault((task.run_id, task.task_id), Counter())[task.state] += 1
        for (run_id, task_id), states in ends.items():
            if states.keys() <= _IDLE:
                continue
            words = ", ".join(f"{number} {state}" if states.total() > 1 else state for state, number in states.items())
            self._tell_once((run_id, task_id, words), f"  {labels.get(run_id, '')}{task_id}: {words}")

    def _tell_once(self, what: object, words: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._print(escape(words))

    def _print(self, words: str) -> None:
        self._progress.console.print(words, soft_wrap=True)


def scheduler_is_alive() -> bool:
    """Whether a scheduler has given a sign of life lately."""
    with create_session() as session:
        job = most_recent_job("SchedulerJob", session=session)
        return bool(job is not None and job.is_alive())
