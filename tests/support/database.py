"""Make a test database and run SQL in it: one statement, one value, and the table that most tests archive."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from strongroom_local.servers.postgres import PostgresServer

_numbers = itertools.count(1)

AUDIT = """
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
CREATE INDEX ON audit (at);
INSERT INTO audit (at, who, cost)
SELECT '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0
FROM generate_series(1, 800) AS n;
"""


@contextmanager
def a_database(postgres: PostgresServer) -> Iterator[str]:
    """The superuser's connection string for a fresh, empty database."""
    database = f"source_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        # Copying files takes a third of the time of logging each page. Before version 15 it is the only way.
        how = sql.SQL("STRATEGY FILE_COPY" if connection.info.server_version >= 15_00_00 else "")
        connection.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(database), how))
    yield postgres.conninfo(database)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


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
