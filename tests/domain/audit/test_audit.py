"""What an auditor is handed of a period, from a real log: the acts, the gaps, the requirements, as a page and as OSCAL."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from strongroom.audit.keep import AuditDocument, keep_files, make_files
from strongroom.audit.report import AuditReport, make_report
from strongroom.calendar import Window
from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.holds import place_hold
from strongroom.ledger.log import CHECKPOINT
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings.sections import RequiredControl
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.store import Store
from tests.support.chain import NOW, Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.logs import AUTHOR, kinds_of, with_log
from tests.support.restoring import restore

MAY = ArchiveId("public", "audit", "2026-05", 1)
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def year() -> Window:
    """The year in which the tests run: entries carry the true time."""
    now = datetime.now(timezone.utc)
    return Window(now - timedelta(days=365), now + timedelta(days=1))


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """March of 2026 is archived, April is empty, May was left out, June is archived; one archive was read again."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text)")
        connection.execute(
            "INSERT INTO audit SELECT n, month, 'honest' FROM generate_series(1, 5) AS n, "
            "(VALUES ('2026-03-02'::timestamptz)) AS m (month)"
        )
        connection.execute("INSERT INTO audit SELECT n + 10, '2026-06-02', 'honest' FROM generate_series(1, 7) AS n")
    settings = with_log(some_settings(bucket, tmp_path))
    chain = Chain(source, object_store.client("archiver"), settings)
    for key in ("2026-03", "2026-04", "2026-06"):
        chain.key = key
        chain.run()
    verify_and_record(chain.store, ArchiveId("public", "audit", "2026-03", 1), who="grace", now=NOW)
    return chain


def reported(chain: Chain, window: Window, **more) -> AuditReport:
    return make_report([(chain.store, [chain.settings])], window, now=NOW, **more)


def test_a_report_counts_what_was_done_and_names_the_gap(chain, year):
    """What it says of rows is what the table and the archives have."""
    report = reported(chain, year)

    [store] = report.stores
    [table] = store.tables
    assert table.table == "public.audit"
    assert table.counts == {"archived": 2, "delete intended": 2, "deleted": 2, "empty": 1, "verified": 1}
    assert table.rows == {"archived": 12, "deleted": 12}
    assert table.gaps == ("2026-05", "2026-07")
    assert "7 years in archives" in table.policy
    assert (store.first, store.last, store.size) == (0, 8, 9)
    assert store.checkpoint.startswith("strongroom.test/log\n9\n")
    assert store.other.counts == {"log begun": 1}


def test_a_period_without_acts_is_a_report_all_the_same(chain):
    report = reported(
        chain, Window(datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2021, 1, 1, tzinfo=timezone.utc))
    )

    [store] = report.stores
    assert (store.first, store.last) == (None, None)
    assert [table.counts for table in report.tables] == [{}, {}]
    assert [table.gaps for table in store.tables] == [()]


def test_requirements_stand_with_their_reasons_and_what_they_do_not_cover(chain, year):
    required = [
        RequiredControl(id="ncc-1", title="Audit trail", citation="The licence, 7.2", kinds=("archived", "empty"))
    ]

    files = make_files(reported(chain, year), required)

    found = {one.control: one for one in files.findings}
    assert not found["gdpr-5-1-e"].satisfied  # the purge never ran
    assert "not witnessed" in found["gdpr-5-2"].why
    assert not found["gdpr-17"].satisfied  # no table names columns of persons
    assert "could not be carried out" in found["gdpr-17"].why
    assert found["gdpr-12-3"].satisfied
    assert found["gdpr-30"].satisfied
    assert found["gdpr-32"].satisfied
    assert not found["ncc-1"].satisfied
    assert "public.audit 2026-05, public.audit 2026-07" in found["ncc-1"].why
    assert [index for _, index in found["ncc-1"].entries] == [1, 4, 5]
    assert all(one.not_covered for one in files.findings)


def test_an_archive_that_was_not_found_sound_is_named(chain, year, object_store, bucket):
    Vandal(object_store.client("admin"), chain.store, bucket).remove(
        ArchiveId("public", "audit", "2026-06", 1).part_key(0, "zstd")
    )
    verify_and_record(chain.store, ArchiveId("public", "audit", "2026-06", 1), who="grace", now=NOW)

    found = {one.control: one for one in make_files(reported(chain, year)).findings}

    assert not found["gdpr-32"].satisfied
    assert "public.audit.2026-06.0001" in found["gdpr-32"].why


def test_a_report_is_kept_in_its_three_forms_and_entered(chain, year):
    files = make_files(reported(chain, year))

    [where] = keep_files([chain.store], files)

    assert kinds_of(chain.store)[-1] == "audit reported"
    keys = list(chain.store.keys("reports/audits/"))
    assert where == f"{chain.store}{next(key for key in keys if key.endswith('.html'))}"
    document, _ = chain.store.read(next(key for key in keys if key.endswith("Z.json")))
    assert AuditDocument.model_validate_json(document).report == files.report


def test_names_and_reasons_are_text_on_the_page(chain, year, source):
    """And words about people are not in the log, so not on the page either."""
    place_hold(chain.store, "public.audit", why=EVIL, who=EVIL, reference="R/1", now=NOW)
    restore(chain, who=EVIL, archives=["public.audit.2026-03.0001"])

    page = make_files(reported(chain, year)).page.decode()

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("https://in-toto", "")


def test_the_oscal_document_has_what_its_schema_wants(chain, year):
    """The fields that NIST's JSON schema of assessment results 1.1.3 requires, and the same document each time."""
    files = make_files(reported(chain, year))

    results = json.loads(files.oscal)["assessment-results"]

    assert set(results) == {"uuid", "metadata", "import-ap", "results"}
    assert set(results["metadata"]) >= {"title", "last-modified", "version", "oscal-version"}
    [result] = results["results"]
    assert set(result) >= {"uuid", "title", "description", "start", "reviewed-controls"}
    observed = {one["uuid"] for one in result["observations"]}
    for one in result["findings"]:
        assert one["target"]["status"]["state"] in ("satisfied", "not-satisfied")
        assert {each["observation-uuid"] for each in one["related-observations"]} <= observed
    assert len({one["uuid"] for one in result["findings"]}) == len(files.findings)
    assert make_files(files.report).oscal == files.oscal


def test_one_table_alone_is_reported_when_it_is_asked_for(chain, year, source, tmp_path):
    other = chain.settings.model_copy(update={"table": "payroll"})

    report = make_report([(chain.store, [chain.settings, other])], year, only=other, now=NOW)

    assert [table.table for table in report.stores[0].tables] == ["public.payroll"]


def test_without_any_log_there_is_nothing_to_report(object_store, bucket, tmp_path, year):
    settings = some_settings(bucket, tmp_path)

    with pytest.raises(ConfigurationError, match="no transparency log to report from"):
        make_report([(Store(object_store.client("archiver"), settings.store), [settings])], year, now=NOW)


def test_a_damaged_log_is_no_report(chain, year, object_store, bucket):
    Vandal(object_store.client("admin"), chain.store, bucket).replace(CHECKPOINT, b"nothing\n")

    with pytest.raises(IntegrityError):
        reported(chain, year)


def test_the_author_of_each_act_is_named(chain, year):
    [store] = reported(chain, year).stores

    archived = next(act for act in store.tables[0].acts if act.kind == "archived")
    assert archived.by == f"{AUTHOR.run.dag_id} {AUTHOR.run.run_id}"
    assert archived.objects == (ArchiveId("public", "audit", "2026-03", 1).manifest_key,)
