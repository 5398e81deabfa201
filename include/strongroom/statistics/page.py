"""The statistics as HTML: the templates and style that the page in Airflow shares, and a file that needs nothing else.

Jinja escapes every value, because names and reasons come from databases and manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from strongroom.statistics.charts import WIDTH, Cells, Numbers, make_charts
from strongroom.statistics.records import Figures, Statistics, TableStatistics
from strongroom.statistics.words import day, minute, number, ratio, size, usd

TEMPLATES = Path(__file__).parent / "templates"
"""`figures.html` shows what :func:`shown` returns; the page in Airflow includes it, and `report.html` does."""

STYLE = TEMPLATES / "style.css"
"""The look of all pages."""


def make_page(statistics: Statistics) -> str:
    """The statistics as one HTML file: no script, nothing fetched from anywhere, light or dark as the system is."""
    style = Markup(STYLE.read_text())  # noqa: S704 - our own file
    template = _environment().get_template("report.html")
    return template.render(shown(statistics), style=style)


def shown(statistics: Statistics, addresses: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `figures.html` needs.

    Args:
        statistics: The figures.
        addresses: By table (`schema.table`), the page that its name links to.
    """
    return {
        "made_at": statistics.made_at,
        "alarms": _alarms(statistics),
        "tiles": list(_tiles(statistics)),
        "charts": make_charts(statistics),
        "chart_width": WIDTH,
        "tables": {
            "Archives": _archives(statistics),
            "Rows that wait in the database": _waiting(statistics),
            "Next runs and expiries": _coming(statistics),
        },
        "addresses": addresses or {},
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _alarms(statistics: Statistics) -> list[str]:
    sentences = [f"{one.archive_id} has a damaged manifest: {one.problem}" for one in statistics.damaged]
    return sentences + [f"{one.table} was not counted: {one.uncounted}" for one in statistics.tables if one.uncounted]


def _tiles(statistics: Statistics) -> Iterator[tuple[str, str]]:
    total = statistics.total
    yield number(total.archives), f"archives, {total.held_archives} of them held"
    yield number(total.rows), "rows archived"
    yield size(total.compressed_size_bytes), f"on S3, {total.ratio:.1f} times smaller than before"
    yield number(total.overdue_rows), "rows overdue"
    yield usd(sum(cost.usd_per_month for cost in total.costs)), "a month for tables and archives"
    yield usd(total.saved_usd_per_month), "a month saved by archiving"
    yield day(total.last_verified_at) if total.last_verified_at else "never", "last archive read again"
    yield day(statistics.last_restored_at) if statistics.last_restored_at else "never", "last proved restore"
    yield _expiry(total), "next archive expires"


def _archives(statistics: Statistics) -> Numbers:
    def cells(name: str, one: Figures) -> Cells:
        sizes = (one.original_size_bytes, one.compressed_size_bytes)
        counts = (number(one.archives), number(one.rows), *map(size, sizes), ratio(*sizes))
        return name, *counts, day(one.oldest_at), day(one.newest_at)

    head = ("table", "archives", "rows", "original", "on S3", "ratio", "from", "to")
    return Numbers(head, tuple(cells(one.table, one) for one in statistics.tables), cells("all", statistics.total))


def _waiting(statistics: Statistics) -> Numbers:
    def cells(name: str, one: Figures) -> Cells:
        waiting = map(number, (one.overdue_rows, one.late_rows, one.undated_rows))
        return name, number(one.hot_rows), size(one.hot_bytes), *waiting

    head = ("table", "in the table", "size", "overdue", "late", "without a date")
    return Numbers(head, tuple(cells(one.table, one) for one in statistics.tables), cells("all", statistics.total))


def _coming(statistics: Statistics) -> Numbers:
    def cells(one: TableStatistics) -> Cells:
        following = one.next_run
        run = (following.partition_key, minute(following.at)) if following else ("–", "not configured")
        return one.table, *run, _expiry(one), number(one.held_archives)

    total, runs = statistics.total, [one.next_run.at for one in statistics.tables if one.next_run]
    foot = ("all", "", minute(min(runs)) if runs else "–", _expiry(total), number(total.held_archives))
    head = ("table", "next partition", "next run", "next expiry", "held archives")
    return Numbers(head, tuple(map(cells, statistics.tables)), foot)


def _expiry(one: Figures) -> str:
    """When the next archive expires that no hold covers, if there is one."""
    if one.next_expiry_at is None:
        return "held" if one.held_archives else "–"
    return day(one.next_expiry_at)
