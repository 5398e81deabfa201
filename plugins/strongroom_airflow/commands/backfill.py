"""`airflow dags backfill`, as in Airflow 2, on top of Airflow 3's own backfills.

The command prints its plan, lets Airflow create the runs, and follows them to their end. Like `airflow backfill create`, it uses
private functions of `airflow.models.backfill`, because there are no public ones; apache-airflow is pinned for that reason.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version
from airflow.exceptions import AirflowException
from airflow.models.backfill import (
    AlreadyRunningBackfill,
    Backfill,
    ReprocessBehavior,
    _create_backfill,
    _do_dry_run,
    _get_info_list,
    _get_latest_dag_run_row_query,
)
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.cli import action_cli, suppress_logs_and_warning
from airflow.utils.platform import getuser
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, update

from strongroom.errors import StrongroomError
from strongroom_airflow.commands.runs import refuse_a_paused_dag, scheduler_is_alive
from strongroom_airflow.commands.screen import NO_SCHEDULER
from strongroom_airflow.commands.terminal import INTERRUPTED, Stopped, output_console, printable
from strongroom_airflow.timetable import RetentionPartitionTimetable
from strongroom_airflow.trigger import FINISHED

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session

POLL_SECONDS = 2.0
"""How often the states of the runs are read while the command follows them."""


class BackfillError(StrongroomError):
    """The backfill was not created, or one of its runs failed."""

    code = "SR-113"


@dataclass(frozen=True)
class Request:
    """What the command line asks for; ``first`` and ``last`` are aware and both included."""

    dag_id: str
    first: datetime
    last: datetime
    reprocess: ReprocessBehavior
    backwards: bool
    conf: dict[str, Any] | None
    max_active_runs: int | None

    def __str__(self) -> str:
        order = "newest" if self.backwards else "oldest"
        return f"{self.dag_id} from {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d} (both included), {order} first"


class Action(Enum):
    """What a backfill does about one date; the value stands behind their number in the summary."""

    CREATE = "to run"
    EXISTS = "already there"
    HOT = "inside hot retention"


@dataclass(frozen=True)
class Line:
    """One date of the plan: its partition key or logical date, what happens to it, and the words for it."""

    label: str
    action: Action
    words: str


@suppress_logs_and_warning
@action_cli
@providers_configuration_loaded
def backfill(args: Namespace) -> None:
    """Run the command; raises SystemExit with the message if it failed."""
    try:
        _backfill(output_console(), _read_request(args), dry_run=args.dry_run, wait=not args.no_wait)
    except StrongroomError as error:
        raise SystemExit(printable(str(error))) from error
    except Stopped as stop:
        sys.stderr.write(f"{stop}\n")
        raise SystemExit(INTERRUPTED) from None


def _backfill(console: Console, request: Request, *, dry_run: bool, wait: bool) -> None:
    console.print(f"Backfill of {request}")
    with create_session() as session:
        dag = _load_dag(request.dag_id, session)
        lines = _plan(dag, request, session)
        console.print(_table(lines))
        counts = Counter(line.action for line in lines)
        if not counts[Action.CREATE]:
            console.print(_nothing_to_do(request, counts))
            return
        console.print(f"{_in_words(counts)}.")
        if dry_run:
            console.print(f"Dry run: nothing was created, {_count(counts[Action.CREATE], 'run')} would be.")
            return
        _refuse_a_second_backfill(request, session)
    refuse_a_paused_dag(request.dag_id, wait=wait)
    backfill_id = _create(dag, request)
    console.print(f"Created {_count(counts[Action.CREATE], 'run')} in backfill {backfill_id}.")
    if wait:
        _follow(console, request.dag_id, backfill_id)


def _read_request(args: Namespace) -> Request:
    first, last = args.start_date or args.end_date, args.end_date or args.start_date
    if first is None:
        raise BackfillError(
            "a backfill needs a start date, an end date, or both",
            hint="Nothing was created; add dates, such as -s 2025-01-01 -e 2025-12-31.",
        )
    return Request(
        dag_id=args.dag_id,
        first=first,
        last=last,
        reprocess=_reprocess_behavior(args),
        backwards=args.run_backwards,
        conf=_read_conf(args.conf),
        max_active_runs=args.max_active_runs,
    )


def _reprocess_behavior(args: Namespace) -> ReprocessBehavior:
    if args.reset_dagruns:
        return ReprocessBehavior.COMPLETED
    return ReprocessBehavior.FAILED if args.rerun_failed_tasks else ReprocessBehavior.NONE


def _read_conf(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        conf = json.loads(text)
    except ValueError:
        conf = None
    if not isinstance(conf, dict):
        raise BackfillError(
            "--conf is not a JSON object", found=text, hint="Nothing was created; write it like --conf '{\"key\": 1}'."
        )
    return conf


def _load_dag(dag_id: str, session: Session) -> SerializedDAG:
    row = session.scalar(SerializedDagModel.latest_item_select_object(dag_id))
    if row is None:
        raise BackfillError(
            f"Airflow knows no DAG named {dag_id}",
            hint="Nothing was created; `airflow dags list` shows the names, `airflow dags list-import-errors` what is wrong.",
        )
    return row.dag


def _plan(dag: SerializedDAG, request: Request, session: Session) -> list[Line]:
    """Decide what happens to each date, in the order of the dates; changes nothing."""
    bounds = {"from_date": request.first, "to_date": request.last, "reverse": request.backwards}
    try:
        to_run = list(
            _do_dry_run(
                dag_id=dag.dag_id,
                **bounds,
                reprocess_behavior=request.reprocess,
                dag_run_conf=request.conf,
                session=session,
            )
        )
    except (AirflowException, ValueError) as error:
        raise BackfillError(str(error).rstrip("."), hint="Nothing was created; correct the command.") from error
    lines = [
        Line(_label(info), Action.CREATE, "to run") if info in to_run else _existing(dag, info, session)
        for info in _get_info_list(dag=dag, **bounds)
    ]
    hot = [Line(key, Action.HOT, words) for key, words in _hot_partitions(dag, request)]
    return [*reversed(hot), *lines] if request.backwards else [*lines, *hot]


def _existing(dag: SerializedDAG, info: DagRunInfo, session: Session) -> Line:
    state = session.scalar(_get_latest_dag_run_row_query(dag_id=dag.dag_id, info=info)).state
    verb = "ran" if state in FINISHED else "has a run"
    return Line(_label(info), Action.EXISTS, f"already {verb} ({DagRunState(state).value})")


def _hot_partitions(dag: SerializedDAG, request: Request) -> Iterable[tuple[str, str]]:
    if not isinstance(dag.timetable, RetentionPartitionTimetable):
        return
    for partition, due_at in dag.timetable.iter_hot_partitions(earliest=request.first, latest=request.last):
        yield partition.key, f"inside hot retention until {due_at:%Y-%m-%d %H:%M} UTC"


def _label(info: DagRunInfo) -> str:
    return info.partition_key or f"{info.logical_date:%Y-%m-%d %H:%M}"


def _table(lines: list[Line]) -> Table:
    table = Table("Partition or date", "What happens")
    colours = {Action.CREATE: "green", Action.EXISTS: "dim", Action.HOT: "yellow"}
    for line in lines:
        table.add_row(line.label, line.words, style=colours[line.action])
    return table


def _nothing_to_do(request: Request, counts: Counter[Action]) -> str:
    """The last line of a backfill that has no run to create.

    Raises:
        BackfillError: No date of the request has a run or may get one.
    """
    if counts[Action.EXISTS]:
        return f"Nothing changed: {_in_words(counts)}."
    if counts[Action.HOT]:
        raise BackfillError(
            f"nothing of {request.dag_id} may be archived yet: {_in_words(counts)}",
            hint="Nothing was created and no row was touched; the table above says when each partition becomes due.",
        )
    raise BackfillError(
        f"no run of {request.dag_id} falls between {request.first} and {request.last}",
        hint="Nothing was created; a run belongs to the range when its period begins in it.",
    )


def _in_words(counts: Counter[Action]) -> str:
    return ", ".join(f"{counts[action]} {action.value}" for action in Action if counts[action])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _refuse_a_second_backfill(request: Request, session: Session) -> None:
    open_id = session.scalar(
        select(Backfill.id).where(Backfill.dag_id == request.dag_id, Backfill.completed_at.is_(None)).limit(1)
    )
    if open_id is not None:
        raise _another_is_open(request, f"backfill {open_id}")


def _another_is_open(request: Request, which: str) -> BackfillError:
    return BackfillError(
        f"{which} of {request.dag_id} is still open, and Airflow runs one at a time for each DAG",
        hint="Nothing was created; wait for it (it closes about 30 seconds after its last run) or cancel it in the UI.",
    )


def _create(dag: SerializedDAG, request: Request) -> int:
    """Let Airflow create the runs, then move its schedule past them; returns the backfill's number."""
    with create_session() as session:
        on_latest = resolve_run_on_latest_version(None, request.dag_id, session, fallback=True)
    try:
        created = _create_backfill(
            dag_id=request.dag_id,
            from_date=request.first,
            to_date=request.last,
            max_active_runs=request.max_active_runs or dag.max_active_runs,
            reverse=request.backwards,
            dag_run_conf=request.conf,
            triggering_user_name=getuser(),
            reprocess_behavior=request.reprocess,
            run_on_latest_version=on_latest,
        )
    except AlreadyRunningBackfill as error:
        raise _another_is_open(request, "another backfill") from error
    if dag.timetable.partitioned:
        with create_session() as session:
            _advance_schedule(dag, session)
    return created.id


def _advance_schedule(dag: SerializedDAG, session: Session) -> None:
    """Make the partition after the newest run the scheduler's next one.

    Airflow does so when it next parses the DAG's file. Until then the scheduler would start another run of a partition
    that is due and that this backfill runs already.
    """
    newest = session.scalar(
        select(DagRun)
        .where(
            DagRun.dag_id == dag.dag_id,
            DagRun.run_type.in_((DagRunType.BACKFILL_JOB, DagRunType.SCHEDULED)),
            DagRun.partition_date.is_not(None),
        )
        .order_by(DagRun.partition_date.desc())
        .limit(1)
    )
    model = session.scalar(select(DagModel).where(DagModel.dag_id == dag.dag_id).with_for_update())
    model.calculate_dagrun_date_fields(dag, reference_run=newest)


def _follow(console: Console, dag_id: str, backfill_id: int) -> None:
    """Print each change of a run's state until all runs have ended.

    Raises:
        BackfillError: A run failed.
    """
    if not scheduler_is_alive():
        console.print(f"[yellow]{NO_SCHEDULER}[/]")
    console.print("Following the runs. Ctrl-C stops following; the runs continue.")
    try:
        states = _wait(console, backfill_id)
    except KeyboardInterrupt:
        raise Stopped(f"Stopped following backfill {backfill_id} of {dag_id}; its runs continue.") from None
    _close(backfill_id)
    failed = [label for label, state in states.items() if state == DagRunState.FAILED]
    if failed:
        raise BackfillError(
            f"{len(failed)} of {_count(len(states), 'run')} of {dag_id} failed: {', '.join(failed)}",
            hint="No row was deleted that was not proved; read the failed task's log, then repeat with --rerun-failed-tasks.",
        )
    console.print(f"All {_count(len(states), 'run')} of {dag_id} succeeded.")


def _wait(console: Console, backfill_id: int) -> dict[str, str]:
    known: dict[str, str] = {}
    while True:
        states = _states(backfill_id)
        for label, state in states.items():
            if known.get(label) != state:
                console.print(f"  {datetime.now().astimezone():%H:%M:%S}  {label}  {state}")
        known = states
        if FINISHED.issuperset(states.values()):
            return states
        time.sleep(POLL_SECONDS)


def _states(backfill_id: int) -> dict[str, str]:
    """Label and state of each run of a backfill, in the order of their creation."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.partition_key, DagRun.logical_date, DagRun.state)
            .where(DagRun.backfill_id == backfill_id)
            .order_by(DagRun.id)
        )
        return {key or f"{logical_date:%Y-%m-%d %H:%M}": DagRunState(state).value for key, logical_date, state in rows}


def _close(backfill_id: int) -> None:
    """Mark a backfill whose runs have ended as complete, so that the next may start; the scheduler would do it later."""
    with create_session() as session:
        session.execute(
            update(Backfill)
            .where(Backfill.id == backfill_id, Backfill.completed_at.is_(None))
            .values(completed_at=func.now())
        )
