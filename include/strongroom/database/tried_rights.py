"""Rights of a session's role that are really tried, with statements that change nothing.

EXPLAIN plans a statement and lets the server check its rights as for the statement itself, but executes nothing: no row changes, no trigger
fires, no sequence moves. TRUNCATE cannot be explained, so the server is asked.
"""

from __future__ import annotations

from typing import Literal

from psycopg import errors, sql

from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.settings import TableSettings

Right = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]

RIGHTS: tuple[Right, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")

_TRIES: dict[Right, str] = {
    "SELECT": "EXPLAIN SELECT {column} FROM {table} WHERE false",
    "INSERT": "EXPLAIN INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "EXPLAIN UPDATE {table} SET {column} = {column} WHERE false",
    "DELETE": "EXPLAIN DELETE FROM {table} WHERE false",
}


def has_right(connection: Connection, settings: TableSettings, right: Right) -> bool:
    """Whether the role may do this to the rows of a table, which must exist and have its date column.

    Raises:
        psycopg.Error: The server failed for another reason.
    """
    if right == "TRUNCATE":
        # By its oid: to look its name up, the role would need the right to use its schema.
        [(held,)] = fetch_rows(
            connection,
            "SELECT has_table_privilege(c.oid, 'TRUNCATE') AND has_schema_privilege(n.oid, 'USAGE') FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            settings.schema_name,
            settings.table_name,
        )
        return bool(held)
    statement = sql.SQL(_TRIES[right]).format(
        table=qualified(settings.schema_name, settings.table_name), column=_some_column(connection, settings)
    )
    try:
        connection.execute(statement)
    except errors.InsufficientPrivilege:
        return False
    return True


def _some_column(connection: Connection, settings: TableSettings) -> sql.Identifier:
    """The date column; of a table whose rows others date, its first one."""
    if not settings.is_member:
        return sql.Identifier(settings.date_column)
    [(name,)] = fetch_rows(
        connection,
        "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s "
        "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum LIMIT 1",
        settings.schema_name,
        settings.table_name,
    )
    return sql.Identifier(name)


def is_owner(connection: Connection, settings: TableSettings) -> bool:
    """Whether the role owns a table, itself or as a member of the owner."""
    [(owns,)] = fetch_rows(
        connection,
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND pg_has_role(c.relowner, 'MEMBER'))",
        settings.schema_name,
        settings.table_name,
    )
    return bool(owns)


def table_exists(connection: Connection, settings: TableSettings) -> bool:
    """Whether the database of a session has a table."""
    [(exists,)] = fetch_rows(
        connection,
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)",
        settings.schema_name,
        settings.table_name,
    )
    return bool(exists)


def current_role(connection: Connection) -> str:
    """The session's role, quoted for SQL."""
    [(role,)] = fetch_rows(connection, "SELECT quote_ident(current_user)")
    return str(role)


def quoted_name(connection: Connection, settings: TableSettings) -> str:
    """A table's name, quoted for SQL."""
    [(name,)] = fetch_rows(
        connection, "SELECT format('%%I.%%I', %s::text, %s::text)", settings.schema_name, settings.table_name
    )
    return str(name)


def may_create_in(connection: Connection, schema_name: str) -> bool:
    """Whether the role may create tables in a schema: one is created, and rolled back."""
    [(exists,)] = fetch_rows(connection, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", schema_name)
    if not exists:
        return False
    name = sql.Identifier(schema_name, "strongroom_check")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("CREATE TABLE {} (tried boolean)").format(name))
    except errors.InsufficientPrivilege:
        return False
    except errors.DuplicateTable:
        return True
    return True
