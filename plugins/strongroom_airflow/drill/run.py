"""What every step of a run of drills needs: the stores, the scratch database, staging, who asked."""

from __future__ import annotations

from contextlib import AbstractContextManager

from strongroom.database.session import Connection
from strongroom.errors import ConfigurationError
from strongroom.ledger.restore_records import make_restore_id
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import DrillSettings, TableSettings
from strongroom.storage.staging import OF_RESTORES, Staging
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_staging, connect_store, store_tables
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.task_run import RunOfAllTables


class DrillRun(RunOfAllTables):
    """One run of the DAG, as one of its tasks sees it."""

    @property
    def who(self) -> str:
        """The user who triggered the run; otherwise the run itself."""
        return self.identity.triggered_by or str(self.identity)

    @property
    def run_id(self) -> str:
        """Airflow's name of the run."""
        return str(self._dag_run.run_id)

    @property
    def stores(self) -> list[TableSettings]:
        """One table for each archive store: its settings open the store."""
        return store_tables(self.settings)

    @property
    def drills(self) -> dict[str, DrillSettings]:
        """The settings of the drills of each table."""
        return {table.qualified_name: table.drill for table in self.settings.tables.values()}

    def store(self, store_table: str) -> Store:
        """The store that a configured table's settings open."""
        return connect_store(self.settings.table(store_table))

    def table_of(self, archive_id: str, store_table: str) -> TableSettings:
        """The settings of an archive's table; of another table in its store where it is not configured any more."""
        archive = ArchiveId.parse(archive_id)
        try:
            return self.settings.table(f"{archive.schema_name}.{archive.table_name}")
        except ConfigurationError:
            return self.settings.table(store_table)

    def scratch(self, table: TableSettings) -> AbstractContextManager[Connection]:
        """A session on the database that a table's archives are restored into as a drill."""
        return connect_database(table, table.drill_conn_id, application_name=f"strongroom {table.table} drill")

    def staging(self, table: TableSettings) -> Staging:
        """The staging of this task, which the sweep knows as that of a restore."""
        name = f"drill-{make_restore_id(self.run_id)}-{self.context['ti'].map_index}"
        return connect_staging(table).of(OF_RESTORES, name)
