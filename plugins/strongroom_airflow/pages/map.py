"""The map: every table and partition at a glance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from strongroom.ledger.restore_records import make_restore_id
from strongroom.overview.chart import Chart, TableRow, make_chart
from strongroom.overview.columns import Column, Square, columns_of, squares
from strongroom.overview.states import State, worst_first
from strongroom_airflow.pages.actions import RESTORE, VERIFY
from strongroom_airflow.pages.addresses import MAP, PARTITION, page
from strongroom_airflow.pages.gathering import Facts, gathering
from strongroom_airflow.pages.latest_runs import latest_runs, paused_dags, running
from strongroom_airflow.pages.rendering import render
from strongroom_airflow.pages.rights import Rights, archive_dag, rights_of

router = APIRouter()

MOST_COLUMNS = 120
"""The map shows the newest of more columns; filters show the others."""

_READ_AGAIN_SECONDS = 15.0

_RENEW_SECONDS = 2
"""How often the page is read again while a store or table is read for the first time."""


@dataclass(frozen=True)
class Filters:
    """What the address asks for; months are texts such as `2026-05`."""

    table: str
    state: str
    first: str
    last: str

    @property
    def any(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.table or self.state or self.first or self.last)

    def covers(self, column: Column) -> bool:
        """Whether a column lies between the months."""
        return (not self.first or column.month >= self.first) and (not self.last or column.month <= self.last)


@dataclass(frozen=True)
class ShownSquare:
    """One field of the map, as the template needs it; ``cell`` is what a form sends for it."""

    css: str
    sign: str
    words: str
    address: str | None
    cell: str | None
    matches: bool


@dataclass(frozen=True)
class ShownRow:
    """One table of the map, as the template needs it."""

    table: str
    note: str
    title: str
    address: str
    squares: tuple[ShownSquare, ...]


@router.get(MAP)
def show_map(
    user: GetUserDep,
    session: SessionDep,
    table: str = "",
    state: str = "",
    first: str = Query("", alias="from"),
    last: str = Query("", alias="to"),
    again: bool = False,
) -> HTMLResponse:
    """The map, as far as the user may see it."""
    facts = gathering.facts(seconds=_READ_AGAIN_SECONDS if again else 0.7, fresh=again)
    rights = rights_of(user)
    chart = visible_chart(rights, session, facts)
    filters = Filters(table, state if state in {one.value for one in State} else "", first, last)
    shown = [one for one in chart.tables if not table or one.table == table]
    columns = [column for column in columns_of(shown) if filters.covers(column)][-MOST_COLUMNS:]
    paused = paused_tables(session, facts, chart)
    rows = [
        _show(one, columns, filters, paused=one.table in paused, known=facts.knows_archives_of(one.table))
        for one in shown
        if columns
    ]
    counts = replace(chart, tables=tuple(shown)).counts()
    return render(
        "map.html",
        tab=MAP,
        headline=replace(chart, tables=tuple(shown)).headline(),
        age=facts.age,
        again=page(
            MAP,
            **{"table": table or None, "state": state or None, "from": first or None, "to": last or None, "again": 1},
        ),
        filters=filters,
        tables=[one.table for one in chart.tables],
        states=[one for one in State if one is not State.BEFORE],
        rows=[row for row in rows if not filters.state or any(square.matches for square in row.squares)],
        nothing=_nothing(chart, filters),
        columns=columns,
        unit="month" if all(column.whole_month for column in columns) else "partition",
        groups=[(name, len(list(group))) for name, group in groupby(column.group for column in columns)],
        actions=_actions(rights, facts, shown),
        legend=[(one, counts[one]) for one in State if counts[one]],
        others=[one for one in State if not counts[one]],
        renew=_RENEW_SECONDS if facts.reading(one.table for one in chart.tables) else None,
        problems=facts.problems(one.table for one in shown),
    )


def visible_chart(rights: Rights, session: Session, facts: Facts, tables: Iterable[str] | None = None) -> Chart:
    """The chart of the tables that a user may see; of the given ones alone, if any are given."""
    settings = facts.settings
    names = {one.qualified_name: f"archive__{one.slug}" for one in settings.tables.values() if not one.is_member}
    chart = make_chart(
        settings,
        facts.store_facts,
        facts.rows,
        latest_runs(session, {dag_id: name for name, dag_id in names.items() if rights.sees(dag_id)}),
        now=facts.now,
        restoring=restoring(session),
        sees=lambda table: rights.sees_table(settings, table) and (tables is None or table in tables),
    )
    rows = tuple(one if facts.knows_archives_of(one.table) else _without_archives(one) for one in chart.tables)
    return replace(chart, tables=rows)


def restoring(session: Session) -> set[str]:
    """The ids of the restores whose runs have not ended."""
    return set(map(make_restore_id, running(session, RESTORE)))


def _without_archives(row: TableRow) -> TableRow:
    """A table whose store was not read: nobody may call a partition empty or overdue."""
    told = {State.HOT, State.RUNNING, State.FAILED}
    cells = []
    for cell in row.cells:
        states = told.intersection(cell.states)
        cells.append(replace(cell, states=worst_first(states if State.HOT in states else states | {State.UNKNOWN})))
    return replace(row, cells=tuple(cells), oldest_overdue_at=None)


def paused_tables(session: Session, facts: Facts, chart: Chart) -> set[str]:
    """The tables of a chart whose DAG is paused."""
    dags = {archive_dag(facts.settings, one.table): one.table for one in chart.tables if one.configured}
    return {dags[dag_id] for dag_id in paused_dags(session, filter(None, dags))}


def _actions(rights: Rights, facts: Facts, shown: Iterable[TableRow]) -> list[tuple[str, str]]:
    """What the user may do with several partitions at once."""
    dags = [archive_dag(facts.settings, one.table) for one in shown]
    allowed = {
        "archive": any(rights.may_trigger(dag_id) for dag_id in dags if dag_id is not None),
        "verify": rights.may_trigger(VERIFY),
        "restore": rights.may_trigger(RESTORE),
    }
    return [(action, action.capitalize()) for action, may in allowed.items() if may]


def _show(row: TableRow, columns: list[Column], filters: Filters, *, paused: bool, known: bool) -> ShownRow:
    notes = []
    if not row.configured:
        notes.append("not configured")
    elif paused:
        notes.append("paused")
    if row.problem:
        notes.append("not counted")
    if not known:
        notes.append("archives not read")
    partitions, months = page(PARTITION, table=row.table), page(MAP, table=row.table)
    return ShownRow(
        table=row.table,
        note=", ".join(notes),
        title=f"{row.table}: next run {row.next_run_at:%Y-%m-%d %H:%M} UTC"
        if row.next_run_at and not paused
        else row.table,
        address=months,
        squares=tuple(_show_square(square, row.table, partitions, months, filters) for square in squares(row, columns)),
    )


def _show_square(square: Square, table: str, partitions: str, months: str, filters: Filters) -> ShownSquare:
    """One square.

    :param partitions: The address of a partition of the table, without its key. An address takes long to make, and a map has
        many thousand of them.
    :param months: The address of the map of the table, without months.
    """
    worst, *others = square.states
    css = ["cell", f"s-{worst.value}"]
    if others:
        css += ["two", f"t-{others[0].value}"]
    matches = not filters.state or any(state.value == filters.state for state in square.states)
    if not matches:
        css.append("faded")
    address, cell = None, None
    if len(square.cells) == 1:
        key = square.cells[0].partition.key
        address, cell = f"{partitions}&key={key}", f"{table}/{key}"
    elif square.cells:
        address = f"{months}&from={square.column.month}&to={square.column.month}"
    return ShownSquare(" ".join(css), worst.sign, square.words, address, cell, matches)


def _nothing(chart: Chart, filters: Filters) -> str:
    if not chart.tables:
        return "There is no table that you may see. Tables are set up in archive.yaml."
    if filters.any:
        return "No partition matches."
    return "There is no archive yet, and no row was counted yet."
