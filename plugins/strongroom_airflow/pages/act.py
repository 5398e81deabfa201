"""Ask before an action, and start it: a page that says what will happen, and a form that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Form, HTTPException, Query, Request, status
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from strongroom.calendar import Partition
from strongroom.errors import PartitionError
from strongroom.ledger.holds import Hold
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.archives import ArchiveId
from strongroom.overview.chart import Cell
from strongroom.overview.history import concerns
from strongroom.overview.states import State
from strongroom_airflow.commands.runs import page_of
from strongroom_airflow.pages.actions import Asked, Deed, Proposal, Start, propose
from strongroom_airflow.pages.addresses import ACT, MAP, PARTITION, page
from strongroom_airflow.pages.forgery import make_token, require_own_form
from strongroom_airflow.pages.gathering import Facts, gathering
from strongroom_airflow.pages.map import visible_chart
from strongroom_airflow.pages.rendering import render
from strongroom_airflow.pages.rights import Rights, no_such, rights_of
from strongroom_airflow.trigger import RunError

router = APIRouter()

MOST_CELLS = 200
"""More partitions than this are for `airflow dags backfill`."""

_FRESH_SECONDS = 10.0


@dataclass(frozen=True)
class Result:
    """What became of one run that was to start."""

    what: str
    address: str | None
    run_id: str | None
    error: tuple[str, ...] = ()


@router.get(ACT)
def ask(
    user: GetUserDep,
    session: SessionDep,
    do: str,
    cell: Annotated[list[str], Query(default_factory=list)],
    hold: str = "",
) -> HTMLResponse:
    """The page that asks."""
    facts = gathering.facts(seconds=_FRESH_SECONDS, fresh=True)
    rights = rights_of(user)
    proposal, _ = _propose(facts, session, rights, do, cell, hold)
    return _show(proposal, user, do, cell, hold, facts)


@router.post(ACT)
def do_it(
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    do: Annotated[str, Form()],
    token: Annotated[str, Form()] = "",
    cell: Annotated[list[str] | None, Form()] = None,
    hold: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
    who: Annotated[str, Form()] = "",
    reference: Annotated[str, Form()] = "",
    keep_days: Annotated[str, Form()] = "30",
    dry_run: Annotated[str, Form()] = "",
) -> HTMLResponse:
    """Start what the form asks for."""
    require_own_form(request, token, user)
    facts = gathering.facts(seconds=_FRESH_SECONDS)
    rights = rights_of(user)
    proposal, asked = _propose(facts, session, rights, do, cell or [], hold)
    if not proposal.starts:
        raise HTTPException(status.HTTP_403_FORBIDDEN, " ".join((*proposal.refused, "Nothing was started.")))
    given = {"why": why, "who": who, "reference": reference, "keep_days": keep_days, "dry_run": dry_run}
    fields, wrong = _read_fields(proposal, given)
    if wrong:
        return _show(proposal, user, do, cell or [], hold, facts, given=given, wrong=wrong)
    results = [_begin(start, fields, user) for start in proposal.starts]
    single = asked[0].cell if len(asked) == 1 else None
    return render(
        "started.html",
        title=proposal.title.rstrip("?"),
        results=results,
        started=sum(one.run_id is not None for one in results),
        refused=proposal.refused,
        back=page(PARTITION, table=single.table, key=single.partition.key) if single else page(MAP),
        back_words=f"{single.table} {single.partition.key}" if single else "the map",
    )


def _show(
    proposal: Proposal,
    user: Any,
    do: str,
    cells: list[str],
    hold: str,
    facts: Facts,
    *,
    given: dict[str, str] | None = None,
    wrong: dict[str, str] | None = None,
) -> HTMLResponse:
    return render(
        "act.html",
        proposal=proposal,
        action=page(ACT),
        do=do,
        cells=cells,
        hold=hold,
        token=make_token(user),
        given={"why": "", "who": "", "reference": "", "keep_days": "30", "dry_run": "", **(given or {})},
        wrong=wrong or {},
        danger=do == "release",
        age=facts.age,
        status_code=status.HTTP_422_UNPROCESSABLE_CONTENT if wrong else status.HTTP_200_OK,
    )


def _propose(
    facts: Facts, session: Session, rights: Rights, do: str, cells: list[str], hold_id: str
) -> tuple[Proposal, list[Asked]]:
    if do not in get_args(Deed):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such action.")
    if not 0 < len(cells) <= MOST_CELLS:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT,
            f"Choose 1 to {MOST_CELLS} partitions on the map; for more there is `airflow dags backfill`. Nothing was started.",
        )
    asked = _find(facts, session, rights, cells)
    hold = _find_hold(facts, hold_id, asked) if do == "release" else None
    return propose(do, asked, hold, now=facts.now, rights=rights), asked  # type: ignore[arg-type]


def _find(facts: Facts, session: Session, rights: Rights, cells: list[str]) -> list[Asked]:
    named = list(dict.fromkeys(tuple(cell.rpartition("/")[::2]) for cell in cells))
    for table, _ in named:
        rights.require_table(facts.settings, table)
    chart = visible_chart(rights, session, facts, tables={table for table, _ in named})
    known = {(cell.table, cell.partition.key): cell for cell in chart.cells}
    there = {one.table for one in chart.tables}
    configured = {one.qualified_name: one for one in facts.settings.tables.values()}
    asked = []
    for table, key in named:
        if table not in there:
            raise no_such("table", table)
        try:
            cell = known.get((table, key)) or Cell(
                table, Partition.named(key), (State.EMPTY if facts.knows_archives_of(table) else State.UNKNOWN,)
            )
        except PartitionError:
            raise no_such("partition", f"{table} {key}") from None
        asked.append(Asked(cell, configured.get(table), facts.archives_of(table, key)))
    return asked


def _find_hold(facts: Facts, hold_id: str, asked: list[Asked]) -> Hold | None:
    """The hold, if it covers something of the partitions that the user named and may see."""
    some = [ArchiveId(*split_table(one.cell.table), one.cell.partition.key, 1) for one in asked]
    for known in facts.store_facts:
        for hold in known.holds:
            if hold.hold_id == hold_id and any(concerns(hold, archive) for archive in some):
                return hold
    return None


def _read_fields(proposal: Proposal, given: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form says, as parameters; and what is wrong with which field."""
    fields: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name in proposal.fields:
        text = given[name].strip()
        if name in ("why", "reference"):
            fields[name] = text
            if len(text) < 3:
                wrong[name] = "Write at least three characters; an auditor will read it."
        elif name == "who" and text:
            fields[name] = text
        elif name == "keep_days":
            fields[name] = int(text) if text.isdecimal() else 0
            if not 1 <= fields[name] <= 3650:
                wrong[name] = "Write a whole number from 1 to 3650."
        elif name == "dry_run":
            fields[name] = bool(text)
    return fields, wrong


def _begin(start: Start, fields: dict[str, Any], user: Any) -> Result:
    try:
        run_id = start.begin(fields, user)
    except RunError as error:
        return Result(start.what, None, None, tuple(str(error).splitlines()))
    return Result(start.what, page_of(start.dag_id, run_id), run_id)
