"""From Airflow connections to the domain's sessions and stores."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from psycopg import pq
from psycopg.conninfo import make_conninfo

from strongroom.database.session import Connection, open_source
from strongroom.errors import ConfigurationError
from strongroom.restore.thaw import GlacierStore
from strongroom.settings import Settings, TableSettings
from strongroom.storage.bucket import BucketStore
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import make_client
from strongroom.storage.staging import StagingRoot
from strongroom.storage.staging_folder import FolderRoot
from strongroom.storage.staging_s3 import S3Root
from strongroom.storage.store import Store

# The wrapper says each time where a connection's credentials came from; here that is always Airflow. It may still warn.
# Each task configures logging anew, which resets the levels of all loggers below `airflow`; so this one has another name.
AwsConnectionWrapper._log = logging.getLogger("strongroom.connections")  # type: ignore[assignment]
AwsConnectionWrapper._log.setLevel(logging.WARNING)

_LIBPQ_OPTIONS = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def connect_source(settings: TableSettings, *, application_name: str) -> AbstractContextManager[Connection]:
    """Open a session with the table's source connection.

    Args:
        settings: Name the connection and its time-outs.
        application_name: What ``pg_stat_activity`` shows.
    """
    return _connect(settings.source_conn_id, settings, application_name)


def connect_replica(
    settings: TableSettings, conn_id: str, *, application_name: str
) -> AbstractContextManager[Connection]:
    """Open a session on a standby of the source database, with the source's time-outs."""
    return _connect(conn_id, settings, application_name)


def connect_restore(settings: TableSettings, *, application_name: str) -> AbstractContextManager[Connection]:
    """Open a session with the table's restore connection, whose role may insert."""
    return _connect(settings.restore_conn_id, settings, application_name)


def connect_owner(
    settings: TableSettings, conn_id: str, *, application_name: str
) -> AbstractContextManager[Connection]:
    """Open a session on the source database with a connection of an owner of the table."""
    return _connect(conn_id, settings, application_name)


def _connect(conn_id: str, settings: TableSettings, application_name: str) -> AbstractContextManager[Connection]:
    return open_source(
        source_conninfo(conn_id),
        application_name=application_name,
        tls_required=settings.tls_required,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        lock_timeout_seconds=settings.lock_timeout_seconds,
        idle_timeout_seconds=max(1, min(600, settings.claim_ttl_seconds // 2)),
    )


def source_conninfo(conn_id: str) -> str:
    """An Airflow connection of type postgres as a libpq connection string; libpq options may stand in its extra."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise _no_connection(conn_id, "postgres") from None
    options = {key: value for key, value in connection.extra_dejson.items() if key in _LIBPQ_OPTIONS}
    given = {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.schema,
        "user": connection.login,
        "password": connection.password,
    }
    return make_conninfo("", **options, **{key: value for key, value in given.items() if value})


def connect_store(settings: TableSettings) -> Store:
    """The table's archive store, with the keys (or role, or profile) of its Airflow connection of type aws."""
    return Store(_connect_s3(settings, settings.store_conn_id), settings.store)


def connect_purge_store(settings: TableSettings) -> PurgeStore:
    """The same store with the identity that may remove versions."""
    return PurgeStore(_connect_s3(settings, settings.purge_conn_id), settings.store)


def connect_bucket(settings: TableSettings, conn_id: str | None = None) -> BucketStore:
    """The same store as its bucket's administrator sees it, with another Airflow connection than the store's if named."""
    return BucketStore(_connect_s3(settings, conn_id or settings.store_conn_id), settings.store)


def connect_glacier(settings: TableSettings) -> GlacierStore:
    """The table's store, for parts that may lie in a Glacier class."""
    return GlacierStore(_connect_s3(settings, settings.store_conn_id), settings.store)


def connect_staging(settings: TableSettings) -> StagingRoot:
    """Where the table's staging lies: a folder, or a prefix on S3 with an identity of its own."""
    where = settings.staging_store
    if where is None:
        return FolderRoot(settings.staging)
    return S3Root(PurgeStore(_connect_s3(settings, settings.staging_conn_id), where), settings.scratch)


StoreKey = tuple[str | None, str, str, str]
"""Address, bucket, prefix and connection of a store."""


def store_key(settings: TableSettings) -> StoreKey:
    """What tells the table's archive store from others."""
    return settings.store.endpoint_url, settings.store.bucket, settings.store.prefix, settings.store_conn_id


def store_users(settings: Settings) -> list[TableSettings]:
    """For every archive store that configured tables use, one of those tables."""
    users = {store_key(table): table for table in settings.tables.values()}
    return list(users.values())


def connect_stores(settings: Settings) -> list[Store]:
    """Every archive store that a configured table uses, each once."""
    return [connect_store(table) for table in store_users(settings)]


def _connect_s3(settings: TableSettings, conn_id: str) -> Any:
    hook = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    if not hook.conn_config:  # the hook would take whatever keys the machine has
        raise _no_connection(conn_id, "aws")
    session, endpoint_url = hook.get_session(), hook.conn_config.get_service_endpoint_url("s3")
    return make_client(settings.store, session=session, endpoint_url=endpoint_url, tls_required=settings.tls_required)


def _no_connection(conn_id: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"Airflow has no connection {conn_id}",
        expected=f"a connection of type {kind}",
        hint=f"Nothing was started. Add it under Admin, Connections, or set AIRFLOW_CONN_{conn_id.upper()}.",
    )
