"""What every step of a verification run needs: the request, the stores, who asked."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property

from airflow.sdk import Context

from strongroom.ledger.claims import shared_clock
from strongroom.object_keys import ArchiveId
from strongroom.settings import Settings, load_settings
from strongroom.statistics.rereading import VerificationError, find_archives
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store, find_archive
from strongroom_airflow.identity import identity_of


class VerificationRun:
    """One run of the DAG, as one of its tasks sees it.

    :param context: Airflow's context of the task.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._dag_run = context["dag_run"]

    @cached_property
    def settings(self) -> Settings:
        """Of all tables."""
        return load_settings()

    @property
    def who(self) -> str:
        """The user who triggered the run; otherwise the run itself."""
        run = identity_of(self.context)
        return run.triggered_by or str(run)

    @property
    def why(self) -> str | None:
        """The reason that was given."""
        return self.context["params"]["why"] or None

    def find(self) -> list[tuple[str, ArchiveId]]:
        """The archives that the run's parameters name, each with the configured table whose settings open its store."""
        params = self.context["params"]
        archives, table = params["archives"] or (), params["table"]
        if bool(archives) == bool(table):
            raise VerificationError(
                "a verification needs either archives or a table with a range of partitions",
                found="both" if archives else "neither",
                hint="Nothing was read. Trigger the DAG again and fill in one of the two.",
            )
        if archives:
            found = [find_archive(self.settings, text) for text in dict.fromkeys(archives)]
            return [(settings.table, archive) for settings, _, archive in found]
        settings = self.settings.table(table)
        named = find_archives(
            connect_store(settings),
            settings.schema_name,
            settings.table_name,
            params["first_partition"],
            params["last_partition"],
        )
        return [(settings.table, archive) for archive in named]

    def store(self, store_table: str) -> Store:
        """The store that a configured table's settings open."""
        return connect_store(self.settings.table(store_table))

    def now(self, store: Store) -> datetime:
        """The time now, in UTC, by the clock of the store in question."""
        return shared_clock(store, datetime.now(timezone.utc))()
