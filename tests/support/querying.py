"""A query in its steps, without Airflow, for tests of the domain."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
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

_RECORDS = "reports/queries/"
_numbers = itertools.count(1)


@dataclass
class Queried(Chain):
    """An archive that many tests query one after another. Each has a run, a staging and records of its own."""

    run_of_query: RunIdentity = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run_of_query = RUN.model_copy(update={"run_id": f"{RUN.run_id}_{next(_numbers)}"})
        self._earlier = set(self.store.keys(_RECORDS))

    def records(self) -> list[str]:
        """The keys of the records that this test's queries left."""
        return [key for key in self.store.keys(_RECORDS) if key not in self._earlier]


def run_of(chain: Chain) -> RunIdentity:
    """The run that queries a chain."""
    return chain.run_of_query if isinstance(chain, Queried) else RUN


def when(column: str, operator: str, value: Any = None) -> dict[str, Any]:
    """A condition as a run's configuration has it."""
    return {"column": column, "operator": operator, "value": value}


def ask(
    chain: Chain,
    *conditions: dict[str, Any],
    run: RunIdentity | None = None,
    now: datetime = NOW,
    limits: QueryLimits | None = None,
    **asked: Any,
) -> QueryOutcome:
    """Run a query over the chain's table."""
    run = run or run_of(chain)
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


def rows(chain: Chain) -> Values:
    """The rows of the last query."""
    with open_result(chain.staging_root(), run_of(chain).run_id, now=NOW) as result:
        return [row.values for row in result.rows()]


def found(chain: Chain, *conditions: dict[str, Any], **asked: Any) -> Values:
    """The rows of a query."""
    ask(chain, *conditions, **asked)
    return rows(chain)
