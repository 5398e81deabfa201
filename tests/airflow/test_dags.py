"""dags/archive_tables.py as Airflow's DAG processor sees it: one DAG for each table, documented, with its steps in order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

from strongroom.settings import DEFAULT_FILE, FILE_VARIABLE
from strongroom_airflow.steps import ARCHIVE_STEPS, step_of
from tests.support.deployment import aws_connection
from tests.support.repository import REPOSITORY

DAGS = REPOSITORY / "dags"
ARCHIVE_TABLES = DAGS / "archive_tables.py"

DAG_IDS = [
    "archive__acm_alerts",
    "archive__audit_events",
    "archive__call_detail_records",
    "archive__fraud_investigations",
    "archive__gateway_blacklist_history",
]
NOT_OF_TABLES = [
    "archive_statistics",
    "audit_report",
    "legal_hold",
    "query_archive",
    "restore_archive",
    "restore_drill",
    "retention_purge",
    "scrub_archives",
    "subject_erasure",
    "verify_archives",
]
EDGES = {
    "plan": {"part.extract_to_staging", "part.verify", "seal", "report"},
    "part.extract_to_staging": {"part.compress"},
    "part.compress": {"part.checksum"},
    "part.checksum": {"part.upload"},
    "part.upload": {"part.verify"},
    "part.verify": {"seal"},
    "seal": {"delete", "report"},
    "delete": {"report"},
    "report": set(),
}
"""plan ▶ part[i]: extract_to_staging ▶ compress ▶ checksum ▶ upload ▶ verify ▶ seal ▶ delete[i] ▶ report, and who
reads whose result."""
MAPPED = {task_id for task_id in EDGES if task_id.startswith("part.")} | {"delete"}


def parse() -> DagBag:
    """Parse the file as the DAG processor does."""
    return DagBag(dag_folder=ARCHIVE_TABLES, bundle_path=ARCHIVE_TABLES.parent)


@pytest.fixture(scope="module")
def dags() -> dict:
    bag = parse()
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture
def configured(tmp_path, monkeypatch) -> Callable[[dict], None]:
    """Puts another archive.yaml in the place of the repository's."""

    def put(document: dict) -> None:
        path = tmp_path / "archive.yaml"
        path.write_text(yaml.safe_dump(document))
        monkeypatch.setenv(FILE_VARIABLE, str(path))

    return put


def test_each_configured_table_has_its_dag(dags):
    assert sorted(dags) == DAG_IDS


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_comes_back_from_its_serialised_form(dags, dag_id):
    """The scheduler and the UI know it by that form alone: timetable, mapped group and edges included."""
    again = DagSerialization.from_dict(DagSerialization.to_dict(dags[dag_id]))

    assert again.timetable == dags[dag_id].timetable
    assert {task_id: set(task.downstream_task_ids) for task_id, task in again.task_dict.items()} == EDGES
    assert again.timetable.partitioned


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_says_what_it_does_whose_it_is_and_what_to_do_when_it_fails(dags, dag_id):
    dag = dags[dag_id]

    assert dag.tags == {"strongroom", "archive", "monthly"}
    assert dag.owner == "strongroom"
    assert dag.max_active_runs == 1
    for words in ("Run it", "airflow dags backfill -s", "When a task fails", "IntegrityError", "s3://"):
        assert words in dag.doc_md


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_is_documented_owned_and_retried(dags, dag_id):
    for task in dags[dag_id].tasks:
        assert task.doc_md, task.task_id
        assert task.owner == "strongroom"
        assert (task.retries, task.retry_delay) == (3, timedelta(seconds=30))


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_steps_follow_each_other_as_designed(dags, dag_id):
    found = {task.task_id: set(task.downstream_task_ids) for task in dags[dag_id].tasks}

    assert found == EDGES
    assert tuple(map(step_of, EDGES)) == tuple(step for step in ARCHIVE_STEPS if step != "detach")


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_part_is_called_by_its_number_and_at_most_four_flow_at_once(dags, dag_id):
    for task in dags[dag_id].tasks:
        mapped = task.task_id in MAPPED
        assert (task.map_index_template is not None) == mapped
        assert task.max_active_tis_per_dagrun == (4 if mapped else None)


def test_a_task_builds_its_own_dag_and_no_other(monkeypatch):
    """Every task parses the file again; with hundreds of tables that would take most of its time."""
    # Airflow's task runner sets this variable; `get_parsing_context` reads it, and there is no public way to set it.
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "archive__audit_events")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "plan")

    bag = parse()

    assert list(bag.dags) == ["archive__audit_events"]


def test_two_hundred_tables_become_two_hundred_dags(configured):
    tables = {f"events_{number:03d}": {"date_column": "at"} for number in range(200)}
    configured({"legal_basis": "a test", "tables": tables})

    bag = parse()

    assert bag.import_errors == {}
    assert sorted(bag.dags) == [f"archive__{name}" for name in sorted(tables)]


def test_wrong_settings_become_an_import_error_that_tells_all_of_them(configured):
    """The UI shows it above the list of DAGs: each fault with file and key, and the hint."""
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    document["hot_retention"] = "90 days"
    document["compresion"] = {}
    document["tables"]["audit_events"]["part_rows"] = 0
    configured(document)

    [(file, error)] = parse().import_errors.items()

    assert file.endswith("archive_tables.py")
    assert "3 faults in the settings of" in error
    for words in (
        "archive.yaml: hot_retention: ",
        "archive.yaml: compresion: ",
        "tables.audit_events.part_rows: ",
        "HINT: ",
    ):
        assert words in error


def test_a_wrong_table_becomes_an_import_error_of_its_own_and_the_others_run(configured):
    """The import error belongs to another file, because Airflow removes every DAG of a file that has one."""
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    document["tables"]["audit_events"]["part_rows"] = 0
    document["tables"]["acm_alerts"]["cold_retention"] = "P7M"
    configured(document)

    bag = DagBag(dag_folder=DAGS, bundle_path=DAGS)

    others = [dag_id for dag_id in DAG_IDS if dag_id not in ("archive__audit_events", "archive__acm_alerts")]
    assert sorted(bag.dags) == [*others, *NOT_OF_TABLES]
    [(file, error)] = bag.import_errors.items()
    assert file.endswith("left_out_tables.py")
    for words in (
        "1 fault in the settings of table audit_events in",
        "tables.audit_events.part_rows: expected 1 or more, found 0",
        "tables.acm_alerts.cold_retention: expected `confirmed: P7M` beside it",
        "HINT: No row of such a table was touched",
    ):
        assert words in error


def test_a_right_file_has_no_import_error():
    """Airflow also parses the file that names wrong tables, and finds nothing in it."""
    bag = DagBag(dag_folder=DAGS, bundle_path=DAGS)

    assert bag.import_errors == {}
    assert str(DAGS / "left_out_tables.py") in bag.file_last_changed


def test_settings_of_a_table_reach_its_dag(configured):
    settings = {
        "date_column": "at",
        "frequency": "weekly",
        "owner": "fraud team",
        "retries": 1,
        "max_parallel_parts": 2,
    }
    configured({"legal_basis": "a test", "pool": "nightly", "tables": {"ops.Calls": settings}})

    [(dag_id, dag)] = parse().dags.items()

    assert dag_id == "archive__ops__Calls"
    assert (dag.owner, dag.tags) == ("fraud team", {"strongroom", "archive", "weekly"})
    assert {(task.retries, task.pool) for task in dag.tasks} == {(1, "nightly")}
    assert dag.get_task("delete").max_active_tis_per_dagrun == 2


def test_detach_stands_between_seal_and_delete_where_partitions_may_go_as_a_whole(configured):
    settings = {"date_column": "at", "partition_delete": {"enabled": True}}
    configured({"legal_basis": "a test", "tables": {"calls": settings}})

    [dag] = parse().dags.values()

    found = {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
    assert found == EDGES | {"seal": {"detach", "delete", "report"}, "detach": {"delete"}}
    assert "seal ▶ detach ▶ delete[i]" in dag.doc_md
    assert "retention_purge" in dag.get_task("detach").doc_md


def test_only_processes_that_fork_import_what_their_forks_need(deployment):
    """Else each task and each parse of a DAG file would import it again. The web server and the commands never need it."""
    program = (
        "import glob, runpy, sys; from strongroom_plugin import StrongroomPlugin as plugin\n"
        "sys.argv = ['airflow', 'api-server']; plugin.on_load(); print('strongroom_airflow.step' in sys.modules)\n"
        "sys.argv = ['airflow', 'dag-processor']; plugin.on_load(); print('pyarrow' in sys.modules); before = set(sys.modules)\n"
        "[runpy.run_path(path) for path in glob.glob('dags/*.py')]\n"
        "ours = ('strongroom', 'airflow.providers.amazon', 'airflow.sdk.definitions.decorators')\n"
        "print(*(name for name in set(sys.modules) - before if name.startswith(ours)), 'and no more')\n"
        "sys.argv = ['airflow', 'celery', 'worker']; plugin.on_load(); before = set(sys.modules)\n"
        "print('strongroom.formats.arrow' in before, 'pandas' in before)\n"
        "import strongroom.formats.part_writer, strongroom.formats.parquet\n"
        "print(*(name for name in set(sys.modules) - before if name.startswith('pyarrow')), 'and no more')\n"
        "from botocore.loaders import JSONFileLoader; JSONFileLoader.load_file = lambda *_: sys.exit('read again')\n"
        "from strongroom.settings import load_settings; from strongroom_airflow.connections import connect_store\n"
        "print(connect_store(load_settings().table('audit')))"
    )
    deployment.connection("store", aws_connection("an id", "a secret"))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "plugins")}

    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    store = "s3://strongroom-archive/"
    assert ended.stdout.splitlines()[-6:] == ["False", "False", "and no more", "False False", "and no more", store]
