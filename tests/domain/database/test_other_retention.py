"""A retention that asks no archive is found, by the table in which pg_partman keeps it. The real one is in tests/system/partman."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strongroom.database.other_retention import other_retention
from strongroom.database.session import open_source
from tests.support.database import execute

TABLES = """
CREATE SCHEMA partman; CREATE TABLE partman.part_config (parent_table text PRIMARY KEY, retention text, retention_schema text,
    retention_keep_table boolean NOT NULL DEFAULT true);
CREATE TABLE "Split" (id int, at date) PARTITION BY RANGE (at); CREATE TABLE whole (id int, at date);
INSERT INTO partman.part_config VALUES ('public.Split', NULL), ('public.whole', '1 day');
CREATE EXTENSION citext SCHEMA partman; SET allow_system_table_mods = on;
UPDATE pg_extension SET extname = 'pg_partman' WHERE extname = 'citext';
"""


@pytest.fixture
def partman(source) -> str:
    """A database with a table like pg_partman's own, in the schema of an extension that bears its name."""
    execute(source, TABLES)
    return source


def found(conninfo, table="Split"):
    with open_source(conninfo, application_name="other") as connection:
        return other_retention(connection, "public", table)


def test_there_is_none_without_pg_partman_and_none_of_a_table_that_is_not_partitioned(source):
    execute(source, 'CREATE TABLE "Split" (at date) PARTITION BY RANGE (at)')
    before = found(source)
    execute(source, 'DROP TABLE "Split"')
    execute(source, TABLES)

    assert [before, found(source), found(source, "whole"), found(source, "nowhere")] == [None] * 4


@pytest.mark.parametrize(
    ("values", "does"),
    [
        ("retention = '3 months', retention_keep_table = false", "drops them"),
        ("retention = '3 months'", "detaches them"),
        ("retention = '3 months', retention_schema = 'old'", "moves them to schema old"),
    ],
)
def test_a_retention_is_told_with_the_statement_that_ends_it(partman, values, does):
    execute(partman, f"UPDATE partman.part_config SET {values} WHERE parent_table = 'public.Split'")

    other = found(partman)

    assert other.says == (
        f"pg_partman takes out partitions that are older than 3 months and {does}, whether their rows were archived or not"
    )
    execute(partman, other.fix)
    assert found(partman) is None


def test_a_role_that_may_not_look_says_so_and_what_to_grant(partman):
    with psycopg.connect(partman, autocommit=True) as connection:
        connection.execute("CREATE ROLE \"Other\" LOGIN PASSWORD 'secret'")
    try:
        other = found(make_conninfo(partman, user="Other", password="secret"))  # pragma: allowlist secret
        assert (other.known, other.says) == (False, 'nobody can tell: this role may not read "partman"."part_config"')
        execute(partman, other.fix)
        assert found(make_conninfo(partman, user="Other", password="secret")) is None  # pragma: allowlist secret
    finally:
        execute(partman, 'DROP OWNED BY "Other"; DROP ROLE "Other"')
