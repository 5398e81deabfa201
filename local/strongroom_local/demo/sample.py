"""Sample data: five tables of a telecom operator's anti-fraud platform. PostgreSQL itself generates the rows.

The rows look real but describe no real person. For tables, volumes and rules see docs/start/sample-data.md.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from pathlib import Path

import psycopg
from psycopg import sql

from strongroom.errors import ConfigurationError, SourceError

log = logging.getLogger(__name__)

PLATFORM_ROLE = "telecom_app"
WORKERS = {"archiver": "strongroom_archiver", "restorer": "strongroom_restorer", "reader": "strongroom_reader"}
"""Strongroom's roles, by their names in `deploy/sql/roles.sql`."""

DRILL_ROLE, DRILL_SCHEMA = "strongroom_drill", "strongroom_drill"
"""The role of restore drills, and the schema that they restore into."""

ERASER_ROLE = "strongroom_eraser"
"""The role that erases persons."""

ROLES = (PLATFORM_ROLE, *WORKERS.values(), DRILL_ROLE, ERASER_ROLE)

SQL_FOLDER = Path(__file__).parent / "sql"
RIGHTS = Path(__file__).resolve().parents[3] / "deploy" / "sql" / "roles.sql"
"""The script that a user runs on a real server. The sample database gets the same one, and `drill.sql` and `erasure.sql` beside it."""

LAGOS = timezone(timedelta(hours=1))
"""Nigeria is UTC+1 all year. The busy hours of a day follow its clocks."""

SETTINGS = {
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "jit": "off",  # compiling these wide expressions takes longer than running them
    "lock_timeout": "60s",
    "search_path": "pg_catalog, pg_temp",  # no user's function can shadow the server's
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "timezone": "UTC",
    "work_mem": "64MB",  # for sorting the moments of a month
}
"""Settings that the statements here rely on, whatever the defaults of the server, database or role."""

# One weight per hour, from 00:00 to 23:00 in Lagos, and one per weekday, from Monday to Sunday.
CALLS_BY_HOUR = (4, 2, 1, 1, 2, 5, 12, 22, 30, 34, 35, 34, 33, 32, 32, 33, 35, 38, 42, 45, 44, 36, 22, 10)
FRAUD_BY_HOUR = (30, 34, 36, 34, 28, 18, 10, 9, 10, 12, 13, 13, 12, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28)
OFFICE_BY_HOUR = (2, 1, 1, 1, 1, 2, 6, 20, 44, 50, 50, 46, 34, 40, 48, 48, 42, 24, 10, 6, 5, 4, 3, 2)
CALLS_BY_WEEKDAY = (10, 10, 10, 10, 11, 9, 7)
FRAUD_BY_WEEKDAY = (8, 8, 8, 9, 10, 13, 13)
OFFICE_BY_WEEKDAY = (10, 10, 10, 10, 9, 2, 1)


@dataclass(frozen=True)
class SampleTable:
    """How many rows one table gets, and when they happen.

    Args:
        name: Table in schema public; `sql/<name>.sql` generates its rows.
        per_hundred_calls: Rows per hundred call records.
        by_hour: 24 weights, Lagos time.
        by_weekday: 7 weights, Monday first.
    """

    name: str
    per_hundred_calls: int
    by_hour: tuple[int, ...]
    by_weekday: tuple[int, ...]

    def wanted_rows(self, call_records_per_month: int) -> int:
        """Return how many rows a full month of this table has; at least one."""
        return -(-call_records_per_month * self.per_hundred_calls // 100)


TABLES = (
    SampleTable("acm_alerts", 10, FRAUD_BY_HOUR, FRAUD_BY_WEEKDAY),
    SampleTable("audit_events", 40, OFFICE_BY_HOUR, OFFICE_BY_WEEKDAY),
    SampleTable("call_detail_records", 100, CALLS_BY_HOUR, CALLS_BY_WEEKDAY),
    SampleTable("gateway_blacklist_history", 4, FRAUD_BY_HOUR, FRAUD_BY_WEEKDAY),
    SampleTable("fraud_investigations", 4, OFFICE_BY_HOUR, OFFICE_BY_WEEKDAY),
)
"""The five tables, in the order of the platform's documentation."""

CALLS, CASES = TABLES[2:3], TABLES[:2] + TABLES[3:]
"""Two sessions fill these in parallel. Call records are half the work. Investigations need the alerts made before them."""


def create_schema(conninfo: str) -> None:
    """Create the five tables, their types and indexes in schema public if missing.

    Args:
        conninfo: Connection string of a role that may create in the database.

    Raises:
        ConfigurationError: The server is older than PostgreSQL 13, or the database is not in UTF-8.
        SourceError: The database cannot be reached.
    """
    with _connect(conninfo) as connection, connection.transaction():
        _require_suitable_database(connection)
        _wait_for_turn(connection, "schema")
        connection.execute(_read_sql("schema"))


def create_roles(
    conninfo: str, passwords: Mapping[str, str], rights: Path = RIGHTS, further: Iterable[tuple[str, str]] = ()
) -> None:
    """Create or update the platform's role, which owns the tables, and Strongroom's roles, with the rights in `rights`.

    The rights of Strongroom's roles on other tables do not change.

    Args:
        conninfo: Connection string of a superuser; `create_schema` must have run in that database.
        passwords: One password for each of `ROLES`; only its SCRAM verifier is sent to the server.
        rights: Path of `deploy/sql/roles.sql`.
        further: Schema and name of more tables for Strongroom's roles; tables that do not exist are skipped.

    Raises:
        ConfigurationError: A password is missing or empty, a role is unknown, or a role has more rights on a table than
            it should. Nothing was changed.
        SourceError: The database cannot be reached.
    """
    _require_passwords(passwords)
    with _connect(conninfo) as connection, connection.transaction():
        _wait_for_turn(connection, "schema")
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (PLATFORM_ROLE,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(PLATFORM_ROLE)))
        connection.execute(_read_sql("platform"))
        samples = [("public", table.name) for table in TABLES]
        found = [name for name in dict.fromkeys((*samples, *further)) if _is_table(connection, *name)]
        tables = ", ".join(sql.Identifier(*name).as_string() for name in found)
        try:
            connection.execute(_fill_in(rights.read_text(), {**WORKERS, "tables": tables}))
            scratch = {"drill": DRILL_ROLE, "schema": DRILL_SCHEMA}
            connection.execute(_fill_in(rights.with_name("drill.sql").read_text(), scratch))
            erasing = {"eraser": ERASER_ROLE, "restorer": WORKERS["restorer"], "tables": tables}
            connection.execute(_fill_in(rights.with_name("erasure.sql").read_text(), erasing))
        except psycopg.errors.RaiseException as error:
            raise ConfigurationError(
                "Strongroom's roles could not be given their rights",
                found=error.diag.message_primary,
                hint=error.diag.message_hint or "Nothing was changed.",
            ) from None
        for role in ROLES:
            _set_password(connection, role, passwords[role])


def load(
    conninfo: str, *, call_records_per_month: int = 50_000, months: int = 14, now: datetime, seed: int = 7
) -> dict[str, int]:
    """Fill each of the last months up to its volume, and the current month up to `now`. No row is generated twice.

    Safe to repeat: the same volume adds nothing, a higher volume adds the difference, and a later `now` adds what
    happened since. Archived rows do not come back, because the database records what was generated. Each month of a
    table is one transaction, so the next call finishes an interrupted one.

    Args:
        conninfo: Connection string of a role that may write the tables; `create_schema` must have run in that database.
        call_records_per_month: Call records in a full month; the other tables keep their proportion to it.
        months: Calendar months (UTC), including the current one.
        now: Aware instant; the date column of every row lies before it.
        seed: Equal seeds give equal rows, on any server version.

    Returns:
        Rows added by this call, by table name, in the order of `TABLES`.

    Raises:
        ConfigurationError: A number is below one, or `now` has no time zone. Nothing was changed.
        SourceError: The database cannot be reached.
    """
    _require_volume(call_records_per_month, months, now)
    now = now.astimezone(timezone.utc)

    def fill(tables: tuple[SampleTable, ...]) -> dict[str, int]:
        return _fill_tables(
            conninfo, tables, call_records_per_month=call_records_per_month, months=months, now=now, seed=seed
        )

    with ThreadPoolExecutor(max_workers=2) as sessions:
        calls, cases = sessions.map(fill, (CALLS, CASES))
    added = {**calls, **cases}
    return {table.name: added[table.name] for table in TABLES}


def _fill_tables(
    conninfo: str,
    tables: tuple[SampleTable, ...],
    *,
    call_records_per_month: int,
    months: int,
    now: datetime,
    seed: int,
) -> dict[str, int]:
    """Fill some tables month by month, oldest first, in one session; then refresh their statistics."""
    added = dict.fromkeys((table.name for table in tables), 0)
    with _connect(conninfo) as connection:
        connection.execute(_read_sql("helpers"))
        for month in _last_months(now, months):
            for table in tables:
                wanted = table.wanted_rows(call_records_per_month)
                added[table.name] += _fill_month(connection, table, month, wanted=wanted, now=now, seed=seed)
        for name in (name for name, rows in added.items() if rows):
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("public", name)))
    return added


def _fill_month(
    connection: psycopg.Connection, table: SampleTable, month: datetime, *, wanted: int, now: datetime, seed: int
) -> int:
    """Add the missing rows of one month of one table and record the progress, in one transaction."""
    next_month = _next_month(month)
    with connection.transaction():
        _wait_for_turn(connection, table.name)
        made, filled_until = _read_progress(connection, table, month)
        wanted, until = max(wanted, made), max(filled_until, min(now, next_month))
        if (wanted, until) == (made, filled_until):
            return 0
        hour_marks, total = _mark_hours(month, table)
        rows = connection.execute(
            _read_sql(table.name),
            {
                "stream": _name_stream(seed, table, month),
                "month": month,
                "next_month": next_month,
                "wanted": wanted,
                "made": made,
                "filled_until": filled_until,
                "until": until,
                "now": now,
                "hour_marks": hour_marks,
                "total": total,
            },
        ).rowcount
        connection.execute(
            "INSERT INTO strongroom_sample.progress (table_name, month, made_rows, filled_until)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (table_name, month)"
            " DO UPDATE SET made_rows = excluded.made_rows, filled_until = excluded.filled_until",
            (table.name, month.date(), wanted, until),
        )
    log.info("Added %d rows to %s of %s", rows, table.name, month.strftime("%Y-%m"))
    return rows


def _read_progress(connection: psycopg.Connection, table: SampleTable, month: datetime) -> tuple[int, datetime]:
    """Return how many ordinals of a month were generated, and up to which instant; at first, 0 and the month's start."""
    row = connection.execute(
        "SELECT made_rows, filled_until FROM strongroom_sample.progress WHERE table_name = %s AND month = %s",
        (table.name, month.date()),
    ).fetchone()
    return (row[0], row[1]) if row else (0, month)


def _mark_hours(month: datetime, table: SampleTable) -> tuple[list[int], int]:
    """Return the running sum of weights after each hour of a month except the last, and the total."""
    hours = (_next_month(month) - month) // timedelta(hours=1)
    clocks = (month.astimezone(LAGOS) + timedelta(hours=hour) for hour in range(hours))
    *marks, total = accumulate(table.by_hour[clock.hour] * table.by_weekday[clock.weekday()] for clock in clocks)
    return marks, total


def _name_stream(seed: int, table: SampleTable, month: datetime) -> int:
    """Return a 64-bit number for one seed, table and month; signed, like PostgreSQL's bigint."""
    name = f"{seed}/{table.name}/{month:%Y-%m}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _last_months(now: datetime, months: int) -> list[datetime]:
    """List the starts of the last months, oldest first, up to and including the month of `now`."""
    current = now.year * 12 + now.month - 1
    return [
        datetime(number // 12, number % 12 + 1, 1, tzinfo=timezone.utc)
        for number in range(current - months + 1, current + 1)
    ]


def _next_month(month: datetime) -> datetime:
    return (month + timedelta(days=31)).replace(day=1)


def _is_table(connection: psycopg.Connection, schema_name: str, table_name: str) -> bool:
    found = connection.execute(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
        (schema_name, table_name),
    )
    return found.fetchone() is not None


def _fill_in(script: str, values: Mapping[str, str]) -> bytes:
    """Replace psql variables, `:'name'`, by values as literals, as psql does."""
    return re.sub(r":'(\w+)'", lambda found: sql.Literal(values[found[1]]).as_string(), script).encode()


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    """Set a role's password. Statements can appear in the server's log, so only the SCRAM verifier is sent."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


@contextmanager
def _connect(conninfo: str) -> Iterator[psycopg.Connection]:
    """Open a session with the settings above; autocommit outside `transaction()` blocks."""
    try:
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
            for name, value in SETTINGS.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            yield connection
    except psycopg.OperationalError as error:
        raise SourceError(
            "the database for the sample data refused or lost the connection",
            hint="Finished months are kept; check the server, then run the same command again.",
            found=str(error).strip(),
        ) from error


def _wait_for_turn(connection: psycopg.Connection, name: str) -> None:
    """Take a lock until the end of the transaction, so that two calls do not create the same thing at once."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('strongroom_sample.' || %s, 0))", (name,))


def _read_sql(name: str) -> bytes:
    """Read a file in `sql/`, as bytes: psycopg's type accepts a str only if it is a literal in the code."""
    return (SQL_FOLDER / f"{name}.sql").read_bytes()


def _require_suitable_database(connection: psycopg.Connection) -> None:
    if connection.info.server_version < 130000:
        raise ConfigurationError(
            "the server for the sample data is too old",
            hint="Nothing was changed; use PostgreSQL 13 or later.",
            expected="13 or later",
            found=connection.info.parameter_status("server_version"),
        )
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise ConfigurationError(
            f"database {connection.info.dbname} cannot hold the names of the sample data",
            hint="Nothing was changed; create the database with ENCODING 'UTF8'.",
            expected="UTF8",
            found=encoding,
        )


def _require_passwords(passwords: Mapping[str, str]) -> None:
    given = {role for role, password in passwords.items() if password}
    if given != set(ROLES):
        raise ConfigurationError(
            "the roles of the sample database need one password each",
            hint="Nothing was changed; give each of these roles, and no other, a password that is not empty.",
            expected=", ".join(sorted(ROLES)),
            found=", ".join(sorted(given)) or "none",
        )


def _require_volume(call_records_per_month: int, months: int, now: datetime) -> None:
    if call_records_per_month < 1 or months < 1:
        raise ConfigurationError(
            "sample data needs at least one month and one call record a month",
            hint="Nothing was changed; use whole numbers above zero.",
            found=f"{call_records_per_month} call records a month, {months} months",
        )
    if now.tzinfo is None:
        raise ConfigurationError(
            "the end of the sample data has no time zone",
            hint="Nothing was changed; use an aware instant such as datetime.now(timezone.utc).",
            found=now.isoformat(),
        )
