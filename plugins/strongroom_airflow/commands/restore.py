"""`airflow strongroom restore`: start a run of the restore DAG and follow it to its end."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from airflow.utils.platform import getuser
from airflow.utils.state import DagRunState
from rich.markup import escape
from rich.table import Column, Table

from strongroom.errors import RestoreError
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.records import RestoreReport
from strongroom_airflow.commands.runs import (
    Task,
    find_problems,
    page_of,
    refuse_a_paused_dag,
    results,
    shell_user,
)
from strongroom_airflow.commands.screen import follow_one, print_start, require_success
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.trigger import begin_request

DAG_ID = "restore_archive"
_LISTED_ROWS = 20


@command
def restore(args: Namespace) -> int:
    """Start a run of the DAG, or find the one of the same request that has not ended, and follow it."""
    conf = _read_request(args)
    refuse_a_paused_dag(DAG_ID, wait=not args.no_wait)
    begun = begin_request(DAG_ID, conf, shell_user(), hint="Nothing was started. Correct the command.")
    run_id = begun.run_id
    print_start(DAG_ID, run_id, started=begun.found == "started", wait=not args.no_wait, as_json=args.json)
    if args.no_wait:
        return 0
    state = follow_one(DAG_ID, run_id, quiet=args.json, explain=_explain)
    found = next(iter(results(DAG_ID, run_id, "report")), None)
    report = RestoreReport.model_validate(found) if found else None
    problems = [] if state == DagRunState.SUCCESS else find_problems(DAG_ID, run_id)
    if args.json:
        shown = [problem.as_json() for problem in problems]
        print_json(
            {"run_id": run_id, "state": state, "page": page_of(DAG_ID, run_id), "problems": shown, "report": found}
        )
    elif report is not None:
        _print_report(report)
    require_success(
        DAG_ID,
        run_id,
        state,
        problems,
        hint="No row is loaded twice, and no row in the table was overwritten. Fix the cause, then clear the failed task or "
        "repeat the command.",
    )
    return 0


def _read_request(args: Namespace) -> dict[str, Any]:
    """The run's configuration; an option that was not given is left to the DAG's default."""
    if args.table:
        read_settings().table(args.table)
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
    """A key as it was typed, or for a key of several columns its JSON list."""
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


def _explain(task: Task) -> str | None:
    """What a deferred run waits for: parts in Glacier, which take minutes to days."""
    if task.state != "deferred":
        return None
    waiting = next(iter(results(DAG_ID, task.run_id, task.task_id, key="waiting")), None)
    return f"waits for {waiting['parts']} parts to come back from Glacier; no worker is kept busy" if waiting else None


def _print_report(report: RestoreReport) -> None:
    table = Table(Column("part", overflow="fold"), "result", "inserted", "unchanged", "different", "what is wrong")
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
