"""An archive of which a part is gone is given up by somebody, with evidence, and its partition goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from strongroom.errors import ContendedError, IntegrityError
from strongroom.ledger.claims import take_claim
from strongroom.ledger.holds import place_hold, release_hold
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import claim_key
from strongroom.retention.condemn import Condemnation, CondemnError, condemn_archive, read_condemnation
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings
from tests.support.damaging import ROWS, Vandal
from tests.support.database import execute, scalar

ARCHIVE = ArchiveId("public", "audit", "2026-05", 1)
TTL = timedelta(hours=1)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """An archive of three parts; the rows of the first are deleted, of the others still in the table."""
    execute(source, ROWS)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=10))
    chain.delete(chain.seal(chain.plan()).parts[0])
    return chain


@pytest.fixture
def vandal(chain, object_store, bucket) -> Vandal:
    return Vandal(object_store.client("admin"), chain.store, bucket)


def condemn(chain: Chain, **changes: Any) -> Condemnation:
    given: dict[str, Any] = {"why": "the disk died", "who": "ada", "now": NOW, "claim_ttl": TTL} | changes
    return condemn_archive(chain.store, ARCHIVE, **given)


def test_a_partition_goes_on_behind_an_archive_that_was_condemned(chain, vandal):
    """Until then it is stuck. The rows that are still in the table go into the next archive, and none twice."""
    vandal.remove(ARCHIVE.part_key(1, "zstd"))
    assert chain.plan().outcome == "resumed"

    condemned = condemn(chain)
    report = chain.run()

    assert (condemned.verdict.result, condemned.lost_rows) == ("missing", 0)
    assert (report.archive_id, report.deleted_rows) == ("public.audit.2026-05.0002", 20)
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 0
    restored = restoring.restore(chain)
    assert (restored.outcome, restored.inserted, restored.results) == (
        "incomplete",
        30,
        {"missing": 1, "restored": 3, "unchanged": 1},
    )


def test_rows_that_had_been_deleted_by_a_part_that_is_gone_are_counted(chain, vandal):
    vandal.rot(ARCHIVE, 0, b"dust")

    condemned = condemn(chain)

    assert (condemned.verdict.result, condemned.lost_rows) == ("corrupted", 10)
    assert read_condemnation(chain.store, ARCHIVE) == condemned


def test_a_repeat_finds_the_record_that_is_there(chain, vandal):
    vandal.remove(ARCHIVE.part_key(1, "zstd"))
    first = condemn(chain)

    assert condemn(chain, why="again", who="bob", now=NOW + timedelta(days=1)) == first


def test_an_archive_whose_parts_are_sound_is_not_condemned(chain, vandal):
    """Nor one that only lost its SHA256SUMS, nor one whose parts somebody hid: all of that can be put right."""
    for happens in (
        lambda: None,
        lambda: vandal.remove(ARCHIVE.sums_key),
        lambda: vandal.hide(ARCHIVE.part_key(0, "zstd")),
    ):
        happens()
        with pytest.raises(CondemnError, match="each part of it is there and sound") as caught:
            condemn(chain)
        assert caught.value.hint.startswith("Nothing was changed.")
    assert chain.store.read(ARCHIVE.condemnation_key) is None


def test_an_archive_without_a_sound_manifest_is_not_condemned(chain, vandal):
    """Its copy can be put back, and then it can be said what is missing."""
    vandal.write(ARCHIVE.manifest_key, b"{}")

    with pytest.raises(IntegrityError, match="is not a sound manifest"):
        condemn(chain)


def test_an_archive_under_a_hold_is_not_condemned_until_the_hold_is_released(chain, vandal):
    vandal.remove(ARCHIVE.part_key(1, "zstd"))
    hold = place_hold(chain.store, "public.audit", why="a case", who="eve", reference="7", now=NOW)

    with pytest.raises(CondemnError, match="is under hold"):
        condemn(chain)
    release_hold(chain.store, hold.hold_id, who="eve", reason="closed", now=NOW)

    assert condemn(chain).verdict.result == "missing"


def test_an_archive_that_a_run_works_on_is_not_condemned(chain, vandal):
    vandal.remove(ARCHIVE.part_key(1, "zstd"))
    key = claim_key("public", "audit", "2026-05")
    take_claim(chain.store, key, owner="a run", now=NOW, ttl=TTL)

    with pytest.raises(ContendedError, match="held by a run"):
        condemn(chain)


@pytest.mark.parametrize("empty", [{"why": " "}, {"who": ""}])
def test_who_and_why_must_be_said(chain, empty):
    with pytest.raises(CondemnError, match="does not say who or why"):
        condemn(chain, **empty)


def test_nothing_is_deleted_by_an_archive_that_was_condemned(chain, vandal):
    """By a task of an earlier run, that somebody clears."""
    part = require_manifest(chain.store, ARCHIVE).verified_part(2)
    vandal.remove(ARCHIVE.part_key(1, "zstd"))
    condemn(chain)

    with pytest.raises(IntegrityError, match="was condemned") as caught:
        chain.delete(part)

    assert caught.value.hint.startswith("No row was deleted.")
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 20
