"""The archives of a unit are destroyed together, and none goes while another one must stay."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.errors import IntegrityError, RestoreError
from strongroom.ledger.manifests import require_manifest
from strongroom.records import RunIdentity
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import decide, judge
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.storage.purge_store import PurgeStore
from tests.support.chain import NOW
from tests.support.restoring import plan, restore
from tests.support.units import TABLES, DiedError, UnitChain, archive_named, die_at_put, rows_of_may, unit_settings

AFTER_THE_TERM = datetime(2036, 1, 1, tzinfo=timezone.utc)
RUN = RunIdentity(dag_id="retention_purge", run_id="scheduled__2036-01-01")
TTL = timedelta(hours=1)
IDS = {f"public.{table}.2026-05.0001" for table in TABLES}


@pytest.fixture
def purge(unit, object_store):
    """Destroys what may be destroyed; the result of each archive."""
    purge_store = PurgeStore(object_store.client("purger"), unit.root.settings.store)

    def all_that_may_go(now=AFTER_THE_TERM, only=TABLES) -> dict[str, PurgeResult]:
        approval = Approval(approved=True, by="ada", at=now)
        return {
            one.archive.table_name: purge_archive(
                unit.store, purge_store, one, approval, run=RUN, now=now, claim_ttl=TTL
            )
            for one in judge(unit.store, now=now)
            if one.archive.table_name in only
        }

    return all_that_may_go


def results(purged: dict[str, PurgeResult]) -> dict[str, str]:
    return {table: one.result for table, one in purged.items()}


def reasons(unit: UnitChain, now: datetime) -> dict[str, str]:
    return {one.archive_id: one.reason for one in judge(unit.store, now=now)}


def test_a_unit_is_destroyed_with_a_certificate_for_each_table(unit, purge):
    unit.run()
    assert reasons(unit, NOW + timedelta(days=1)) == dict.fromkeys(IDS, "kept")
    assert reasons(unit, AFTER_THE_TERM) == dict.fromkeys(IDS, "expired")

    destroyed = purge()

    assert results(destroyed) == dict.fromkeys(TABLES, "purged")
    assert {one.certificate_key for one in destroyed.values()} == {archive_named(t).destruction_key for t in TABLES}
    assert list(unit.store.keys("archives/")) == list(unit.store.keys("metadata/public.orders/")) == []
    assert judge(unit.store, now=AFTER_THE_TERM) == []


def test_a_restore_of_one_table_keeps_the_archives_of_all(unit, purge):
    """Only the root is restored, by its id. Its lines must not be destroyed meanwhile, or no whole order ever comes back."""
    unit.run()
    restore(unit.root, archives=["public.orders.2026-05.0001"], now=AFTER_THE_TERM)

    tried = purge(AFTER_THE_TERM + timedelta(hours=2))

    assert results(tried) == dict.fromkeys(TABLES, "contended")
    assert "restore restore-1" in tried["line_notes"].detail


def test_a_restore_that_died_between_two_records_keeps_the_archives_of_all(unit, purge, monkeypatch):
    unit.run()
    die_at_put(monkeypatch, unit, 2, lambda key: key.startswith("restores/"))

    with pytest.raises(DiedError):
        plan(unit.root, now=AFTER_THE_TERM)

    assert results(purge(AFTER_THE_TERM + timedelta(hours=2))) == dict.fromkeys(TABLES, "contended")


def test_a_lock_on_one_archive_keeps_the_others(unit, purge, object_store, bucket):
    """A lawyer put a legal hold on one object, with the means of S3."""
    [of_alerts] = [part for part in unit.seal(unit.plan()) if part.archive.table_name == "order_alerts"]
    held = {"Bucket": bucket, "Key": of_alerts.object_key, "VersionId": of_alerts.version_id}
    object_store.client("admin").put_object_legal_hold(**held, LegalHold={"Status": "ON"})
    before = [*unit.store.keys("archives/")]

    tried = purge()

    object_store.client("admin").put_object_legal_hold(**held, LegalHold={"Status": "OFF"})
    assert results(tried) == dict.fromkeys(TABLES, "locked")
    assert "public.order_alerts.2026-05.0001 was sealed together with it" in tried["orders"].detail
    assert [*unit.store.keys("archives/")] == before
    assert results(purge()) == dict.fromkeys(TABLES, "purged")


def test_an_archive_stays_until_the_last_term_of_its_unit(unit):
    """No run seals such a unit; this is for a manifest from elsewhere."""
    unit.run()
    manifests = [require_manifest(unit.store, archive_named(table)) for table in TABLES]
    later = AFTER_THE_TERM + timedelta(days=1)
    manifests[0] = manifests[0].model_copy(update={"retention_until": later})

    decisions = decide(manifests, [], AFTER_THE_TERM)
    [alone] = decide(manifests[1:2], [], AFTER_THE_TERM, beside=manifests[:1])

    assert {one.reason for one in decisions} == {"kept"}
    assert {one.retention_until for one in decisions} == {later}
    assert "public.orders.2026-05.0001, which was sealed together with it, runs until 2036-01-02" in alone.detail
    assert {one.reason for one in decide(manifests, [], later)} == {"expired"}


def test_a_unit_whose_archives_would_expire_at_different_times_is_not_sealed(unit, bucket, tmp_path, monkeypatch):
    """The run was killed between two manifests, and the term was changed before the next try."""
    unit_plan = unit.plan()
    parts = unit.verified(unit_plan)
    with monkeypatch.context() as patched:
        die_at_put(patched, unit, 3, lambda key: key.endswith("/sealed.json"))
        with pytest.raises(DiedError):
            unit.seal_parts(unit_plan, parts)
    before = rows_of_may(unit.conninfo)
    longer = UnitChain(unit.conninfo, unit.client, unit_settings(bucket, tmp_path, cold_retention="P10Y"))

    with pytest.raises(IntegrityError, match="would expire at different times"):
        longer.seal_parts(unit_plan, parts)

    longer.run()
    assert not any(rows_of_may(unit.conninfo).values())
    assert sum(map(len, before.values())) == restore(longer.root).inserted


def test_a_unit_of_which_some_is_destroyed_is_not_restored_in_half(unit, purge):
    """The rest comes back where somebody names it."""
    unit.run()
    purge(only=["order_lines", "line_notes"])

    with pytest.raises(RestoreError, match=r"public\.line_notes\.2026-05\.0001 was destroyed") as refused:
        restore(unit.root, now=AFTER_THE_TERM)
    nothing = sum(map(len, rows_of_may(unit.conninfo).values()))
    alone = restore(unit.root, "restore-2", archives=["public.orders.2026-05.0001"], now=AFTER_THE_TERM)

    assert "Name the archives that are left" in str(refused.value)
    assert (nothing, alone.inserted) == (0, 100)


@pytest.mark.parametrize("gone", [["orders"], ["order_lines", "line_notes"]])
def test_a_purge_that_broke_off_in_between_is_finished_by_the_next(unit, purge, gone):
    unit.run()
    assert results(purge(only=gone)) == dict.fromkeys(gone, "purged")

    rest = purge()

    assert {*gone, *results(rest)} == {*TABLES}
    assert {*results(rest).values()} == {"purged"}
