"""What a database tells of a table, on a real PostgreSQL: the first row and the partitions inside hot retention."""

from __future__ import annotations

from datetime import datetime, timezone

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import SourceAccessError, SourceError
from strongroom.overview.source import TableRows, look_at_table
from tests.support.chain import NOW, some_settings
from tests.support.database import execute


def look(conninfo: str, *, seconds: int = 60, **changes) -> TableRows:
    with open_source(conninfo, application_name="test") as connection:
        settings = some_settings("unused", "/tmp", **changes)
        return look_at_table(connection, settings, now=NOW, seconds=seconds)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("index", ["", "CREATE INDEX ON audit (at);"])
def test_partitions_with_rows_and_the_first_row_are_found_whatever_dates_them(source, kind, index):
    """On 23 November the hot months are August to November; September has no row."""
    execute(
        source,
        f"CREATE TABLE audit (id int PRIMARY KEY, at {kind}); {index} INSERT INTO audit VALUES (1, '2025-12-31'), "
        "(2, '2026-08-01'), (3, '2026-10-31'), (4, '2026-11-23'), (5, '2026-12-01')",
    )

    rows = look(source)

    assert rows.first_at == at("2025-12-31")
    assert rows.hot_keys == ("2026-08", "2026-10", "2026-11")
    assert [(one.partition_key, one.rows) for one in rows.counts.waiting] == [("2025-12", 1)]


def test_the_first_row_is_told_to_the_second_in_utc(source):
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
    execute(source, "INSERT INTO audit VALUES (1, '2026-01-01 00:30:15+02')")

    assert look(source).first_at == at("2025-12-31 22:30:15")


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_dates_that_no_partition_holds_hide_no_row(source, kind):
    """Infinite dates, dates before Christ and before 1970 belong to no partition."""
    execute(source, f"CREATE TABLE audit (id int PRIMARY KEY, at {kind}); CREATE INDEX ON audit (at)")
    execute(
        source,
        "INSERT INTO audit VALUES (1, 'infinity'), (2, '-infinity'), (3, '0044-03-15 BC'), (4, '1969-12-31'), (5, NULL), (6, '2026-05-01')",
    )

    rows = look(source)

    assert (rows.first_at, rows.hot_keys, rows.counts.undated_rows) == (at("2026-05-01"), (), 5)


def test_dates_beyond_the_calendar_of_python_are_no_first_row(source):
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
    execute(source, "INSERT INTO audit VALUES (1, '200000-01-01'), (2, 'infinity')")

    assert look(source).first_at is None


def test_an_empty_table_has_no_first_row_and_no_hot_partition(source):
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")

    rows = look(source)

    assert (rows.first_at, rows.hot_keys, rows.counts.waiting) == (None, (), ())


@pytest.mark.parametrize(
    ("frequency", "hot"),
    [("weekly", ("2026-W35", "2026-W48")), ("daily", ("2026-08-25", "2026-11-23"))],
)
def test_hot_partitions_are_those_of_the_table_frequency(source, frequency, hot):
    """Ninety days before 23 November is 25 August: the week of it ends on 30 August, and is still hot."""
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
    execute(source, "INSERT INTO audit VALUES (1, '2026-08-25 12:00Z'), (2, '2026-11-23 12:00Z')")

    assert look(source, frequency=frequency).hot_keys == hot


def test_a_partition_is_hot_until_the_day_on_which_it_falls_due(source):
    """The last day that is due on 23 November is 24 August."""
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
    execute(source, "INSERT INTO audit VALUES (1, '2026-08-24 23:59:59Z')")

    rows = look(source, frequency="daily")

    assert rows.hot_keys == ()
    assert [one.partition_key for one in rows.counts.waiting] == ["2026-08-24"]


def test_names_are_quoted(source):
    execute(source, 'CREATE TABLE "it\'s ""odd"" %s" (id int PRIMARY KEY, "da te\'s" timestamptz)')
    execute(source, 'INSERT INTO "it\'s ""odd"" %s" VALUES (1, \'2026-11-01\')')

    rows = look(source, table='it\'s "odd" %s', date_column="da te's")

    assert (rows.first_at, rows.hot_keys) == (at("2026-11-01"), ("2026-11",))


def test_a_table_that_is_not_there_is_an_error(source):
    with pytest.raises(SourceAccessError, match="there is no table public"):
        look(source)


def test_the_server_gives_up_on_a_question_that_takes_too_long(source):
    """The table is locked, so the first question waits; a page may not."""
    execute(source, "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz)")
    with psycopg.connect(source) as locker:
        locker.execute("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(SourceError, match="were not counted within 1 s"):
            look(source, seconds=1)
