"""The graph of the tables that a plan archives together, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.records import ArchivePlan


def unit_graph(plan: ArchivePlan) -> Iterator[str]:
    """One line for each table, children below their parents: the foreign key that leads up, and what is due."""
    yield f"{plan.table} by {plan.shape.date_column}: {_due(plan)}"
    yield from _below(plan.table, plan.members, "")


def _below(parent: str, members: tuple[ArchivePlan, ...], indent: str) -> Iterator[str]:
    children = [one for one in members if one.shape.dated_through[0].parent == parent]
    for number, one in enumerate(children):
        last = number == len(children) - 1
        key = one.shape.dated_through[0]
        yield f"{indent}{'└─ ' if last else '├─ '}{one.table} by {', '.join(key.columns)} ({key.name}): {_due(one)}"
        yield from _below(one.table, members, indent + ("   " if last else "│  "))


def _due(plan: ArchivePlan) -> str:
    rows = sum(part.expected_rows for part in plan.parts)
    if plan.archive_id is None:
        due = "no row is due"
    else:
        due = f"{rows:,} rows in {len(plan.parts)} part{'' if len(plan.parts) == 1 else 's'}, {plan.archive_id}"
    stay = sum(one.rows for one in plan.exclusions)
    return due + (f"; {stay:,} row{' stays' if stay == 1 else 's stay'}" if stay else "")
