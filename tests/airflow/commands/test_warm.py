"""`airflow strongroom warm apply`, as a user types it, on a real database."""

from __future__ import annotations

import psycopg
import pytest


@pytest.fixture
def table(source, object_store, bucket, deployment) -> str:
    """A table with rows of May that has a warm tier; the connection string of its database."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n"
        )
    deployment.tables(audit={"date_column": "at", "warm": True})
    deployment.store(object_store, bucket)
    deployment.database(source, "source", "owner")
    return source


def test_the_warm_table_is_printed_or_made(table, airflow):
    printed = airflow("strongroom", "warm", "apply", "audit", "--print")
    unnamed = airflow("strongroom", "warm", "apply", "audit")
    with psycopg.connect(table) as connection:
        before = connection.execute("SELECT to_regclass('warm.audit')").fetchone()
    made = airflow("strongroom", "warm", "apply", "audit", "--conn-id", "strongroom_owner", "--until", "2030-01")

    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith(
        "BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;\nCREATE SCHEMA IF NOT EXISTS"
    )
    assert printed.stdout.endswith("COMMIT;\n")
    assert unnamed.returncode == 1
    assert "--conn-id with a connection whose role owns the table, or --print" in unnamed.stderr
    assert before == (None,)
    assert made.returncode == 0, made.stderr
    assert "warm.audit can take rows of public.audit, with partitions up to 2030-01." in made.stdout
    with psycopg.connect(table) as connection:
        assert connection.execute("SELECT count(*) FROM audit_all").fetchone() == (500,)
        assert connection.execute("SELECT to_regclass('warm.audit_2030_01') IS NOT NULL").fetchone() == (True,)
