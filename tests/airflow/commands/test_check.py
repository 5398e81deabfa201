"""`airflow strongroom check`, as a user types it: what it tries through Airflow, and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from strongroom.database.session import open_source, read_identity
from strongroom.ledger.owner import record_owner
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom_local.servers.s3 import TASK_LOG_BUCKET
from tests.support.database import AUDIT, execute
from tests.support.deployment import aws_connection


@pytest.fixture
def deployed(source, object_store, bucket, deployment, monkeypatch):
    """A deployment of one table, with a superuser for all roles: `check` does not like that."""
    execute(source, AUDIT + "CREATE SCHEMA strongroom_drill")
    deployment.store(object_store, bucket, purge="purger")
    deployment.database(source, "source", "restore", "drill")
    object_store.create_bucket(TASK_LOG_BUCKET)
    deployment.connection("task_logs", aws_connection(*object_store.keys("logger")))
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER", f"s3://{TASK_LOG_BUCKET}/airflow")
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID", "strongroom_task_logs")
    with open_source(source, application_name="test") as connection:
        record_owner(Store(object_store.client("archiver"), StoreSettings(bucket=bucket)), read_identity(connection))
    return deployment


def test_it_names_what_is_wrong_and_what_to_paste(deployed, airflow, parsing):
    with parsing("archive_tables.py"):
        ended = airflow("strongroom", "check")
    told = ended.stdout.splitlines()

    assert ended.returncode == 1
    assert "  FAILED  Airflow's triggerer is at work: none was ever started" in told
    assert "          fix: airflow triggerer" in told
    assert "  FAILED  UPDATE on public.audit must be refused: it was allowed" in told
    assert "  warning the DAGs of all tables run on schedule: paused: archive__audit" in told
    assert f"task logs s3://{TASK_LOG_BUCKET}/airflow  3 of 3 ok" in told
    assert not any("  ok  " in line for line in told)
    assert told[-1].endswith("failed.")


def test_as_json_and_for_nagios_it_says_the_same(deployed, airflow, parsing, monkeypatch, object_store):
    deployed.connection("task_logs", aws_connection(*object_store.keys("admin")))
    monkeypatch.setenv("STRONGROOM__POOL", "nowhere")
    with parsing("archive_tables.py"):
        as_json = airflow("strongroom", "check", "--json")
        nagios = airflow("strongroom", "check", "--nagios")
    told = json.loads(as_json.stdout)
    failed = {one["what"]: one for one in told["checks"] if one["verdict"] == "failed"}

    assert (as_json.returncode, nagios.returncode) == (1, 2)
    assert failed["the pool nowhere has room"]["hint"].startswith("airflow pools set nowhere ")
    assert "removing a log must be refused" in failed
    [line] = nagios.stdout.splitlines()
    assert line.startswith(f"STRONGROOM CRITICAL - {told['failed']} of {len(told['checks'])} checks failed: airflow: ")


def test_settings_that_cannot_be_read_are_a_fault_like_others(deployed, airflow, monkeypatch):
    monkeypatch.setenv("STRONGROOM_CONFIG", "/nowhere/archive.yaml")

    ended = airflow("strongroom", "check", "--json")

    [only] = json.loads(ended.stdout)["checks"]
    assert (ended.returncode, only["area"], only["verdict"]) == (1, "settings", "failed")
    assert "cannot be read" in only["found"]


@pytest.mark.exhaustive
def test_a_metadata_database_that_does_not_answer_is_a_fault_like_others(deployed):
    """In a process of its own: the others have read Airflow's settings."""
    away = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@127.0.0.1:1/nowhere"}
    program = [sys.executable, "-m", "airflow", "strongroom", "check"]

    ended = subprocess.run(program, capture_output=True, text=True, check=False, env=away)

    assert ended.returncode == 1, ended.stderr
    assert "FAILED  Airflow's metadata database answers: " in ended.stdout
    assert "database strongroom_source  " in ended.stdout
    assert "Traceback" not in ended.stderr
