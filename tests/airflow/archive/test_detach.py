"""The operators of partitions that go as a whole: connections, log, XCom, on real servers."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.ledger.evidence import DetachEvidence
from strongroom.retention.drop_detached import DetachedResult
from tests.support.chain import Chain, some_settings

TABLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-06-15+00');
INSERT INTO audit SELECT n, '2026-05-31+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 48) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, monkeypatch) -> Chain:
    """A table with a partition for May, in an environment in which the operators find it, its owner and its store."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(TABLE)
    settings = some_settings(bucket, tmp_path / "staging", partition_delete={"enabled": True})
    config = tmp_path / "archive.yaml"
    section = {"date_column": "at", "partition_delete": {"enabled": True, "cooling_off": "P1D"}}
    config.write_text(json.dumps({"legal_basis": "a test", "tables": {"audit": section}}))
    monkeypatch.setenv("STRONGROOM_CONFIG", str(config))
    monkeypatch.setenv("STRONGROOM__STAGING", settings.staging)
    monkeypatch.setenv("STRONGROOM__STORE__BUCKET", bucket)
    monkeypatch.setenv("STRONGROOM__STORE__ENDPOINT_URL", object_store.endpoint_url)
    where = conninfo_to_dict(source)
    database = {
        "conn_type": "postgres",
        "host": where["host"],
        "port": int(str(where["port"])),
        "schema": where["dbname"],
        "login": where["user"],
        "password": where["password"],
    }
    access_key, secret_key = object_store.keys("archiver")
    keys = {"conn_type": "aws", "login": access_key, "password": secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_OWNER", json.dumps(database))
    monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_STORE", json.dumps(keys))
    return Chain(make_conninfo(source), object_store.client("archiver"), settings, now=datetime.now(timezone.utc))


def context_of(dag_id: str, partition_key: str | None = None) -> dict[str, Any]:
    run = SimpleNamespace(
        dag_id=dag_id, run_id="r", triggering_user_name="grace", partition_key=partition_key, start_date=None
    )
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(task_id="t", xcom_push=lambda key, value: pushed.update({key: value}))
    return {"ti": instance, "dag_run": run}


def test_the_operators_detach_a_partition_keep_it_while_it_cools_off_and_say_so(metadata, chain):
    from strongroom_airflow.archive.detach import DetachOperator
    from strongroom_airflow.retention.drop_detached import PurgeDetachedOperator

    sealed = chain.seal(chain.plan())
    parts = [part.model_dump(mode="json") for part in sealed.parts]

    detached = DetachOperator(task_id="detach", table="audit", parts=parts).execute(
        context_of("archive__audit", "2026-05")
    )
    while_archived = PurgeDetachedOperator(task_id="detached").execute(context_of("retention_purge"))
    chain.store.swap(
        claim := "claims/public.audit/2026-05.json",
        chain.store.read(claim)[0].replace(b'"held"', b'"released"'),
        etag=chain.store.read(claim)[1],
    )
    afterwards = PurgeDetachedOperator(task_id="detached").execute(context_of("retention_purge"))

    evidence = DetachEvidence.model_validate(detached)
    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.may", 23)]
    assert [DetachedResult.model_validate(one).result for one in while_archived] == ["contended"]
    assert [DetachedResult.model_validate(one).result for one in afterwards] == ["kept"]


def test_rows_that_are_in_no_partition_that_may_go_are_left_to_the_delete_with_the_reason(metadata, chain):
    from strongroom_airflow.archive.detach import DetachOperator

    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("CREATE VIEW of_may AS SELECT * FROM may")
    parts = [part.model_dump(mode="json") for part in chain.seal(chain.plan()).parts]

    detached = DetachOperator(task_id="detach", table="audit", parts=parts).execute(
        context_of("archive__audit", "2026-05")
    )

    assert [(one["partition"], one["reason"]) for one in detached["left"]] == [
        ("public.may", "it is read by public.of_may")
    ]
