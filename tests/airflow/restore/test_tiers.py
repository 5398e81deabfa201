"""Tiers through Airflow: a restore that waits for Glacier, and `airflow strongroom warm` and `bucket`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import psycopg
import pytest

from strongroom.object_keys import ArchiveId
from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client
from tests.support import glacier, restoring
from tests.support.chain import Chain, some_settings
from tests.support.deployment import aws_connection

BUCKET = "archive"


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """The address of an S3 with Glacier."""
    with glacier.running() as url:
        yield url


@pytest.fixture
def chain(source, moto_url, tmp_path, monkeypatch, deployment) -> Chain:
    """A table with rows of May, in an environment in which `airflow` finds table and store."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n"
        )
    deployment.tables(audit={"date_column": "at", "warm": True, "transitions": {"glacier": "P30D"}})
    monkeypatch.setenv("STRONGROOM__STORE__BUCKET", BUCKET)
    monkeypatch.setenv("STRONGROOM__STORE__ENDPOINT_URL", moto_url)
    deployment.connection("store", aws_connection("test", "test"))
    deployment.database(source, "restore", "source", "owner")
    settings = some_settings(BUCKET, tmp_path, part_rows=200)
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    client = make_client(StoreSettings(bucket=BUCKET), session=session, endpoint_url=moto_url)
    if BUCKET not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    return Chain(source, client, settings)


def test_a_restore_asks_for_a_part_in_glacier_waits_deferred_and_goes_on_when_it_is_back(metadata, chain):
    from airflow.sdk.exceptions import TaskDeferred

    from strongroom_airflow.restore.thaw import RestoreThawOperator
    from strongroom_airflow.triggers import PartsReturnedTrigger

    archive = ArchiveId.parse(chain.run().archive_id)
    plan = restoring.plan(chain, table="public.audit").model_dump(mode="json")
    part = archive.part_key(1, "zstd")
    glacier.freeze(BUCKET, part)
    pushed: dict[str, Any] = {}
    task_instance = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    run = SimpleNamespace(dag_id="restore_archive", run_id="manual__1")
    context = {"ti": task_instance, "dag_run": run, "params": {"table": "audit", "archives": []}}
    operator = RestoreThawOperator(task_id="thaw", plan=plan)

    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    module, arguments = deferred.value.trigger.serialize()
    trigger = PartsReturnedTrigger(**arguments)
    glacier.bring_back(BUCKET, part)
    event = asyncio.run(first_event(trigger))

    assert module == "strongroom_airflow.triggers.PartsReturnedTrigger"
    assert pushed == {"waiting": {"result": "waiting", "parts": 1, "asked": 1}}
    assert event.payload == {"parts": 1}
    assert operator.resume(context, event.payload) == {"result": "readable", "parts": 3}


async def first_event(trigger):
    return await trigger.run().__anext__()


def test_the_warm_table_is_printed_or_made(metadata, chain, airflow):
    printed = airflow("strongroom", "warm", "apply", "audit", "--print")
    unnamed = airflow("strongroom", "warm", "apply", "audit")
    with psycopg.connect(chain.conninfo) as connection:
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
    with psycopg.connect(chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM audit_all").fetchone() == (500,)
        assert connection.execute("SELECT to_regclass('warm.audit_2030_01') IS NOT NULL").fetchone() == (True,)


def test_a_bucket_is_compared_and_its_rules_written(metadata, chain, airflow, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    before = airflow("strongroom", "bucket", "check")
    applied = airflow("strongroom", "bucket", "apply")
    after = json.loads(airflow("strongroom", "bucket", "check", "--json").stdout)

    assert before.returncode == 1
    assert "GLACIER after 30 days under archives/public.audit/" in before.stdout
    assert applied.returncode == 0, applied.stderr
    assert "wrote strongroom-public.audit, strongroom-unfinished-uploads" in applied.stdout
    [findings] = after.values()
    assert {one["result"] for one in findings if one["what"].startswith("rule ")} == {"right"}
