"""The query DAG and `airflow strongroom query`: a real run through Airflow, what it leaves where, and who may see what."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import psycopg
import pytest

from strongroom.errors import QueryError
from strongroom.records import RunIdentity
from strongroom_airflow.query.results import open_query_result
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain, some_settings
from tests.support.dags import read_dags
from tests.support.database import execute
from tests.support.querying import ask

RUNS = "SELECT run_id, state::text, conf FROM dag_run WHERE dag_id = 'query_archive' ORDER BY id"
SOUGHT = "agent 66 Okafor"


TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric(8,2));
INSERT INTO audit SELECT n, '2026-05-02'::timestamptz + n * interval '1 s', 'agent ' || n || ' Okafor', n / 10.0
FROM generate_series(1, 500) n;
"""


def archive_may(source: str, object_store: ObjectStore, bucket: str, staging: Path) -> Chain:
    """A table whose May was archived and deleted."""
    execute(source, TABLE)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, staging, part_rows=200))
    assert chain.run().deleted_rows == 500
    return chain


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Chain:
    """For a test that queries, and so leaves a record: a table of its own; `airflow` finds the store."""
    deployment.store(object_store, bucket)
    return archive_may(source, object_store, bucket, tmp_path / "staging")


@pytest.fixture(scope="module")
def archived_once(shared_source, object_store, shared_bucket, tmp_path_factory) -> Chain:
    return archive_may(shared_source, object_store, shared_bucket, tmp_path_factory.mktemp("archived"))


@pytest.fixture
def archived(archived_once, object_store, deployment) -> Chain:
    """The same table for the tests that read nothing."""
    deployment.store(object_store, archived_once.settings.store.bucket)
    return archived_once


@pytest.fixture(scope="module")
def parsed(parsing):
    """The DAG in the metadata database."""
    with parsing("query_archive.py"):
        yield


@pytest.fixture
def deployed(metadata, parsed):
    """The DAG, parsed and unpaused; a connection to the metadata database."""
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run WHERE dag_id = 'query_archive'")
        connection.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'query_archive'")
        yield connection


def run_dag(airflow, conf):
    return airflow("dags", "test", "query_archive", "--conf", json.dumps(conf))


def records(chain):
    return [json.loads(chain.store.read(key)[0]) for key in chain.store.keys("reports/queries/")]


ASKED = {
    "table": "audit",
    "since": "2026-05-01T00:00:00+00:00",
    "conditions": [{"column": "who", "operator": "=", "value": SOUGHT}],
    "columns": ["id", "cost"],
    "why": "Case 4711",
    "who": "ada",
}


class TestRun:
    def test_rows_are_found_and_neither_log_nor_xcom_has_them(self, deployed, chain, airflow):
        """Nor who was looked for: logs are open to more people than rows."""
        ended = run_dag(airflow, ASKED)

        assert ended.returncode == 0, ended.stdout + ended.stderr
        [(run_id, state, _)] = deployed.execute(RUNS).fetchall()
        assert state == "success"
        with open_query_result(chain.settings, run_id) as result:
            assert [row.values for row in result.rows()] == [("66", "6.60")]
            assert result.outcome.outcome == "complete"
        said = ended.stdout + ended.stderr
        assert "1 row from 1 archive of public.audit" in said
        kept = deployed.execute("SELECT value::text FROM xcom WHERE dag_id = 'query_archive'").fetchall()
        told = [
            line for line in said.splitlines() if "conf" not in line.lower()
        ]  # `dags test` prints the configuration
        for text in ["\n".join(told), str(kept)]:
            assert re.search(r"(?<!\d)6\.60(?!\d)", text) is None  # 12:34:26.602 is a time of day
            assert SOUGHT not in text
        assert "who =" in said
        [record] = records(chain)
        assert record["request"]["conditions"] == [{"column": "who", "operator": "=", "value": SOUGHT}]
        assert (record["request"]["who"], record["request"]["why"], record["rows"]) == ("ada", "Case 4711", 1)

    @pytest.mark.usefixtures("deployed")
    def test_a_query_that_does_not_say_why_reads_nothing(self, archived, airflow):
        ended = run_dag(airflow, {**ASKED, "why": None})

        assert "the query does not say why" in ended.stdout
        assert records(archived) == []

    def test_first_rows_of_one_archive(self, deployed, chain, airflow):
        ended = run_dag(airflow, {"archives": ["public.audit.2026-05.0001"], "limit": 5, "why": "a look"})

        assert ended.returncode == 0, ended.stdout + ended.stderr
        [(run_id, *_)] = deployed.execute(RUNS).fetchall()
        with open_query_result(chain.settings, run_id) as result:
            assert [row.values[0] for row in result.rows()] == ["1", "2", "3", "4", "5"]
            assert result.outcome.outcome == "limited"


class TestForm:
    @pytest.fixture(scope="class")
    def dag(self, metadata):  # noqa: ARG002 - reading DAGs looks into the database
        return read_dags("query_archive")["query_archive"]

    def test_it_runs_by_hand_alone_and_every_field_says_what_it_is(self, dag):
        params = {name: dag.params.get_param(name) for name in dag.params}

        assert (dag.task_ids, dag.schedule) == (["search"], None)
        assert all(param.schema.get("title") for param in params.values())
        assert params["table"].schema["examples"][0] == "acm_alerts"
        assert dag.doc_md
        assert all(task.doc_md for task in dag.tasks)
        dag.params.validate()

    def test_its_operators_are_those_of_the_domain(self, dag):
        from typing import get_args

        from strongroom.query.records import Operator

        shown = dag.params.get_param("conditions").schema["items"]["properties"]["operator"]["enum"]
        assert tuple(shown) == get_args(Operator)


WRONG_WORDS = [
    (("nope",), "is not configured"),
    (("audit", "--where", "cost"), "a condition cannot be read"),
    (("audit", "--where", "way in out"), "a condition cannot be read"),
    (("audit", "--from", "May"), "the query's since cannot be used"),
    (("audit", "--archive", "nonsense"), "Airflow did not start query_archive"),
]


class TestCommand:
    @pytest.mark.usefixtures("archived")
    def test_wrong_words_end_in_one_error_with_a_hint(self, deployed, airflow, subtests):
        for words, said in WRONG_WORDS:
            with subtests.test(words=words):
                ended = airflow("strongroom", "query", *words, "--why", "a test")

                assert ended.returncode == 1
                assert said in ended.stderr
                assert "HINT:" in ended.stderr
                assert "Traceback" not in ended.stderr
                assert deployed.execute(RUNS).fetchall() == []

    @pytest.mark.usefixtures("archived")
    def test_a_paused_dag_is_told_before_anything_is_started(self, deployed, airflow):
        deployed.execute("UPDATE dag SET is_paused = true WHERE dag_id = 'query_archive'")

        ended = airflow("strongroom", "query", "audit", "--why", "a test")

        assert ended.returncode == 1
        assert "airflow dags unpause query_archive" in ended.stderr

    def test_it_starts_a_run_and_prints_its_rows_alone_to_standard_output(self, deployed, chain, airflow):
        """The run is done here in place of a scheduler."""
        outcome = {}

        def type_it() -> None:
            words = ("--where", f"who = {SOUGHT}", "--columns", "id", "cost", "--format", "csv", "--why", "a test")
            outcome["ended"] = airflow("strongroom", "query", "audit", *words)

        shell = threading.Thread(target=type_it)
        shell.start()
        run_id = wait_for_run(deployed)
        do_run(chain, deployed, run_id)
        shell.join(120)

        ended = outcome["ended"]
        assert ended.returncode == 0, ended.stderr
        assert list(csv.reader(io.StringIO(ended.stdout))) == [["id", "cost"], ["66", "6.60"]]
        assert f"Started {run_id}" in ended.stderr
        assert "complete: 1 row from 1 archive of public.audit" in ended.stderr


def wait_for_run(connection) -> str:
    for _ in range(1200):
        found = connection.execute(RUNS).fetchall()
        if found:
            return found[0][0]
        time.sleep(0.1)
    raise AssertionError("no run was started")


def do_run(chain: Chain, connection, run_id: str) -> None:
    """What the task does, with the parameters that the command gave the run."""
    [(_, _, conf)] = connection.execute(RUNS).fetchall()
    run = RunIdentity(dag_id="query_archive", run_id=run_id)
    ask(chain, *conf.pop("conditions"), run=run, now=datetime.now(timezone.utc), **{**conf, "table": "public.audit"})
    connection.execute("UPDATE dag_run SET state = 'success' WHERE dag_id = 'query_archive'")


def test_another_run_has_no_result(archived):
    with pytest.raises(QueryError, match="there is no result"), open_query_result(archived.settings, "manual__any"):
        pass
