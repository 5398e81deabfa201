"""What becomes of the dead rows of a delete, on a real server."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strongroom.archive.report import report_run
from strongroom.database.session import open_source
from strongroom.tables.vacuum import Vacuum, vacuum_after
from tests.domain.tables.test_pace import counted
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute, scalar

DEAD = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relname = 'audit'"


@pytest.fixture
def table(source) -> str:
    """A table of 100 rows, 30 of them dead, that nobody else vacuums."""
    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz) WITH (autovacuum_enabled = off)")
    counted(source, "INSERT INTO audit SELECT n FROM generate_series(1, 100) AS n")
    counted(source, "DELETE FROM audit WHERE id <= 30")
    return source


def after(conninfo: str, tmp_path, *, stop_at=None, source: Any = None, **changes: Any) -> Vacuum:
    settings = some_settings("bucket", tmp_path, **changes)
    opened = partial(open_source, conninfo, application_name="test", **source or {})
    return vacuum_after(opened, settings, stop_at=stop_at, now=NOW)


def test_a_vacuum_is_advised_where_many_rows_are_dead(table, tmp_path):
    found = after(table, tmp_path)

    assert (found.result, found.dead_rows_percent) == ("advised", 30)
    assert found.sentence() == '30 % of the table are dead rows, advised: VACUUM (ANALYZE) "public"."audit"'
    assert scalar(table, DEAD) == 30


def test_nothing_is_advised_where_few_are(table, tmp_path):
    counted(table, "VACUUM audit")
    counted(table, "DELETE FROM audit WHERE id > 94")

    found = after(table, tmp_path)

    assert (found.result, found.dead_rows_percent, found.sentence()) == ("unneeded", 8.6, "")


def test_a_table_of_which_nothing_was_counted_had_better_be_vacuumed(source, tmp_path):
    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz)")

    found = after(source, tmp_path)

    assert found.sentence() == 'advised: VACUUM (ANALYZE) "public"."audit"'


def test_where_the_settings_say_so_the_table_is_vacuumed_and_analysed(table, tmp_path):
    found = after(table, tmp_path, vacuum_after_delete=True)

    assert (found.result, found.dead_rows_percent) == ("vacuumed", 30)
    assert found.sentence() == "30 % of the table are dead rows, vacuumed"
    assert scalar(table, DEAD) == 0
    assert scalar(table, "SELECT last_analyze IS NOT NULL FROM pg_stat_all_tables WHERE relname = 'audit'")


@pytest.mark.parametrize(("seconds", "result"), [(0, "advised"), (1, "vacuumed")])
def test_no_vacuum_begins_when_the_time_is_over(table, tmp_path, seconds, result):
    found = after(table, tmp_path, vacuum_after_delete=True, stop_at=NOW + timedelta(seconds=seconds))

    assert found.result == result


def test_a_role_that_may_not_vacuum_is_told_so(table, tmp_path):
    """The server itself calls that a success, and says why in words that changed with PostgreSQL 16."""
    execute(table, "CREATE ROLE no_owner LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA public TO no_owner")
    try:
        found = after(make_conninfo(table, user="no_owner", password="x"), tmp_path, vacuum_after_delete=True)
    finally:
        execute(table, "DROP OWNED BY no_owner; DROP ROLE no_owner")

    assert found.result == "refused"
    assert re.search('VACUUM refused: .*skipping (it|"audit" --- only table or database owner)', found.sentence())
    assert scalar(table, DEAD) == 30


def test_a_vacuum_that_somebody_is_in_the_way_of_is_given_up(table, tmp_path):
    with psycopg.connect(table) as other:
        other.execute("LOCK TABLE audit IN SHARE UPDATE EXCLUSIVE MODE")
        found = after(table, tmp_path, vacuum_after_delete=True, source={"lock_timeout_seconds": 1})

    assert (found.result, found.detail) == ("unfinished", "canceling statement due to lock timeout")


def test_a_source_that_does_not_answer_fails_no_run(table, tmp_path):
    found = after(make_conninfo(table, port=1), tmp_path, vacuum_after_delete=True)

    assert found.result == "unknown"
    assert found.sentence().startswith("VACUUM unknown: the source database")


def test_the_report_of_a_run_says_what_became_of_the_dead_rows(table, object_store, bucket, tmp_path):
    execute(table, "INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 20) AS n")
    chain = Chain(table, object_store.client("archiver"), some_settings(bucket, tmp_path))
    plan = chain.plan()
    sealed = chain.seal(plan)
    deleted = [chain.delete(part) for part in sealed.parts]
    vacuum = vacuum_after(chain.source, chain.settings, stop_at=None, now=NOW)

    report = report_run(chain.store, None, plan, sealed.parts, deleted, now=NOW, vacuum=vacuum)
    kept = report_run(chain.store, chain.staging(plan.archive_id), plan, sealed.parts, deleted, now=NOW, vacuum=vacuum)

    assert "20 rows deleted; " in report.sentence()
    assert report.sentence().endswith('dead rows, advised: VACUUM (ANALYZE) "public"."audit"')
    assert kept == report
