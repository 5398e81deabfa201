"""The DAG publish_iceberg and the commands beside it: their form, and real runs through Airflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import psycopg
import pytest

from strongroom.errors import ConfigurationError, StoreAccessError
from strongroom.settings import load_settings
from strongroom_airflow.iceberg.lakes import catalogue_properties, opened_lake, published_tables
from tests.support.chain import Chain, some_settings
from tests.support.dags import read_dags
from tests.support.database import execute
from tests.support.deployment import aws_connection, postgres_connection
from tests.support.lakes import Lakeside, a_lakeside

DAG_ID = "publish_iceberg"
TABLES = {
    "audit": {
        "date_column": "at",
        "format": "parquet",
        "iceberg": {"bucket": "named-by-a-variable", "prefix": "tables"},
    }
}


@pytest.fixture
def lakeside(source, object_store, bucket, tmp_path, deployment, monkeypatch) -> Lakeside:
    """One archived month, and a deployment that publishes it with a catalogue in PostgreSQL."""
    execute(
        source,
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);"
        "INSERT INTO audit SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n FROM generate_series(1, 50) AS n;",
    )
    chain = Chain(
        source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging", format="parquet")
    )
    assert chain.run().outcome == "archived"
    made = a_lakeside(object_store, chain.settings, tmp_path)
    deployment.tables(**TABLES)
    deployment.store(object_store, bucket, iceberg="iceberg")
    deployment.connection("iceberg_catalog", postgres_connection(source))
    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__ICEBERG__BUCKET", made.bucket)
    made.uri = catalogue_properties(load_settings().table("audit"))["uri"]
    return made


@pytest.fixture
def deployed(metadata, lakeside, parsing) -> Iterator[psycopg.Connection]:
    with parsing("publish_iceberg.py", tables=TABLES), psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield connection


def test_a_run_publishes_the_archives_and_the_commands_say_what_there_is(deployed, lakeside, airflow):
    before = airflow("strongroom", "iceberg", "status", "--json")
    assert before.returncode == 1, before.stderr
    assert [one["added"] for one in json.loads(before.stdout)] == [["public.audit.2026-05.0001"]]

    ended = airflow("dags", "test", DAG_ID)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    [(outcome,)] = deployed.execute(
        "SELECT value FROM xcom WHERE dag_id = %s AND key = 'outcome' ORDER BY timestamp DESC LIMIT 1", (DAG_ID,)
    ).fetchall()
    assert outcome == "1 Iceberg tables hold 1 archives with 50 rows."
    assert [row["who"] for row in lakeside.rows()] == [f"agent {n}" for n in range(1, 51)]
    after = airflow("strongroom", "iceberg", "status")
    assert after.returncode == 0, after.stdout
    assert "public.audit" in after.stdout
    again = json.loads(airflow("strongroom", "iceberg", "reconcile", "audit", "--json").stdout)
    assert [(one["rows"], one["added"], one["stale"]) for one in again] == [(50, [], 0)]


def test_a_table_that_the_settings_no_longer_publish_is_dropped_with_its_metadata(lakeside, deployment, monkeypatch):
    from strongroom.lake.retire import retire_tables

    lakeside.reconcile()
    table = load_settings().table("audit")
    with opened_lake(table) as lake:
        kept = published_tables(load_settings())
        assert kept == {"public.audit"}
        assert retire_tables(lake.catalog, lake.archives, lake.own, kept=kept) == ()
        assert retire_tables(lake.catalog, lake.archives, lake.own, kept={"public.other"}) == ("public.audit",)
        assert lake.find() is None
    assert lakeside.keys() == []


def test_what_is_wrong_with_connections_is_said(lakeside, deployment, object_store):
    table = load_settings().table("audit")

    deployment.connection("iceberg_catalog", deployment.generic("x"))
    with pytest.raises(ConfigurationError, match="names no Iceberg catalogue"):
        catalogue_properties(table)
    deployment.connection(
        "iceberg_catalog", json.dumps({"conn_type": "postgres", "host": "db.example.com", "login": "a"})
    )
    assert "sslmode=verify-full" in catalogue_properties(table)["uri"]
    deployment.connection(
        "iceberg_catalog", json.dumps({"conn_type": "generic", "extra": {"type": "no-such", "token": "hush"}})
    )
    with pytest.raises(ConfigurationError, match="no Iceberg catalogue can be opened") as told, opened_lake(table):
        pass
    assert "hush" not in str(told.value)
    deployment.connection("iceberg", aws_connection(*object_store.keys("stager")))
    with pytest.raises(StoreAccessError, match="refused"), opened_lake(table):
        pass


def test_without_a_bucket_there_is_no_such_dag(metadata):
    assert read_dags("publish_iceberg") == {}
    dag = read_dags("publish_iceberg", STRONGROOM__ICEBERG__BUCKET="a-lake")[DAG_ID]

    assert dag.task_ids == ["reconcile"]
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == ("30 5 * * *", False, 1)
    assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)


def test_the_page_of_the_dag_explains_each_reason():
    from typing import get_args

    from strongroom.lake.records import Reason
    from tests.support.repository import REPOSITORY

    documented = (REPOSITORY / "dags" / "publish_iceberg.py").read_text()
    howto = (REPOSITORY / "docs" / "howto" / "iceberg.md").read_text()
    for reason in get_args(Reason):
        assert f"`{reason}`" in documented
        assert f"| `{reason}` |" in howto


def test_a_table_that_fails_does_not_keep_the_others_from_it(lakeside, deployment):
    from types import SimpleNamespace

    from strongroom_airflow.iceberg.publish import PublishIcebergOperator

    broken = {**TABLES["audit"], "iceberg": {"bucket": "there-is-no-such-bucket"}}
    deployment.tables(broken=broken, **TABLES)
    told: dict[str, str] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: told.update({key: value}))
    run = SimpleNamespace(settings=load_settings(), context={"ti": ti})

    with pytest.raises(StoreAccessError, match="there-is-no-such-bucket"):
        PublishIcebergOperator(task_id="reconcile").step(run)

    assert told["outcome"] == "1 Iceberg tables hold 1 archives with 50 rows; broken failed."
    assert len(lakeside.rows()) == 50


def test_without_pyiceberg_the_error_says_how_to_install_it(lakeside, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    monkeypatch.delitem(sys.modules, "strongroom.lake.catalogue")

    with (
        pytest.raises(ConfigurationError, match="PyIceberg is not installed"),
        opened_lake(load_settings().table("audit")),
    ):
        pass
