"""The source database: how to connect, the settings of every session, and what its errors become.

Values leave and enter the server as text, so each session pins every setting that changes how a value is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import psycopg
from psycopg import errors, sql
from psycopg.abc import Params, QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic

from strongroom.errors import ConfigurationError, IntegrityError, SourceAccessError, SourceError, StrongroomError
from strongroom.formats.type_names import is_type_name
from strongroom.records import SourceIdentity
from strongroom.settings.values import is_loopback

Connection = psycopg.Connection[tuple[object, ...]]


class Session(Protocol):
    """What questions are asked in: a connection, or one that notes them (:mod:`strongroom.database.questions`)."""

    def execute(self, query: QueryNoTemplate, params: Params | None = None, /) -> psycopg.Cursor[tuple[object, ...]]:
        """Run one statement."""


PINNED = {
    "array_nulls": "on",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "3",  # the shortest text that reads back to the same bits
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",  # an error instead of silently missing rows
    # Names in values come out qualified, and no user's function or temporary table can replace one of the server's own.
    "search_path": "pg_catalog, pg_temp",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",  # the same query gives the same order
    "timezone": "UTC",
    "xmloption": "content",
}
"""Session settings that decide how values are written, and what is visible."""

NOTHING: Mapping[str, str] = MappingProxyType({})

_CHECKED = "verify-full"
"""The only mode of libpq that encrypts and also checks the server's identity."""

_ROOT_CERTIFICATES = Path("~/.postgresql/root.crt")
"""Where libpq looks for certificate authorities by default."""

_KEEPALIVES = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6}
"""Seconds, and how often. With these both ends notice a silently broken connection within two minutes. By default that takes
hours, during which the server keeps the locks of a batch whose task is long dead."""

# RAISE chooses its message and SQLSTATE freely, and the server itself quotes values in many messages. But nobody can choose which
# function of the server wrote an error.
_NAMES_NO_VALUE = frozenset(
    {"ProcessInterrupts", "PreventCommandIfReadOnly", "mdextend", "mdzeroextend", "LockAcquireExtended"}
)
"""Functions of the server whose messages never quote a value."""

_NAMES_A_TABLE = frozenset({"aclcheck_error", "parserOpenTable", "CheckCmdReplicaIdentity"})
"""Functions of the server whose messages name what the statement names. Inside a function a statement may contain a value."""

_NAMES_A_CONSTRAINT = frozenset(
    {
        "domains.c",
        "execExprInterp.c",
        "execIndexing.c",
        "execMain.c",
        "execPartition.c",
        "nbtinsert.c",
        "ri_triggers.c",
    }
)
"""Source files of the server whose errors name constraints, columns and types truthfully."""

_FINAL = frozenset({"28", "3D", "42"})


@contextmanager
def open_source(
    conninfo: str,
    *,
    application_name: str,
    tls_required: bool = True,
    connect_timeout_seconds: int = 10,
    statement_timeout_seconds: int = 3600,
    lock_timeout_seconds: int = 30,
    idle_timeout_seconds: int = 600,
) -> Iterator[Connection]:
    """Open a session on the source database and close it at the end, whatever happens.

    Args:
        conninfo: libpq connection string.
        application_name: What ``pg_stat_activity`` shows; names the step and the part.
        tls_required: Refuse to talk unencrypted to any host but this one.
        connect_timeout_seconds: Longest wait for the server.
        statement_timeout_seconds: Longest run of one statement.
        lock_timeout_seconds: Longest wait for one lock.
        idle_timeout_seconds: The server ends a session that is idle in a transaction for longer, so a frozen worker
            keeps neither its locks nor the right to continue.

    Raises:
        ConfigurationError: The connection would not be encrypted.
        SourceAccessError: Wrong password, no such database, a right is missing.
        SourceError: The server cannot be reached, or the connection broke.
    """
    parameters = _parse(conninfo)
    if tls_required:
        require_tls(parameters)
    parameters |= {"application_name": application_name[:63], "connect_timeout": connect_timeout_seconds}
    # Set from the first statement on: a session starts in the database's own encoding, and the driver does not know EUC_TW.
    parameters["client_encoding"] = PINNED["client_encoding"]
    parameters = {**_KEEPALIVES, "tcp_user_timeout": 120_000, **parameters}
    with (
        translated_errors(_where(parameters)),
        psycopg.connect(make_conninfo("", **parameters), autocommit=True) as connection,
    ):
        pinned = PINNED | {
            "jit": "off",  # each batch of a delete would be compiled again, which takes longer than the batch
            "statement_timeout": f"{statement_timeout_seconds}s",
            "lock_timeout": f"{lock_timeout_seconds}s",
            "idle_in_transaction_session_timeout": f"{idle_timeout_seconds}s",
            **{f"tcp_{name}": str(value) for name, value in _KEEPALIVES.items()},
        }
        _set(connection, pinned)
        _refuse_shared_session(connection, parameters)
        yield connection


def _refuse_shared_session(connection: Connection, parameters: dict[str, Any]) -> None:
    """Refuse a pooler that gives each transaction another server session: it loses our settings and temporary tables.

    A pooler invents the process number that it reports at login. If it does not keep one server process for us, we get
    another one from time to time, or a second session gets ours.
    """

    def process(session: Connection) -> object:
        row = session.execute("SELECT pg_backend_pid()").fetchone()
        return row and row[0]

    ours = process(connection)
    if ours == connection.info.backend_pid:
        return
    try:
        with psycopg.connect(make_conninfo("", **parameters)) as second:
            shared = process(second) == ours or any(process(connection) != ours for _ in range(3))
    except errors.ProtocolViolation:
        shared = True  # it does not support transactions
    except psycopg.OperationalError:
        shared = False  # it has no other session left, so this one is ours alone
    if shared:
        raise ConfigurationError(
            f"the connection to {_where(parameters)} goes through a pooler that gives each transaction another session",
            expected="one server session from login to logout",
            found="pool_mode transaction or statement, as pgbouncer calls it",
            hint="Nothing was read and no row was deleted. Let the connection lead to PostgreSQL itself, or to a pool with "
            "pool_mode session.",
        )


def pin(connection: Connection, *, locally: Mapping[str, str] = NOTHING) -> None:
    """Set the pinned settings again, because functions of other users may have run in this session.

    Call this before reading or comparing anything in a transaction that wrote a row: a trigger can change any setting.
    A rollback restores the settings from before the transaction.

    Args:
        locally: Further settings, for this transaction only.

    Raises:
        IntegrityError: Such a function has prepared a statement under a name of the driver's. It would answer in place of ours.
    """
    if _set(connection, PINNED, locally, _REPLACED)[-1]:
        raise IntegrityError(
            "a function of the database prepared a statement in the place of one of ours",
            expected="no PREPARE of a name that begins with _pg3_",
            hint="The transaction was rolled back: no row was changed by it. Find the trigger or the type whose function does that, "
            "take it away, then clear this task.",
        )


def set_locally(connection: Connection, settings: Mapping[str, str]) -> None:
    """Change settings for this transaction only."""
    _set(connection, NOTHING, settings)


_REPLACED = "EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() AS p WHERE p.from_sql AND pg_catalog.starts_with(p.name, '_pg3_'))"
"""Whether somebody prepared a statement by SQL, under a name as the driver gives it to what it prepares by protocol."""


def _set(
    connection: Connection, settings: Mapping[str, str], locally: Mapping[str, str] = NOTHING, also: str = "NULL"
) -> tuple[object, ...]:
    each = [(*setting, False) for setting in settings.items()] + [(*setting, True) for setting in locally.items()]
    calls = ["pg_catalog.set_config(%s, %s, %s)"] * len(each)
    values = [value for one in each for value in one]
    # Never prepared: a prepared statement is what another one can take the place of.
    row = connection.execute(f"SELECT {', '.join([*calls, also])}", values, prepare=False).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row


def require_tls(parameters: dict[str, Any]) -> None:
    """Require of libpq's parameters, and complete them, that the connection is encrypted to a server whose name is checked, or stays on this machine.

    Raises:
        ConfigurationError: It would not be.
    """
    by_service = "service" in parameters or "PGSERVICE" in os.environ  # a file names the host
    if not by_service and all(
        host == "" or host.startswith(("/", "@")) or is_loopback(host) for host in _hosts(parameters)
    ):
        return
    mode = parameters.setdefault("sslmode", os.environ.get("PGSSLMODE", _CHECKED))
    if mode != _CHECKED:
        raise ConfigurationError(
            f"the connection to {_where(parameters)} would not be encrypted to a server whose name was checked",
            expected=f"sslmode {_CHECKED}",
            found=f"sslmode {mode}",
            hint=f"Nothing was sent. Set sslmode to {_CHECKED} in the connection's extra, and sslrootcert to the file of the "
            "authority that signed the server's certificate, or to system; `tls_required: false` allows anything on a "
            "network you trust.",
        )
    if "PGSSLROOTCERT" not in os.environ and not _ROOT_CERTIFICATES.expanduser().exists():
        parameters.setdefault("sslrootcert", "system")


def _hosts(parameters: dict[str, Any]) -> list[str]:
    """The hosts that libpq would try, in order. An address takes precedence over the name in the same position."""
    addresses, names = (
        str(parameters[key] if key in parameters else os.environ.get(variable, "")).split(",")
        for key, variable in (("hostaddr", "PGHOSTADDR"), ("host", "PGHOST"))
    )
    return [address or name for address, name in zip_longest(addresses, names, fillvalue="")]


def _parse(conninfo: str) -> dict[str, Any]:
    try:
        return {**conninfo_to_dict(conninfo)}
    except psycopg.ProgrammingError:  # its message quotes what it does not understand, perhaps the password
        raise ConfigurationError(
            "the source connection cannot be read",
            expected="a connection string as libpq takes it",
            hint="Nothing was sent. Correct host, port and extra of the Airflow connection.",
        ) from None


def _where(parameters: dict[str, Any]) -> str:
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    return f"{parameters.get('user', '?')}@{host}:{parameters.get('port', 5432)}/{parameters.get('dbname', '?')}"


@contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Turn the driver's errors into ours, without the row contents that some of the server's messages quote."""
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error, where) from None


def _translate(error: psycopg.Error, where: str) -> StrongroomError:
    state = error.sqlstate or ""
    said = server_said(error.diag) or f"{type(error).__name__} (SQLSTATE {state or 'none'})"
    if not state and isinstance(error, psycopg.OperationalError):
        # Without a state the message is libpq's own: the server refused the login, or did not answer.
        said = " ".join(str(error).split())
    refused = state[:2] in _FINAL or any(
        sign in said
        for sign in (
            "authentication failed",
            "no pg_hba.conf entry",
            "does not exist",
            "certificate",
            "password",
            "not support SSL",
        )
    )
    if refused and not isinstance(error, (errors.LockNotAvailable, errors.QueryCanceled)):
        return SourceAccessError(
            f"the source database {where} refused",
            found=said,
            hint="No row was deleted because of it. Check the source connection (host, database, user, password) "
            "and the rights of its role, then clear the task or read the page again.",
        )
    return SourceError(
        f"the source database {where} failed",
        found=said,
        hint="All deleted rows are in a verified archive. Check that the server is up. "
        "A task tries again by itself and continues where it stopped; a page can be read again.",
    )


def server_said(diagnosis: Diagnostic) -> str | None:
    """The message of an error or a notice, if the server itself wrote it and it quotes no value; else None."""
    function, inside = diagnosis.source_function, diagnosis.context is not None
    if function in _NAMES_NO_VALUE or (function in _NAMES_A_TABLE and not inside):
        return " ".join(str(diagnosis.message_primary).split())
    return None


def named_by_server(diagnosis: Diagnostic) -> str | None:
    """The constraint, column or type that an error is about, if the server itself named it; RAISE can name anything."""
    if diagnosis.source_file not in _NAMES_A_CONSTRAINT:
        return None
    return diagnosis.constraint_name or diagnosis.column_name or diagnosis.datatype_name


def read_identity(connection: Connection) -> SourceIdentity:
    """Read which database this is."""
    row = connection.execute(
        "SELECT current_database(), oid::bigint, current_setting('server_version') FROM pg_database "
        "WHERE datname = current_database()"
    ).fetchone()
    assert row is not None  # noqa: S101 - one database is always the current one
    try:
        system = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except (errors.UndefinedFunction, errors.InsufficientPrivilege, errors.FeatureNotSupported):
        system = None  # YugabyteDB has none; some hosted servers hide it
    return SourceIdentity(
        database=str(row[0]),
        database_oid=int(str(row[1])),
        server_version=str(row[2]),
        system_identifier=str(system[0]) if system else None,
    )


def read_life(connection: Connection) -> str:
    """Which database this is, and on which timeline. The text changes when the database was restored or a standby was promoted."""
    identity = read_identity(connection)
    try:
        row = connection.execute("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)").fetchone()
    except (errors.UndefinedFunction, errors.InsufficientPrivilege, errors.FeatureNotSupported):
        row = None  # servers that only speak PostgreSQL's protocol have no such log
    timeline = str(row[0]) if row else "unknown"
    return f"system {identity.system_identifier}, database {identity.database_oid}, timeline {timeline}"


def type_name(text: str) -> sql.SQL:
    """A type's name for a statement.

    Raises:
        IntegrityError: It is something else.
    """
    if not is_type_name(text):
        raise IntegrityError(
            f"{text[:100]!r} is not the name of a type",
            expected="a name as PostgreSQL's format_type() writes it",
            hint="Nothing was deleted or loaded, and the text was not sent to the server. Find out who wrote it: "
            "`airflow strongroom verify` compares the manifest with its copy.",
        )
    return sql.SQL(text)


def qualified(schema_name: str, table_name: str) -> sql.Identifier:
    """The table's name for a statement, quoted."""
    return sql.Identifier(schema_name, table_name)


def fetch_rows(connection: Session, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """All rows of a query on the system catalogue."""
    return connection.execute(query, parameters).fetchall()
