"""`airflow strongroom bucket claim`, as a user types it, on a real store."""

from __future__ import annotations

import json

import psycopg
import pytest

from strongroom.identity import require_claimed
from strongroom.settings import StoreSettings
from strongroom.store import Store


@pytest.fixture
def deployed(source, object_store, bucket, tmp_path, monkeypatch) -> Store:
    """An environment in which `airflow` finds a source database and a new store."""
    tables = {name: {"date_column": "at", "legal_basis": "a test"} for name in ("audit", "orders")}
    config = tmp_path / "archive.yaml"
    config.write_text(json.dumps({"tables": tables}))
    where = psycopg.conninfo.conninfo_to_dict(source)
    database = {"conn_type": "postgres", "login": where["user"], "password": where["password"]}
    database |= {"host": where["host"], "port": int(where["port"]), "schema": where["dbname"]}
    access_key, secret_key = object_store.keys("archiver")
    keys = {"conn_type": "aws", "login": access_key, "password": secret_key}
    monkeypatch.setenv("STRONGROOM_CONFIG", str(config))
    monkeypatch.setenv("STRONGROOM__STORE__BUCKET", bucket)
    monkeypatch.setenv("STRONGROOM__STORE__ENDPOINT_URL", object_store.endpoint_url)
    monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_SOURCE", json.dumps(database))
    monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_STORE", json.dumps(keys))
    return Store(object_store.client("archiver"), StoreSettings(bucket=bucket))


def test_a_new_store_is_claimed_once_and_before_that_no_command_shows_it_as_empty(deployed, airflow, source):
    listed = airflow("strongroom", "list")
    claimed = airflow("strongroom", "bucket", "claim")
    again = airflow("strongroom", "bucket", "claim", "orders", "--json")
    after = airflow("strongroom", "list")

    database = psycopg.conninfo.conninfo_to_dict(source)["dbname"]
    assert listed.returncode == 1
    assert "is unclaimed" in listed.stderr
    assert "airflow strongroom bucket claim" in listed.stderr
    assert claimed.returncode == 0, claimed.stderr
    assert f"belongs from now on to database {database}." in claimed.stdout
    assert (again.returncode, json.loads(again.stdout)["claimed"]) == (0, False)
    assert require_claimed(deployed).database == database
    assert (after.returncode, "There is no such archive yet." in after.stdout) == (0, True)


def test_with_several_stores_it_is_said_which_one(deployed, airflow, tmp_path):
    """Else an emptied store would be claimed along with a new one."""
    config = tmp_path / "archive.yaml"
    document = json.loads(config.read_text())
    document["tables"]["orders"]["store"] = {"prefix": "orders"}
    config.write_text(json.dumps(document))

    ended = airflow("strongroom", "bucket", "claim")

    assert ended.returncode == 1
    assert "2 stores, of audit, orders" in ended.stderr
    assert deployed.head("metadata/source.json") is None
