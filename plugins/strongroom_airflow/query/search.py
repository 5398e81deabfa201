"""The one step of a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk import Context

from strongroom.object_keys.archives import ArchiveId
from strongroom.query.records import QueryOutcome
from strongroom.query.run import run_query
from strongroom_airflow.links import page_of_archives
from strongroom_airflow.query.run import QueryRun
from strongroom_airflow.replication.counting import count_copies
from strongroom_airflow.step import StepOperator, conclude

_NAMED = 20
"""How many archives that were not searched XCom and the log name; the result names all."""


class QueryArchiveOperator(StepOperator):
    """Search archives, put the query on record in the store, and leave the rows in staging for a day.

    Log and XCom have columns and operators of the conditions, never a value, and never a row.
    """

    ui_color = "#eeeaf6"

    @contextmanager
    def opened(self, context: Context) -> Iterator[QueryRun]:
        yield QueryRun(context)

    def step(self, run: QueryRun) -> tuple[str, dict[str, Any], Any]:
        request = run.request  # what cannot be asked is refused before anything is opened
        with run.staging() as staging:
            outcome = run_query(
                run.store,
                staging,
                request,
                run=run.identity,
                limits=run.settings.query,
                folder=run.folder,
                now=run.now(),
            )
        count_copies(outcome.read_from_replica)
        for one in outcome.not_searched[:_NAMED]:
            self.log.warning("%s", one)
        self.page = page_of_archives(ArchiveId.parse(one.archive_id) for one in outcome.searched)
        conclude(run.context, outcome.sentence())
        return outcome.sentence(), _facts(outcome), _summary(outcome)


def _facts(outcome: QueryOutcome) -> dict[str, Any]:
    request = outcome.request
    return {
        "table": request.table,
        "since": request.since and request.since.isoformat(),
        "before": request.before and request.before.isoformat(),
        "conditions": [str(condition) for condition in request.conditions],
        "columns": list(request.columns),
        "limit": request.limit,
        "archives": [one.archive_id for one in outcome.searched[:_NAMED]],
        "searched": len(outcome.searched),
        "not_searched": len(outcome.not_searched),
        "scanned": sum(one.scanned for one in outcome.searched),
        "from_replica": outcome.read_from_replica or None,
        "rows": outcome.rows,
        "read_bytes": outcome.bytes_read,
        "search_seconds": outcome.seconds,
        "record_key": outcome.record_key,
        "who": request.who,
        "triggered_by": request.triggered_by,
        "why": request.why,
    }


def _summary(outcome: QueryOutcome) -> dict[str, Any]:
    """What goes into XCom."""
    return {
        "outcome": outcome.outcome,
        "query_id": outcome.query_id,
        "table": outcome.request.table,
        "rows": outcome.rows,
        "searched": len(outcome.searched),
        "not_searched": [str(one) for one in outcome.not_searched[:_NAMED]],
        "expires_at": outcome.expires_at.isoformat(),
        "record_key": outcome.record_key,
    }
