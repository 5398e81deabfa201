"""From Airflow connections to sessions on source databases. Most commands open none, so psycopg is not loaded for them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from psycopg import pq
from psycopg.conninfo import make_conninfo

from strongroom.database.session import Connection, open_source
from strongroom.settings import TableSettings
from strongroom_airflow.connections import no_connection

_LIBPQ_OPTIONS = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def connect_database(
    settings: TableSettings, conn_id: str, *, application_name: str
) -> AbstractContextManager[Connection]:
    """Open a session on a table's database.

    Args:
        settings: Of the table: its time-outs, and whether TLS is required.
        conn_id: The connection to use, such as ``settings.source_conn_id``; it decides what the session may do.
        application_name: What ``pg_stat_activity`` shows.
    """
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
    """An Airflow connection of type postgres as a libpq connection string, with the libpq options in its extra."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise no_connection(conn_id, "postgres") from None
    options = {key: value for key, value in connection.extra_dejson.items() if key in _LIBPQ_OPTIONS}
    given = {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.schema,
        "user": connection.login,
        "password": connection.password,
    }
    return make_conninfo("", **options, **{key: value for key, value in given.items() if value})
