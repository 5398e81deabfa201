"""The DAG restore_drill: its form, and real runs through Airflow on a real store and database, under the role of drills."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import parse_drill_key
from strongroom.storage.store import Store
from strongroom_airflow.pages.addresses import base_url, map_page
from tests.support.chain import Chain, some_settings
from tests.support.dags import read_dags
from tests.support.database import execute
from tests.support.drilling import drill_role, scratch_tables
from tests.support.logs import KEY, entries_of, with_log
from tests.support.receivers import web_receiver

DAG_ID = "restore_drill"
MONTHS = ("2026-03", "2026-04", "2026-05")


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Iterator[Chain]:
    """Three months of forty rows, the last the largest, in a store with a log; Airflow finds them and a role of drills."""
    execute(
        source,
        """
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);
        INSERT INTO audit SELECT n, '2026-03-01'::timestamptz + n * interval '18 hours', repeat('x', n) FROM generate_series(0, 119) n;
        """,
    )
    settings = with_log(some_settings(bucket, tmp_path / "staging"))
    chain = Chain(source, object_store.client("archiver"), settings)
    for chain.key in MONTHS:
        chain.seal(chain.plan())
    with drill_role(source) as role:
        deployment.store(object_store, bucket)
        deployment.log(KEY)
        deployment.database(role, "drill")
        yield chain


@pytest.fixture(scope="module")
def parsed(parsing):
    """The DAG in the metadata database."""
    with parsing("restore_drill.py"):
        yield


@pytest.fixture
def deployed(metadata, chain, parsed):
    """A connection to the metadata database, where the DAG has no runs."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield connection


def archive(month: str) -> ArchiveId:
    return ArchiveId("public", "audit", month, 1)


def outcome(database) -> str:
    [(told,)] = database.execute("SELECT value FROM xcom WHERE dag_id = %s AND key = 'outcome'", (DAG_ID,)).fetchall()
    return told


def states(database) -> list[tuple[str, str, int]]:
    return database.execute(
        "SELECT task_id, state::text, count(*) FROM task_instance WHERE dag_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
        (DAG_ID,),
    ).fetchall()


def results(store: Store) -> dict[str, str]:
    found = (parse_drill_key(key) for key in store.keys("reports/drills/"))
    return {one.archive.partition_key: one.result for one in found if one is not None}


def test_it_runs_monthly_and_tells_what_each_task_and_result_means(metadata):
    dag = read_dags("restore_drill")[DAG_ID]

    assert dag.task_ids == ["choose", "drill", "report"]
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == ("0 3 15 * *", False, 1)
    assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)
    for result in ("sound", "failed", "skipped"):
        assert f"`{result}`" in dag.doc_md


def test_the_chosen_archives_come_back_and_the_choice_was_recorded_before(deployed, chain, airflow):
    ended = airflow("dags", "test", DAG_ID)

    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    choice, *drilled = [entry for entry in entries_of(chain.store) if entry.act.kind in ("drills chosen", "drilled")]
    assert choice.act.kind == "drills chosen"
    assert {entry.act.archive_id for entry in drilled} >= {str(archive("2026-03")), str(archive("2026-05"))}
    assert {entry.act.facts["result"] for entry in drilled} == {"sound"}
    [key] = chain.store.keys("reports/drills/runs/")
    run = json.loads(chain.store.read(key)[0])
    reasons = {one["archive_id"]: one["reasons"] for one in run["choices"]}
    assert {"newest", "largest"} <= set(reasons[str(archive("2026-05"))])
    assert sum("random" in why for why in reasons.values()) == 1
    assert results(chain.store) == dict.fromkeys((ArchiveId.parse(one).partition_key for one in reasons), "sound")
    rows = sum(entry.act.facts["rows"] for entry in drilled)
    assert outcome(deployed) == f"Restored {rows} rows of {len(reasons)} archives as a drill: {len(reasons)} sound."
    assert scratch_tables(chain.conninfo) == []
    links = {
        link
        for (link,) in deployed.execute(
            "SELECT value FROM xcom WHERE dag_id = %s AND key = '_link_PageLink'", (DAG_ID,)
        )
    }
    assert map_page("public.audit").removeprefix(base_url()).removeprefix("/") in links


def test_an_archive_that_does_not_come_back_fails_the_run_by_name_and_the_others_are_drilled(
    deployed, chain, airflow, object_store, monkeypatch
):
    """And whoever wants to know is told, of the drill and of the tasks."""
    admin, bucket = object_store.client("admin"), chain.settings.store.bucket
    for version in list(chain.store.versions(archive("2026-05").part_key(0, "zstd"))):
        admin.delete_object(Bucket=bucket, Key=version.key, VersionId=version.version_id)

    with web_receiver() as web:
        monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_WEBHOOK", web.connection())
        ways = [{"when": ["failed", "drill_failed"], "notifier": "webhook"}]
        monkeypatch.setenv("STRONGROOM__NOTIFICATIONS", json.dumps(ways))
        ended = airflow("dags", "test", DAG_ID)

    said = ended.stdout + ended.stderr
    assert web.kinds == ["failed", "drill_failed", "failed"]
    drilled = web.received[1][1]
    assert drilled["subject"] == "Strongroom: an archive did not come back in a restore drill"
    assert f"{archive('2026-05')} failed: part 0: " in drilled["text"]
    assert "No row of a table was touched. No archive was changed." in drilled["text"]
    found = results(chain.store)
    assert found.pop("2026-05") == "failed"
    assert {*found.values()} == {"sound"}
    assert [one for one in states(deployed) if one[1] == "failed"] == [("drill", "failed", 1), ("report", "failed", 1)]
    assert f"1 of {len(found) + 1} archives did not come back" in said
    assert f"{archive('2026-05')} failed: part 0: " in outcome(deployed)


def test_without_the_role_the_run_fails_and_says_what_is_missing(deployed, chain, airflow, monkeypatch):
    """A drill that does not run is no drill: nothing is recorded as sound, and the metric ages."""
    monkeypatch.delenv("AIRFLOW_CONN_STRONGROOM_DRILL")

    ended = airflow("dags", "test", DAG_ID)

    assert "Airflow has no connection strongroom_drill" in ended.stdout + ended.stderr
    assert "unfinished" in outcome(deployed)
    assert results(chain.store) == {}
