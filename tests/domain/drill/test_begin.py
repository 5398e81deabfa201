"""The choice of a run is recorded, and its seed comes from the log, before anything is restored."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest

from strongroom.drill.begin import begin_drills, cut_lanes
from strongroom.drill.choose import choose
from strongroom.drill.records import Candidate, Choice, DrillLane, DrillRun
from strongroom.errors import IdentityError, IntegrityError
from strongroom.ledger.journal import log_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import DrillSettings
from strongroom.storage.store import Store
from tests.support.chain import NOW, some_settings
from tests.support.logs import AUTHOR, entries_of, with_log
from tests.support.sealing import seal_month

MONTHS = ("2026-03", "2026-04", "2026-05")


@pytest.fixture
def settings(bucket, tmp_path):
    return with_log(some_settings(bucket, tmp_path))


@pytest.fixture
def store(object_store, settings) -> Store:
    """Three months, in a store with a log."""
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    for month in MONTHS:
        seal_month(store, settings, month, parts=1)
    return store


def begin(store: Store, **settings) -> tuple[str, DrillRun]:
    given = {"public.audit": DrillSettings(**settings)}
    return begin_drills(store, given, run_id="manual__1", who="ada", now=NOW)


def test_the_seed_is_the_root_of_the_log_and_the_record_is_entered(store):
    head = log_of(store).head()

    key, run = begin(store)

    assert base64.b64decode(run.seed) == head.checkpoint.root
    assert run.checkpoint == head.note.to_bytes().decode()
    assert run.checkpoint.split("\n")[2] == run.seed, "an auditor finds it in the third line of the checkpoint"
    assert key == "reports/drills/runs/manual__1/20261123T120000.000000Z.json"
    kept, _ = store.read(key)
    assert DrillRun.model_validate_json(kept) == run
    last = entries_of(store)[-1]
    assert last.act.kind == "drills chosen"
    assert last.vouches_for(key, hashlib.sha256(kept).hexdigest())
    assert last.act.facts == {"candidates": 3, "choices": len(run.choices), "skips": 0, "seed": run.seed}


def test_the_record_alone_gives_the_choice_again(store):
    _, run = begin(store, random=2)

    again, _ = choose(run.candidates, base64.b64decode(run.seed), {"public.audit": DrillSettings(random=2)})

    assert tuple(again) == run.choices
    assert sum("random" in one.reasons for one in run.choices) == 2
    assert [one.archive_id for one in run.candidates] == [f"public.audit.{month}.0001" for month in MONTHS]
    assert {one.server_version for one in run.candidates} == {"18"}


def test_a_store_without_a_log_draws_a_seed_and_records_it(object_store, bucket, tmp_path):
    settings = some_settings(bucket, tmp_path)
    store = Store(object_store.client("archiver"), settings.store)
    seal_month(store, settings, "2026-05", parts=1)

    (_, first), (_, second) = (
        begin_drills(store, {}, run_id="manual__1", who="ada", now=NOW + timedelta(seconds=second))
        for second in range(2)
    )

    assert first.seed != second.seed
    assert len(base64.b64decode(first.seed)) == 32
    assert first.checkpoint is None


def test_a_store_whose_log_is_gone_begins_no_drill(store, object_store):
    admin = object_store.client("admin")
    for version in list(store.versions("log/checkpoint")):
        admin.delete_object(Bucket=store.settings.bucket, Key=version.key, VersionId=version.version_id)

    with pytest.raises(IdentityError, match="has no transparency log"):
        begin(store)


def test_a_damaged_manifest_is_chosen_so_that_its_drill_fails_and_a_condemned_archive_is_named(store, object_store):
    admin = object_store.client("admin")
    may, april = (ArchiveId("public", "audit", month, 1) for month in ("2026-05", "2026-04"))
    admin.put_object(Bucket=store.settings.bucket, Key=may.manifest_key, Body=b"{}")
    admin.put_object(Bucket=store.settings.bucket, Key=april.condemnation_key, Body=b"{}")

    _, run = begin(store)

    assert run.choices[-1] == Choice(archive_id=str(may), reasons=("its manifest is not sound",))
    assert [(one.archive_id, one.reason) for one in run.skips] == [(str(april), "it was condemned")]
    assert [one.archive_id for one in run.candidates] == ["public.audit.2026-03.0001"]


def test_an_unclaimed_store_begins_no_drill(object_store, bucket):
    store = Store(object_store.client("archiver"), some_settings(bucket, "/nowhere").store)

    with pytest.raises((IdentityError, IntegrityError)):
        begin(store)


@pytest.mark.parametrize(("choices", "lanes", "most"), [(3, 3, 1), (1000, 1000, 1), (1001, 501, 2), (0, 0, 0)])
def test_more_than_a_thousand_archives_share_tasks(choices, lanes, most):
    run = DrillRun(
        run_id="manual__1",
        seed="",
        checkpoint=None,
        candidates=tuple[Candidate, ...](),
        choices=tuple(Choice(archive_id=f"public.a.2026-05.{n:04}", reasons=()) for n in range(choices)),
        skips=(),
        who="ada",
        chosen_at=NOW,
    )

    cut = cut_lanes([("a", "key", run)])

    assert len(cut) == lanes
    assert max((len(lane.choices) for lane in cut), default=0) == most
    assert [one for lane in cut for one in lane.choices] == [*run.choices]
    assert all(isinstance(lane, DrillLane) and lane.chosen_in == "key" for lane in cut)
