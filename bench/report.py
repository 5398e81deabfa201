"""What `make bench` prints: tables for people, in the form used in docs/measured/performance.md, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from bench.comparison import Contender, comparison_table
from bench.course import Course, Result
from bench.goals import Goal, goals_as_json, machine, show_goals

_WIDTH = 176


def show(course: Course, format: str, goals: Sequence[Goal], compared: Sequence[Contender]) -> None:
    """Print the results and the goals, in the form used in docs/measured/performance.md.

    Args:
        compared: What takes rows out of the table, for a table of its own; none without peers.
    """
    console = Console(width=_WIDTH, highlight=False)
    what = f"{course.rows:,} call records, {course.original_mb:,.0f} MB as JSON lines"
    console.print(_table(course, f"{what}, archived as {format}", "rows"))
    console.print(_table(course, "archives of three parts each, most of them at the end of their term", "archives"))
    if compared:
        console.print(comparison_table(f"{what}, Strongroom and its peers, {machine()}", compared))
    for one in compared:
        if one.error:
            console.print(f"{one.name} failed: {one.error}", markup=False)
    show_goals(console, goals)


def _table(course: Course, title: str, of: str) -> Table:
    """A table of the results that count rows, or of those that count archives."""
    table = Table(title=f"{title}, {machine()}")
    for name in (
        "",
        "s",
        f"{of}/s",
        *(["MB/s"] if of == "rows" else []),
        "client CPU s",
        "database CPU s",
        "store CPU s",
        "memory MB",
        "staging MB",
        "stored MB",
    ):
        table.add_column(name, justify="right" if name else "left", no_wrap=not name)
    for result in course.results:
        if result.of != of:
            continue
        usage = result.usage
        table.add_row(
            result.name,
            f"{usage.seconds:.1f}",
            f"{result.count / usage.seconds:,.0f}",
            *([f"{course.original_mb / usage.seconds:,.0f}"] if of == "rows" else []),
            *(f"{value:.1f}" for value in (usage.client_cpu, usage.server_cpu, usage.store_cpu)),
            *(f"{value:,.0f}" for value in (usage.peak_mb, usage.staging_mb, result.stored_mb)),
        )
    return table


def as_json(course: Course, goals: Sequence[Goal], compared: Sequence[Contender]) -> dict[str, object]:
    """The results and the goals in a form ready for JSON."""
    results: list[Result] = course.results
    return {
        "rows": course.rows,
        "original_mb": course.original_mb,
        "machine": machine(),
        "at": datetime.now(timezone.utc).isoformat(),
        "results": [asdict(result) | {"name": result.name.strip()} for result in results],
        "compared": [asdict(one) for one in compared],
        "goals": goals_as_json(goals),
    }
