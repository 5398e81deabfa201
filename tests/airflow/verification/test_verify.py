"""The DAG verify_archives: its form, and real runs through Airflow on a real store."""

from __future__ import annotations

import json

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.storage.store import Store
from strongroom_airflow.pages.addresses import archive_page, base_url, map_page
from tests.support.chain import some_settings
from tests.support.dags import fill_in, read_dags
from tests.support.sealing import seal_month

DAG_ID = "verify_archives"
MONTHS = ("2026-03", "2026-04", "2026-05")


@pytest.fixture
def store(object_store, bucket, tmp_path, deployment) -> Store:
    """Three months of two parts with twenty rows each, in a store that Airflow finds."""
    deployment.store(object_store, bucket)
    settings = some_settings(bucket, tmp_path / "staging")
    store = Store(object_store.client("archiver"), settings.store)
    for month in MONTHS:
        seal_month(store, settings, month, parts=2)
    return store


@pytest.fixture(scope="module")
def parsed(parsing):
    """The DAG in the metadata database."""
    with parsing("verify_archives.py"):
        yield


@pytest.fixture
def deployed(metadata, store, parsed):
    """A connection to the metadata database, where the DAG has no runs."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = %s", (DAG_ID,))
        yield connection


def outcome(database) -> list[tuple[str]]:
    return database.execute("SELECT value FROM xcom WHERE dag_id = %s AND key = 'outcome'", (DAG_ID,)).fetchall()


def archive(month: str) -> ArchiveId:
    return ArchiveId("public", "audit", month, 1)


def run_dag(airflow, **conf):
    """A whole run of the DAG in one process, on the real metadata database."""
    return airflow("dags", "test", DAG_ID, "--conf", json.dumps(conf))


def states(database) -> list[tuple[str, str, int]]:
    return database.execute(
        "SELECT task_id, state::text, count(*) FROM task_instance WHERE dag_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
        (DAG_ID,),
    ).fetchall()


def records(store: Store) -> dict[str, dict]:
    found = (json.loads(store.read(key)[0]) for key in store.keys("reports/verifications/"))
    return {one["archive_id"]: one for one in found}


class TestForm:
    @pytest.fixture(scope="class")
    def dag(self, metadata):  # noqa: ARG002 - reading DAGs looks into the database
        return read_dags("verify_archives")[DAG_ID]

    def test_it_runs_by_hand_alone_and_tells_what_each_task_and_result_means(self, dag):
        assert dag.task_ids == ["locate", "verify", "report"]
        assert dag.schedule is None
        assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)
        for result in ("sound", "corrupted", "missing", "hidden", "unverifiable", "frozen"):
            assert f"`{result}`" in dag.doc_md

    def test_nothing_is_wrong_in_the_form_before_anybody_typed(self, dag):
        params = [dag.params.get_param(name) for name in dag.params]

        dag.params.validate()
        assert all(param.schema.get("title") for param in params)

    @pytest.mark.parametrize("wrong", [{"first_partition": "May"}, {"archives": ["nonsense"]}, {"last_partition": "*"}])
    def test_a_form_filled_in_wrongly_starts_no_run(self, dag, wrong):
        from airflow.sdk.exceptions import ParamValidationError

        with pytest.raises(ParamValidationError):
            fill_in(dag, wrong)


def test_a_range_is_read_again_and_each_archive_leaves_its_record(deployed, store, airflow):
    ended = run_dag(airflow, table="audit", first_partition="2026-04", why="a case")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = records(store)
    assert sorted(found) == [str(archive("2026-04")), str(archive("2026-05"))]
    told = {(one["verified_by"], one["why"], one["record_count"], len(one["objects"])) for one in found.values()}
    assert told == {("dag_test", "a case", 20, 3)}
    assert "read 40 rows of 2 archives again: 2 sound" in ended.stdout + ended.stderr
    assert outcome(deployed) == [("Read 40 rows of 2 archives again: 2 sound.",)]
    links = deployed.execute(
        "SELECT value FROM xcom WHERE dag_id = %s AND key = '_link_PageLink'", (DAG_ID,)
    ).fetchall()
    pages = [map_page("public.audit")] * 2 + [archive_page(str(archive(month))) for month in ("2026-04", "2026-05")]
    assert sorted(link for (link,) in links) == sorted(
        page.removeprefix(base_url()).removeprefix("/") for page in pages
    )


def test_a_damaged_archive_fails_its_own_task_by_name_and_the_others_are_read(
    deployed, store, airflow, object_store, bucket
):
    object_store.client("admin").put_object(Bucket=bucket, Key=archive("2026-04").sums_key, Body=b"slip")

    ended = run_dag(airflow, archives=[str(archive(month)) for month in MONTHS])

    said = ended.stdout + ended.stderr
    assert states(deployed) == [
        ("locate", "success", 1),
        ("report", "failed", 1),
        ("verify", "failed", 1),
        ("verify", "success", 2),
    ]
    assert "public.audit.2026-04.0001 is corrupted: SHA256SUMS corrupted" in said
    assert "1 of 3 archives were not proved" in said
    assert len(records(store)) == 3
    damage = "public.audit.2026-04.0001 is corrupted: SHA256SUMS corrupted."
    assert outcome(deployed) == [(f"Read 60 rows of 3 archives again: 1 corrupted, 2 sound. {damage}",)]


def test_what_cannot_be_located_reads_nothing(deployed, store, airflow, subtests):
    for conf, said in (
        ({}, "needs either archives or a table"),
        ({"table": "audit", "archives": ["public.audit.2026-05.0001"]}, "found both"),
        ({"archives": ["public.audit.2026-05.0009"]}, "there is no archive public.audit.2026-05.0009"),
        ({"table": "audit", "first_partition": "2027-01"}, "no archive of public.audit is in the range"),
        ({"table": "nope"}, "is not configured"),
    ):
        with subtests.test(conf=conf):
            ended = run_dag(airflow, **conf)

            assert said in ended.stdout + ended.stderr
            assert "there is nothing to report: locate failed" in ended.stdout + ended.stderr
            assert records(store) == {}
