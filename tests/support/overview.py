"""Facts of archives and tables made by hand, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from strongroom.calendar import Partition
from strongroom.overview.chart import Chart, RunFacts, make_chart
from strongroom.overview.facts import ArchiveFacts, Left, StoreFacts
from strongroom.overview.source import TableRows
from strongroom.settings import Settings, TableSettings
from strongroom.statistics.records import Uncounted
from strongroom.statistics.waiting import TableCounts, WaitingPartition
from tests.support.chain import NOW
from tests.support.synthetic import a_manifest, many_manifests


def facts_of(manifest: Any, **changes: Any) -> ArchiveFacts:
    """The facts of a manifest whose rows were all deleted, with other values where they matter."""
    given = {name: getattr(manifest, name) for name in ArchiveFacts.model_fields if hasattr(manifest, name)} | {
        "parts": len(manifest.parts),
        "sums": (*(part.sha256 for part in manifest.parts), manifest.checksum),
        "left": Left(rows=manifest.record_count, deleted=manifest.record_count),
        "detached_waiting": 0,
        "etags": ("1",),
    }
    return ArchiveFacts.model_validate(given | changes)


def an_archive(table: str = "audit", key: str = "2026-05", sequence: int = 1, **changes: Any) -> ArchiveFacts:
    """The facts of one archive of a month."""
    return facts_of(a_manifest(table, key, sequence), **changes)


def many_archives(count: int, *, months: int = 100) -> tuple[ArchiveFacts, ...]:
    """The facts of this many archives, as many months of a table as are given."""
    return tuple(map(facts_of, many_manifests(count, months=months)))


def store_facts(*archives: ArchiveFacts, **changes: Any) -> StoreFacts:
    """What a store tells that has these archives."""
    return StoreFacts.model_validate({"read_at": NOW, "archives": archives} | changes)


def a_table(name: str = "audit", **changes: Any) -> TableSettings:
    """Settings of a table: months, hot for 90 days, archived on the first of a month at 02:00."""
    given = {"table": name, "date_column": "at", "legal_basis": "a test", "confirmed": changes.get("cold_retention")}
    return TableSettings.model_validate(given | changes)


def rows_of(
    waiting: Mapping[str, int] | None = None, hot: Iterable[str] = (), first_at: datetime | None = None
) -> TableRows:
    """What a database tells of a table: rows that wait, by partition, and partitions that are hot."""
    counts = TableCounts(
        hot_rows=1000,
        hot_bytes=1 << 20,
        warm_bytes=None,
        waiting=tuple(WaitingPartition(partition_key=key, rows=rows) for key, rows in (waiting or {}).items()),
        undated_rows=0,
        counted_at=NOW,
    )
    return TableRows(counts=counts, first_at=first_at, hot_keys=tuple(hot))


def an_archive_of(key: str) -> ArchiveFacts:
    """One of any frequency."""
    window = Partition.named(key).window
    return an_archive(
        archive_id=f"public.audit.{key}.0001", partition_key=key, window_start=window.start, window_end=window.end
    )


def chart_of(
    *facts: StoreFacts,
    rows: TableRows | Uncounted | None = None,
    runs: dict[str, str] | None = None,
    table: TableSettings | None = None,
    now: datetime = NOW,
    restoring: Collection[str] = (),
) -> Chart:
    """The chart of the table `audit`, where no row waits unless the rows say so."""
    settings = table or a_table()
    return make_chart(
        Settings(tables={settings.table: settings}),
        facts,
        {settings.qualified_name: rows_of() if rows is None else rows},
        {(settings.qualified_name, key): RunFacts("r", state) for key, state in (runs or {}).items()},
        now=now,
        restoring=restoring,
    )
