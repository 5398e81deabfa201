"""Look inside archives without restoring them: a form, the run that searches, and what it found.

The search is a run of the DAG `query_archive`, so Airflow's rights apply, and who looked at what and why is on record before anybody
sees a row. The rows are shown to the user who started that run, and to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Annotated, Any, get_args

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dagrun import DagRun
from fastapi import APIRouter, Form, HTTPException, Request, status
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.query.records import WITHOUT_VALUE, Operator, QueryOutcome
from strongroom.query.result import QueryResult
from strongroom.query.values import operators_of
from strongroom.records import Column
from strongroom.settings import TableSettings
from strongroom_airflow.commands.runs import find_problems, page_of
from strongroom_airflow.connections import connect_store
from strongroom_airflow.pages.actions import QUERY_DAG
from strongroom_airflow.pages.addresses import QUERY, page
from strongroom_airflow.pages.forgery import make_token, require_own_form
from strongroom_airflow.pages.gathering import Facts, gathering
from strongroom_airflow.pages.rendering import HEADERS, render
from strongroom_airflow.pages.rights import Rights, no_such, rights_of
from strongroom_airflow.query.results import open_query_result
from strongroom_airflow.trigger import RunError, UnderWayError, trigger_conf

router = APIRouter()

SHOWN_ROWS = 200
"""Rows on one page of a result."""

_CONDITIONS = 5
"""How many conditions the form has room for."""

_FIRST_ROWS = 20
"""What "first rows of an archive" begins with."""

_RENEW_SECONDS = 2


@router.get(QUERY)
def show_query(
    user: GetUserDep,
    session: SessionDep,
    request: Request,
    run: str = "",
    table: str = "",
    archive: str = "",
    offset: int = 0,
) -> HTMLResponse:
    """The form, or what a run found."""
    rights = rights_of(user)
    rights.require_trigger(QUERY_DAG)
    facts = gathering.facts()
    if run:
        return _show_run(facts, session, rights, run, max(0, offset))
    if archive:
        table = table_of(archive)
    given = {
        "archive": archive,
        "since": request.query_params.get("from", ""),
        "before": request.query_params.get("to", ""),
        "limit": str(_FIRST_ROWS if archive else 1000),
        "why": "",
    }
    return _show_form(facts, rights, table, given)


@router.post(QUERY)
def start_query(
    request: Request,
    user: GetUserDep,
    table: Annotated[str, Form()],
    token: Annotated[str, Form()] = "",
    archive: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    before: Annotated[str, Form()] = "",
    column: Annotated[list[str] | None, Form()] = None,
    operator: Annotated[list[str] | None, Form()] = None,
    value: Annotated[list[str] | None, Form()] = None,
    show: Annotated[list[str] | None, Form()] = None,
    limit: Annotated[str, Form()] = "1000",
    why: Annotated[str, Form()] = "",
) -> Response:
    """Start the run that searches, and go to its page."""
    require_own_form(request, token, user)
    rights = rights_of(user)
    rights.require_trigger(QUERY_DAG)
    facts = gathering.facts()
    rights.require_table(facts.settings, table)
    if archive and table_of(archive) != table:
        raise no_such(f"archive of {table}", archive)
    conditions = _conditions(column or [], operator or [], value or [])
    conf: dict[str, Any] = {
        "table": table,
        "archives": [archive] if archive else [],
        "since": _instant(since),
        "before": _instant(before),
        "conditions": conditions,
        "columns": show or [],
        "limit": int(limit) if limit.isdecimal() else 0,
        "why": why.strip(),
    }
    try:
        run_id = trigger_conf(QUERY_DAG, conf, user)
    except UnderWayError as error:
        run_id = error.run_id
    except RunError as error:
        given = {"archive": archive, "since": since, "before": before, "limit": limit, "why": why}
        return _show_form(facts, rights, table, given, conditions=conditions, show=show or [], wrong=str(error))
    return RedirectResponse(page(QUERY, run=run_id), status.HTTP_303_SEE_OTHER)


@router.get(f"{QUERY}/rows.csv")
def download_csv(user: GetUserDep, session: SessionDep, run: str) -> StreamingResponse:
    """All rows that a run found, as CSV."""
    return _download(user, session, run, QueryResult.csv, "text/csv; charset=utf-8", "csv")


@router.get(f"{QUERY}/rows.jsonl")
def download_json_lines(user: GetUserDep, session: SessionDep, run: str) -> StreamingResponse:
    """All rows that a run found, as JSON lines."""
    return _download(user, session, run, QueryResult.json_lines, "application/x-ndjson", "jsonl")


def table_of(archive_id: str) -> str:
    """The table of an archive, `schema.table`. Refuses a text that is no archive id."""
    archive = ArchiveId.parse_or_none(archive_id)
    if archive is None:
        raise no_such("archive", archive_id)
    return f"{archive.schema_name}.{archive.table_name}"


def _show_form(
    facts: Facts,
    rights: Rights,
    table: str,
    given: dict[str, str],
    *,
    conditions: Sequence[dict[str, Any]] = (),
    show: Sequence[str] = (),
    wrong: str = "",
) -> HTMLResponse:
    tables = sorted({one.table_name for known in facts.store_facts for one in known.archives})
    tables = [one for one in tables if rights.sees_table(facts.settings, one)]
    if table:
        rights.require_table(facts.settings, table)
    columns, problem = _columns(facts, table) if table in tables else ((), None)
    blank = {"column": "", "operator": "=", "value": ""}
    return render(
        "query.html",
        tab=QUERY,
        tables=tables,
        table=table,
        columns=columns,
        operators_of=operators_of,
        operators=[one for one in get_args(Operator) if any(one in operators_of(column) for column in columns)],
        given=given,
        conditions=[*conditions, *[blank] * max(0, _CONDITIONS - len(conditions))],
        show=show,
        token=make_token(rights.user),
        action=page(QUERY),
        wrong=wrong.splitlines(),
        problems=[problem] if problem else [],
        status_code=status.HTTP_422_UNPROCESSABLE_CONTENT if wrong else status.HTTP_200_OK,
    )


def _columns(facts: Facts, table: str) -> tuple[tuple[Column, ...], str | None]:
    """The columns as the newest archive of a table has them, or why they are not known."""
    archives = [one.archive for known in facts.store_facts for one in known.archives if one.table_name == table]
    opener = facts.store_table(table)
    if not archives or opener is None:
        return (), None
    newest = max(archives, key=lambda one: (one.partition_key, one.sequence))
    manifest, problem = gathering.ask(lambda: read_manifest(connect_store(opener), newest))
    return (manifest.table.columns if manifest else ()), problem


def _conditions(columns: list[str], operators: list[str], values: list[str]) -> list[dict[str, Any]]:
    """The rows of the form that name a column; `in` takes one value a comma."""
    found: list[dict[str, Any]] = []
    for column, operator, value in zip(columns, operators, values, strict=False):
        if not column:
            continue
        condition: dict[str, Any] = {"column": column, "operator": operator}
        if operator == "in":
            condition["value"] = [one.strip() for one in value.split(",")]
        elif operator not in WITHOUT_VALUE:
            condition["value"] = value
        found.append(condition)
    return found


def _instant(text: str) -> str | None:
    """What a browser writes for a date and time, in UTC; None for an empty field."""
    text = text.strip()
    return (
        f"{text}{'' if text.count(':') > 1 else ':00'}Z"
        if text and not text.endswith("Z") and "+" not in text
        else text or None
    )


def _show_run(facts: Facts, session: Session, rights: Rights, run_id: str, offset: int) -> HTMLResponse:
    run, table = _own_run(facts, session, rights, run_id)
    values: dict[str, Any] = {
        "tab": QUERY,
        "run_id": run_id,
        "address": page_of(QUERY_DAG, run_id),
        "conf": run.conf or {},
        "state": str(run.state),
        "renew": None,
        "outcome": None,
        "rows": [],
        "offset": offset,
        "again": page(QUERY, table=table.qualified_name),
        "downloads": (),
        "failed": [],
        "older": None,
        "newer": None,
    }
    if str(run.state) == "failed":
        problems = find_problems(QUERY_DAG, run_id)
        values["failed"] = [line for one in problems for line in (one.error or str(one.task)).splitlines()]
    elif str(run.state) != "success":
        values["renew"] = _RENEW_SECONDS
    else:
        with open_query_result(table, run_id) as result:
            values |= _rows(result, result.outcome, run_id, offset)
    return render("result.html", **values)


def _rows(result: QueryResult, outcome: QueryOutcome, run_id: str, offset: int) -> dict[str, Any]:
    following = offset + SHOWN_ROWS
    return {
        "outcome": outcome,
        "rows": list(islice(result.rows(), offset, following)),
        "downloads": tuple((words, page(f"{QUERY}/rows.{words}", run=run_id)) for words in ("csv", "jsonl")),
        "older": page(QUERY, run=run_id, offset=offset - SHOWN_ROWS) if offset >= SHOWN_ROWS else None,
        "newer": page(QUERY, run=run_id, offset=following) if following < outcome.rows else None,
    }


def _own_run(facts: Facts, session: Session, rights: Rights, run_id: str) -> tuple[DagRun, TableSettings]:
    """A run that this user started, and the settings that open its result. Refuses any other with the words of one that is not there."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == QUERY_DAG, DagRun.run_id == run_id))
    if run is None or run.triggering_user_name != rights.user.get_name():
        raise no_such("query of yours", run_id)
    asked = str((run.conf or {}).get("table") or "")
    rights.require_table(facts.settings, asked)
    table = facts.store_table(asked)
    if table is None:
        raise no_such("table", asked)
    return run, table


def _download(
    user: GetUserDep,
    session: Session,
    run_id: str,
    form: Callable[[QueryResult], Iterator[bytes]],
    media_type: str,
    ending: str,
) -> StreamingResponse:
    rights = rights_of(user)
    rights.require_trigger(QUERY_DAG)
    run, table = _own_run(gathering.facts(), session, rights, run_id)
    if str(run.state) != "success":
        raise HTTPException(status.HTTP_409_CONFLICT, f"The query {run_id} has no result; its run is {run.state}.")
    opened = ExitStack()
    result = opened.enter_context(open_query_result(table, run_id))  # its error is told before the answer begins

    def chunks() -> Iterator[bytes]:
        with opened:
            yield from form(result)

    headers = HEADERS | {"Content-Disposition": f'attachment; filename="rows.{ending}"'}
    return StreamingResponse(chunks(), media_type=media_type, headers=headers)
