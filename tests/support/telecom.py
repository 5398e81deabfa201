"""The sample tables of the tests: when they are created, and what they contain."""

from __future__ import annotations

from datetime import datetime, timezone

import psycopg

from strongroom_local.demo.sample import TABLES

NOW = datetime(2026, 11, 23, 15, 20, tzinfo=timezone.utc)


MONTHS = [f"2025-{month}" for month in (10, 11, 12)] + [f"2026-{month:02}" for month in range(1, 12)]


NAMES = [table.name for table in TABLES]


DATE_COLUMNS = {
    "acm_alerts": "detected_at",
    "audit_events": "created_at",
    "call_detail_records": "call_start_time",
    "gateway_blacklist_history": "created_at",
    "fraud_investigations": "created_at",
}


PLAIN = "-c timezone=UTC -c datestyle=ISO -c search_path=public"


PASSWORDS = {
    "telecom_app": "app's \\ secret",
    "strongroom_archiver": 'archiver\'s "secret"; --',
    "strongroom_restorer": "restorer",
    "strongroom_reader": "reader",
    "strongroom_drill": "drill",
    "strongroom_eraser": "eraser",
}


def ask(conninfo: str, query: str) -> list[tuple]:
    """Return the rows of a query, in a session that shows instants in UTC."""
    with psycopg.connect(conninfo, options=PLAIN) as connection:
        return connection.execute(query).fetchall()


def digest(conninfo: str) -> dict[str, str]:
    """Return a checksum of each table's rows, in the order of their text."""
    query = 'SELECT md5(string_agg(line, chr(10) ORDER BY line COLLATE "C")) FROM (SELECT t::text AS line FROM {} t) r'
    return {name: ask(conninfo, query.format(name))[0][0] for name in NAMES}


def rows_by_month(conninfo: str, table: str) -> dict[str, int]:
    """Count the rows of each month of a table."""
    month = f"to_char({DATE_COLUMNS[table]}, 'YYYY-MM')"
    return dict(ask(conninfo, f"SELECT {month}, count(*) FROM {table} GROUP BY 1 ORDER BY 1"))
