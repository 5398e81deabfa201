"""What to propose for each table: archive it by which date, ask somebody first, or leave it, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from strongroom.calendar import Frequency, Term, newest_due
from strongroom.database.inspect import examine_table
from strongroom.database.session import Connection
from strongroom.errors import UnarchivableError
from strongroom.proposal.look import DateColumn, SeenTable, oldest, rows_before
from strongroom.settings import TableSettings

_BEGINS = re.compile(
    r"(?i)(creat|insert|start|begin|occur|happen|record|detect|event|log|receiv|order|sent|call|^at$|^ts$|^date$|^time$|timestamp)"
)
"""Names of columns that say when a row came about."""

_CHANGES = re.compile(
    r"(?i)(updat|modif|chang|delet|clos|end|expir|due|valid|birth|until|last|finish|complet|resolv|seen|next)"
)
"""Names of columns that change later, or that say something else of a row: by such a date a row moves to another month."""

_MOST_ROWS_A_PARTITION = 100_000_000
"""A run cuts its partition into parts of a million rows, and Airflow maps a task to each; by default at most 1024."""

SMALL_BYTES = 1 << 20
"""A smaller table is hardly worth a DAG of its own."""

Verdict = Literal["archive", "ask", "leave"]


@dataclass(frozen=True)
class Proposal:
    """What is proposed for one table.

    Attributes:
        verdict: ``archive`` it; ``ask`` somebody first, because of the reasons; ``leave`` it, because it cannot be archived or has no old rows.
        date: The column that dates its rows; None if there is none.
        others: Other columns that could.
        key: The columns that tell a row from all others.
        due_rows: The planner's estimate of rows that leave the table first; None if it is not known.
        oldest: The earliest date; None if it is not known.
        members: Tables whose rows refer to it, through others too, which `with:` would archive together with it.
        reasons: A sentence each.
    """

    table: SeenTable
    verdict: Verdict
    date: DateColumn | None
    others: tuple[DateColumn, ...] = ()
    key: tuple[str, ...] = ()
    due_rows: int | None = None
    oldest: datetime | None = None
    frequency: Frequency = Frequency.MONTHLY
    reasons: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


def propose(
    connection: Connection, tables: Sequence[SeenTable], *, hot: Term, now: datetime, least_bytes: int = SMALL_BYTES
) -> list[Proposal]:
    """Propose for each table; the largest first within each verdict.

    Args:
        connection: A session on their database.
        tables: From :func:`strongroom.proposal.look.look`.
        hot: How long rows are to stay in the table.
        now: Aware instant.
        least_bytes: A smaller table is left to a person.
    """
    order: dict[Verdict, int] = {"archive": 0, "ask": 1, "leave": 2}
    parents: dict[str, list[str]] = {}
    for table in tables:
        for child in table.referenced_by:
            parents.setdefault(child.replace('"', ""), []).append(table.name)
    proposals = [
        replace(_propose(connection, table, parents, hot, now, least_bytes), members=_members(table, tables))
        for table in tables
    ]
    return sorted(proposals, key=lambda one: (order[one.verdict], -one.table.size_bytes, one.table.name))


def _members(root: SeenTable, tables: Sequence[SeenTable]) -> tuple[str, ...]:
    """The tables that refer to a table, and those that refer to them: parents first."""
    by_place = {f"{one.schema_name}.{one.table_name}": one for one in tables}
    found = [root]
    for one in found:
        children = (by_place.get(name.replace('"', "")) for name in one.referenced_by)
        found += [child for child in children if child is not None and child not in found]
    return tuple(one.name for one in found[1:])


def _propose(
    connection: Connection,
    table: SeenTable,
    parents: Mapping[str, Sequence[str]],
    hot: Term,
    now: datetime,
    least_bytes: int,
) -> Proposal:
    ranked = sorted(table.dates, key=_score, reverse=True)
    if not ranked:
        above = parents.get(f"{table.schema_name}.{table.table_name}", ())
        why = "no column of type date, timestamp or timestamptz dates its rows"
        if above:
            why += f"; `with:` in the section of {' or '.join(above)} archives them together"
        return Proposal(table, "leave", None, reasons=(why,))
    date, *others = ranked
    try:
        settings = TableSettings.model_validate({"table": table.name, "date_column": date.name, "legal_basis": "init"})
        seen, faults = examine_table(connection, settings)
    except ValidationError:
        seen, faults = None, ["its name cannot be used in archive.yaml, because it contains a dot or quotes"]
    except UnarchivableError as error:  # somebody dropped it a moment ago
        seen, faults = None, [error.what]
    if seen is None:
        return Proposal(table, "leave", date, tuple(others), reasons=tuple(faults))
    first = oldest(connection, table, date)
    frequency = _frequency(table.rows, first, now)
    newest = newest_due(frequency, hot, now)
    due = rows_before(connection, table, date.name, newest.window.end) if newest is not None else 0
    doubts = list(_doubts(table, date, others, seen.date_nullable))
    if (first is not None and newest is not None and first >= newest.window.end) or due == 0:
        verdict: Verdict = "leave"
        doubts.insert(0, f"no row of it is older than {hot.in_words}")
    elif table.rows == 0 or table.size_bytes < least_bytes:
        verdict = "ask"
        doubts.insert(0, "it is small")
    else:
        verdict = "ask" if doubts else "archive"
    return Proposal(table, verdict, date, tuple(others), seen.shape.primary_key, due, first, frequency, tuple(doubts))


def _score(column: DateColumn) -> float:
    """How well a column dates rows: what the table is partitioned or indexed by, what the insert fills in, what its name says."""
    score = 10.0 * column.partitions + 4 * column.indexed + 3 * column.not_null + 2 * column.by_default
    score += 2 * (column.correlation or 0)
    score += 3 * bool(_BEGINS.search(column.name)) - 6 * bool(_CHANGES.search(column.name))
    return score


def _doubts(table: SeenTable, date: DateColumn, others: Sequence[DateColumn], nullable: bool) -> list[str]:
    doubts = []
    if table.referenced_by:
        verb = "refers" if len(table.referenced_by) == 1 else "refer"
        doubts.append(
            f"rows that {', '.join(table.referenced_by)} still {verb} to stay in it, unless `with:` archives both together"
        )
    if others and _score(date) - _score(others[0]) < 2:
        doubts.append(f"{others[0].name} dates its rows as well as {date.name}")
    if _CHANGES.search(date.name):
        doubts.append(f"by its name {date.name} may change later, and then a row belongs to another month")
    if nullable:
        doubts.append(f"{date.name} may be NULL, and such rows stay")
    if not date.indexed:
        doubts.append(f"no index begins with {date.name}, so each run reads the whole table")
    return doubts


def _frequency(rows: int | None, first: datetime | None, now: datetime) -> Frequency:
    """Months, unless a month would have too many rows for one run."""
    if not rows or first is None:
        return Frequency.MONTHLY
    days = max((now - first) / timedelta(days=1), 1)
    for frequency, length in ((Frequency.MONTHLY, 31), (Frequency.WEEKLY, 7)):
        if rows / days * length <= _MOST_ROWS_A_PARTITION:
            return frequency
    return Frequency.DAILY
