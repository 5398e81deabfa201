"""A person's rows leave tables and archives, everything else stays, and both are proved."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from strongroom.calendar import Term
from strongroom.database.session import open_source
from strongroom.erasure.find import find_person
from strongroom.erasure.rows import Wanted
from strongroom.erasure.successions import successions_of
from strongroom.erasure.tables import Target, count_rows, erase_rows
from strongroom.errors import ErasedError, ErasureError, IntegrityError, RestoreError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import case_key, subject_key
from strongroom.restore.plan import locate_archives
from strongroom.restore.records import RestoreRequest
from strongroom.retention.certificate import read_certificate
from tests.support.chain import NOW
from tests.support.database import execute
from tests.support.erasing import ADA, BOB, CALLS, COLUMNS, LATER, Person, archived, person_settings, without
from tests.support.logs import SUBJECT_KEY, kinds_of
from tests.support.statements import Watched
from tests.support.warm import a_warm_chain, an_archiver, purge

FIRST, SECOND = (ArchiveId("public", "audit", "2026-05", sequence) for sequence in (1, 2))
FORMATS = ("jsonl", "parquet")


@pytest.mark.parametrize("format", FORMATS)
def test_a_persons_rows_leave_the_archive_and_all_others_stay_as_they_are(make, format):
    person = make(format=format, part_rows=400)
    before = archived(person, FIRST)
    person.open(ADA)

    closing = person.run()

    after = archived(person, SECOND)
    assert after == [row for row in before if ADA.encode() not in row]
    assert (len(before), len(after)) == (700, 700 - closing.erased_rows)
    assert (closing.outcome, closing.refusals, closing.recipients) == ("erased", (), ("The billing partner",))
    manifest = require_manifest(person.chain.store, SECOND)
    assert (manifest.format_version, manifest.rank, manifest.supersedes.removed_rows) == (4, 1, closing.erased_rows)
    assert closing.erased_rows == len(person.before) - len(without(person.before, ADA)) > 0


def test_the_archive_that_was_superseded_goes_with_a_certificate_that_says_why(make):
    person = make()
    person.open(ADA)
    person.run()

    certificate = read_certificate(person.chain.store, FIRST)

    assert (certificate.erasure.case_id, certificate.erasure.superseded_by) == (person.case_id, str(SECOND))
    assert (certificate.approved_by, certificate.requested_by) == ("boss", "dpo")
    assert certificate.destroyed_at < certificate.retention_until
    assert not list(person.chain.store.keys(FIRST.archive_prefix))
    kinds = [kind for kind in kinds_of(person.chain.store) if kind not in ("deleted", "delete intended")]
    assert kinds == [
        "log begun",
        "archived",
        "case opened",
        "case found",
        "case answered",
        "erasure intended",
        "archived",
        "superseded",
        "purge intended",
        "purged",
        "case closed",
    ]


def test_rows_in_the_table_and_in_restored_copies_go_too(make, source):
    person = make()
    execute(
        source,
        f"INSERT INTO audit (at, caller, callee) VALUES ('2026-11-01', '{ADA}', NULL), ('2026-11-01', '{BOB}', '{BOB}')",
    )
    person.open(ADA)
    found = person.find()
    person.answer()

    erased, _ = person.erase()

    assert [(place.kind, place.rows) for place in found.places] == [("live", 1), ("archive", 14)]
    assert [(one.name, one.removed_rows) for one in erased] == [("public.audit", 1)]
    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT caller FROM audit").fetchall() == [(BOB,)]


def test_nothing_is_erased_before_a_second_person_says_yes(make):
    person = make()
    person.open(ADA)
    person.find()

    with pytest.raises(ErasureError, match="was not approved"):
        person.erase()
    for by in ("clerk", "dpo"):  # who recorded the case, who started the run
        person.answer(by=by)
        with pytest.raises(ErasureError, match="another person must approve"):
            person.erase()
        person.now += timedelta(seconds=1)
    person.answer(approved=False)
    with pytest.raises(ErasureError, match="no, by boss"):
        person.erase()

    assert "erasure intended" not in kinds_of(person.chain.store)


def test_a_law_refuses_and_the_person_learns_of_their_rights(make):
    person = make(subjects={"obligation": True})
    person.open(ADA)
    found = person.find()
    person.answer()

    erased = person.erase()
    closing = person.close()

    assert erased == ([], [])
    assert [place.fate for place in found.places] == ["refuse"]
    assert (closing.outcome, closing.erased_rows) == ("refused", 0)
    assert "a law obliges to keep them until 2033" in closing.refusals[0].why
    assert "complaint" in closing.rights
    assert person.chain.store.head(subject_key(person.case_id)) is None


def test_what_is_superseded_stays_through_its_cooling_off(make):
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()

    [early] = person.remove(now=NOW + timedelta(days=6))
    with pytest.raises(ErasureError, match="cannot end"):
        person.close(now=NOW + timedelta(days=6))
    [late] = person.remove(now=LATER)

    assert (early.result, late.result) == ("kept", "purged")


def test_a_cooling_off_that_is_shortened_meanwhile_stays_as_long_as_it_was(make):
    """It was fixed with the proof. Only a record of an earlier version, which does not tell it, goes by the settings."""
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    [succession] = successions_of(person.chain.store, person.case_id)
    shorter = person.chain.settings.model_copy(
        update={"erasure": person.chain.settings.erasure.model_copy(update={"cooling_off": Term.parse("P1D")})}
    )
    person.chain.settings = shorter

    [early] = person.remove(now=NOW + timedelta(days=6))

    assert early.result == "kept"
    assert succession.cooled_off_at(shorter) == succession.proved_at + timedelta(days=7)
    older = succession.model_copy(update={"remove_after": None})
    assert older.cooled_off_at(shorter) == succession.proved_at + timedelta(days=1)
    assert b"remove_after" not in older.to_bytes()


def test_a_successor_lets_no_row_leave_the_table(make):
    """A forged record of a delete names it. Its rows left the table long ago, and what is there now was never in it."""
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    manifest = require_manifest(person.chain.store, SECOND)

    with pytest.raises(IntegrityError, match=r"no row is deleted because of public\.audit\.2026-05\.0002"):
        person.chain.delete(manifest.verified_part(0))


def test_nobody_restores_what_is_superseded(make):
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    store = person.chain.store

    [manifest] = locate_archives(store, RestoreRequest(table="public.audit", who="ada", why="a test"))
    with pytest.raises(RestoreError, match="is superseded"):
        locate_archives(store, RestoreRequest(archives=(str(FIRST),), who="ada", why="a test"))

    assert manifest.archive_id == str(SECOND)


def test_a_row_that_comes_back_is_not_archived_and_the_case_erases_it_again(make, source):
    """From a backup, say. Nobody knows any more who the person is; the tokens of the list tell."""
    person = make()
    person.open(ADA)
    person.run()
    execute(source, f"INSERT INTO audit (at, caller) VALUES ('2026-05-03', '{ADA}'), ('2026-05-03', '{BOB}')")
    person.chain.now = NOW + timedelta(days=9)

    with pytest.raises(ErasedError) as refused:
        person.chain.run()
    person.now = NOW + timedelta(days=9)
    person.find()
    person.answer()
    erased, _ = person.erase()
    person.chain.run()

    assert "1 of case DSR-1" in str(refused.value.found)
    assert [one.removed_rows for one in erased] == [1]
    [row] = archived(person, ArchiveId("public", "audit", "2026-05", 4))
    assert BOB.encode() in row


def test_a_number_that_was_given_out_again_is_archived(make, source):
    person = make()
    person.open(ADA)
    person.run()
    execute(source, f"INSERT INTO audit (at, caller) VALUES ('2027-01-03', '{ADA}')")
    person.chain.now, person.chain.key = NOW + timedelta(days=300), "2027-01"

    assert person.chain.run().deleted_rows == 1


@pytest.mark.parametrize("format", FORMATS)
def test_rows_about_two_persons_are_blanked(make, format, source):
    person = make(format=format, subjects={"about_two": "blank", "also_blank": ["name"]})
    before = archived(person, FIRST)
    execute(source, f"INSERT INTO audit (at, caller, callee, name) VALUES ('2026-11-01', '{BOB}', '{ADA}', 'Ada')")
    person.open(ADA)
    person.run()

    after = archived(person, SECOND)

    theirs = [row.split(b"\t") for row in before if ADA.encode() in row]
    assert len(after) == 700
    assert ADA.encode() not in b"".join(after)
    assert Counter(after) - Counter(before) == Counter(
        b"\t".join([one[0], one[1], b"erased", one[3], b"\\N", one[5]]) for one in theirs
    )
    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT caller, callee, name FROM audit").fetchall() == [(BOB, None, None)]


def test_rows_about_two_persons_are_kept_where_the_settings_say_so(make):
    person = make(subjects={"about_two": "keep"})
    person.open(ADA)

    closing = person.run()

    assert (closing.outcome, closing.erased_rows) == ("nothing found", 0)
    assert [one.rows for one in closing.refusals] == [14]


def test_locators_spare_reading_parts_and_a_damaged_one_is_no_answer(make):
    person = make(part_rows=400)
    person.open("+4900000")
    manifest = require_manifest(person.chain.store, FIRST)
    place = FIRST.locator_key(0)

    with person.chain.source() as connection:
        _, searched = find_person(connection, person.chain.store, person.chain.settings, person.wanted, folder=None)
        person.chain.client.put_object(Bucket=person.chain.settings.store.bucket, Key=place, Body=b"planted")
        _, again = find_person(connection, person.chain.store, person.chain.settings, person.wanted, folder=None)

    assert all(part.locator_sha256 for part in manifest.parts)
    assert (searched["parts"], searched["searched_parts"], again["searched_parts"]) == (2, 0, 1)


def test_a_case_that_the_log_does_not_know_is_refused(make, object_store):
    """Whoever has the archiver's keys writes a case of their own."""
    person = make()
    person.open(ADA)
    store, key = person.chain.store, case_key(person.case_id, "received")
    forged = store.read(key)[0].replace(b"DSR-1", b"DSR-2")
    store.put_bytes(case_key("DSR-2", "received"), forged)
    person.case_id = "DSR-2"

    with pytest.raises(IntegrityError, match="does not vouch for case DSR-2"):
        person.find()


def test_no_record_names_the_person(make):
    person = make()
    person.open(ADA)
    person.run()
    store = person.chain.store

    named = [key for key in store.keys("") if ADA.encode() in (store.read(key) or (b"",))[0]]

    assert named == []
    assert not [version for version in store.versions(subject_key(person.case_id)) if not version.is_marker]


def test_no_statement_holds_a_value_of_the_person(source, bucket, tmp_path):
    """Other sessions see statements in pg_stat_activity, and the server may log them."""
    execute(source, CALLS)
    value = """+234 it's \\ {"odd"}, NULL %s"""
    with psycopg.connect(source) as connection:
        connection.execute("INSERT INTO audit (at, caller) VALUES ('2026-11-01', %s)", [value])
    settings = person_settings(bucket, tmp_path, subjects={"about_two": "blank"})
    target, wanted = Target("live", "public", "audit"), Wanted.of(SUBJECT_KEY, {"msisdn": frozenset({value})})
    watched = Watched()

    with open_source(source, application_name="erasing") as connection:
        watched(connection)
        found = count_rows(connection, target, settings, wanted)
        erased = erase_rows(connection, target, settings, wanted)

    assert (found, erased) == ((1, 0), (1, 0))
    assert not [text for text in watched.statements if "+234" in text]
    assert any(text.startswith("UPDATE") for text in watched.statements)


def test_a_warm_partition_still_equals_its_archive_after_rows_were_blanked(source, object_store, bucket, tmp_path):
    """A warm table takes NULL where the live one does not, and an archive has no column of its own."""
    subjects = {"columns": COLUMNS, "obligation": False, "about_two": "blank", "also_blank": ["name"]}
    with an_archiver(source) as archiver:
        client = object_store.client("archiver")
        chain = a_warm_chain(source, archiver, client, bucket, tmp_path / "staging", CALLS, subjects=subjects)
        chain.apply()
        chain.run()
        person = Person(chain, object_store.client("purger"))
        person.open(ADA)
        chain.conninfo = source  # the eraser's rights
        closing = person.run()
        chain.conninfo = archiver

        dropped = purge(chain)

    assert (closing.outcome, closing.erased_rows) == (
        "erased",
        28,
    )  # 14 in the warm table, and the same 14 in the archive
    assert dropped["2026-05"].result == "dropped", dropped["2026-05"].detail
