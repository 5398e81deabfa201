"""An erasure that breaks off anywhere loses no row of anybody else, and the next try finishes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from strongroom.errors import ContendedError, ErasedError, IntegrityError, RestoreError
from strongroom.ledger.claims import release_claim, take_claim
from strongroom.ledger.holds import place_hold
from strongroom.ledger.manifests import is_destroyed, require_manifest
from strongroom.ledger.suppressed import persons_of, suppress
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.restore.erased import require_nobody_restored
from strongroom.restore.plan import locate_archives
from strongroom.restore.records import RestoreRequest
from tests.support.chain import NOW
from tests.support.database import execute
from tests.support.erasing import ADA, BOB, Person, archived
from tests.support.logs import SUBJECT_KEY

FIRST, SECOND = (ArchiveId("public", "audit", "2026-05", sequence) for sequence in (1, 2))
REQUEST = RestoreRequest(table="public.audit", who="ada", why="a test")

MOMENTS = (
    ("/intent-", "before"),
    ("/suppressed/", "after"),
    ("0002/part-00000.jsonl", "after"),
    ("0002/locator-00000.zst", "before"),
    ("0002/SHA256SUMS", "after"),
    ("0002/sealed.json", "before"),
    ("0002/sealed.tlog-proof", "before"),
    ("0002/succession.tlog-proof", "before"),
    ("/erased-live", "before"),
)
TELLING = (
    ("0002/sealed.json", "after"),
    ("metadata/public.audit/2026-05/public.audit.2026-05.0002.json", "before"),
    ("0002/succession.json", "before"),
)


class Died(BaseException):
    """As if the process were killed here."""


@contextmanager
def dying(client: Any, place: str, when: str) -> Iterator[None]:
    """The process dies at the first write of a key that has some text in it, before or after the write."""
    at = {"place": False}

    def look(params: dict[str, Any], **_: Any) -> None:
        at["place"] = place in params["Key"]
        if at["place"] and when == "before":
            raise Died

    def after(**_: Any) -> None:
        if at["place"]:
            raise Died

    events = client.meta.events
    events.register("before-parameter-build.s3.PutObject", look)
    events.register("after-call.s3.PutObject", after)
    try:
        yield
    finally:
        events.unregister("before-parameter-build.s3.PutObject", look)
        events.unregister("after-call.s3.PutObject", after)


def break_off(person: Person, place: str, when: str) -> None:
    """Erase Ada, die on the way, look whether all others are there, and erase her again."""
    execute(person.chain.conninfo, f"INSERT INTO audit (at, caller) VALUES ('2026-11-01', '{ADA}')")
    others = [row for row in archived(person, FIRST) if ADA.encode() not in row]
    person.open(ADA)
    person.find()
    person.answer()

    with pytest.raises(Died), dying(person.chain.client, place, when):
        person.erase()

    [usable] = locate_archives(person.chain.store, REQUEST)
    assert {*archived(person, ArchiveId.parse(usable.archive_id))} >= {*others}
    person.erase()
    person.remove()
    closing = person.close()
    [last] = locate_archives(person.chain.store, REQUEST)
    assert archived(person, ArchiveId.parse(last.archive_id)) == others
    assert (closing.outcome, is_destroyed(person.chain.store, FIRST)) == ("erased", True)
    with psycopg.connect(person.chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (0,)


@pytest.mark.parametrize(("place", "when"), TELLING)
def test_an_erasure_that_died_is_finished_by_the_next_try(make, place, when):
    break_off(make(), place, when)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("place", "when"), MOMENTS)
def test_an_erasure_that_died_anywhere_is_finished_by_the_next_try(make, place, when):
    break_off(make(), place, when)


def test_a_planted_successor_is_found_out_by_comparing_its_rows(make):
    """Whoever has the archiver's keys writes a manifest that supersedes the archive and drops a row of somebody else."""
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    with pytest.raises(Died), dying(person.chain.client, "0002/sealed.tlog-proof", "before"):
        person.erase()
    store, part = person.chain.store, require_manifest(person.chain.store, FIRST).verified_part(0)
    copy = store.read(SECOND.seal_key)[0]
    person.chain.client.put_object(
        Bucket=person.chain.settings.store.bucket,
        Key=SECOND.seal_key,
        Body=copy.replace(b'"removed_rows": 14', b'"removed_rows": 15'),
    )

    with pytest.raises(IntegrityError, match="does not say what was found in its parts"):
        person.erase()

    assert require_manifest(store, FIRST).verified_part(0) == part


def test_a_run_that_still_deletes_the_archived_rows_comes_first(source, object_store, bucket, tmp_path):
    from tests.support.chain import Chain
    from tests.support.erasing import CALLS, person_settings

    execute(source, CALLS)
    chain = Chain(source, object_store.client("archiver"), person_settings(bucket, tmp_path / "staging"))
    chain.seal(chain.plan())
    person = Person(chain, object_store.client("purger"))
    person.open(ADA)
    person.find()
    person.answer()

    with pytest.raises(ContendedError, match="cannot be erased yet"):
        person.erase()
    with psycopg.connect(source) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (700,)


def test_a_run_that_holds_a_claim_is_waited_for(make):
    """It may have verified its parts before the person was on the list, and not have sealed them."""
    person = make()
    execute(person.chain.conninfo, f"INSERT INTO audit (at, caller) VALUES ('2026-11-01', '{ADA}')")
    person.open(ADA)
    person.find()
    person.answer()
    claim, other = claim_key("public", "audit", "2026-06"), "archive__audit 2026-06"
    take_claim(person.chain.store, claim, owner=other, now=NOW, ttl=timedelta(hours=1))

    with pytest.raises(ContendedError, match=f"held by {other}"):
        person.erase()
    with psycopg.connect(person.chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)
    release_claim(person.chain.store, claim, owner=other, now=NOW)
    erased, superseded = person.erase()

    assert (len(erased), len(superseded)) == (1, 1)


def test_what_was_verified_before_a_person_was_erased_is_not_sealed_after_it(make):
    person = make()
    chain = person.chain
    execute(chain.conninfo, f"INSERT INTO audit (at, caller) VALUES ('2026-05-20', '{ADA}'), ('2026-05-20', '{BOB}')")
    plan = chain.plan()
    parts = [chain.verified(plan, part) for part in plan.parts]
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()

    with pytest.raises(ErasedError, match="1 of case DSR-1"):
        chain.seal_parts(plan, parts)

    assert chain.store.head(ArchiveId.parse(str(plan.archive_id)).manifest_key) is None


def test_a_hold_that_is_placed_after_the_yes_stops_it(make):
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    place_hold(person.chain.store, "public.audit.2026-05", why="a trial", who="judge", reference="1/26", now=NOW)

    erased = person.erase()
    found = person.find(at=NOW.replace(hour=13))

    assert erased == ([], [])
    assert [(place.fate, "a trial" in place.why) for place in found.places] == [("refuse", True)]


def test_a_restore_loads_no_row_of_a_person_who_was_erased(make, object_store):
    """From an archive that was copied back from elsewhere, which still has such rows."""
    person = make()
    store, settings = person.chain.store, person.chain.settings
    manifests = [require_manifest(store, FIRST)]
    require_nobody_restored(store, manifests, persons_of(store, SUBJECT_KEY, settings), None)
    token = SUBJECT_KEY.token("msisdn", ADA)
    suppress(store, SUBJECT_KEY, settings, [token], case_id="DSR-1", before=NOW)

    with pytest.raises(ErasedError, match="14 of case DSR-1"):
        require_nobody_restored(store, manifests, persons_of(store, SUBJECT_KEY, settings), None)
    part = manifests[0].verified_part(0)
    again = person.chain.client.put_object  # as in a bucket that was filled again: the same bytes, another version
    bucket = settings.store.bucket
    body = b"".join(store.chunks(part.object_key, part.version_id))
    object_store.client("admin").delete_object(Bucket=bucket, Key=part.object_key, VersionId=part.version_id)
    again(Bucket=bucket, Key=part.object_key, Body=body)
    with pytest.raises(ErasedError, match="14 of case DSR-1"):
        require_nobody_restored(store, manifests, persons_of(store, SUBJECT_KEY, settings), None)
    with pytest.raises(RestoreError, match="nobody can tell which rows are theirs"):
        require_nobody_restored(store, manifests, None, None)


def test_an_archive_stays_while_its_successor_is_not_whole(make, object_store):
    """The cooling-off lasts for days. Meanwhile an administrator loses a part of the successor."""
    person = make()
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    part = require_manifest(person.chain.store, SECOND).verified_part(0)
    object_store.client("admin").delete_object(
        Bucket=person.chain.settings.store.bucket, Key=part.object_key, VersionId=part.version_id
    )

    with pytest.raises(IntegrityError, match="may be the only copy"):
        person.remove()

    assert len(archived(person, FIRST)) == 700


def test_two_cases_about_one_archive_follow_each_other(make):
    person = make()
    before = archived(person, FIRST)
    person.open(ADA)
    person.run()
    second = Person(person.chain, person.purge_client, case_id="DSR-2", now=NOW.replace(hour=14))
    second.open(BOB)

    closing = second.run()

    [last] = locate_archives(person.chain.store, REQUEST)
    left = archived(person, ArchiveId.parse(last.archive_id))
    assert left == [row for row in before if ADA.encode() not in row and BOB.encode() not in row]
    assert (last.rank, last.archive_id[-4:], closing.outcome) == (1, "0003", "erased")
