"""`airflow strongroom query`: start a run of the query DAG, follow it to its end, and print the rows that it found."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from airflow.utils.platform import getuser
from airflow.utils.state import DagRunState
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Column, Table

from strongroom.query.conditions import read_condition, unfit_request
from strongroom.query.records import QueryOutcome, QueryRequest
from strongroom.query.result import QueryResult
from strongroom.settings import TableSettings
from strongroom_airflow.commands.runs import find_problems, page_of, refuse_a_paused_dag, shell_user
from strongroom_airflow.commands.screen import follow_one, require_success
from strongroom_airflow.commands.terminal import command, error_console, print_out, printable, read_settings
from strongroom_airflow.query.results import open_query_result
from strongroom_airflow.trigger import begin_request

DAG_ID = "query_archive"


@command
def query(args: Namespace) -> int:
    """Start a run of the DAG, or find the one of the same request that has not ended, follow it, and print its rows."""
    table = read_settings().table(args.table)
    conf = _read_request(args, table)
    refuse_a_paused_dag(DAG_ID, wait=True)
    begun = begin_request(DAG_ID, conf, shell_user(), hint="Nothing was started. Correct the command.")
    begins = "Started" if begun.found == "started" else "Already under way:"
    _say(f"{begins} {begun.run_id}: {page_of(DAG_ID, begun.run_id)}")
    state = follow_one(DAG_ID, begun.run_id, quiet=False)
    problems = [] if state == DagRunState.SUCCESS else find_problems(DAG_ID, begun.run_id)
    require_success(
        DAG_ID, begun.run_id, state, problems, hint="No row was shown. Fix the cause, then repeat the command."
    )
    with open_query_result(table, begun.run_id) as result:
        _print_rows(result, args.format)
        return _tell(result.outcome)


def _read_request(args: Namespace, table: TableSettings) -> dict[str, Any]:
    """The run's configuration, checked as far as that needs no archive."""
    asked = {
        "table": table.qualified_name,
        "archives": tuple(args.archive or ()),
        "since": args.since,
        "before": args.before,
        "conditions": tuple(read_condition(text) for text in args.where or ()),
        "columns": tuple(args.columns or ()),
        "limit": args.limit,
        "why": args.why,
        "who": args.who or getuser(),
    }
    try:
        request = QueryRequest.model_validate({name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        raise unfit_request(error) from None
    conf = request.model_dump(mode="json", exclude_unset=True)
    return {**{name: value for name, value in conf.items() if value}, "table": args.table}


def _print_rows(result: QueryResult, form: str) -> None:
    if form == "table":
        table = Table(*(Column(escape(printable(column.name)), overflow="fold") for column in result.outcome.columns))
        for row in result.rows():
            table.add_row(*("" if value is None else escape(printable(value)) for value in row.values))
        print_out(table)
        return
    for chunk in result.csv() if form == "csv" else result.json_lines():
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _tell(outcome: QueryOutcome) -> int:
    """Say what was found and what was not searched; the exit code."""
    _say(f"{outcome.sentence()}; on record as {outcome.record_key}")
    for one in outcome.not_searched:
        _say(str(one))
    return 1 if outcome.outcome == "incomplete" else 0


def _say(words: str) -> None:
    error_console().print(escape(printable(words)), soft_wrap=True)
