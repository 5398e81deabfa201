"""One partition: its archives, where each row went, what happened to it, and what can be done next."""

from __future__ import annotations

from dataclasses import dataclass

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from strongroom.calendar import Partition, hot_until
from strongroom.errors import PartitionError
from strongroom.ledger.restore_records import split_table
from strongroom.overview.chart import Cell
from strongroom.overview.facts import ArchiveFacts
from strongroom.overview.history import History, read_history, whereabouts
from strongroom.overview.states import State
from strongroom.settings import TableSettings
from strongroom_airflow.connections import connect_store
from strongroom_airflow.pages.actions import HOLD, QUERY_DAG, RESTORE, VERIFY, Choice, archive_choice
from strongroom_airflow.pages.addresses import ARCHIVE, PARTITION, QUERY, page
from strongroom_airflow.pages.gathering import gathering
from strongroom_airflow.pages.latest_runs import runs_of
from strongroom_airflow.pages.map import restoring, visible_chart
from strongroom_airflow.pages.rendering import render
from strongroom_airflow.pages.rights import Rights, archive_dag, no_such, rights_of

router = APIRouter()

_MEANINGS = {
    "deleted": "deleted from the table, each still equal to its archived form",
    "gone": "were gone from the table before the delete came to them",
    "changed": "changed in the table since, and stay there",
    "referenced": "came to be referred to by other rows, and stay in the table",
    "kept by a trigger": "were kept in the table by one of its triggers",
    "in detached partitions": "wait in a detached table partition, or were dropped with it",
    "not yet deleted": "archived and not deleted yet",
}

_RENEW_SECONDS = 4
"""How often the page is read again while a run works on the partition."""


@dataclass(frozen=True)
class Share:
    """One piece of the bar that shows where the rows went; place and width in percent."""

    name: str
    rows: int
    start: float
    width: float


@router.get(PARTITION)
def show_partition(user: GetUserDep, session: SessionDep, table: str, key: str, again: bool = False) -> HTMLResponse:
    """The page of one partition."""
    facts = gathering.facts(seconds=10 if again else 0.7, fresh=again)
    rights = rights_of(user)
    rights.require_table(facts.settings, table)
    try:
        partition = Partition.named(key)
    except PartitionError:
        raise no_such("partition", f"{table} {key}") from None
    chart = visible_chart(rights, session, facts, tables={table})
    row = next(iter(chart.tables), None)
    if row is None:
        raise no_such("table", table)
    cell = next((one for one in row.cells if one.partition == partition), None)
    cell = cell or Cell(table, partition, (State.EMPTY if facts.knows_archives_of(table) else State.UNKNOWN,))
    archives = facts.archives_of(table, key)
    opener = facts.store_table(table)
    newest = max((one.archive for one in archives), default=None)
    history, problem = None, None
    if opener is not None:
        history, problem = gathering.ask(lambda: read_history(connect_store(opener), *split_table(table), key, newest))
    dag_id = archive_dag(facts.settings, table)
    configured = next((one for one in facts.settings.tables.values() if one.qualified_name == table), None)
    went = whereabouts(archives)
    under_way = restoring(session).intersection(one.restore_id for one in history.restores) if history else set()
    problems = [*facts.problems([table]), *([problem] if problem else []), *(history.problems if history else ())]
    return render(
        "partition.html",
        table=table,
        key=key,
        cell=cell,
        due_at=hot_until(partition.window, configured.hot_retention) if configured else None,
        counted=row.problem or "",
        age=facts.age,
        again=page(PARTITION, table=table, key=key, again=1),
        archives=archives,
        superseded=[(one, facts.successor_of(one.archive_id)) for one in facts.superseded_in(table, key)],
        damaged=[one for one in cell.archives if one not in {each.archive_id for each in archives}],
        readings={name: reading for known in facts.store_facts for name, reading in known.readings.items()},
        went=went,
        meanings=_MEANINGS,
        shares=_shares(went.archived, went.parts),
        history=history or History((), (), (), ()),
        runs=runs_of(session, dag_id, key) if dag_id else [],
        choices=_choices(rights, configured, dag_id, cell, archives),
        archive_page=lambda archive_id: page(ARCHIVE, id=archive_id),
        release_page=lambda hold_id: page("/act", do="release", cell=f"{table}/{key}", hold=hold_id),
        may_hold=rights.may_trigger(HOLD),
        renew=_RENEW_SECONDS if State.RUNNING in cell.states or under_way else None,
        problems=list(dict.fromkeys(problems)),
    )


def _shares(total: int, parts: tuple[tuple[str, int], ...]) -> list[Share]:
    shares, start = [], 0.0
    for name, rows in parts:
        width = 100 * rows / max(1, total)
        shares.append(Share(name, rows, start, width))
        start += width
    return shares


def _choices(
    rights: Rights,
    configured: TableSettings | None,
    dag_id: str | None,
    cell: Cell,
    archives: list[ArchiveFacts],
) -> list[Choice]:
    """What the user may do next with the partition."""
    where = f"{cell.table}/{cell.partition.key}"
    choices = []
    if configured is not None and dag_id is not None and rights.may_trigger(dag_id):
        choices.append(archive_choice(where, again=bool(archives)))
    if archives and rights.may_trigger(VERIFY):
        choices.append(Choice("Verify", page("/act", do="verify", cell=where)))
    if archives and rights.may_trigger(RESTORE):
        choices.append(Choice("Restore", page("/act", do="restore", cell=where)))
    if rights.may_trigger(HOLD):
        choices.append(Choice("Place a hold", page("/act", do="hold", cell=where)))
    if archives and rights.may_trigger(QUERY_DAG):
        window = cell.partition.window
        choices.append(
            Choice(
                "Look inside",
                page(
                    QUERY,
                    **{
                        "table": cell.table,
                        "from": f"{window.start:%Y-%m-%dT%H:%M}",
                        "to": f"{window.end:%Y-%m-%dT%H:%M}",
                    },
                ),
            )
        )
    return choices
