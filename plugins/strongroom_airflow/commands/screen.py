"""What a user sees of the runs that a command starts: the start, the progress, the problems, the end.

Progress goes to standard error: a bar on a terminal, elsewhere a line for each task that ends. Standard output is for the
command's result. Ctrl-C stops following; the runs continue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from airflow.utils.state import DagRunState, TaskInstanceState
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from strongroom_airflow.commands.runs import (
    REMOVED,
    Problem,
    Snapshot,
    Task,
    error_of,
    page_of,
    read_snapshot,
    running_run,
    scheduler_is_alive,
)
from strongroom_airflow.commands.terminal import Stopped, error_console, print_json, print_out, progress_bar
from strongroom_airflow.trigger import FINISHED, RunError, is_paused

POLL_SECONDS = 1.0
"""How often a command that follows runs reads their state."""

NO_SCHEDULER = "No scheduler is alive: the runs stay queued until one is."

_MOST_PROBLEMS = 5
_NOTHING_DONE = frozenset({TaskInstanceState.SKIPPED, TaskInstanceState.UPSTREAM_FAILED})
_ENDED = frozenset({TaskInstanceState.SUCCESS, TaskInstanceState.FAILED}) | _NOTHING_DONE
_WORTH_NAMING = {
    "running": "",
    "awaiting_input": " waits",
    "deferred": " waits",
    "up_for_retry": " is tried again soon",
}
"""States of a task that the bar names, the most telling first, and the words behind the name of its step."""

Explain = Callable[[Task], "str | None"]
"""Words for a task that waits for somebody or something; None if there is nothing to say about it."""


def print_start(dag_id: str, run_id: str, *, started: bool, wait: bool, as_json: bool) -> None:
    """Say which run a command started or found under way, and where the UI shows it."""
    if as_json:
        if not wait:
            print_json({"dag_id": dag_id, "run_id": run_id, "page": page_of(dag_id, run_id)})
        return
    words = f"{'Started' if started else 'Already under way:'} {run_id}: {page_of(dag_id, run_id)}"
    print_out(escape(words) + ("\nCtrl-C stops following; the run continues." if wait else ""))


def print_problems(dag_id: str, run_id: str, problems: Sequence[Problem]) -> None:
    """Print the errors of failed tasks with their hints on standard error; an error that several tasks share once."""
    console = error_console()
    first_of = {problem.error or str(problem.task): problem for problem in reversed(problems)}
    printed = list(reversed(first_of.values()))[:_MOST_PROBLEMS]
    for problem in printed:
        words = problem.error or f"it left no error behind; its log: {problem.task.page(dag_id)}"
        console.print(f"[bold red]failed:[/] {escape(f'{problem.task}: {words}')}", soft_wrap=True)
    if len(problems) > len(printed):
        console.print(f"{len(problems)} tasks failed in all", soft_wrap=True)
    console.print(f"The run and its logs: {escape(page_of(dag_id, run_id))}", soft_wrap=True)


def require_success(dag_id: str, run_id: str, state: str, problems: Sequence[Problem], *, hint: str) -> None:
    """Print why a run did not succeed, if it did not.

    Raises:
        RunError: It did not.
    """
    if state != DagRunState.SUCCESS:
        print_problems(dag_id, run_id, problems)
        ended = "failed" if state == DagRunState.FAILED else f"is {state}"
        raise RunError(f"the run {run_id} of {dag_id} {ended}", hint=hint)


def follow_one(dag_id: str, run_id: str, *, quiet: bool, explain: Explain = lambda _: None) -> str:
    """Follow one run to its end, as :func:`follow` does; returns its state."""
    return follow(dag_id, [run_id], quiet=quiet, explain=explain)[run_id]


def follow(
    dag_id: str,
    run_ids: Collection[str],
    *,
    quiet: bool,
    on_end: Callable[[str, str], None] = lambda *_: None,
    explain: Explain = lambda _: None,
) -> dict[str, str]:
    """Show the progress of runs until all have ended.

    Args:
        dag_id: DAG of all the runs.
        run_ids: Those to follow; ends are reported in this order.
        quiet: Show no progress. What a run waits for is printed all the same.
        on_end: Called with id and state of each run that ends.
        explain: Words for a task that waits.

    Returns:
        The state of each run.

    Raises:
        Stopped: Ctrl-C.
    """
    ended: dict[str, str] = {}
    try:
        with _Screen(dag_id, quiet=quiet, explain=explain) as screen:
            screen.warn_without_scheduler()
            while len(ended) < len(run_ids):
                snapshot = read_snapshot(dag_id, run_ids)
                screen.show(snapshot)
                for run_id in run_ids:
                    state = snapshot.state_of(run_id)
                    if run_id not in ended and state in (*FINISHED, REMOVED):
                        ended[run_id] = state
                        on_end(run_id, state)
                if len(ended) < len(run_ids):
                    time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise _stopped(dag_id, [run_id for run_id in run_ids if run_id not in ended]) from None
    return ended


def _stopped(dag_id: str, run_ids: Sequence[str]) -> Stopped:
    go_on, them = ("the run continues", "it") if len(run_ids) == 1 else (f"{len(run_ids)} runs continue", "them")
    pages = (page_of(dag_id, run_id) for run_id in run_ids)
    return Stopped("\n".join([f"Stopped following; {go_on}. The same command follows {them} again.", *pages]))


class _Screen(AbstractContextManager["_Screen"]):
    """Shows the runs that are followed: a bar or lines, and each notice once."""

    def __init__(self, dag_id: str, *, quiet: bool, explain: Explain) -> None:
        self._dag_id, self._explain = dag_id, explain
        console = error_console()
        self._lines = not quiet and not console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress: Progress = progress_bar(*columns, console=console, shown=not quiet and not self._lines)
        self._bar = self._progress.add_task("waiting for the scheduler", total=None)
        self._last_step = ""  # shown between two tasks as well, so that the line does not flicker
        self._printed: set[object] = set()

    def __enter__(self) -> _Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def warn_without_scheduler(self) -> None:
        """Warn if no scheduler is there to run the runs."""
        if not scheduler_is_alive():
            self._print(f"[yellow]{NO_SCHEDULER}[/]")

    def show(self, now: Snapshot) -> None:
        """Update the bar, and print what is new."""
        done = sum(task.state in _ENDED for task in now.tasks)
        self._progress.update(
            self._bar, description=escape(self._describe(now)), total=len(now.tasks) or None, completed=done
        )
        for task in now.tasks:
            if words := self._notice(task):
                self._print_once(task, f"  {now.label(task.run_id)}{task} {words}")
        if self._lines:
            for key, words in _ends(now):
                self._print_once(key, words)

    def _describe(self, now: Snapshot) -> str:
        """How many runs have ended, and the step of the task that began last or what the runs wait for."""
        finished = sum(run.state in FINISHED for run in now.runs.values())
        count = f"{finished} of {len(now.runs)} runs, " if len(now.runs) > 1 else ""
        if step := _step_under_way(now):
            self._last_step = step
            return f"{count}{step}"
        return f"{count}{self._why_nothing_runs(now)}"

    def _why_nothing_runs(self, now: Snapshot) -> str:
        if all(run.state in FINISHED for run in now.runs.values()):
            return self._last_step
        if is_paused(self._dag_id):
            return f"{self._dag_id} is paused"
        if any(run.state == DagRunState.RUNNING for run in now.runs.values()):
            return self._last_step or "waiting for the scheduler"
        other = running_run(self._dag_id, other_than=list(now.runs))
        return f"waiting for {other} to end" if other else "waiting for the scheduler"

    def _notice(self, task: Task) -> str | None:
        if task.state != TaskInstanceState.UP_FOR_RETRY:
            return self._explain(task)
        error = (error_of(self._dag_id, task) or "").partition("\n")[0]
        words = f"failed and is tried again (try {task.try_number} of {task.max_tries + 1})"
        return f"{words}: {error}" if error else words

    def _print_once(self, key: object, words: str) -> None:
        if key not in self._printed:
            self._printed.add(key)
            self._print(escape(words))

    def _print(self, words: str) -> None:
        self._progress.console.print(words, soft_wrap=True)


def _step_under_way(now: Snapshot) -> str:
    """Partition and step of the task that began last; empty if no task runs or waits."""
    for state, words in _WORTH_NAMING.items():
        for task in reversed(now.tasks):
            if task.state == state:
                return f"{now.label(task.run_id)}{task.task_id.rpartition('.')[2]}{words}"
    return ""


def _ends(now: Snapshot) -> list[tuple[object, str]]:
    """A line for each task whose instances have all ended, unless they had nothing to do; each with a key of its own."""
    states_of: dict[tuple[str, str], Counter[str]] = {}
    for task in now.tasks:
        states_of.setdefault((task.run_id, task.task_id), Counter())[task.state] += 1
    lines: list[tuple[object, str]] = []
    for (run_id, task_id), states in states_of.items():
        if states.keys() <= _ENDED and not states.keys() <= _NOTHING_DONE:
            words = ", ".join(f"{number} {state}" if states.total() > 1 else state for state, number in states.items())
            lines.append(((run_id, task_id, words), f"  {now.label(run_id)}{task_id}: {words}"))
    return lines
