"""The restore DAG and `airflow strongroom restore`: the form, a real run through Airflow, and how runs are named."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom_airflow.restore.run import RestoreRun
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain, some_settings
from tests.support.dags import fill_in, read_dags
from tests.support.database import execute
from tests.support.deployment import Deployment, write_config

ARCHIVE = "public.audit.2026-05.0001"
RUNS = "SELECT run_id, state::text, conf FROM dag_run WHERE dag_id = 'restore_archive' ORDER BY id"


def archive_may(source: str, object_store: ObjectStore, bucket: str, folder: Path) -> Chain:
    """A table whose May was archived and deleted."""
    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    execute(
        source,
        "INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s' FROM generate_series(1, 500) n",
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, folder, part_rows=200))
    assert chain.run().deleted_rows == 500
    return chain


def find(deployment: Deployment, object_store: ObjectStore, chain: Chain) -> Chain:
    """Have `airflow` find table, store and roles."""
    deployment.store(object_store, chain.settings.store.bucket)
    deployment.database(chain.conninfo, "restore")
    return chain


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Chain:
    """For a test that restores: a table of its own whose May is archived."""
    return find(deployment, object_store, archive_may(source, object_store, bucket, tmp_path))


@pytest.fixture(scope="module")
def archived_once(shared_source, object_store, shared_bucket, tmp_path_factory) -> Chain:
    return archive_may(shared_source, object_store, shared_bucket, tmp_path_factory.mktemp("archived"))


@pytest.fixture
def archived(archived_once, object_store, deployment) -> Chain:
    """The same table for the tests that bring nothing back."""
    return find(deployment, object_store, archived_once)


@pytest.fixture(scope="module")
def parsed(parsing):
    """The DAG in the metadata database."""
    with parsing("restore_archive.py"):
        yield


@pytest.fixture
def deployed(metadata, parsed):
    """The DAG, parsed and unpaused; a connection to the metadata database."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = 'restore_archive'")
        connection.execute("DELETE FROM asset_event")
        connection.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'restore_archive'")
        yield connection


def ids(chain):
    with psycopg.connect(chain.conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM audit ORDER BY id")]


def run_dag(airflow, conf):
    """`airflow dags test`: a whole run of the DAG in one process, on the real metadata database."""
    return airflow("dags", "test", "restore_archive", "--conf", json.dumps(conf))


def events(database):
    """Asset events and outcomes of restores, the oldest first."""
    found = database.execute(
        "SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE e.source_dag_id = 'restore_archive' "
        "ORDER BY e.id"
    ).fetchall()
    told = database.execute(
        "SELECT value FROM xcom WHERE dag_id = 'restore_archive' AND key = 'outcome' ORDER BY dag_run_id"
    ).fetchall()
    return found, [outcome for (outcome,) in told]


def reports(chain):
    return [json.loads(chain.store.read(key)[0]) for key in chain.store.keys("reports/public.audit/restores/")]


class TestForm:
    @pytest.fixture(scope="class")
    def dag(self, metadata):  # noqa: ARG002 - reading DAGs looks into the database
        return read_dags("restore_archive")["restore_archive"]

    def test_it_runs_by_hand_alone_and_tells_what_each_task_does(self, dag):
        assert dag.task_ids == ["locate", "thaw", "restore", "report"]
        assert dag.schedule is None
        assert all(task.doc_md for task in dag.tasks)
        assert "corrupted" in dag.doc_md
        assert {"strongroom", "restore"} <= set(dag.tags)

    def test_every_field_of_the_form_has_a_title_and_a_schema(self, dag):
        params = {name: dag.params.get_param(name) for name in dag.params}

        assert all(param.schema.get("title") for param in params.values())
        assert params["table"].schema["examples"][0] == "acm_alerts"
        assert params["dropped_columns"].schema["enum"] == ["refuse", "keep"]

    def test_what_every_restore_needs_stands_first_and_nothing_is_wrong_before_anybody_typed(self, dag):
        """A field that is required and empty would be red as soon as the form is open; `locate` refuses what is left empty."""
        assert list(dag.params)[:2] == ["why", "table"]
        assert dag.params.get_param("why").schema["description_md"].startswith("**Needed.**")
        dag.params.validate()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"why": ""},
            {"why": "a test", "keep_days": 0},
            {"why": "a test", "first_partition": "May 2026"},
            {"why": "a test", "archives": ["nonsense"]},
            {"why": "a test", "target": "no_schema"},
            {"why": "a test", "dropped_columns": "ignore"},
        ],
    )
    def test_a_form_filled_in_wrongly_starts_no_run(self, dag, wrong):
        from airflow.sdk.exceptions import ParamValidationError

        with pytest.raises(ParamValidationError):
            fill_in(dag, wrong)


def test_whoever_it_names_the_user_who_triggered_it_stays_on_record(tmp_path, monkeypatch):
    """A run's configuration cannot replace that user."""
    monkeypatch.setenv("STRONGROOM_CONFIG", str(write_config(tmp_path)))
    monkeypatch.setenv("STRONGROOM__STORE__BUCKET", "any")
    params = {"table": "audit", "archives": [], "why": "a test", "who": "ada", "triggered_by": "ada"}
    dag_run = SimpleNamespace(dag_id="restore_archive", run_id="manual__1", triggering_user_name="grace")

    named = RestoreRun({"params": params, "dag_run": dag_run}).request
    unnamed = RestoreRun({"params": params | {"who": None}, "dag_run": dag_run}).request

    assert (named.who, named.triggered_by) == ("ada", "grace")
    assert (unnamed.who, unnamed.triggered_by) == ("grace", "grace")


WRONG_WORDS = [
    (("nope", "--why", "a test"), "is not configured"),
    (("audit", "--partition", "May", "--why", "a test", "--no-wait"), "Airflow did not start restore_archive"),
    (("--archive", "nonsense", "--why", "a test"), "is not an archive id"),
    (("audit", "--key", "[1", "--why", "a test"), "is not a JSON list"),
]


@pytest.mark.usefixtures("deployed")
class TestRun:
    def test_a_month_comes_back_once_and_is_left_alone_by_archive_runs(self, deployed, chain, airflow):
        conf = {
            "table": "audit",
            "first_partition": "2026-05",
            "last_partition": "2026-05",
            "why": "a test",
            "who": "ada",
        }

        first = run_dag(airflow, conf)
        second = run_dag(airflow, conf)

        assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr
        assert ids(chain) == list(range(1, 501))
        outcomes = sorted((one["outcome"], one["inserted"], one["unchanged"], one["who"]) for one in reports(chain))
        assert outcomes == [("restored", 500, 0, "ada"), ("unchanged", 0, 500, "ada")]
        assert chain.run().outcome == "restored"
        announced, outcomes = events(deployed)
        told = [(name, one["event"], one["inserted"], one["unchanged"], one["archive_ids"]) for name, one in announced]
        assert told == [
            ("archive of public.audit", "restored", 500, 0, [ARCHIVE]),
            ("archive of public.audit", "restored", 0, 500, [ARCHIVE]),
        ]
        assert outcomes == [
            "public.audit 2026-05: 500 of 500 rows restored into public.audit.",
            "public.audit 2026-05: 0 of 500 rows restored into public.audit; 500 were there.",
        ]

    @pytest.mark.exhaustive
    def test_a_part_that_is_gone_fails_by_name_and_the_others_come_back(self, deployed, chain, airflow, object_store):
        key = ArchiveId.parse(ARCHIVE).part_key(1, "zstd")
        client, where = object_store.client("admin"), {"Bucket": chain.settings.store.bucket, "Key": key}
        client.delete_object(**where, VersionId=client.head_object(**where)["VersionId"])

        ended = run_dag(airflow, {"archives": [ARCHIVE], "why": "a test"})

        [report] = reports(chain)
        assert (report["outcome"], report["results"]) == ("incomplete", {"missing": 1, "restored": 2})
        assert len(ids(chain)) == report["inserted"] < 500
        states = deployed.execute(
            "SELECT task_id, state::text, count(*) FROM task_instance WHERE dag_id = 'restore_archive' GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        assert states == [
            ("locate", "success", 1),
            ("report", "failed", 1),
            ("restore", "failed", 1),
            ("restore", "success", 2),
            ("thaw", "success", 1),
        ]
        assert "part 1 is missing" in ended.stdout + ended.stderr
        [outcome] = events(deployed)[1]
        assert outcome.endswith("incomplete, parts: 1 missing, 2 restored.")

    def test_what_cannot_be_located_loads_nothing_and_leaves_no_record(self, archived, airflow):
        ended = run_dag(airflow, {"table": "audit", "first_partition": "2026-06", "why": "a test"})

        assert "no archive of public.audit is in the range" in ended.stdout
        assert "there is nothing to report: locate failed" in ended.stdout
        assert (ids(archived), list(archived.store.keys("restores/"))) == ([], [])

    def test_a_restore_that_does_not_say_why_reads_and_loads_nothing(self, archived, airflow):
        ended = run_dag(airflow, {"table": "audit"})

        assert "the restore does not say why" in ended.stdout
        assert (ids(archived), list(archived.store.keys("restores/"))) == ([], [])

    def test_a_dry_run_restores_nothing(self, deployed, archived, airflow):
        ended = run_dag(airflow, {"table": "audit", "why": "a test", "dry_run": True})

        assert ended.returncode == 0, ended.stderr
        assert (ids(archived), reports(archived)) == ([], [])
        assert "dry run: 500 rows in 3 parts" in ended.stdout + ended.stderr
        assert events(deployed) == ([], ["public.audit 2026-05: dry run, nothing was loaded into public.audit."])


@pytest.mark.usefixtures("archived")
class TestCommand:
    def test_it_starts_one_run_for_one_request(self, deployed, airflow):
        words = ("strongroom", "restore", "audit", "--partition", "2026-05", "--why", "a test", "--who", "ada")

        first = airflow(*words, "--no-wait")
        again = airflow(*words, "--no-wait", "--json")

        assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
        [(run_id, state, conf)] = deployed.execute(RUNS).fetchall()
        assert run_id.startswith("restore__audit__")
        assert run_id.endswith("__1")
        assert (state, conf["first_partition"], conf["last_partition"]) == ("queued", "2026-05", "2026-05")
        assert f"Started {run_id}" in first.stdout
        said = json.loads(again.stdout)
        assert (said["dag_id"], said["run_id"]) == ("restore_archive", run_id)
        assert said["page"].endswith(f"/dags/restore_archive/runs/{run_id}")
        assert said["page"] in first.stdout
        deployed.execute("UPDATE dag_run SET state = 'success' WHERE dag_id = 'restore_archive'")
        assert "__2" in airflow(*words, "--no-wait").stdout

    def test_two_typed_at_once_start_one_run(self, deployed, airflow):
        words = ("strongroom", "restore", "audit", "--why", "a test", "--who", "ada", "--no-wait")

        with ThreadPoolExecutor(2) as shells:
            both = list(shells.map(lambda _: airflow(*words), range(2)))

        assert [one.returncode for one in both] == [0, 0], both[0].stderr + both[1].stderr
        assert len(deployed.execute(RUNS).fetchall()) == 1

    @pytest.mark.usefixtures("deployed")
    def test_airflow_telling_late_that_a_run_is_there_is_the_same_as_its_being_there(self):
        """Airflow looks for a run of that name, and inserts its own; between the two somebody may have come first."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunTriggeredByType

        from strongroom_airflow.trigger import Starter, start

        ada = Starter("ada", DagRunTriggeredByType.CLI)
        begun = start("restore_archive", "restore__1", ada, conf={"why": "a test"}, hint="Nothing was started.")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DagRun, "find_duplicate", lambda **_: None)
            again = start("restore_archive", "restore__1", ada, conf={"why": "a test"}, hint="Nothing was started.")

        assert (begun, again) == (True, False)

    def test_wrong_words_end_in_one_error_with_a_hint(self, deployed, airflow, subtests):
        for words, said in WRONG_WORDS:
            with subtests.test(words=words):
                ended = airflow("strongroom", "restore", *words)

                assert ended.returncode == 1
                assert said in ended.stderr
                assert "HINT:" in ended.stderr
                assert "Traceback" not in ended.stderr
                assert deployed.execute(RUNS).fetchall() == []

    def test_a_paused_dag_is_told_before_anything_is_started(self, deployed, airflow):
        deployed.execute("UPDATE dag SET is_paused = true WHERE dag_id = 'restore_archive'")

        ended = airflow("strongroom", "restore", "audit", "--why", "a test")

        assert ended.returncode == 1
        assert "airflow dags unpause restore_archive" in ended.stderr
