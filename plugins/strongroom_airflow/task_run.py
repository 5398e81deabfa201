"""What every task knows of its run, whichever DAG it is of."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property

from airflow.sdk import Context

from strongroom.ledger.claims import shared_clock
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.settings import Settings, load_settings
from strongroom.storage.store import Store
from strongroom_airflow.identity import identity_of


class TaskRun:
    """A run, as one of its tasks sees it.

    :param context: Airflow's context of the task.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._dag_run = context["dag_run"]

    @property
    def identity(self) -> RunIdentity:
        """The name of this run in claims and evidence."""
        return identity_of(self.context)

    @property
    def named_table(self) -> str | None:
        """The table that the run's parameters name, or else that of their first archive; None if they name neither."""
        params = self.context["params"]
        if params.get("table"):
            return str(params["table"])
        for archive_id in params.get("archives") or ():
            archive = ArchiveId.parse(archive_id)
            return f"{archive.schema_name}.{archive.table_name}"
        return None


class RunOfAllTables(TaskRun):
    """A run of a DAG that works on the archives of all tables and stores."""

    @cached_property
    def settings(self) -> Settings:
        """Of all tables."""
        return load_settings()

    def now(self, store: Store) -> datetime:
        """The time now, in UTC, by the clock of the store in question."""
        return shared_clock(store, datetime.now(timezone.utc))()
