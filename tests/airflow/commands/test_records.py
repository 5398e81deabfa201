"""`airflow strongroom restores`, `certificates`, `verifications` and `jobs`, and `show` of an archive that was destroyed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.purge_store import PurgeStore
from tests.support import restoring
from tests.support.chain import NOW
from tests.support.sealing import seal_month

ARCHIVE, EXPIRED = "public.audit.2026-05.0001", "public.audit.2016-05.0001"
TODAY = datetime.now(timezone.utc)


@pytest.fixture
def destroyed(chain, object_store) -> ArchiveId:
    """An archive whose term was over."""
    archive = seal_month(chain.store, chain.settings, "2016-05")
    [decision] = [one for one in judge(chain.store, now=NOW) if one.purge]
    result = purge_archive(
        chain.store,
        PurgeStore(object_store.client("purger"), chain.settings.store),
        decision,
        Approval(approved=True, by="ada", at=NOW),
        run=RunIdentity(dag_id="retention_purge", run_id="2026-11-23", triggered_by="grace"),
        now=NOW,
        claim_ttl=timedelta(hours=1),
    )
    assert result.result == "purged"
    return archive


def answered(ended) -> str:
    assert ended.returncode == 0, ended.stderr
    return " ".join(ended.stdout.split())


def test_show_of_a_destroyed_archive_prints_its_certificate(destroyed, chain, airflow):
    said = answered(airflow("strongroom", "show", EXPIRED))
    document = json.loads(airflow("strongroom", "show", EXPIRED, "--json").stdout)

    assert f"{EXPIRED}: destroyed" in said
    assert "2026-11-23 12:00 UTC, ada" in said
    assert "by retention_purge 2026-11-23 (started by grace)" in said
    assert f"{chain.store}{destroyed.destruction_key}" in said
    assert (document["certificate"]["archive_id"], document["put_back"]) == (EXPIRED, False)


def test_show_says_when_a_destroyed_archive_was_put_back(destroyed, chain, airflow):
    seal = chain.store.read(destroyed.seal_key)[0]
    chain.store.put_bytes(destroyed.manifest_key, seal)

    ended = airflow("strongroom", "show", EXPIRED)

    assert ended.returncode == 1
    assert "Somebody has put its manifest back since." in ended.stdout


def test_certificates_are_listed_for_all_tables_or_one(destroyed, airflow):
    table = answered(airflow("strongroom", "certificates", "audit"))
    [document] = json.loads(airflow("strongroom", "certificates", "--json").stdout)

    assert f"{EXPIRED} 30 " in table
    assert "ada" in table
    assert (document["archive_id"], document["destroyed_by"]["triggered_by"]) == (str(destroyed), "grace")


def test_a_certificate_is_written_as_a_page_by_number_by_archive_or_by_partition(destroyed, airflow, tmp_path):
    """The PDF is what Chromium prints of the page."""
    page, pdf = tmp_path / "certificate.html", tmp_path / "certificate.pdf"
    number = f"{EXPIRED}/{NOW:%Y%m%dT%H%M%SZ}"

    written = answered(airflow("strongroom", "certificate", "audit", "2016-05", "--output", str(page)))
    printed = answered(airflow("strongroom", "certificate", number, "--output", str(pdf)))
    shown = answered(airflow("strongroom", "certificate", EXPIRED))

    assert written == f"Wrote {number} to {page}."
    assert printed == f"Wrote {number} to {pdf}."
    assert number in page.read_text()
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert f"{EXPIRED}: destroyed" in shown


def test_a_certificate_that_is_none_or_not_to_be_relied_on_ends_with_1(destroyed, chain, airflow, tmp_path):
    """Nothing is written where there is none; of an archive that was put back there is a page, which says so."""
    page = tmp_path / "certificate.html"

    for words in (["audit", "2016-06"], [ARCHIVE], ["public.audit.2016-07.0001"]):
        ended = airflow("strongroom", "certificate", *words, "--output", str(page))
        assert (ended.returncode, page.exists()) == (1, False)
        assert "HINT:" in ended.stderr
    refused = airflow("strongroom", "certificate", EXPIRED, "--output", str(tmp_path / "certificate.docx"))
    assert "a file that ends in .html or .pdf" in refused.stderr
    chain.store.put_bytes(destroyed.manifest_key, chain.store.read(destroyed.seal_key)[0])

    ended = airflow("strongroom", "certificate", EXPIRED, "--output", str(page))

    assert ended.returncode == 1
    assert "not to be relied on" in ended.stderr
    assert "Do not rely on this certificate" in page.read_text()


def test_restores_are_listed_with_who_why_and_until(chain, airflow):
    """One that ended long ago, and one that has not ended."""
    restoring.restore(chain, "first", now=TODAY - timedelta(days=90), triggered_by="grace", why="Case 4711")
    restoring.plan(chain, "second", now=TODAY)

    table = answered(airflow("strongroom", "restores"))
    second, first = json.loads(airflow("strongroom", "restores", "audit", "--json").stdout)

    assert (first["who"], first["triggered_by"], first["why"]) == ("ada", "grace", "Case 4711")
    assert (first["outcome"], second["outcome"]) == ("restored", "unfinished")
    assert datetime.fromisoformat(first["until"]) == TODAY - timedelta(days=60)
    assert "ada (started by grace)" in table
    assert f"until {TODAY - timedelta(days=60):%Y-%m-%d %H:%M} (over)" in table


def test_a_verification_says_who_had_the_archive_read_and_when(chain, airflow):
    verified = airflow("strongroom", "verify", ARCHIVE, "--who", "ada")
    verify_and_record(chain.store, ArchiveId.parse(ARCHIVE), who="grace", now=NOW - timedelta(days=400))

    table = answered(airflow("strongroom", "verifications"))
    newest, oldest = json.loads(airflow("strongroom", "verifications", "audit", "--json").stdout)
    [last] = json.loads(airflow("strongroom", "verifications", "--last", "1", "--json").stdout)

    assert verified.returncode == 0, verified.stderr
    assert ([one["who"] for one in (newest, oldest)], last) == (["ada", "grace"], newest)
    assert (oldest["at"], oldest["archive"]) == ((NOW - timedelta(days=400)).isoformat(), ARCHIVE)
    assert "grace" in table
    [record] = [
        key for key in chain.store.keys("reports/verifications/") if f"{NOW - timedelta(days=400):%Y%m%d}" in key
    ]
    kept = json.loads(chain.store.read(record)[0])
    assert kept["verified_by"] == "grace"
    assert datetime.fromisoformat(kept["verified_at"]) == NOW - timedelta(days=400)


def test_a_verification_of_an_earlier_version_is_listed_without_a_name(chain, airflow):
    verify_and_record(chain.store, ArchiveId.parse(ARCHIVE), who="grace", now=NOW)
    [key] = chain.store.keys("reports/verifications/")
    body, etag = chain.store.read(key)
    old = {name: value for name, value in json.loads(body).items() if not name.startswith("verified_")}
    chain.store.swap(key, json.dumps(old).encode(), etag=etag)

    [reading] = json.loads(airflow("strongroom", "verifications", "--json").stdout)

    assert (reading["result"], reading["who"], reading["at"]) == ("sound", None, NOW.isoformat())


def test_lists_of_nothing_say_so(chain, airflow):
    assert answered(airflow("strongroom", "restores")) == "Nothing was ever restored."
    assert answered(airflow("strongroom", "certificates")) == "No archive was ever destroyed."
    assert answered(airflow("strongroom", "verifications")) == "No archive was ever verified."


def test_jobs_are_listed_with_their_next_run_and_whether_they_are_paused(metadata, dags_folder, airflow):
    """As the scheduler knows them; a DAG that is not ours is not listed."""
    (dags_folder / "jobs.py").write_text(DAG_FILE)
    parsed = airflow("dags", "reserialize")
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("UPDATE dag SET is_paused = (dag_id <> 'archive__jobs') WHERE dag_id LIKE '%\\_\\_jobs'")

    said = answered(airflow("strongroom", "jobs"))
    found = {one["dag_id"]: one for one in json.loads(airflow("strongroom", "jobs", "--json").stdout)}
    (dags_folder / "jobs.py").unlink()

    assert parsed.returncode == 0, parsed.stderr
    assert "plain__jobs" not in found
    archive, by_hand = found["archive__jobs"], found["restore__jobs"]
    assert archive["schedule"] == "monthly, 90 days after the month ends, at 02:00 UTC"
    assert (archive["paused"], by_hand["paused"], by_hand["next_run_at"]) == (False, True, None)
    assert f"{archive['next_run_at'][:10]} 02:00 UTC, {archive['next_partition']} active" in said
    assert "restore__jobs by hand paused" in said
    assert "airflow dags unpause JOB" in said


DAG_FILE = """
from datetime import datetime, timezone

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from strongroom_airflow.timetable import RetentionPartitionTimetable

START = datetime(2020, 1, 1, tzinfo=timezone.utc)
schedule = RetentionPartitionTimetable("0 2 1 * *", frequency="monthly", hot_retention="P90D")

for dag_id, given in (
    ("archive__jobs", {"schedule": schedule, "start_date": START, "tags": ["strongroom"]}),
    ("restore__jobs", {"schedule": None, "tags": ["strongroom"]}),
    ("plain__jobs", {"schedule": None}),
):
    with DAG(dag_id, catchup=False, **given) as dag:
        EmptyOperator(task_id="work")
    globals()[dag_id] = dag
"""
