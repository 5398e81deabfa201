"""The story of one partition, as the store has it on record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom.ledger.holds import release_hold
from strongroom.object_keys.layout import HOLDS
from strongroom.overview.facts import Left
from strongroom.overview.history import read_history, whereabouts
from strongroom.overview.reading import read_facts
from strongroom.statistics.proofs import verify_and_record
from tests.support.vault import LATER, SEALED, Vault, an_archive, fill_vault


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


def history_of(vault, month):
    return read_history(vault.store, "public", "audit", month, an_archive(month))


def test_verifications_of_this_partition_alone_come_latest_first(vault):
    """Each with its result and who had it read."""
    for hours, month in ((1, "2026-05"), (2, "2026-06"), (3, "2026-05")):
        verify_and_record(vault.store, an_archive(month), who="ada", now=SEALED + timedelta(hours=hours))

    readings = history_of(vault, "2026-05").readings

    assert [(one.at, one.result, one.who) for one in readings] == [
        (SEALED + timedelta(hours=3), "sound", "ada"),
        (SEALED + timedelta(hours=1), "sound", "ada"),
    ]


def test_holds_on_the_table_the_partition_and_its_archives_are_told_and_no_others(vault):
    """Released ones stay in the story."""
    on_table, on_month, other = vault.hold(), vault.hold("2026-05"), vault.hold("2026-06")
    release_hold(vault.store, on_month.hold_id, who="ada", reason="case closed", now=LATER)

    holds = {one.hold_id: one for one in history_of(vault, "2026-05").holds}

    assert set(holds) == {on_table.hold_id, on_month.hold_id}
    assert other.hold_id not in holds
    assert holds[on_month.hold_id].release_reason == "case closed"


def test_a_certificate_is_told_when_the_archive_is_gone(vault):
    """The partition's page keeps it."""
    vault.purge("2026-05")

    [certificate] = history_of(vault, "2026-05").certificates

    assert certificate.archive_id == str(an_archive("2026-05"))


def test_what_cannot_be_read_costs_its_own_part(vault):
    """A hold that is nonsense hides the holds, and says so; the rest is there."""
    verify_and_record(vault.store, an_archive("2026-05"), who="ada", now=SEALED)
    vault.vandal.write(f"{HOLDS}20261123T000000Z-00000000.json", b"nonsense")

    history = history_of(vault, "2026-05")

    assert history.holds == ()
    assert len(history.readings) == 1
    assert ["sound legal hold" in problem or "hold" in problem for problem in history.problems] == [True]


def test_whereabouts_add_up_to_the_archived_rows(vault):
    """Each archived row is in one of the sums, also while a delete has not ended."""
    archives = read_facts(vault.store, now=SEALED).archives
    first, second, third = archives
    left = Left(rows=2, deleted=1, changed=1)
    told = [first.model_copy(update={"left": left}), second.model_copy(update={"left": None}), third]

    went = whereabouts(told)

    assert went.archived == sum(one.record_count for one in told)
    assert sum(rows for _, rows in went.parts) == went.archived
    assert dict(went.parts)["changed"] == 1
