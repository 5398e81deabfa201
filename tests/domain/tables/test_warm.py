"""The warm tier on a real PostgreSQL, with an archiver that owns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from strongroom.errors import IntegrityError, UnarchivableError
from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.holds import EVERYTHING, place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import SOURCE_IDENTITY
from strongroom.retention.drop_warm import WarmEvidence
from strongroom.tables import delete_batch
from tests.support.chain import NOW
from tests.support.database import execute, scalar
from tests.support.warm import LAST_WARM, WarmChain, a_warm_chain, an_archiver, purge

DIGEST = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM {} AS t"


@pytest.fixture
def archiver(source) -> Iterator[str]:
    """A connection string of a role with the archiver's rights, on the test's own database."""
    with an_archiver(source) as conninfo:
        yield conninfo


@pytest.fixture
def make_chain(source, archiver, object_store, bucket, tmp_path):
    return partial(a_warm_chain, source, archiver, object_store.client("archiver"), bucket, tmp_path)


@pytest.fixture
def chain(make_chain) -> WarmChain:
    chain = make_chain()
    chain.apply()
    return chain


def test_rows_move_to_the_warm_table_and_the_view_shows_all_of_them_once(chain):
    before = scalar(chain.owner, DIGEST.format("audit"))

    report = chain.run()

    assert (report.outcome, report.deleted_rows) == ("archived", 744)
    assert chain.figures() == (56, 744, 800)
    assert scalar(chain.owner, DIGEST.format("audit_all")) == before
    assert scalar(chain.owner, "SELECT count(*) FROM warm.audit_2026_05") == 744
    [evidence] = {
        DeleteEvidence.model_validate_json(chain.store.read(key)[0]).warm_table
        for key in chain.store.keys(ArchiveId.parse(report.archive_id).evidence_prefix)
        if "/delete-part" in key
    }
    assert evidence == "warm.audit"


def test_a_row_that_changed_stays_in_the_live_table_and_is_not_moved(chain):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, "UPDATE audit SET cost = 0.10 WHERE id = 10")

    deleted = [chain.delete(part) for part in sealed.parts]

    assert [part.changed for part in deleted] == [1, 0, 0]
    assert chain.figures() == (57, 743, 800)
    assert scalar(chain.owner, "SELECT count(*) FROM warm.audit WHERE id = 10") == 0


def test_a_crash_between_batches_leaves_each_row_in_one_of_the_two_and_is_gone_on_with(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    original, calls = delete_batch.fill_batch, []

    def crash(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt  # after the third batch was committed
        return original(*arguments)

    monkeypatch.setattr(delete_batch, "fill_batch", crash)
    with pytest.raises(KeyboardInterrupt):
        chain.delete(sealed.parts[0])
    after_crash = chain.figures()
    monkeypatch.undo()

    deleted = [chain.delete(part) for part in sealed.parts]

    assert after_crash == (650, 150, 800)
    assert (deleted[0].deleted, deleted[0].gone) == (248, 0)
    assert chain.figures() == (56, 744, 800)


def test_a_row_that_comes_back_is_read_once_and_replaces_its_older_form_when_it_goes_again(chain):
    chain.run()
    execute(chain.owner, "INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM warm.audit WHERE id IN (10, 11)")
    execute(chain.owner, "UPDATE audit SET who = 'corrected' WHERE id = 11")
    back = chain.figures()

    report = chain.run()

    assert back == (58, 744, 800)
    assert (report.archive_id, report.deleted_rows) == ("public.audit.2026-05.0002", 2)
    assert chain.figures() == (56, 744, 800)
    assert scalar(chain.owner, "SELECT who FROM warm.audit WHERE id = 11") == "corrected"


def test_a_trigger_that_swallows_rows_takes_the_batch_back(chain):
    execute(
        chain.owner,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON warm.audit_2026_05 FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    sealed = chain.seal(chain.plan())

    with pytest.raises(IntegrityError, match=r"did not arrive in warm\.audit: expected 50 rows, found 0 rows"):
        chain.delete(sealed.parts[0])

    assert chain.figures() == (800, 0, 800)


def test_a_plan_is_refused_while_there_is_no_warm_table(make_chain):
    chain = make_chain()

    with pytest.raises(UnarchivableError, match=r"no table warm\.audit") as caught:
        chain.plan()

    assert "airflow strongroom warm apply public.audit" in caught.value.hint
    assert list(chain.store.keys("")) == [SOURCE_IDENTITY]


REFUSALS = {
    "no partition": ("DROP TABLE warm.audit_2026_05", "no partition for 2026-05"),
    "a right": ("REVOKE INSERT ON warm.audit FROM {role}", "lacks INSERT on warm.audit"),
    "the schema": ("REVOKE USAGE ON SCHEMA warm FROM {role}", "lacks USAGE on schema warm"),
    "another column": ("ALTER TABLE audit ADD note text", "has no column note"),
    "another type": (
        "ALTER TABLE warm.audit ADD note int; ALTER TABLE audit ADD note text",
        "note is integer, not text",
    ),
    "a column more": (
        "ALTER TABLE warm.audit ADD note int NOT NULL",
        "note is not in the live table and takes no NULL",
    ),
    "no key": ("ALTER TABLE warm.audit DROP CONSTRAINT audit_pkey", r"its key is not \(id, at\)"),
    "an ordinary table": (
        "DROP VIEW audit_all; DROP TABLE warm.audit; CREATE TABLE warm.audit (LIKE audit)",
        r"not partitioned by range \(at\)",
    ),
}


@pytest.mark.parametrize(("change", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_plan_is_refused_when_the_warm_table_cannot_take_the_rows(chain, archiver, change, expected):
    execute(chain.owner, change.format(role=psycopg.conninfo.conninfo_to_dict(archiver)["user"]))

    with pytest.raises(UnarchivableError, match=expected):
        chain.plan()

    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


def test_a_warm_table_that_vanishes_after_the_plan_stops_the_delete(chain):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, "DROP TABLE warm.audit_2026_05")

    with pytest.raises(UnarchivableError, match="no partition for 2026-05"):
        chain.delete(sealed.parts[0])

    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


def test_applying_again_adds_columns_and_partitions_and_changes_nothing_else(chain):
    chain.run()
    execute(chain.owner, "ALTER TABLE audit ADD note text; DROP TABLE warm.audit_2027_01")

    chain.apply()
    chain.apply()

    assert chain.figures() == (56, 744, 800)
    assert scalar(chain.owner, "SELECT count(note) FROM audit_all") == 0
    assert scalar(chain.owner, "SELECT to_regclass('warm.audit_2027_01') IS NOT NULL")


def test_a_month_whose_warm_term_is_over_is_deleted_and_not_moved(make_chain):
    """A backfill of an old month, or its late rows; there need not even be a warm table."""
    chain = make_chain(warm_retention="P120D")

    report = chain.run()

    assert (report.outcome, report.deleted_rows) == ("archived", 744)
    assert scalar(chain.owner, "SELECT to_regclass('warm.audit') IS NULL")


@pytest.mark.parametrize(("frequency", "key", "rows"), [("daily", "2026-05-05", 24), ("weekly", "2026-W20", 168)])
def test_rows_of_a_window_in_the_middle_of_a_month_move_too(make_chain, frequency, key, rows):
    chain = make_chain(frequency=frequency, key=key)
    chain.apply()

    assert chain.run().deleted_rows == rows
    assert chain.figures() == (800 - rows, rows, 800)


def test_a_week_needs_both_months_that_it_lies_in(make_chain):
    chain = make_chain(frequency="weekly", key="2026-W18")
    chain.apply()
    execute(chain.owner, "DROP TABLE warm.audit_2026_04")

    with pytest.raises(UnarchivableError, match="no partition for 2026-04"):
        chain.plan()


# The end of the warm term.


def test_a_partition_is_dropped_when_its_term_is_over_and_its_rows_are_proved(chain):
    chain.run()
    kept = purge(chain, LAST_WARM)["2026-05"]

    result = purge(chain)["2026-05"]

    assert (kept.result, result.result, result.rows) == ("kept", "dropped", 744)
    assert scalar(chain.owner, "SELECT to_regclass('warm.audit_2026_05') IS NULL")
    assert chain.figures() == (56, 0, 56)
    evidence = WarmEvidence.model_validate_json(chain.store.read(result.evidence_key)[0])
    assert (evidence.partition, evidence.rows) == ("warm.audit_2026_05", 744)
    assert [archive.archive_id for archive in evidence.archives] == ["public.audit.2026-05.0001"]
    assert "2026-05" not in purge(chain)


def test_months_that_are_still_warm_stay(chain):
    chain.run()

    results = purge(chain)

    assert {month for month, result in results.items() if result.result == "dropped"} == {
        *(f"2025-{month:02}" for month in (11, 12)),
        *(f"2026-{month:02}" for month in range(1, 6)),
    }
    assert scalar(chain.owner, "SELECT to_regclass('warm.audit_2026_06') IS NOT NULL")


@pytest.mark.parametrize("what", ["public.audit.2026-05", EVERYTHING])
def test_a_partition_under_a_hold_stays(chain, what):
    chain.run()
    place_hold(chain.store, what, why="a case", who="ada", reference="17", now=NOW)

    results = purge(chain)

    assert results["2026-05"].result == "held"
    assert "17: a case" in results["2026-05"].detail
    assert (results["2026-04"].result == "held") == (what == EVERYTHING), "it is empty, and no archive has rows of it"
    assert chain.figures() == (56, 744, 800)


def test_a_partition_with_a_row_that_no_archive_holds_stays(chain):
    chain.run()
    execute(chain.owner, "UPDATE warm.audit SET cost = 0.10 WHERE id = 10")
    execute(chain.owner, "INSERT INTO warm.audit VALUES (9000, '2026-05-05', 'from nowhere', 1)")

    result = purge(chain)["2026-05"]

    assert (result.result, result.detail) == ("unverifiable", "2 of its 745 rows are in no archive as they are here")
    assert scalar(chain.owner, "SELECT count(*) FROM warm.audit") == 745


def test_a_partition_whose_archive_is_damaged_stays(chain, object_store):
    report = chain.run()
    key = ArchiveId.parse(report.archive_id).part_key(1, "zstd")
    admin, bucket = object_store.client("admin"), chain.settings.store.bucket
    admin.delete_object(Bucket=bucket, Key=key, VersionId=chain.store.head(key).version_id)

    result = purge(chain)["2026-05"]

    assert (result.result, result.detail) == ("unverifiable", "its archive public.audit.2026-05.0001 is missing")
    assert chain.figures() == (56, 744, 800)


def test_the_archiver_can_drop_no_other_table_and_no_rows_that_were_not_counted(chain, archiver):
    chain.run()

    with pytest.raises(psycopg.errors.RaiseException, match="no partition of this warm table"):
        execute(archiver, "SELECT warm.audit_drop('audit', 744)")
    with pytest.raises(psycopg.errors.RaiseException, match="has 744 rows, and 743 were proved"):
        execute(archiver, "SELECT warm.audit_drop('audit_2026_05', 743)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(archiver, "DROP TABLE warm.audit_2026_05")

    assert chain.figures() == (56, 744, 800)


def test_odd_names_generated_columns_collations_and_weeks_that_span_two_months_are_kept(make_chain, archiver):
    ddl = """
        CREATE SCHEMA "Odd 1";
        CREATE TABLE "Odd 1"."the ""log" ("key %" text COLLATE "C", day date NOT NULL, n int,
            twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY ("key %"));
        INSERT INTO "Odd 1"."the ""log" SELECT 'k' || g, '2026-04-25'::date + g, g FROM generate_series(1, 20) AS g;
        GRANT USAGE ON SCHEMA "Odd 1" TO {role};
        GRANT SELECT, DELETE ON "Odd 1"."the ""log" TO {role};
        """.format(role=psycopg.conninfo.conninfo_to_dict(archiver)["user"])
    odd: dict[str, Any] = {"table": 'Odd 1.the "log', "date_column": "day", "frequency": "weekly"}
    chain = make_chain(ddl, key="2026-W18", **odd)  # 27 April to 3 May
    chain.apply()

    report = chain.run()

    assert (report.outcome, report.deleted_rows) == ("archived", 7)
    assert scalar(chain.owner, """SELECT count(*) FROM warm."Odd 1__the ""log_2026_04" """) == 4
    assert scalar(chain.owner, """SELECT sum(twice) FROM warm."Odd 1__the ""log" """) == 2 * sum(range(2, 9))
    assert scalar(chain.owner, """SELECT count(*) FROM "Odd 1"."the ""log_all" """) == 20
