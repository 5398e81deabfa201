"""Opens databases and stores for the checks, with the Airflow connections that tasks would use."""

from __future__ import annotations

from contextlib import AbstractContextManager

from strongroom.database.session import Connection
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.storage.tried_store import TriedStore
from strongroom.tlog.notes import SignerKey
from strongroom_airflow.connections import connect_store, connect_tried, signing_key, subject_key_of
from strongroom_airflow.database_connections import connect_database


class AirflowDoors:
    """The doors of :class:`strongroom.checks.doors.Doors`."""

    def database(self, settings: TableSettings, conn_id: str) -> AbstractContextManager[Connection]:
        return connect_database(settings, conn_id, application_name="strongroom check")

    def store(self, settings: TableSettings) -> Store:
        return connect_store(settings)

    def purger(self, settings: TableSettings) -> TriedStore:
        return connect_tried(settings, settings.purge_conn_id, settings.store)

    def replica(self, settings: TableSettings) -> Store:
        replica = connect_store(settings).replica
        assert replica is not None  # noqa: S101 - only asked for where there is one
        return replica

    def replica_purger(self, settings: TableSettings) -> TriedStore:
        where = settings.replica_store
        assert where is not None  # noqa: S101 - only asked for where there is one
        return connect_tried(settings, settings.replica.purge_conn_id, where)

    def stager(self, settings: TableSettings) -> TriedStore:
        where = settings.staging_store
        assert where is not None  # noqa: S101 - only asked for where there is one
        return connect_tried(settings, settings.staging_conn_id, where)

    def publisher(self, settings: TableSettings, *, own: bool) -> TriedStore:
        where = settings.iceberg_store if own else settings.store
        assert where is not None  # noqa: S101 - only asked for where there is one
        return connect_tried(settings, settings.iceberg.conn_id, where)

    def signing_key(self, settings: TableSettings) -> SignerKey:
        return signing_key(settings.log_conn_id)

    def subject_key(self, settings: TableSettings) -> object:
        return subject_key_of(settings)
