"""The rows of the five sample tables, by key: in their tables by SQL, and in their archives by boto3, zstandard and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom_local.demo import sample
from strongroom_local.servers.stack import Stack
from tests.system.helpers import Books, query

Keys = set[tuple[str, ...]]

CALL_RECORDS = 1000
"""A month's call records in the tests; the other tables follow in proportion."""

ROWS_A_MONTH = {table.name: table.wanted_rows(CALL_RECORDS) for table in sample.TABLES}

TOKEN = "marked-7f3a9c-row-content"
"""This is in a text column of every due row. It may be found in rows and parts, and nowhere else."""

DATED = {
    "acm_alerts": ("detected_at", ("alert_id",), "remark"),
    "audit_events": ("created_at", ("event_id",), "message"),
    "call_detail_records": ("call_start_time", ("id",), "remark"),
    "fraud_investigations": ("created_at", ("investigation_id",), "findings"),
    "gateway_blacklist_history": ("created_at", ("gateway_ip", "change_number"), "reason"),
}
"""For each sample table: the column that dates a row, the primary key, and a text column."""

MONTHS = 3
"""How many months the tests archive: two by the demo, and one more of some tables by a backfill."""


def due_month() -> Partition:
    """The newest month that is due now, which the demo archives, with the one before. The schedule may reach it a day later."""
    due = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc))
    assert due is not None
    return due


def months_archived() -> list[Partition]:
    """The months that the tests archive, newest first."""
    months = [due_month()]
    while len(months) < MONTHS:
        months.append(months[-1].previous())
    return months


def keys_in(conninfo: str, table: str, where: str = "true") -> Keys:
    """Primary keys of a table's rows, as JSON writes them."""
    columns = ", ".join(f"to_jsonb({column}) #>> '{{}}'" for column in DATED[table][1])
    return set(query(conninfo, f"SELECT {columns} FROM {table} WHERE {where}"))  # type: ignore[arg-type]


def keys_of_month(conninfo: str, table: str, month: str) -> Keys:
    """Primary keys of the rows dated in a month, as JSON writes them."""
    return keys_in(conninfo, table, f"to_char({DATED[table][0]} AT TIME ZONE 'UTC', 'YYYY-MM') = '{month}'")


def keys_archived(stack: Stack, table: str, key: str = "") -> list[tuple[str, ...]]:
    """Primary keys of the rows in a table's archives. A key that appears twice is a row archived twice."""
    names = DATED[table][1]
    return [tuple(str(row[name]) for name in names) for row in Books(stack).archived_rows(f"public.{table}", key)]


@dataclass(frozen=True)
class Sample:
    """Primary keys before anything was archived, by table.

    Attributes:
        before: Of all rows.
        due: Of the rows of each month that the tests archive, by month. Each row has :data:`TOKEN` in a text.
        referred: Of the alerts that an investigation refers to.
    """

    before: dict[str, Keys]
    due: dict[str, dict[str, Keys]]
    referred: Keys


def load_sample(conninfo: str) -> Sample:
    """Fill the sample tables, and mark the rows of the months that the tests archive."""
    sample.load(conninfo, call_records_per_month=CALL_RECORDS, now=datetime.now(timezone.utc))
    newest, *_, oldest = months = months_archived()
    for table, (date_column, _, text_column) in DATED.items():
        window = f"{date_column} >= '{oldest.window.start}' AND {date_column} < '{newest.window.end}'"
        query(conninfo, f"UPDATE {table} SET {text_column} = concat({text_column}, ' {TOKEN}') WHERE {window}")
    before = {table: keys_in(conninfo, table) for table in DATED}
    due = {table: {month.key: keys_of_month(conninfo, table, month.key) for month in months} for table in DATED}
    referred = set(query(conninfo, "SELECT DISTINCT alert_id::text FROM fraud_investigations"))
    return Sample(before, due, referred)
