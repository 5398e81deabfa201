"""What tests of the archive operators have in common: a partitioned table, tables that belong together, and where Airflow finds them."""

from __future__ import annotations

from datetime import datetime, timezone

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.units import ORDERS, SECTION, UnitChain, unit_settings

TABLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-06-15+00');
INSERT INTO audit SELECT n, '2026-05-31+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 48) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Chain:
    """A table with a partition for May that may be detached, and connections to it, to its owner and to its store."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(TABLE)
    settings = some_settings(bucket, tmp_path / "staging", partition_delete={"enabled": True})
    deployment.tables(audit={"date_column": "at", "partition_delete": {"enabled": True, "cooling_off": "P1D"}})
    deployment.store(object_store, bucket)
    deployment.database(source, "source", "owner")
    return Chain(make_conninfo(source), object_store.client("archiver"), settings, now=datetime.now(timezone.utc))


@pytest.fixture
def unit(source, object_store, bucket, tmp_path, deployment) -> UnitChain:
    """Orders with their lines, notes and alerts, in a store that is claimed."""
    execute(source, ORDERS)
    deployment.tables(**SECTION)
    deployment.store(object_store, bucket)
    deployment.database(source, "source", "restore")
    chain = UnitChain(source, object_store.client("archiver"), unit_settings(bucket, tmp_path / "staging"))
    chain.plan()  # claims the store
    return chain
