"""The totals: what is archived, what waits and what it costs, of the tables that the user may see."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from strongroom.overview.facts import StoreFacts, merged
from strongroom.overview.source import TableRows
from strongroom.settings import qualify
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.page import shown
from strongroom.statistics.records import Statistics
from strongroom_airflow.pages.addresses import MAP, TOTALS, page
from strongroom_airflow.pages.gathering import Facts, gathering
from strongroom_airflow.pages.rendering import render
from strongroom_airflow.pages.rights import rights_of

router = APIRouter()

_READ_AGAIN_SECONDS = 15.0


@router.get(TOTALS)
def show_totals(user: GetUserDep, again: bool = False) -> HTMLResponse:
    """The figures of all tables together, as far as the user may see them."""
    facts = gathering.facts(seconds=_READ_AGAIN_SECONDS if again else 0.7, fresh=again)
    rights = rights_of(user)
    statistics = visible_statistics(facts, cache(lambda table: rights.sees_table(facts.settings, table)))
    tables = [one.table for one in statistics.tables]
    return render(
        "totals.html",
        tab=TOTALS,
        age=facts.age,
        again=page(TOTALS, again=1),
        read=bool(facts.store_facts),
        problems=facts.problems(tables),
        **shown(statistics, {table: page(MAP, table=table) for table in tables}),
    )


def visible_statistics(facts: Facts, sees: Callable[[str], bool]) -> Statistics:
    """The statistics of the tables (`schema.table`) that somebody may see; no sum counts another table."""
    settings, told = facts.settings, merged(facts.store_facts)
    told = told.seen(sees) if told else StoreFacts(read_at=facts.now)
    return make_statistics(
        settings.model_copy(
            update={
                "tables": {name: table for name, table in settings.tables.items() if sees(table.qualified_name)},
                "left_out": {name: fault for name, fault in settings.left_out.items() if sees(qualify(name))},
            }
        ),
        told.archives,
        damaged=told.damaged,
        counts={name: rows.counts if isinstance(rows, TableRows) else rows for name, rows in facts.rows.items()},
        holds=told.holds,
        proofs=told.proofs,
        now=facts.now,
    )
