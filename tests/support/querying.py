"""A query in its steps, without Airflow, for tests of the domain."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from strongroom.query.records import QueryOutcome, QueryRequest
from strongroom.query.result import make_query_id, open_result
from strongroom.query.run import run_query
from strongroom.records import RunIdentity
from strongroom.settings import QueryLimits
from strongroom.storage.staging import OF_QUERIES
from tests.support.chain import NOW, Chain

RUN = RunIdentity(dag_id="query_archive", run_id="manual__query", triggered_by="ada")

Values = list[tuple[str | None, ...]]


def when(column: str, operator: str, value: Any = None) -> dict[str, Any]:
    """A condition as a run's configuration has it."""
    return {"column": column, "operator": operator, "value": value}


def ask(
    chain: Chain,
    *conditions: dict[str, Any],
    run: RunIdentity = RUN,
    now: datetime = NOW,
    limits: QueryLimits | None = None,
    **asked: Any,
) -> QueryOutcome:
    """Run a query over the chain's table."""
    given = {"table": chain.settings.qualified_name, "who": "ada", "why": "a test", "conditions": conditions, **asked}
    request = QueryRequest.model_validate(given)
    with chain.staging(OF_QUERIES, make_query_id(run.run_id)) as staging:
        return run_query(
            chain.store,
            staging,
            request,
            run=run,
            limits=limits or chain.settings.query,
            folder=Path(chain.settings.staging) / "parts",
            now=now,
        )


def rows(chain: Chain, *, run: RunIdentity = RUN) -> Values:
    """The rows of the last query of a run."""
    with open_result(chain.staging_root(), run.run_id, now=NOW) as result:
        return [row.values for row in result.rows()]


def found(chain: Chain, *conditions: dict[str, Any], **asked: Any) -> Values:
    """The rows of a query."""
    ask(chain, *conditions, **asked)
    return rows(chain)
