"""Run SQL in a test database: one statement, one value, and the table that most tests archive."""

from __future__ import annotations

import psycopg

AUDIT = """
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
CREATE INDEX ON audit (at);
INSERT INTO audit (at, who, cost)
SELECT '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0
FROM generate_series(1, 800) AS n;
"""


def scalar(conninfo, query, *parameters):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query, parameters).fetchone()[0]


def execute(conninfo, query):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(query)


def ask(conninfo, query, *parameters):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query, parameters).fetchall()


def digest(conninfo, table="audit"):
    """The number of rows and a checksum of their text, whatever their order."""
    query = f'SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")) FROM {table} AS t'
    return ask(conninfo, query)[0]
