"""Legal holds in a real store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

from strongroom.errors import HeldError, IntegrityError, StoreAccessError
from strongroom.ledger.holds import (
    EVERYTHING,
    HoldError,
    HoldWatch,
    holds_in_force,
    make_hold_id,
    place_hold,
    read_holds,
    release_hold,
)
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import hold_key
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from tests.support.damaging import Vandal

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
REASONS = {"why": "fraud case", "who": "ada", "reference": "EFCC/2026/17", "now": NOW}


@pytest.fixture
def store(object_store, bucket) -> Store:
    return Store(object_store.client("archiver"), StoreSettings(bucket=bucket, prefix="team"))


def test_a_hold_is_in_force_until_it_is_released_and_stays_on_record(store):
    first = place_hold(store, "public.audit", **REASONS)
    second = place_hold(store, "public.audit.2026-05", **REASONS | {"now": NOW + timedelta(seconds=1)})

    released = release_hold(store, first.hold_id, who="bob", reason="closed", now=NOW + timedelta(days=1))

    assert holds_in_force(store) == [second]
    assert read_holds(store) == [released, second]
    assert (released.released_by, released.release_reason) == ("bob", "closed")
    assert released.model_copy(update=dict.fromkeys(("released_at", "released_by", "release_reason"))) == first


def test_a_second_release_changes_nothing(store):
    hold = place_hold(store, "public.audit", **REASONS)
    released = release_hold(store, hold.hold_id, who="bob", reason="closed", now=NOW)

    assert release_hold(store, hold.hold_id, who="eve", reason="again", now=NOW + timedelta(days=1)) == released


@pytest.mark.parametrize("missing", ["why", "who", "reference"])
def test_a_hold_says_why_who_and_by_what_reference(store, missing):
    with pytest.raises(HoldError, match=f"does not say {missing}"):
        place_hold(store, "public.audit", **REASONS | {missing: " "})

    assert read_holds(store) == []


@pytest.mark.parametrize("hold_id", ["20261123T120000Z-00000000", "../metadata/source", ""])
def test_only_a_hold_that_exists_can_be_released(store, hold_id):
    with pytest.raises(HoldError, match="there is no hold"):
        release_hold(store, hold_id, who="bob", reason="closed", now=NOW)


def test_a_hold_under_another_name_is_not_sound(store):
    """A copy of a released hold must not stand in for one in force."""
    hold = place_hold(store, "public.audit", **REASONS)
    other = hold_key("20261123T120000Z-11111111")
    store.put_bytes(other, store.read(hold_key(hold.hold_id))[0])

    with pytest.raises(IntegrityError, match=f"{other} is not a sound legal hold"):
        holds_in_force(store)


def test_a_delete_marker_over_a_hold_does_not_lift_it(store, object_store, bucket):
    """Nor does it hide it from a delete that looks for holds on everything; an administrator's marker, as nobody else can."""
    holds = [place_hold(store, what, **REASONS) for what in ("public.audit", EVERYTHING)]
    vandal = Vandal(object_store.client("admin"), store, bucket)
    for hold in holds:
        vandal.hide(f"team/{hold_key(hold.hold_id)}")

    assert sorted(holds_in_force(store), key=str) == sorted(holds, key=str)
    with pytest.raises(HeldError):
        HoldWatch(store).look()
    with pytest.raises(HoldError, match="is hidden behind a delete marker") as caught:
        release_hold(store, holds[0].hold_id, who="eve", reason="gone", now=NOW)
    assert caught.value.hint.startswith("The hold stays in force.")


def test_a_watch_sees_what_became_of_the_holds_that_it_has_read(store, object_store, bucket):
    watch = HoldWatch(store)
    kept, gone = (place_hold(store, what, **REASONS) for what in ("public.audit", "public.calls"))
    assert sorted(hold.what for hold in watch.in_force()) == ["public.audit", "public.calls"]

    release_hold(store, gone.hold_id, who="bob", reason="closed", now=NOW)
    assert watch.in_force() == [kept]

    narrower = kept.model_copy(update={"what": "public.audit.2020-01"})
    object_store.client("archiver").put_object(
        Bucket=bucket, Key=f"team/{hold_key(kept.hold_id)}", Body=narrower.model_dump_json().encode()
    )
    with pytest.raises(IntegrityError, match="is not a sound legal hold"):
        watch.in_force()


def test_a_released_hold_behind_a_delete_marker_stays_released(store, object_store, bucket):
    hold = place_hold(store, "public.audit", **REASONS)
    released = release_hold(store, hold.hold_id, who="bob", reason="closed", now=NOW)
    Vandal(object_store.client("admin"), store, bucket).hide(f"team/{hold_key(hold.hold_id)}")

    assert read_holds(store) == [released]


def test_another_hold_written_over_a_hold_does_not_narrow_it(store, object_store, bucket):
    """Whoever holds the archiver's keys may write there; then nothing at all is removed."""
    hold = place_hold(store, "public.audit", **REASONS)
    narrower = hold.model_copy(update={"what": "public.audit.2020-01"})
    object_store.client("archiver").put_object(
        Bucket=bucket, Key=f"team/{hold_key(hold.hold_id)}", Body=narrower.model_dump_json().encode()
    )

    with pytest.raises(IntegrityError, match="is not a sound legal hold") as caught:
        holds_in_force(store)

    assert caught.value.hint.startswith("Nothing was removed, and nothing in this store will be")


@pytest.mark.parametrize("identity", ["archiver", "purger"])
def test_neither_archiver_nor_purger_can_hide_a_hold_or_a_manifest(store, object_store, bucket, identity):
    hold = place_hold(store, "public.audit", **REASONS)
    manifest = ArchiveId("public", "audit", "2026-05", 1).manifest_key
    store.put_bytes(manifest, b"{}")
    client = object_store.client(identity)

    for key in (hold_key(hold.hold_id), manifest):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key=f"team/{key}")


def test_the_purger_can_place_and_release_nothing(object_store, store, bucket):
    purger = Store(object_store.client("purger"), StoreSettings(bucket=bucket, prefix="team"))
    hold = place_hold(store, "public.audit", **REASONS)

    with pytest.raises(StoreAccessError):
        place_hold(purger, "public.audit", **REASONS)
    with pytest.raises(StoreAccessError):
        release_hold(purger, hold.hold_id, who="eve", reason="because", now=NOW)

    assert holds_in_force(purger) == [hold]


def test_a_hold_of_a_run_is_placed_once_however_often_the_run_is_repeated(store):
    """Its id is made from the run, so a retry finds it; the first instant stays."""
    hold_id = make_hold_id(NOW, "legal_hold manual__1")
    first = place_hold(store, "public.audit", **REASONS, hold_id=hold_id)
    again = place_hold(store, "public.audit", **REASONS | {"now": NOW + timedelta(hours=1)}, hold_id=hold_id)

    assert again == first
    assert read_holds(store) == [first]
    assert hold_id == make_hold_id(NOW, "legal_hold manual__1") != make_hold_id(NOW, "legal_hold manual__2")
    assert make_hold_id(NOW) != make_hold_id(NOW)


def test_a_hold_that_was_released_is_not_placed_again_by_the_run_that_placed_it(store):
    """Who clears an old run must not lay a hold on what somebody let go since."""
    hold_id = make_hold_id(NOW, "legal_hold manual__1")
    place_hold(store, "public.audit", **REASONS, hold_id=hold_id)
    released = release_hold(store, hold_id, who="bob", reason="closed", now=NOW)

    assert place_hold(store, "public.audit", **REASONS, hold_id=hold_id) == released
    assert holds_in_force(store) == []


@pytest.mark.parametrize("other", [{"what": "public.calls"}, {"why": "another"}, {"who": "eve"}, {"reference": "18"}])
def test_an_id_belongs_to_one_hold(store, other):
    hold_id = make_hold_id(NOW, "legal_hold manual__1")
    asked = {"what": "public.audit", **REASONS, "hold_id": hold_id}
    first = place_hold(store, **asked)

    with pytest.raises(HoldError, match=f"the id {hold_id} is that of another hold"):
        place_hold(store, **asked | other)
    assert read_holds(store) == [first]


def test_the_instant_in_an_id_is_utc():
    assert make_hold_id(datetime(2026, 11, 23, 13, tzinfo=timezone(timedelta(hours=1)))).startswith("20261123T120000Z-")
