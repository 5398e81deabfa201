"""The roles of the source database: each does its work, and is refused what is not its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial

import psycopg
from psycopg import errors

from strongroom.checks.doors import Doors
from strongroom.checks.result import Checklist, CheckResult
from strongroom.database.date_index import has_date_index
from strongroom.database.delete_allowed import require_delete_allowed
from strongroom.database.inspect import inspect_table
from strongroom.database.other_retention import other_retention
from strongroom.database.server_kind import server_kind
from strongroom.database.session import Connection, fetch_rows, read_identity, server_said
from strongroom.database.tried_rights import (
    RIGHTS,
    Right,
    current_role,
    has_right,
    is_owner,
    may_create_in,
    quoted_name,
    table_exists,
)
from strongroom.errors import StrongroomError
from strongroom.records import SourceIdentity, TableShape
from strongroom.settings import TableSettings

_MOST_APART_SECONDS = 60
"""How far the database's clock may be from this machine's before it is worth a word. The store's clock decides, not this one."""

_MAY: Mapping[str, tuple[Right, ...]] = {
    "archiver": ("SELECT", "DELETE"),
    "restorer": ("SELECT", "INSERT"),
    "eraser": ("SELECT", "UPDATE", "DELETE"),
    "drill": (),
}
"""What each role may do to the rows of a table: docs/reference/rights.md."""


def check_databases(tables: Sequence[TableSettings], doors: Doors, now: Callable[[], datetime]) -> list[CheckResult]:
    """Try every role on the tables that it works on.

    Args:
        tables: All tables of archive.yaml.
        doors: How to reach the databases.
        now: This machine's clock.
    """
    results: list[CheckResult] = []
    for conn_id, users in _by(tables, lambda one: one.source_conn_id):
        results += _check_role(conn_id, users, doors, partial(_archiver, now=now))
    for conn_id, users in _by(tables, lambda one: one.replica_conn_id):
        results += _check_role(conn_id, users, doors, _standby)
    for conn_id, users in _by(tables, lambda one: one.restore_conn_id):
        results += _check_role(conn_id, users, doors, _restorer)
    for conn_id, users in _by(tables, lambda one: one.drill_conn_id):
        results += _check_role(conn_id, users, doors, _drill)
    for conn_id, users in _by(tables, lambda one: one.erasure_conn_id if one.subjects.columns else None):
        results += _check_role(conn_id, users, doors, _eraser)
    for conn_id, users in _by(
        tables, lambda one: one.partition_delete.conn_id if one.partition_delete.enabled else None
    ):
        results += _check_role(conn_id, users, doors, _owner)
    return results


def source_of(settings: TableSettings, doors: Doors) -> SourceIdentity | None:
    """Which database a table lies in; None if it cannot be reached, which :func:`check_databases` says."""
    try:
        with doors.database(settings, settings.source_conn_id) as connection:
            return read_identity(connection)
    except StrongroomError:
        return None


def _by(
    tables: Iterable[TableSettings], conn_id_of: Callable[[TableSettings], str | None]
) -> list[tuple[str, list[TableSettings]]]:
    users: dict[str, list[TableSettings]] = {}
    for table in tables:
        if (conn_id := conn_id_of(table)) is not None:
            users.setdefault(conn_id, []).append(table)
    return list(users.items())


def _check_role(
    conn_id: str,
    tables: list[TableSettings],
    doors: Doors,
    work: Callable[[Connection, Checklist, list[TableSettings]], None],
) -> list[CheckResult]:
    checks = Checklist(f"database {conn_id}")
    try:
        with doors.database(tables[0], conn_id) as connection:
            checks.ok("the database lets this connection in", _where(connection))
            work(connection, checks, tables)
    except StrongroomError as error:
        checks.fault(
            "the checks of this connection run to their end"
            if checks.results
            else "the database lets this connection in",
            error,
        )
    return checks.results


def _where(connection: Connection) -> str:
    [(encrypted,)] = fetch_rows(
        connection, "SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
    )
    info = connection.info
    return f"{info.user}@{info.host}:{info.port}/{info.dbname}, {'encrypted' if encrypted else 'not encrypted, on this machine or a trusted network'}"


def _archiver(
    connection: Connection, checks: Checklist, tables: list[TableSettings], now: Callable[[], datetime]
) -> None:
    _clock(connection, checks, now)
    _server(connection, checks)
    for table in tables:
        name = table.qualified_name

        def inspected(table: TableSettings = table) -> str:
            shape = inspect_table(connection, table).shape
            require_delete_allowed(connection, table)
            return f"{len(shape.columns)} columns, key {', '.join(shape.primary_key)}, {_dating(shape)}"

        if not checks.attempt(f"{name} can be archived, and its rows deleted", inspected):
            continue
        _rights(connection, checks, table, "archiver")
        _require_no_owner(connection, checks, table)
        _require_no_other_retention(connection, checks, table)
        if table.is_member:
            continue
        if not has_date_index(connection, table.schema_name, table.table_name, table.date_column):
            checks.warning(
                f"an index of {name} begins with {table.date_column}",
                "there is none, so each run reads the whole table",
                f"CREATE INDEX CONCURRENTLY ON {quoted_name(connection, table)} ({table.date_column});",
            )


def _dating(shape: TableShape) -> str:
    if not shape.dated_through:
        return f"dated by {shape.date_column}"
    steps = (f"{', '.join(one.columns)} to {one.parent}" for one in shape.dated_through)
    return f"dated through {', '.join(steps)}, by {shape.date_column}"


def _clock(connection: Connection, checks: Checklist, now: Callable[[], datetime]) -> None:
    [(theirs,)] = fetch_rows(connection, "SELECT clock_timestamp()")
    apart = abs((theirs.astimezone(timezone.utc) - now()).total_seconds())
    what = "the clocks of the database and of this machine agree"
    if apart > _MOST_APART_SECONDS:
        checks.warning(
            what, f"{apart:,.0f} seconds apart", "Keep both right with NTP, for example: timedatectl set-ntp true"
        )
    else:
        checks.ok(what, f"{apart:.0f} seconds apart")


def _server(connection: Connection, checks: Checklist) -> None:
    kind = server_kind(connection)
    what = "the server is of a kind that was tried"
    if kind.remarks:
        checks.warning(
            what,
            f"{kind}; {'; '.join(kind.remarks)}",
            "Read docs/reference/servers.md, and try it on a copy of the database first.",
        )
    else:
        checks.ok(what, str(kind))


def _require_no_other_retention(connection: Connection, checks: Checklist, table: TableSettings) -> None:
    other = other_retention(connection, table.schema_name, table.table_name)
    what = f"nobody else takes old rows out of {table.qualified_name}"
    if other is None:
        checks.ok(what)
    elif other.known:
        checks.failed(what, other.says, f"{other.fix} Strongroom can drop whole partitions: see partition_delete.")
    else:
        checks.warning(what, other.says, other.fix)


def _standby(connection: Connection, checks: Checklist, tables: list[TableSettings]) -> None:
    [(standby,)] = fetch_rows(connection, "SELECT pg_is_in_recovery()")
    what = "it leads to a standby"
    if standby:
        checks.ok(what)
    else:
        hint = "Let the connection lead to a standby of the source, or take `replica_conn_id` out of archive.yaml."
        checks.failed(what, "pg_is_in_recovery() is false: it is a primary", hint)
    for table in tables:
        _may(connection, checks, table, "SELECT")


def _restorer(connection: Connection, checks: Checklist, tables: list[TableSettings]) -> None:
    for table in tables:
        if _exists(connection, checks, table):
            _rights(connection, checks, table, "restorer")
            _require_no_owner(connection, checks, table)


def _eraser(connection: Connection, checks: Checklist, tables: list[TableSettings]) -> None:
    for table in tables:
        if _exists(connection, checks, table):
            _rights(connection, checks, table, "eraser")


def _drill(connection: Connection, checks: Checklist, tables: list[TableSettings]) -> None:
    for schema in sorted({table.drill.scratch_schema for table in tables}):
        what = f"it may create tables in schema {schema}"
        if may_create_in(connection, schema):
            checks.ok(what)
        else:
            role = current_role(connection)
            checks.failed(
                what, f"{role} may not, or there is no such schema", "Run deploy/sql/drill.sql in that database."
            )
    for table in tables:
        if table_exists(connection, table):  # the drill may have a server of its own
            _rights(connection, checks, table, "drill")


def _owner(connection: Connection, checks: Checklist, tables: list[TableSettings]) -> None:
    for table in tables:
        if not _exists(connection, checks, table):
            continue
        what = f"it owns {table.qualified_name}, so that it may detach partitions"
        if is_owner(connection, table):
            checks.ok(what)
        else:
            role, name = current_role(connection), quoted_name(connection, table)
            hint = (
                f"ALTER TABLE {name} OWNER TO {role}; or name a connection of the owner in `partition_delete.conn_id`."
            )
            checks.failed(what, f"{role} does not", hint)


def _exists(connection: Connection, checks: Checklist, table: TableSettings) -> bool:
    if table_exists(connection, table):
        return True
    hint = "Let the connection lead to the database of the source, or correct the table's name in archive.yaml."
    checks.failed(f"{table.qualified_name} is in its database", "there is no such table there", hint)
    return False


def _require_no_owner(connection: Connection, checks: Checklist, table: TableSettings) -> None:
    role, name = current_role(connection), quoted_name(connection, table)
    hint = f"ALTER TABLE {name} OWNER TO …;        -- another role: an owner ({role}) may do anything\nthen run deploy/sql/roles.sql again"
    checks.refused(f"owning {table.qualified_name}", is_owner(connection, table), hint)


def _rights(connection: Connection, checks: Checklist, table: TableSettings, role: str) -> None:
    for right in RIGHTS:
        if right in _MAY[role]:
            if (role, right) not in (("archiver", "SELECT"), ("archiver", "DELETE")):  # its inspection said so
                _may(connection, checks, table, right)
        else:
            _must_not(connection, checks, table, right)


def _may(connection: Connection, checks: Checklist, table: TableSettings, right: Right) -> None:
    what = f"it may {right} rows of {table.qualified_name}"
    held = _try(connection, checks, table, right, what)
    if held:
        checks.ok(what)
    elif held is not None:
        grant = f"GRANT {right} ON {quoted_name(connection, table)} TO {current_role(connection)};"
        checks.failed(what, "permission denied", f"{grant}        -- as the owner of the table")


def _must_not(connection: Connection, checks: Checklist, table: TableSettings, right: Right) -> None:
    what = f"{right} on {table.qualified_name}"
    held = _try(connection, checks, table, right, what)
    if held is None:
        return
    revoke = f"REVOKE {right} ON {quoted_name(connection, table)} FROM {current_role(connection)};"
    checks.refused(
        what, held, f"{revoke}\nor run deploy/sql/roles.sql again: it also finds rights through PUBLIC and other roles"
    )


def _try(connection: Connection, checks: Checklist, table: TableSettings, right: Right, what: str) -> bool | None:
    """Whether the role has a right; None, and noted, if the server failed for another reason."""
    try:
        return has_right(connection, table, right)
    except (errors.OperationalError, errors.InterfaceError):
        raise
    except psycopg.Error as error:
        said = server_said(error.diag) or f"{type(error).__name__} (SQLSTATE {error.sqlstate or 'none'})"
        checks.warning(what, f"could not be tried: {said}", "Look at the table's name and its date column.")
        return None
