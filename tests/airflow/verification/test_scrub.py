"""The DAG scrub_archives: its form, and real runs through Airflow on a real store."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import verification_key
from strongroom.storage.store import Store
from tests.support.chain import some_settings
from tests.support.dags import read_dags
from tests.support.sealing import seal_month

DAG_ID = "scrub_archives"
MONTHS = ("2026-03", "2026-04", "2026-05")


@pytest.fixture
def store(object_store, bucket, tmp_path, deployment) -> Store:
    """Three months, of which the first was read again."""
    deployment.store(object_store, bucket)
    settings = some_settings(bucket, tmp_path / "staging")
    store = Store(object_store.client("archiver"), settings.store)
    archives = [seal_month(store, settings, month, parts=1) for month in MONTHS]
    store.put_bytes(verification_key(archives[0], datetime(2026, 11, 28, tzinfo=timezone.utc), "sound"), b"{}")
    return store


@pytest.fixture
def deployed(metadata, store, parsing):
    """A connection to the metadata database, where the DAG has no runs."""
    with parsing("scrub_archives.py"), psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield connection


def read_again(store: Store) -> list[str]:
    found = [json.loads(store.read(key)[0]) for key in store.keys("reports/verifications/")]
    return sorted(one["archive_id"] for one in found if one)


def test_it_runs_weekly_with_a_share_that_reads_each_archive_once_a_year(metadata):
    dag = read_dags("scrub_archives")[DAG_ID]

    assert dag.task_ids == ["locate", "verify", "report"]
    assert (dag.schedule, dag.params["sample"]) == ("0 5 * * 1", "1/52")
    assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)
    dag.params.validate()


def test_those_are_read_whose_proof_is_oldest(deployed, store, airflow):
    ended = airflow("dags", "test", DAG_ID, "--conf", json.dumps({"sample": "2/3"}))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert read_again(store) == [str(ArchiveId("public", "audit", month, 1)) for month in MONTHS[1:]]
    assert "read 20 rows of 2 archives again: 2 sound" in ended.stdout + ended.stderr


def test_a_damaged_archive_fails_the_scrub_by_name(deployed, store, airflow, object_store, bucket):
    april = ArchiveId("public", "audit", "2026-04", 1)
    object_store.client("admin").put_object(Bucket=bucket, Key=april.sums_key, Body=b"slip")

    ended = airflow("dags", "test", DAG_ID)

    assert read_again(store) == [str(april)]
    assert f"{april} is corrupted: SHA256SUMS corrupted" in ended.stdout + ended.stderr
    assert "1 of 1 archives were not proved" in ended.stdout + ended.stderr
