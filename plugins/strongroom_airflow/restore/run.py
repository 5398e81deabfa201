"""What every step of a restore needs: the request, the table's settings, the store, staging."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from strongroom.database.session import Connection
from strongroom.errors import RestoreError
from strongroom.ledger.claims import shared_clock
from strongroom.ledger.restore_records import make_restore_id
from strongroom.restore.records import RestoreRequest
from strongroom.settings import TableSettings, load_settings
from strongroom.storage.staging import OF_RESTORES, Staging
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_staging, connect_store
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.task_run import TaskRun


class RestoreRun(TaskRun):
    """One run of the restore DAG, as one of its tasks sees it."""

    @cached_property
    def settings(self) -> TableSettings:
        """Settings of the archived table."""
        table = self.named_table
        if table is None:
            raise RestoreError(
                "a restore needs either archives, or a table with a range of partitions",
                hint="Nothing was read. Trigger the DAG again and fill in one of the two.",
            )
        return load_settings().table(table)

    @cached_property
    def request(self) -> RestoreRequest:
        """The run's parameters, checked."""
        params: dict[str, Any] = {name: value for name, value in self.context["params"].items() if value is not None}
        params["triggered_by"] = self._dag_run.triggering_user_name
        params["who"] = params.get("who") or params["triggered_by"] or "unknown"
        if not params.get("why"):
            raise RestoreError(
                "the restore does not say why",
                hint="Nothing was read. Trigger the DAG again and fill in Why: an auditor will ask.",
            )
        if params.get("table"):
            params["table"] = self.settings.qualified_name
        try:
            return RestoreRequest.model_validate(params)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            raise RestoreError(
                f"the run's parameter {'.'.join(map(str, problem['loc']))} cannot be used",
                found=problem["msg"],
                hint="Nothing was read. Trigger the DAG again with another value.",
            ) from None

    @property
    def restore_id(self) -> str:
        """The name of this restore in records and reports."""
        return make_restore_id(self._dag_run.run_id)

    @property
    def owner(self) -> str:
        """The name of this run in claims."""
        return str(self.identity)

    @cached_property
    def store(self) -> Store:
        """The archive store of the table."""
        return connect_store(self.settings)

    def target(self) -> AbstractContextManager[Connection]:
        """A session on the database that the rows are restored to, named after table and step."""
        name = f"strongroom {self.settings.table} {self.context['ti'].task_id}"
        return connect_database(self.settings, self.settings.restore_conn_id, application_name=name)

    def staging(self, archive_id: str = "") -> Staging:
        """The staging of one archive in this restore; without an id, of the whole restore."""
        return connect_staging(self.settings).of(*filter(None, (OF_RESTORES, self.restore_id, archive_id)))

    def now(self) -> datetime:
        """The time now, in UTC, by the store's clock."""
        return self._clock()

    @cached_property
    def _clock(self) -> Callable[[], datetime]:
        return shared_clock(self.store, datetime.now(timezone.utc))
