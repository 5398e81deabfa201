"""The run of the retention purge that `airflow strongroom purge` starts and follows."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import count

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy import select

from strongroom.retention.drop_detached import DetachedResult
from strongroom.retention.drop_warm import WarmResult
from strongroom.retention.purge import PurgeResult
from strongroom_airflow.commands.runs import (
    Task,
    find_problems,
    page_of,
    refuse_a_paused_dag,
    results,
    shell_user,
)
from strongroom_airflow.commands.screen import follow_one, print_start, require_success
from strongroom_airflow.commands.terminal import print_json, print_out
from strongroom_airflow.trigger import FINISHED, RunError, start

DAG_ID = "retention_purge"
_COLOURS = {
    "purged": "red",
    "dropped": "red",
    "refused": "yellow",
    "self_approved": "yellow",
    "unverifiable": "yellow",
    "held": "green",
}


def run_purge(args: Namespace) -> int:
    """Start a run, or find the one under way, and follow it unless told not to; print what it destroyed.

    Raises:
        RunError: It cannot be started, or it failed.
    """
    if args.at is not None:
        raise RunError(
            "only a dry run can decide as of another day",
            hint="Nothing was started. Add --dry-run, or leave --at out.",
        )
    refuse_a_paused_dag(DAG_ID, wait=not args.no_wait)
    run_id, started = _start(datetime.now(timezone.utc))
    print_start(DAG_ID, run_id, started=started, wait=not args.no_wait, as_json=args.json)
    if args.no_wait:
        return 0
    state = follow_one(DAG_ID, run_id, quiet=args.json, explain=_explain)
    purged = [PurgeResult.model_validate(one) for batch in results(DAG_ID, run_id, "purge") for one in batch]
    warm = [WarmResult.model_validate(one) for each in results(DAG_ID, run_id, "warm") for one in each]
    detached = [DetachedResult.model_validate(one) for each in results(DAG_ID, run_id, "detached") for one in each]
    problems = [] if state == DagRunState.SUCCESS else find_problems(DAG_ID, run_id)
    if args.json:
        document = {"run_id": run_id, "state": state, "page": page_of(DAG_ID, run_id)}
        document["problems"] = [problem.as_json() for problem in problems]
        document["results"] = [one.model_dump(mode="json") for one in purged]
        document["warm"] = [one.model_dump(mode="json") for one in warm]
        document["detached"] = [one.model_dump(mode="json") for one in detached]
        print_json(document)
    else:
        _print_results(purged, warm, detached)
    require_success(
        DAG_ID,
        run_id,
        state,
        problems,
        hint="An archive with a certificate is destroyed; the next run finishes what this one began. Fix the cause and clear "
        "the failed task.",
    )
    return 0


def _print_results(
    purged: Sequence[PurgeResult], warm: Sequence[WarmResult], detached: Sequence[DetachedResult]
) -> None:
    if purged:
        print_out(_results_table("archive", [(one.archive_id, one.result, one.detail) for one in purged]))
    else:
        print_out("There was nothing to purge.")
    ended = [(f"{one.table} {one.month}", one.result, one.detail) for one in warm if one.result != "kept"]
    if ended:
        print_out(_results_table("warm partition", ended))
    if len(warm) > len(ended):
        print_out(f"{len(warm) - len(ended)} warm partitions are within their term.")
    if detached:
        print_out(_results_table("detached partition", [(one.partition, one.result, one.detail) for one in detached]))


def _results_table(what: str, rows: Sequence[tuple[str, str, str]]) -> Table:
    table = Table(Column(what, overflow="fold"), "result", Column("detail", overflow="fold"))
    for name, result, detail in rows:
        table.add_row(escape(name), f"[{_COLOURS.get(result, 'default')}]{result}[/]", escape(detail))
    counts = Counter(result for _, result, _ in rows)
    table.caption = ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
    return table


def _start(now: datetime) -> tuple[str, bool]:
    """Start a run, unless one is under way, which a second run would have to wait for; returns its id and whether it is new."""
    with create_session() as session:
        under_way = session.scalar(
            select(DagRun.run_id)
            .where(DagRun.dag_id == DAG_ID, DagRun.state.not_in(FINISHED))
            .order_by(DagRun.id)
            .limit(1)
        )
        of_today = set(
            session.scalars(select(DagRun.run_id).where(DagRun.run_id.startswith(f"byhand__{now:%Y-%m-%d}__")))
        )
    if under_way is not None:
        return under_way, False
    run_id = next(name for number in count(1) if (name := f"byhand__{now:%Y-%m-%d}__{number}") not in of_today)
    return run_id, start(DAG_ID, run_id, shell_user(), hint="Nothing was started. Fix what Airflow found.")


def _explain(task: Task) -> str | None:
    """The page where a person approves."""
    if task.state != "awaiting_input":
        return None
    return f"waits for approval: {task.page(DAG_ID)}/required_actions"
