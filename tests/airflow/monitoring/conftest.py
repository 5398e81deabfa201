"""An exporter with something to say: archives, a table that waits, a DAG that ran, a purge that waits for a person."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.statistics.proofs import verify_archives
from strongroom_local.servers.ports import PortClaims
from tests.support.chain import NOW, Chain, some_settings
from tests.support.commands import start
from tests.support.deployment import aws_connection, postgres_connection


@pytest.fixture
def environment(source, metadata, object_store, bucket, tmp_path) -> dict[str, str]:
    """One archived month, one that waits, a DAG that ran; and the variables with which the exporter finds them."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("CREATE TABLE calls (LIKE audit INCLUDING ALL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-04-30 23:30Z'::timestamptz + n * interval '1 min' FROM generate_series(1, 100) n"
        )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    archive = ArchiveId.parse(chain.run().archive_id)
    list(verify_archives(chain.store, [archive], who="ada", now=lambda: NOW))
    make_tasks(metadata)
    config = tmp_path / "archive.yaml"
    tables = {
        "audit": {},
        "calls": {"store": {"bucket": f"{bucket}-later"}},
        "cases": {"source_conn_id": "nowhere"},
        "wrong": {"part_row": 1},
    }
    config.write_text(json.dumps({"legal_basis": "a test", "date_column": "at", "tables": tables}))
    return {
        **os.environ,
        "STRONGROOM_CONFIG": str(config),
        "STRONGROOM__STORE__BUCKET": bucket,
        "STRONGROOM__STORE__ENDPOINT_URL": object_store.endpoint_url,
        "AIRFLOW_CONN_STRONGROOM_STORE": aws_connection(*object_store.keys("reader")),
        "AIRFLOW_CONN_STRONGROOM_SOURCE": postgres_connection(source),
    }


def make_tasks(metadata: str) -> None:
    """What Airflow keeps of a DAG with one task that failed once and then succeeded, and of two requests for an approval, one of which waits."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # without the rows that these refer to
        connection.execute(
            "INSERT INTO dag_tag (name, dag_id) VALUES ('strongroom', 'archive__audit') ON CONFLICT DO NOTHING"
        )
        for table, identity, state, seconds in (
            ("task_instance", "id", "success", 2.5),
            ("task_instance_history", "task_instance_id", "failed", 1.0),
        ):
            connection.execute(
                f"INSERT INTO {table} ({identity}, task_id, dag_id, run_id, map_index, try_number, state, duration, pool, "
                "pool_slots, span_status) VALUES (gen_random_uuid(), 'part.upload', 'archive__audit', 'r', -1, 1, %s, %s, "
                "'default_pool', 1, 'not_started') ON CONFLICT DO NOTHING",
                (state, seconds),
            )
        connection.execute(
            "INSERT INTO dag_tag (name, dag_id) VALUES ('strongroom', 'retention_purge') ON CONFLICT DO NOTHING"
        )
        for state in ("awaiting_input", "success"):
            [asked] = connection.execute(
                "INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, try_number, state, pool, pool_slots, span_status) "
                "VALUES (gen_random_uuid(), 'approve', 'retention_purge', %s, -1, 1, %s, 'default_pool', 1, 'not_started') "
                "ON CONFLICT (dag_id, task_id, run_id, map_index) DO UPDATE SET state = excluded.state RETURNING id",
                (state, state),
            ).fetchone()
            connection.execute(
                "INSERT INTO hitl_detail (ti_id, options, subject, params, created_at, params_input) "
                "VALUES (%s, '[]', 'approve', '{}', now(), '{}') ON CONFLICT DO NOTHING",
                (asked,),
            )


@pytest.fixture
def exporter(environment) -> Iterator[str]:
    """The address of a running exporter."""
    with running_exporter(environment) as url:
        yield url


@contextmanager
def running_exporter(environment: dict[str, str]) -> Iterator[str]:
    """An exporter with these variables: the address of its figures."""
    with PortClaims() as claims:
        [port] = claims.choose(1)
        process = start("strongroom_airflow.exporter", "--port", str(port), "--interval", "1", environment=environment)
        try:
            yield f"http://127.0.0.1:{port}/metrics"
            process.terminate()
            process.join(30)
            assert process.exitcode == 0
        finally:
            process.kill()
