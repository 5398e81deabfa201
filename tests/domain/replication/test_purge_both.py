"""A purge destroys both copies, the second one first, and is certified only when both are gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.errors import StoreError
from strongroom.ledger.copies import place_of
from strongroom.ledger.holds import holds_in_force, release_hold
from strongroom.retention.second_copy import SecondCopy
from strongroom.retention.sweep import sweep_store
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import failed
from strongroom.storage.versions import StoredVersion
from tests.support.logs import kinds_of
from tests.support.second_copy import TwoCopies, fill_two_copies
from tests.support.vault import LATER, NEXT_RUN, RUN, TTL, an_archive

MAY = an_archive("2026-05")


@pytest.fixture
def vault(object_store, coming_buckets, tmp_path) -> TwoCopies:
    first, second = (next(coming_buckets).result() for _ in range(2))
    vault = fill_two_copies(object_store, first, second, tmp_path)
    vault.copy("2026-05")
    return vault


class Failing(PurgeStore):
    """The purger's view of a replica that goes away after some removals."""

    def __init__(self, vault: TwoCopies, after: int) -> None:
        super().__init__(vault.purger, vault.replica.settings)
        self.left = after

    def versions(self, prefix):
        if self.left < 0:
            raise failed("list", prefix, "no answer")
        return super().versions(prefix)

    def remove(self, version: StoredVersion) -> None:
        if self.left == 0:
            raise failed("remove", version.key, "no answer")
        self.left -= 1
        super().remove(version)


def test_both_copies_go_and_the_certificate_names_the_second(vault):
    result = vault.purge("2026-05")

    assert (result.result, vault.left_of("2026-05"), vault.copies_of("2026-05")) == ("purged", [], [])
    [copy] = vault.certificate("2026-05").replicas
    assert (copy.place, copy.state, copy.versions) == (str(vault.replica), "destroyed", 5)
    assert vault.replica.head(MAY.purge_intent_key) is not None
    assert kinds_of(vault.store)[-2:] == ["purge intended", "purged"]
    assert vault.copies_of("2026-04") == []  # never copied, and no reason to fail


def test_a_purge_waits_for_a_replica_that_does_not_answer_and_finishes_one_that_broke_off(vault):
    """Nothing is removed before the replica answers. If it goes away later, no certificate is written until both are empty."""
    decision = vault.decisions()["2026-05"]
    before = vault.left_of("2026-05")
    unreachable = SecondCopy(vault.replica, Failing(vault, -1), filled_by_us=True)
    with pytest.raises(StoreError):
        vault.carry_out(decision, second=unreachable)
    assert (vault.left_of("2026-05"), vault.store.head(MAY.purge_intent_key)) == (before, None)

    breaking = SecondCopy(vault.replica, Failing(vault, 2), filled_by_us=True)
    with pytest.raises(StoreError):
        vault.carry_out(decision, second=breaking)
    assert (vault.left_of("2026-05"), len(vault.copies_of("2026-05"))) == (before, 3)
    assert vault.certificates() == []
    assert vault.copy_one(MAY, now=LATER + TTL * 2).result == "leaving"
    vault.hold("2026-05", now=LATER)
    assert vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL * 2).result == "held"
    assert len(vault.copies_of("2026-05")) == 3

    [hold] = holds_in_force(vault.store)
    release_hold(vault.store, hold.hold_id, who="ada", reason="over", now=LATER)
    assert vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL * 2).result == "purged"
    assert (vault.left_of("2026-05"), vault.copies_of("2026-05")) == ([], [])
    assert vault.certificate("2026-05").replicas[0].versions == 5


def test_a_lock_on_the_copy_keeps_both(vault):
    before = vault.left_of("2026-05"), vault.copies_of("2026-05")
    version = vault.replica.head(MAY.sums_key).version_id
    vault.admin.put_object_legal_hold(
        Bucket=vault.replica.settings.bucket, Key=MAY.sums_key, VersionId=version, LegalHold={"Status": "ON"}
    )

    result = vault.purge("2026-05")

    assert (result.result, (vault.left_of("2026-05"), vault.copies_of("2026-05"))) == ("locked", before)
    assert "in the replica" in result.detail


def test_a_place_that_the_settings_forgot_is_named_as_not_examined(vault):
    result = vault.purge("2026-05", second=None)

    assert result.result == "purged"
    [copy] = vault.certificate("2026-05").replicas
    assert (copy.place, copy.state) == (place_of(vault.replica.settings), "not_examined")
    assert vault.copies_of("2026-05")


def test_the_sweep_removes_a_copy_that_came_too_late_and_what_it_removes_in_the_store(vault):
    """Only what the log says was purged; a planted certificate does not count. A hold keeps it."""
    vault.purge("2026-05", second=None)
    vault.vandal.write(an_archive("2026-06").destruction_key, b"{}")
    vault.copy_one(an_archive("2026-04"))

    def sweep(now):
        return sweep_store(
            vault.store,
            vault.purge_store,
            run=RUN,
            now=now,
            grace=timedelta(days=7),
            claim_ttl=TTL,
            second=vault.second,
        )

    hold = vault.hold("2026-05", now=LATER)
    assert [one.result for one in sweep(LATER) if one.kind == "copy"] == ["held"]
    assert vault.copies_of("2026-05")

    release_hold(vault.store, hold.hold_id, who="ada", reason="over", now=LATER)
    swept = [one for one in sweep(LATER) if one.kind == "copy"]

    assert [(one.name.split()[0], one.result) for one in swept] == [(str(MAY), "removed")]
    assert vault.copies_of("2026-05") == []
    assert len(vault.copies_of("2026-04")) == 5
