"""A window holds its first instant and not its end, whatever the type of the date column."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.odd_tables import keys_left


@pytest.mark.parametrize("type_", ["timestamp", "timestamptz", "timestamp(0)"])
def test_a_window_holds_its_first_instant_and_not_its_end(case, type_):
    """In UTC, whatever time zone the database prefers."""
    chain = case(f"""
        CREATE TABLE odd (k integer PRIMARY KEY, at {type_});
        SET timezone = 'UTC';
        INSERT INTO odd VALUES (1, '2026-04-30 23:59:59'), (2, '2026-05-01 00:00:00'), (3, '2026-05-31 23:59:59'), (4, '2026-06-01 00:00:00'),
                               (5, 'infinity'), (6, '-infinity'), (7, NULL), (8, NULL), (9, '2026-05-15 12:00:00');
    """)
    chain.conninfo = make_conninfo(chain.conninfo, options="-c timezone=Asia/Kolkata")

    report = chain.run()

    assert [(one.reason, one.rows) for one in report.exclusions] == [("no_date", 2)]
    assert keys_left(chain) == [1, 4, 5, 6, 7, 8]


def test_a_window_of_dates_holds_its_days(case):
    chain = case(
        """
        CREATE DOMAIN day AS date;
        CREATE TABLE odd (k integer PRIMARY KEY, at day NOT NULL);
        INSERT INTO odd VALUES (1, '2026-04-30'), (2, '2026-05-01'), (3, '2026-05-31'), (4, '2026-06-01'), (5, 'infinity'), (6, '0044-03-15 BC');
    """,
        part_rows=1,
    )

    report = chain.run()

    assert (report.parts, report.exclusions) == (2, ())
    assert keys_left(chain) == [1, 4, 5, 6]


def test_microseconds_at_the_edges_of_a_window_count(case):
    chain = case("""
        SET timezone = 'UTC';
        CREATE TABLE odd (k integer PRIMARY KEY, at timestamptz);
        INSERT INTO odd VALUES (1, '2026-04-30 23:59:59.999999'), (2, '2026-05-31 23:59:59.999999'), (3, '2026-06-01 00:00:00.000001');
    """)

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [1, 3]
