"""Search: archives, holds and runs by table, time, partition key, checksum, run or archive id."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagTag
from airflow.models.dagrun import DagRun
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.overview.facts import StoreFacts, merged
from strongroom.overview.search import MOST, Found, Some, search
from strongroom_airflow.pages.addresses import ARCHIVE, PARTITION, SEARCH, held, page
from strongroom_airflow.pages.gathering import gathering
from strongroom_airflow.pages.latest_runs import RunLine, line_of
from strongroom_airflow.pages.rendering import render
from strongroom_airflow.pages.rights import Rights, rights_of

router = APIRouter()

TAG = "strongroom"
"""Every DAG of the package has this tag."""

_LONGEST = 300
_SHORTEST_RUN = 3
"""Fewer characters than this name no run."""


@router.get(SEARCH)
def show_search(user: GetUserDep, session: SessionDep, q: str = "") -> HTMLResponse:
    """What the words of ``q`` mean, as far as the user may see it."""
    facts = gathering.facts()
    rights = rights_of(user)
    text, found, runs = q.strip()[:_LONGEST], Found(), Some[RunLine]()
    told = merged(facts.store_facts) or StoreFacts(read_at=facts.now)
    if text:
        found = search(told.seen(lambda table: rights.sees_table(facts.settings, table)), text)
        runs = find_runs(session, rights, found.run_words)
    return render(
        "search.html",
        tab=SEARCH,
        age=facts.age,
        read=bool(facts.store_facts),
        q=text,
        found=found,
        runs=runs,
        archive_page=lambda archive_id: page(ARCHIVE, id=archive_id),
        partition_page=lambda table, key: page(PARTITION, table=table, key=key),
        hold_page=held,
        problems=facts.problems(
            one.qualified_name
            for one in facts.settings.tables.values()
            if rights.sees_table(facts.settings, one.qualified_name)
        ),
    )


def find_runs(session: Session, rights: Rights, words: Sequence[str]) -> Some[RunLine]:
    """The latest runs of Strongroom's DAGs whose id holds all words, of the DAGs that the user may read."""
    if not words or min(map(len, words)) < _SHORTEST_RUN:
        return Some()
    dags = [dag for dag in session.scalars(select(DagTag.dag_id).where(DagTag.name == TAG)) if rights.sees(dag)]
    meant = [DagRun.dag_id.in_(dags), *(DagRun.run_id.icontains(word, autoescape=True) for word in words)]
    count = session.scalar(select(func.count()).select_from(DagRun).where(*meant)) or 0
    runs = session.scalars(select(DagRun).where(*meant).order_by(DagRun.id.desc()).limit(MOST))
    shown = tuple(map(line_of, runs))
    return Some(shown, max(0, count - len(shown)))
