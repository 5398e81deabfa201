"""`airflow strongroom purge`: what the retention purge would destroy and why; or a run of it, followed to its end."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.configuration import conf
from airflow.exceptions import AirflowException
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy import select

from strongroom.errors import StrongroomError
from strongroom.purge import Decision, PurgeResult, judge
from strongroom.purge_report import sum_up
from strongroom.settings import Settings, load_settings
from strongroom_airflow.commands.terminal import command, print_json, print_out
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.purge_run import needs_approval

DAG_ID = "retention_purge"
POLL_SECONDS = 1.0
"""How often the run is looked at while the command follows it."""

_FINISHED = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})
_COLOURS = {"purge": "red", "purged": "red", "refused": "yellow", "unverifiable": "yellow", "held": "green"}


class PurgeError(StrongroomError):
    """The purge was not started, or its run failed."""


@command
def purge(args: Namespace) -> int:
    """Say what would be destroyed, or start a run of the DAG, which alone destroys anything, and follow it."""
    if args.dry_run:
        return _show_decisions(args)
    if args.at is not None:
        raise PurgeError(
            "only a dry run can look at another day",
            hint="Nothing was started. Add --dry-run; the DAG always goes by the clock.",
        )
    _refuse_a_paused_dag(wait=not args.no_wait)
    run_id = _start()
    if args.no_wait:
        _tell(args, {"dag_id": DAG_ID, "run_id": run_id}, f"Started {run_id}")
        return 0
    if not args.json:
        print_out(f"Started {run_id}; Ctrl-C stops following it, not the run.")
    state = _follow(run_id, quiet=args.json)
    results = [PurgeResult.model_validate(one) for batch in _xcoms(run_id, "purge") for one in batch]
    if args.json:
        print_json({"run_id": run_id, "state": state, "results": [one.model_dump(mode="json") for one in results]})
    else:
        print_out(_results_table(results) if results else "Nothing was to be purged.")
    if state == DagRunState.SUCCESS:
        return 0
    raise PurgeError(
        f"the run {run_id} of {DAG_ID} failed",
        hint="What is certified is destroyed, everything else is there or is taken up again by the next run. Read the "
        "failed task's log, mend the cause and clear the task.",
    )


def _show_decisions(args: Namespace) -> int:
    settings = load_settings()
    now = args.at.astimezone(timezone.utc) if args.at else datetime.now(timezone.utc)
    decisions = [decision for store in connect_stores(settings) for decision in judge(store, now=now)]
    summary = sum_up(decisions)
    if args.json:
        print_json([_as_json(settings, decision) for decision in decisions])
    else:
        worth_a_line = [decision for decision in decisions if args.all or decision.reason != "kept"]
        if worth_a_line:
            print_out(_decisions_table(settings, worth_a_line))
        counts = ", ".join(f"{number} {reason}" for reason, number in sorted(summary.counts.items()))
        following = f"; the next term ends on {summary.next_expiry_at:%Y-%m-%d}" if summary.next_expiry_at else ""
        print_out(f"As of {now:%Y-%m-%d %H:%M} UTC: {counts or 'there is no archive'}{following}. Nothing was removed.")
    return 1 if summary.counts.get("unverifiable") else 0


def _as_json(settings: Settings, decision: Decision) -> dict[str, Any]:
    return decision.model_dump(mode="json") | {"needs_approval": needs_approval(settings, decision.archive)}


def _decisions_table(settings: Settings, decisions: Sequence[Decision]) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("rows", "bytes"))
    table = Table(Column("archive", overflow="fold"), *numbers, "decision", Column("reason", overflow="fold"))
    for one in decisions:
        asks = ", after approval" if one.purge and needs_approval(settings, one.archive) else ""
        verdict = "purge" if one.purge else one.reason
        table.add_row(
            one.archive_id,
            "?" if one.record_count is None else f"{one.record_count:,}",
            "?" if one.compressed_size is None else decimal(one.compressed_size),
            f"[{_COLOURS.get(verdict, 'default')}]{verdict}{asks}[/]",
            escape(one.detail),
        )
    return table


def _results_table(results: Sequence[PurgeResult]) -> Table:
    table = Table(Column("archive", overflow="fold"), "result", Column("detail", overflow="fold"))
    for one in results:
        colour = _COLOURS.get(one.result, "default")
        table.add_row(one.archive_id, f"[{colour}]{one.result}[/]", escape(one.detail))
    counts = Counter(one.result for one in results)
    table.caption = ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
    return table


def _refuse_a_paused_dag(*, wait: bool) -> None:
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == DAG_ID))
    if paused is None:
        raise PurgeError(
            f"Airflow knows no DAG named {DAG_ID}",
            hint="Nothing was started. `airflow dags list-import-errors` says what is wrong with the DAGs.",
        )
    if paused and wait:
        raise PurgeError(
            f"{DAG_ID} is paused, and the scheduler starts no run of a paused DAG",
            hint=f"Nothing was started. Run `airflow dags unpause {DAG_ID}` first, or add --no-wait to queue the run.",
        )


def _start() -> str:
    run_id = f"byhand__{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
    try:
        trigger_dag(
            DAG_ID, triggered_by=DagRunTriggeredByType.CLI, triggering_user_name=getuser(), run_id=run_id, conf={}
        )
    except (AirflowException, ValueError) as error:
        raise PurgeError(
            f"Airflow did not start {DAG_ID}",
            found=" ".join(str(error).split()),
            hint="Nothing was started; correct what was found.",
        ) from None
    return run_id


def _follow(run_id: str, *, quiet: bool) -> str:
    """Print each task that ends, and where to answer when a person is asked, until the run has ended; gives its state."""
    known: set[tuple[str, int, str]] = set()
    while True:
        with create_session() as session:
            state = str(session.scalar(select(DagRun.state).where(DagRun.dag_id == DAG_ID, DagRun.run_id == run_id)))
            rows = session.execute(
                select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
                .where(TaskInstance.dag_id == DAG_ID, TaskInstance.run_id == run_id, TaskInstance.state.is_not(None))
                .order_by(TaskInstance.end_date)
            ).all()
        for task_id, map_index, task_state in map(tuple, rows):
            seen = (task_id, map_index, str(task_state))
            if seen not in known and not quiet and (words := _words(run_id, *seen)):
                print_out(escape(words))
            known.add(seen)
        if state in _FINISHED:
            return state
        time.sleep(POLL_SECONDS)


def _words(run_id: str, task_id: str, map_index: int, state: str) -> str | None:
    if state == "awaiting_input":
        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        return f"  waits for approval: {base}/dags/{DAG_ID}/runs/{run_id}/tasks/{task_id}/required_actions"
    if state in ("success", "failed", "skipped", "upstream_failed"):
        return f"  {task_id}{f' {map_index}' if map_index >= 0 else ''}: {state}"
    return None


def _xcoms(run_id: str, task_id: str) -> list[Any]:
    """What the instances of a task returned, in their order."""
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key="return_value", task_ids=task_id, dag_ids=DAG_ID)
        entries = sorted(session.scalars(query), key=lambda entry: entry.map_index)
        return [XComModel.deserialize_value(entry) for entry in entries]


def _tell(args: Namespace, document: dict[str, Any], sentence: str) -> None:
    if args.json:
        print_json(document)
    else:
        print_out(escape(sentence))
