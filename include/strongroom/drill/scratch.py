"""The tables of drills: each is there for one part of one archive, and is dropped in any case.

A drill holds an advisory lock on its table as long as its session lives. So the next drill knows which tables a crash has left
behind, and drops them, whoever else is at work.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.errors import RestoreError
from strongroom.records import TableShape
from strongroom.restore.target import Target, create_target, find_target, own_type

_PREFIX = "drill_"
_TABLES = """
    SELECT c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind = 'r' AND pg_catalog.starts_with(c.relname, 'drill_')
      AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
    ORDER BY 1
"""


def drop_leftovers(connection: Connection, schema_name: str) -> list[str]:
    """Drop the tables of drills whose sessions are gone.

    Returns:
        Their names.
    """
    dropped = []
    for (name,) in fetch_rows(connection, _TABLES, schema_name):
        [(ours,)] = fetch_rows(connection, "SELECT pg_catalog.pg_try_advisory_lock(%s)", _lock(schema_name, name))
        if ours:
            _drop(connection, schema_name, name)
            dropped.append(name)
    return dropped


def missing_types(connection: Connection, shape: TableShape) -> list[str]:
    """The types of archived columns that the server does not have, because it is older than the one they came from."""
    wanted = dict.fromkeys(own_type(column) for column in shape.columns)
    return [
        name for name in wanted if fetch_rows(connection, "SELECT pg_catalog.to_regtype(%s) IS NULL", name) == [(True,)]
    ]


@contextmanager
def scratch_table(connection: Connection, shape: TableShape, schema_name: str) -> Iterator[Target]:
    """A new table for the rows of an archive, as a restore creates it. It is gone at the end of the block.

    It is not logged, so that its rows reach neither the server's log nor a standby.
    """
    name = f"{_PREFIX}{secrets.token_hex(12)}"
    fetch_rows(connection, "SELECT pg_catalog.pg_advisory_lock(%s)", _lock(schema_name, name))
    try:
        create_target(connection, shape, schema_name, name)
        connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(qualified(schema_name, name)))
        created = find_target(connection, schema_name, name)
        if created is None:
            raise RestoreError(
                f"the table {schema_name}.{name} is gone",
                hint="Nothing was restored, and no archive was changed. Find out who drops tables of drills, then clear this task.",
            )
        yield created
    finally:
        if not connection.broken:
            _drop(connection, schema_name, name)


def _drop(connection: Connection, schema_name: str, name: str) -> None:
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(qualified(schema_name, name)))
    fetch_rows(connection, "SELECT pg_catalog.pg_advisory_unlock(%s)", _lock(schema_name, name))


def _lock(schema_name: str, name: str) -> int:
    """The number of the advisory lock that stands for a table."""
    digest = hashlib.sha256(f"strongroom drill {schema_name}.{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
