"""The graph of the tables that are archived together, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.records import ArchivePlan


def unit_graph(*plans: ArchivePlan) -> Iterator[str]:
    """One line for each table, children below their parents: the foreign key that leads up, and what is due.

    Args:
        plans: Of partitions of one table; at least one. Several are added up.
    """
    yield f"{plans[0].table} by {plans[0].shape.date_column}: {_due(plans)}"
    members = [one for plan in plans for one in plan.members]
    tables = dict.fromkeys(one.table for one in members)
    yield from _below(plans[0].table, [[one for one in members if one.table == table] for table in tables], "")


def _below(parent: str, members: Sequence[Sequence[ArchivePlan]], indent: str) -> Iterator[str]:
    children = [one for one in members if one[0].shape.dated_through[0].parent == parent]
    for number, one in enumerate(children):
        last = number == len(children) - 1
        key = one[0].shape.dated_through[0]
        yield f"{indent}{'└─ ' if last else '├─ '}{one[0].table} by {', '.join(key.columns)} ({key.name}): {_due(one)}"
        yield from _below(one[0].table, members, indent + ("   " if last else "│  "))


def _due(plans: Sequence[ArchivePlan]) -> str:
    parts = [part for plan in plans for part in plan.parts]
    if all(plan.archive_id is None for plan in plans):
        due = "no row is due"
    else:
        rows = sum(part.expected_rows for part in parts)
        due = f"{rows:,} rows in {len(parts)} part{'' if len(parts) == 1 else 's'}"
    if len(plans) == 1 and plans[0].archive_id is not None:
        due += f", {plans[0].archive_id}"
    stay = sum(one.rows for plan in plans for one in plan.exclusions)
    return due + (f"; {stay:,} row{' stays' if stay == 1 else 's stay'}" if stay else "")
