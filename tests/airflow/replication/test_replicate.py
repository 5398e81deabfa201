"""The DAG replicate_archives: its form, and real runs through Airflow from one bucket to another."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from strongroom.ledger.log import CHECKPOINT
from strongroom.object_keys.reports import parse_copy_key
from strongroom_airflow.connections import connect_second, connect_store, store_tables
from tests.support.dags import read_dags
from tests.support.deployment import Deployment, aws_connection
from tests.support.logs import KEY, entries_of
from tests.support.second_copy import TwoCopies, fill_two_copies
from tests.support.vault import an_archive

DAG_ID = "replicate_archives"
TABLES = {"audit": {"date_column": "at", "replica": {"filled_by": "strongroom", "bucket": "named-by-a-variable"}}}


@pytest.fixture
def vault(object_store, coming_buckets, tmp_path, deployment: Deployment, monkeypatch) -> TwoCopies:
    first, second = (next(coming_buckets).result() for _ in range(2))
    vault = fill_two_copies(object_store, first, second, tmp_path)
    deployment.tables(**TABLES)
    deployment.store(object_store, first, purge="purger")
    deployment.log(KEY)
    for name, identity in {"replica": "archiver", "replica_purge": "purger", "admin": "admin"}.items():
        deployment.connection(name, aws_connection(*object_store.keys(identity)))
    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__REPLICA__BUCKET", second)
    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__REPLICA__ENDPOINT_URL", object_store.endpoint_url)
    return vault


@pytest.fixture
def deployed(metadata, vault, parsing) -> Iterator[psycopg.Connection]:
    with parsing("replicate_archives.py", tables=TABLES), psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield connection


def outcome(database) -> str:
    [(told,)] = database.execute(
        "SELECT value FROM xcom WHERE dag_id = %s AND key = 'outcome' ORDER BY timestamp DESC LIMIT 1", (DAG_ID,)
    ).fetchall()
    return told


def test_a_run_fills_the_replica_and_the_next_one_names_what_differs(deployed, vault, airflow):
    ended = airflow("dags", "test", DAG_ID)

    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert outcome(deployed).startswith("Compared 3 archives with their second copies (")
    assert ": 3 same." in outcome(deployed)
    found = [parsed for key in vault.store.keys("reports/replicas/") if (parsed := parse_copy_key(key)) is not None]
    assert {str(one.archive): one.result for _, one in found} == {
        str(an_archive(month)): "same" for month in ("2026-04", "2026-05", "2026-06")
    }
    assert vault.replica.read(CHECKPOINT) is not None
    replicated = [entry for entry in entries_of(vault.store) if entry.act.kind == "replicated"]
    assert [entry.dag_id for entry in replicated] == [DAG_ID] * 4

    vault.replica_vandal.remove(an_archive("2026-05").manifest_key)  # so it is due again
    vault.replica_vandal.replace(an_archive("2026-05").part_key(0, "zstd"), b"rot")
    deployed.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))

    ended = airflow("dags", "test", DAG_ID)

    assert "part-00000.jsonl.zst differs" in outcome(deployed)
    assert "the second copy is not the same as the first" in ended.stdout + ended.stderr


def test_the_settings_open_store_and_replica(vault, airflow):
    from strongroom.settings import load_settings

    [table] = store_tables(load_settings())
    store = connect_store(table)
    assert (str(store), str(store.replica)) == (str(vault.store), str(vault.replica))
    second = connect_second(table, store)
    assert second is not None
    assert second.filled_by_us
    second.remove_keys(iter([]))

    admin = ("--conn-id", "strongroom_admin", "--replica-conn-id", "strongroom_admin")
    checked = airflow("strongroom", "bucket", "check", "--json", *admin)
    assert str(vault.replica).rstrip("/") in checked.stdout, checked.stderr


def test_without_a_replica_there_is_no_such_dag(metadata):
    assert read_dags("replicate_archives") == {}
    dag = read_dags(
        "replicate_archives", STRONGROOM__REPLICA__FILLED_BY="store", STRONGROOM__REPLICA__BUCKET="another-bucket"
    )[DAG_ID]

    assert dag.task_ids == ["choose", "copy", "conclude"]
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == ("30 4 * * *", False, 1)
    assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)
    for result in ("same", "hidden", "missing", "differs", "unverifiable", "contended", "leaving"):
        assert f"`{result}`" in dag.doc_md
