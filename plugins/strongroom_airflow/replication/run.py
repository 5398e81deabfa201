"""What every step of a run needs: the stores that have a replica, and who asked. And the class that its operators extend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Context

from strongroom.errors import ConfigurationError
from strongroom.ledger.copies import require_apart
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store, store_tables
from strongroom_airflow.links import PageLink
from strongroom_airflow.step import StepOperator
from strongroom_airflow.task_run import RunOfAllTables


class ReplicaRun(RunOfAllTables):
    """One run of the DAG, as one of its tasks sees it."""

    @property
    def who(self) -> str:
        """The user who triggered the run; otherwise the run itself."""
        return self.identity.triggered_by or str(self.identity)

    @property
    def stores(self) -> list[TableSettings]:
        """One table for each store that has a replica."""
        return [table for table in store_tables(self.settings) if table.replica_store is not None]

    def pair(self, table: TableSettings) -> tuple[Store, Store]:
        """A store and its replica.

        Raises:
            ConfigurationError: It has none, or it is the store itself.
        """
        store = connect_store(table)
        if store.replica is None:
            raise ConfigurationError(
                f"{store} has no replica",
                expected="`replica.filled_by` and `replica.bucket`",
                hint="Nothing was copied. The settings changed since this run began; start another one.",
            )
        require_apart(store, store.replica)
        return store, store.replica


class ReplicaOperator(StepOperator):
    """A step of a run that copies and compares."""

    ui_color = "#e3eef6"
    operator_extra_links = (PageLink(),)

    @contextmanager
    def opened(self, context: Context) -> Iterator[ReplicaRun]:
        yield ReplicaRun(context)
