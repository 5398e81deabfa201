"""The operator and the trigger of a restore that waits for Glacier, on moto's S3."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from tests.support import glacier, restoring
from tests.support.chain import Chain, some_settings

BUCKET = "archive"


@pytest.fixture
def chain(source, glacier_url, tmp_path, deployment) -> Chain:
    """A table with rows of May, in an environment in which Airflow finds its store."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n"
        )
    deployment.glacier_store(glacier_url, BUCKET)
    client = glacier.make_bucket(glacier_url, BUCKET)
    return Chain(source, client, some_settings(BUCKET, tmp_path, part_rows=200))


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
