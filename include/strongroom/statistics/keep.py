"""Where a day's statistics are stored, and how they read in a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.object_keys.reports import statistics_key
from strongroom.statistics.records import Figures, Statistics
from strongroom.storage.store import Store

_HEAD = ("table", "archives", "rows", "bytes", "on S3", "ratio", "overdue", "late", "undated", "USD a month", "saved")


def keep_statistics(store: Store, statistics: Statistics, page: str) -> tuple[str, str]:
    """Write the statistics and the page under their day; earlier ones of the same day become earlier versions.

    Returns:
        The keys of the JSON document and of the page.
    """
    day = statistics.made_at.date()
    json_key, html_key = statistics_key(day, "json"), statistics_key(day, "html")
    document = statistics.to_bytes()
    _replace(store, json_key, document, "application/json")
    _replace(store, html_key, page.encode(), "text/html; charset=utf-8")
    return json_key, html_key


def _replace(store: Store, key: str, body: bytes, content_type: str) -> None:
    """Overwrite what is there. Losing to another writer does no harm: both counted at the same moment."""
    present = store.read(key)
    store.swap(key, body, etag=present[1] if present else None, content_type=content_type)


def log_lines(statistics: Statistics) -> Iterator[str]:
    """The lines of a plain-text table; the last one is the total."""
    rows = [_HEAD, *(_cells(one.table, one) for one in statistics.tables), _cells("all", statistics.total)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield _aligned(row, widths)


def _cells(name: str, one: Figures) -> tuple[str, ...]:
    return (
        name,
        f"{one.archives:,}",
        f"{one.rows:,}",
        f"{one.original_size_bytes:,}",
        f"{one.compressed_size_bytes:,}",
        f"{one.ratio:.1f}",
        *("?" if number is None else f"{number:,}" for number in (one.overdue_rows, one.late_rows, one.undated_rows)),
        f"{sum(cost.usd_per_month for cost in one.costs):,.4f}",
        f"{one.saved_usd_per_month:,.4f}",
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *rest])
