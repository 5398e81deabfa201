"""`airflow strongroom bucket`, as a user types it: `claim` on a real store, `check` and `apply` on moto's, which has Glacier."""

from __future__ import annotations

import json
import os

import psycopg
import pytest

from strongroom.ledger.owner import require_owned
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from tests.support import glacier


@pytest.fixture
def deployed(source, object_store, bucket, deployment) -> Store:
    """An environment in which `airflow` finds a source database and a new store."""
    deployment.tables(audit={"date_column": "at"}, orders={"date_column": "at"})
    deployment.store(object_store, bucket)
    deployment.database(source, "source")
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
    assert require_owned(deployed).database == database
    assert (after.returncode, "There is no such archive yet." in after.stdout) == (0, True)


def test_with_several_stores_the_command_must_say_which_one(deployed, airflow, deployment):
    """Else an emptied store would be claimed together with a new one."""
    deployment.tables(audit={"date_column": "at"}, orders={"date_column": "at", "store": {"prefix": "orders"}})

    ended = airflow("strongroom", "bucket", "claim")

    assert ended.returncode == 1
    assert "2 stores, of audit, orders" in ended.stderr
    assert deployed.head("metadata/source.json") is None


def test_commands_find_connections_that_lie_in_airflows_database_alone(deployed, airflow, monkeypatch):
    """As `airflow connections add` leaves them."""
    added = []
    for conn_id in ("strongroom_source", "strongroom_store"):
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        added.append(airflow("connections", "add", conn_id, "--conn-json", os.environ[variable]))
        monkeypatch.delenv(variable)

    try:
        claimed = airflow("strongroom", "bucket", "claim")
        listed = airflow("strongroom", "list")
    finally:
        for conn_id in ("strongroom_source", "strongroom_store"):
            airflow("connections", "delete", conn_id)

    assert [one.returncode for one in (*added, claimed, listed)] == [0, 0, 0, 0], claimed.stderr + listed.stderr


def test_a_store_connection_that_is_missing_is_not_replaced_by_the_keys_of_the_machine(
    deployed, airflow, object_store, monkeypatch
):
    monkeypatch.delenv("AIRFLOW_CONN_STRONGROOM_STORE")
    access_key, secret_key = object_store.keys("archiver")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)

    ended = airflow("strongroom", "bucket", "claim")

    assert ended.returncode == 1
    assert "Airflow has no connection strongroom_store" in ended.stderr
    assert deployed.head("metadata/source.json") is None


def test_a_bucket_is_compared_and_its_rules_written(glacier_url, deployment, airflow, monkeypatch):
    deployment.tables(audit={"date_column": "at", "transitions": {"glacier": "P30D"}})
    deployment.glacier_store(glacier_url, "rules")
    glacier.make_bucket(glacier_url, "rules")
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
