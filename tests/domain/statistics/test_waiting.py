"""Counting what waits, on a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import SourceAccessError
from strongroom.statistics.waiting import TableCounts, count_waiting
from tests.support.chain import NOW, some_settings


def counted(conninfo: str, **changes) -> TableCounts:
    with open_source(conninfo, application_name="test") as connection:
        return count_waiting(connection, some_settings("unused", "/tmp", **changes), now=NOW)


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_due_rows_are_counted_by_partition_whatever_dates_them(source, kind):
    """On 23 November, 90 days after a month's end, July is the newest month that is due."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE audit (id int PRIMARY KEY, at {kind})")
        connection.execute(
            "INSERT INTO audit VALUES (1, '2026-07-31'), (2, '2026-07-01'), (3, '2025-12-31'), (4, '2026-08-01'), "
            "(5, NULL), (6, '1969-12-31'), (7, 'infinity'), (8, '-infinity')"
        )

    counts = counted(source)

    assert [(one.partition_key, one.rows) for one in counts.waiting] == [("2025-12", 1), ("2026-07", 2)]
    assert (counts.undated_rows, counts.hot_rows) == (4, 8)
    assert counts.hot_bytes > 0


@pytest.mark.parametrize(
    ("frequency", "keys"), [("weekly", ["2025-W01", "2026-W34"]), ("daily", ["2024-12-30", "2026-08-23"])]
)
def test_keys_are_those_of_the_calendar(source, frequency, keys):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
        connection.execute("INSERT INTO audit VALUES (1, '2024-12-30 00:00Z'), (2, '2026-08-23 23:59Z')")

    assert [one.partition_key for one in counted(source, frequency=frequency).waiting] == keys


def test_a_partitioned_table_counts_with_all_its_partitions_and_the_servers_estimate(source):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id int, at date) PARTITION BY RANGE (at)")
        connection.execute("CREATE TABLE first PARTITION OF audit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')")
        connection.execute("CREATE TABLE second PARTITION OF audit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')")
        connection.execute("INSERT INTO audit SELECT n, '2026-01-30'::date + n % 4 FROM generate_series(1, 4000) n")
        unanalysed = counted(source)
        connection.execute("ANALYZE audit")

    counts = counted(source)

    assert (unanalysed.hot_rows, counts.hot_rows) == (4000, 4000)
    assert [(one.partition_key, one.rows) for one in counts.waiting] == [("2026-01", 2000), ("2026-02", 2000)]


def test_a_table_that_is_not_there_is_an_error_and_no_zero(source):
    with pytest.raises(SourceAccessError, match="there is no table public"):
        counted(source)
