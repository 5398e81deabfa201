"""The retention purge through Airflow: the DAG, `airflow strongroom purge` and `airflow strongroom hold`, on a real store."""

from __future__ import annotations

import json
import subprocess

import psycopg
import pytest

from strongroom.ledger.holds import EVERYTHING
from strongroom.ledger.manifests import archive_ids
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.certificate import Certificate
from strongroom.retention.report import PurgeReport
from strongroom.storage.store import Store
from tests.support.repository import REPOSITORY
from tests.support.sealing import seal_month, upload_parts

OLD, OLDER, YOUNG = (ArchiveId("public", "audit", month, 1) for month in ("2015-05", "2015-04", "2026-05"))
"""Terms of seven years: two are over whenever this test runs."""


@pytest.fixture
def store(object_store, settings) -> Store:
    """Three archives, two of them expired."""
    store = Store(object_store.client("archiver"), settings.store)
    for archive in (OLD, OLDER, YOUNG):
        seal_month(store, settings, archive.partition_key, parts=2)
    upload_parts(store, settings, "2015-06", parts=1)
    return store


@pytest.fixture
def deployed(metadata, store, parsing):
    """The DAG, parsed into the metadata database and unpaused; a connection to that database."""
    with parsing("retention_purge.py"), psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'retention_purge'")
        yield connection


@pytest.fixture
def typed(capsys):
    """The `airflow` command in this process: as a user types it, in a tenth of the time."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        from airflow.cli.cli_parser import get_parser

        arguments = get_parser().parse_args(words)
        with pytest.raises(SystemExit) as ended:
            arguments.func(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, ended.value.code or 0, said.out, said.err)

    return run


def archives(store):
    return [str(archive) for archive in archive_ids(store)]


def test_the_dag_says_what_it_does_and_runs_daily(metadata, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("STRONGROOM_CONFIG", str(REPOSITORY / "include" / "config" / "archive.yaml"))
    path = REPOSITORY / "dags" / "retention_purge.py"

    bag = DagBag(dag_folder=path, bundle_path=path.parent, load_op_links=False)

    assert bag.import_errors == {}
    dag = bag.dags["retention_purge"]
    assert (dag.schedule, dag.max_active_runs) == ("0 3 * * *", 1)
    assert dag.task_ids == ["decide", "approve", "purge", "sweep", "warm", "detached", "report"]
    assert dag.get_task("report").upstream_task_ids >= {"sweep", "warm", "detached"}
    assert all(task.doc_md and task.owner == "strongroom" for task in dag.tasks)
    for result in ("held", "locked", "contended", "refused", "unverifiable"):
        assert f"`{result}`" in dag.doc_md


def test_the_dag_destroys_what_is_expired_and_not_held_and_says_all_of_it(deployed, store, airflow):
    held = airflow(
        "strongroom", "hold", "add", "audit", "-p", "2015-04", "--why", "a case", "--reference", "17", "--json"
    )
    assert held.returncode == 0, held.stderr

    ended = airflow("dags", "test", "retention_purge")

    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert archives(store) == [str(OLDER), str(YOUNG)]
    assert list(store.versions(OLD.archive_prefix)) == []
    certificate = Certificate.model_validate_json(store.read(OLD.destruction_key)[0])
    assert (certificate.approved_by, certificate.destroyed_by.dag_id) == ("by policy", "retention_purge")
    [report_key] = store.keys("reports/retention_purge/")
    report = PurgeReport.model_validate_json(store.read(report_key)[0])
    assert report.judged.counts == {"expired": 1, "held": 1, "kept": 1}
    assert [(one.archive_id, one.result) for one in report.results] == [(str(OLD), "purged")]
    assert report.swept == (), "the parts of 2015-06 were uploaded a moment ago"
    assert "public.audit.2015-04.0001" in said
    assert "1 purged (approved: by policy); 1 archives within their term" in said
    [(name, event)] = deployed.execute(
        "SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE e.source_dag_id = 'retention_purge'"
    ).fetchall()
    assert (name, event["event"], event["archive_ids"]) == ("archive of public.audit", "purged", [str(OLD)])
    assert (event["record_count"], event["certificates"]) == (certificate.record_count, [OLD.destruction_key])
    outcomes = deployed.execute(
        "SELECT value FROM xcom WHERE dag_id = 'retention_purge' AND key = 'outcome'"
    ).fetchall()
    assert outcomes == [(f"{report.sentence()}.",)]


def test_the_dag_finds_nothing_to_do_and_says_so(deployed, store, airflow, typed):
    typed("strongroom", "hold", "add", "audit", "--why", "a case", "--reference", "17")

    ended = airflow("dags", "test", "retention_purge")

    assert ended.returncode == 0, ended.stderr
    assert len(archives(store)) == 3
    assert "no archive to purge" in ended.stdout + ended.stderr


def test_a_dry_run_prints_each_decision_with_its_reason_and_changes_nothing(store, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    before = list(store.versions(""))
    typed("strongroom", "hold", "add", str(OLDER), "--why", "a case", "--who", "ada", "--reference", "17")

    table = typed("strongroom", "purge", "--dry-run")
    document = typed("strongroom", "purge", "--dry-run", "--json")
    later = typed("strongroom", "purge", "--dry-run", "--json", "--at", "2033-06-01")

    assert (table.returncode, document.returncode) == (0, 0), table.stderr + document.stderr
    assert "its term ended at 2022-06-01 00:00 UTC (a test)" in table.stdout
    assert "by ada (17: a case)" in table.stdout
    assert "1 expired, 1 held, 1 kept; the next term ends on 2033-06-01. Nothing was removed." in table.stdout
    decisions = {one["archive_id"]: one["reason"] for one in json.loads(document.stdout)}
    assert decisions == {str(OLDER): "held", str(OLD): "expired", str(YOUNG): "kept"}
    assert {one["archive_id"]: one["reason"] for one in json.loads(later.stdout)}[str(YOUNG)] == "expired"
    assert [version for version in store.versions("") if not version.key.startswith("holds/")] == before


def test_a_dry_run_names_what_needs_approval_and_what_cannot_be_verified(
    store, typed, object_store, bucket, monkeypatch
):
    monkeypatch.setenv("STRONGROOM__PURGE__REQUIRE_APPROVAL", "true")
    object_store.client("admin").put_object(Bucket=bucket, Key=YOUNG.manifest_key, Body=b"{}")

    ended = typed("strongroom", "purge", "--dry-run", "--json")

    assert ended.returncode == 1
    decisions = {one["archive_id"]: (one["reason"], one["needs_approval"]) for one in json.loads(ended.stdout)}
    assert decisions == {
        str(YOUNG): ("unverifiable", True),
        str(OLDER): ("expired", True),
        str(OLD): ("expired", True),
    }


def test_a_dry_run_says_until_when_approval_that_was_switched_off_is_still_asked_for(
    store, settings, typed, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "300")
    strict = settings.model_copy(update={"purge": settings.purge.model_copy(update={"require_approval": True})})
    seal_month(store, strict, "2015-07")
    before = list(store.versions(""))

    table = typed("strongroom", "purge", "--dry-run")
    document = typed("strongroom", "purge", "--dry-run", "--json")
    monkeypatch.setenv("STRONGROOM__TABLES__AUDIT__PURGE__CONFIRMED", '{"require_approval": false}')
    confirmed = typed("strongroom", "purge", "--dry-run")

    told = {(one["needs_approval"], one["policy"]) for one in json.loads(document.stdout)}
    [(asks, why)] = told
    assert (asks, "purge.require_approval was switched off on" in why) == (True, True)
    assert f"public.audit: {why}" in table.stdout
    assert "after approval" in table.stdout
    assert "public.audit: purge.require_approval is off, confirmed" in confirmed.stdout
    assert "after approval" not in confirmed.stdout
    assert list(store.versions("")) == before


def test_a_hold_is_placed_listed_and_released(store, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    placed = typed("strongroom", "hold", "add", "audit", "--why", "a case", "--who", "ada", "--reference", "EFCC/17")
    [hold] = json.loads(typed("strongroom", "hold", "list", "--json").stdout)
    listed = typed("strongroom", "hold", "list")
    released = typed("strongroom", "hold", "release", hold["hold_id"], "--reason", "closed", "--who", "bob")

    assert "It is in force and covers 3 archives." in placed.stdout
    assert (hold["what"], hold["who"], hold["reference"]) == ("public.audit", "ada", "EFCC/17")
    assert all(word in listed.stdout for word in (hold["hold_id"], "a case", "EFCC/17", "in force since"))
    assert released.returncode == 0, released.stderr
    assert "No hold is in force." in typed("strongroom", "hold", "list").stdout
    [kept] = json.loads(typed("strongroom", "hold", "list", "--all", "--json").stdout)
    assert (kept["released_by"], kept["release_reason"]) == ("bob", "closed")


def test_a_hold_on_everything_is_placed_in_each_store_and_covers_all(store, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    placed = typed("strongroom", "hold", "add", "--all", "--why", "a doubt", "--who", "ada", "--reference", "INC-1")
    [hold] = json.loads(typed("strongroom", "hold", "list", "--json").stdout)
    listed = typed("strongroom", "hold", "list")
    decided = json.loads(typed("strongroom", "purge", "--dry-run", "--json").stdout)
    typed("strongroom", "hold", "add", "audit", "--why", "a case", "--reference", "17")
    released = typed("strongroom", "hold", "release", "--all", "--reason", "none", "--who", "bob")
    [left] = json.loads(typed("strongroom", "hold", "list", "--json").stdout)

    assert "on everything by ada" in placed.stdout
    assert left["what"] == "public.audit"
    assert "It is in force and covers 3 archives." in placed.stdout
    assert "Runs that delete rows stop within seconds" in placed.stdout
    assert hold["what"] == EVERYTHING
    assert "everything" in listed.stdout
    assert {one["reason"] for one in decided} == {"held", "kept"}
    assert "Clear the tasks that the hold stopped." in released.stdout


@pytest.fixture
def wrong_table(store, deployment) -> str:
    """The settings of the archived table are wrong; those of another one are right. Its DAG id's part."""
    deployment.tables(audit={"date_column": "at", "retries": "many"}, calls={"date_column": "at"})
    return "audit"


def test_no_archive_of_a_table_with_wrong_settings_is_purged(deployed, wrong_table, store, airflow, typed):
    """Its settings say whether a person must approve, and nobody can read them. The run goes on with the others."""
    before = archives(store)

    shown = typed("strongroom", "purge", "--dry-run", "--json")
    ended = airflow("dags", "test", "retention_purge")

    decided = {
        one["archive_id"]: (one["reason"], one["purge"], one["needs_approval"]) for one in json.loads(shown.stdout)
    }
    assert decided[str(OLD)] == ("left_out", False, True)
    assert "warning: 1 fault in the settings of table audit" in shown.stderr
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert archives(store) == before
    assert "Left out: audit; none of its archives is purged" in ended.stdout + ended.stderr
    [report_key] = store.keys("reports/retention_purge/")
    report = PurgeReport.model_validate_json(store.read(report_key)[0])
    assert report.judged.counts == {"left_out": 2, "kept": 1}


BESIDE_A_WRONG_TABLE = [
    (("list",), 0, "3 archives"),
    (("verify", "--all"), 0, "3 sound"),
    (("show", str(OLD)), 0, "public.audit"),
    (("hold", "add", str(OLD), "--why", "x", "--reference", "y"), 0, "covers 1 archive."),
    (("hold", "add", "--all", "--why", "x", "--reference", "y"), 1, "may have a store of its own"),
    (("list", "audit"), 1, "retries: expected a whole number"),
    (("restore", "audit", "-p", "2015-05", "--why", "a case"), 1, "retries: expected a whole number"),
    (("list", "calls"), 0, "no such archive"),
    (("bucket", "apply"), 1, "error: 1 fault in the settings of table audit"),
]


def test_commands_warn_of_a_wrong_table_and_fail_only_where_it_is_named(wrong_table, typed, monkeypatch, subtests):
    monkeypatch.setenv("COLUMNS", "200")

    for words, code, said in BESIDE_A_WRONG_TABLE:
        with subtests.test(words=words):
            ended = typed("strongroom", *words)

            assert (ended.returncode, said in ended.stdout + ended.stderr) == (code, True), ended.stdout + ended.stderr


WRONG_WORDS = [
    (("hold", "add", "--why", "x", "--reference", "y"), "the command does not say what to hold"),
    (
        ("hold", "add", "audit", "--all", "--why", "x", "--reference", "y"),
        "a hold covers either everything or what is named",
    ),
    (("hold", "add", "--all", "-p", "2015-04", "--why", "x", "--reference", "y"), "found --all and 2015-04"),
    (("purge", "--at", "2033-06-01"), "only a dry run can decide as of another day"),
    (("hold", "add", "nope", "--why", "x", "--reference", "y"), "is nothing that can be held"),
    (("hold", "add", "public.nope", "--why", "x", "--reference", "y"), "public.nope is unknown"),
    (("hold", "add", "audit", "-p", "2026-13", "--why", "x", "--reference", "y"), "names no month"),
    (("hold", "release", "nope", "--reason", "x"), "there is no hold nope"),
    (("hold", "release", "--all", "--reason", "x"), "no hold on everything is in force"),
    (("hold", "release", "nope", "--all", "--reason", "x"), "the command does not say which hold"),
    (("hold", "release", "--reason", "x"), "the command does not say which hold"),
]


def test_wrong_words_end_in_one_error_with_a_hint(store, typed, subtests):
    for words, said in WRONG_WORDS:
        with subtests.test(words=words):
            ended = typed("strongroom", *words)

            assert ended.returncode == 1
            assert said in ended.stderr
            assert "HINT:" in ended.stderr
            assert "Traceback" not in ended.stderr


def test_the_command_starts_a_run_only_of_a_dag_that_runs(deployed, airflow, typed):
    started = airflow("strongroom", "purge", "--no-wait", "--json")
    again = typed("strongroom", "purge", "--no-wait")
    deployed.execute("UPDATE dag SET is_paused = true WHERE dag_id = 'retention_purge'")
    refused = typed("strongroom", "purge")

    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)["run_id"]
    found = deployed.execute("SELECT state::text FROM dag_run WHERE run_id = %s", (run_id,)).fetchall()
    assert found == [("queued",)]
    assert f"Already under way: {run_id}" in again.stdout
    assert refused.returncode == 1
    assert "airflow dags unpause retention_purge" in refused.stderr
