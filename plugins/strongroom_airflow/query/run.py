"""What the step of a query needs: the request, the table's settings, the store, staging."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from pydantic import ValidationError

from strongroom.errors import QueryError
from strongroom.ledger.claims import shared_clock
from strongroom.query.conditions import unfit_request
from strongroom.query.records import QueryRequest
from strongroom.query.result import make_query_id
from strongroom.settings import TableSettings, load_settings
from strongroom.storage.staging import OF_QUERIES, Staging
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_staging, connect_store
from strongroom_airflow.task_run import TaskRun


class QueryRun(TaskRun):
    """One run of the query DAG, as its task sees it.

    :param context: Airflow's context of the task.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._params: dict[str, Any] = {name: value for name, value in context["params"].items() if value is not None}

    @cached_property
    def settings(self) -> TableSettings:
        """Settings of the table whose archives are searched."""
        table = self.named_table
        if table is None:
            raise QueryError(
                "a query needs a table, or archives",
                hint="Nothing was read. Trigger the DAG again and fill in one of the two.",
            )
        return load_settings().table(table)

    @cached_property
    def request(self) -> QueryRequest:
        """The run's parameters, checked."""
        by = self._dag_run.triggering_user_name
        if not self._params.get("why"):
            raise QueryError(
                "the query does not say why",
                hint="Nothing was read. Trigger the DAG again and fill in Why: an auditor will ask.",
            )
        asked = {**self._params, "table": self.settings.qualified_name, "triggered_by": by}
        try:
            return QueryRequest.model_validate({**asked, "who": self._params.get("who") or by or "unknown"})
        except ValidationError as error:
            raise unfit_request(error) from None

    @cached_property
    def store(self) -> Store:
        """The archive store of the table."""
        return connect_store(self.settings)

    @property
    def folder(self) -> Path:
        """The folder of this machine for the part that is searched."""
        return self.settings.working_folder[0]

    def staging(self) -> Staging:
        """Where the result goes."""
        return connect_staging(self.settings).of(OF_QUERIES, make_query_id(self._dag_run.run_id))

    def now(self) -> datetime:
        """The time now, in UTC, by the store's clock."""
        return shared_clock(self.store, datetime.now(timezone.utc))()
