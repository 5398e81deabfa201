"""A table that the real pg_partman partitions: archived, its partitions dropped, and maintained by pg_partman before and after.

It needs a server with the extension, which `make test` looks for in the system's PostgreSQL 15 (`deploy/find-postgres --install 15`).
"""

from __future__ import annotations

import pytest

from strongroom.database.other_retention import other_retention
from strongroom.database.server_kind import server_kind
from tests.support.chain import Chain, some_settings
from tests.support.database import ask, digest, execute, scalar
from tests.support.partitions import COOLED, HELD

TABLE = """
CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON audit (at);
SELECT partman.create_parent('public.audit', 'at', 'native', 'monthly', p_start_partition := '2026-04-01');
"""
ROWS = """
INSERT INTO audit SELECT n, '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n FROM generate_series(1, 800) AS n;
"""
MAY = "audit_p2026_05"


@pytest.fixture
def make_chain(source, object_store, bucket, tmp_path):
    """A chain for a table that pg_partman made and filled."""

    def make(**changes) -> Chain:
        execute(source, f"SET timezone = 'UTC'; {TABLE}")
        execute(source, f"SET timezone = 'UTC'; {ROWS}")
        return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))

    return make


def partitions(conninfo) -> set[str]:
    return {
        name for (name,) in ask(conninfo, "SELECT relid::regclass::text FROM pg_partition_tree('audit') WHERE isleaf")
    }


def maintain(conninfo) -> None:
    execute(conninfo, "SET timezone = 'UTC'; SELECT partman.run_maintenance('public.audit')")


def test_a_month_is_detached_and_dropped_and_pg_partman_goes_on(make_chain, source):
    chain = make_chain(partition_delete={"enabled": True})
    before = partitions(source)

    report = chain.run()
    [dropped] = chain.drop_detached(now=COOLED)
    maintain(source)

    assert (report.archived_rows, report.detached_rows, report.deleted_rows) == (744, 744, 0)
    assert (dropped.result, dropped.rows) == ("dropped", 744)
    assert before - partitions(source) == {MAY}
    assert scalar(source, "SELECT count(*) FROM pg_class WHERE relname = %s", MAY) == 0
    assert scalar(source, "SELECT count(*) FROM audit") == 56
    assert ask(source, "SELECT nspname FROM pg_namespace WHERE nspname = %s", HELD)


def test_rows_of_a_month_go_by_range_and_its_partition_stays_for_pg_partman(make_chain, source):
    chain = make_chain()

    report = chain.run()
    maintain(source)

    assert (report.archived_rows, report.deleted_rows) == (744, 744)
    assert MAY in partitions(source)
    assert scalar(source, f"SELECT count(*) FROM {MAY}") == 0
    assert scalar(source, "SELECT count(*) FROM audit") == 56


def test_rows_in_the_default_partition_are_archived_like_others(make_chain, source):
    """They are there when pg_partman made no partition for them in time."""
    chain = make_chain()
    execute(
        source,
        f"DROP TABLE {MAY}; INSERT INTO audit SELECT n, '2026-05-10', 'late' FROM generate_series(1001, 1010) AS n",
    )

    assert scalar(source, "SELECT count(*) FROM audit_default") == 10
    assert chain.run().deleted_rows == 10
    assert scalar(source, "SELECT count(*) FROM audit_default") == 0


def test_its_own_retention_drops_rows_that_nobody_archived_and_is_found_before(make_chain, source):
    """The reason for the check: the extension does what it is told."""
    chain = make_chain()
    execute(source, "UPDATE partman.part_config SET retention = '1 month', retention_keep_table = false")
    with chain.source() as connection:
        other, kind = other_retention(connection, "public", "audit"), server_kind(connection)

    maintain(source)

    assert "older than 1 month and drops them" in other.says
    assert [name for name, _ in kind.extensions] == ["pg_partman"]
    assert MAY not in partitions(source)
    assert digest(source)[0] < 800
    execute(source, other.fix)
    with chain.source() as connection:
        assert other_retention(connection, "public", "audit") is None
