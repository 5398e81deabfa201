"""What tests of commands have in common: an archived month, in an environment in which `airflow` finds it."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.chain import Chain, some_settings


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Chain:
    """A table with 500 rows of May 2026, all archived and deleted."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n"
        )
    deployment.store(object_store, bucket)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    assert chain.run().deleted_rows == 500
    return chain
