"""Stores in which rarer things were done, by the code that does them: nothing of it is false to an auditor."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.ledger.adopt import adopt, missing_from_log
from strongroom.ledger.holds import place_hold, release_hold
from strongroom.ledger.journal import begin_log, log_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.condemn import condemn_archive
from strongroom.retention.purge import PurgeResult
from strongroom.retention.report import enter_refusals
from strongroom.retention.sweep import sweep_store
from strongroom.statistics.proofs import verify_and_record
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from tests.support.audited import Copy, copy_bucket, those
from tests.support.chain import Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.database import execute
from tests.support.logs import AUTHOR, KEY, kinds_of, with_log
from tests.support.partitions import HELD, ROWS, TABLE
from tests.support.restoring import restore
from tests.support.sealing import RUN, seal_month, upload_parts
from tests.support.tools import Verdict, verify_evidence
from tests.support.warm import a_warm_chain, an_archiver
from tests.support.warm import purge as purge_warm

NOW = datetime.now(timezone.utc)
MAY, JUNE = (ArchiveId("public", "audit", month, 1) for month in ("2026-05", "2026-06"))


@pytest.fixture
def audit(object_store, bucket, tmp_path) -> Any:
    """Audits the bucket, with an older checkpoint and the listing of versions."""

    def run() -> Verdict:
        versions = copy_bucket(object_store.client("admin"), bucket, tmp_path / "copy")
        head = tmp_path / "copy" / "log" / "checkpoint"
        return verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier), "--versions", versions, "--since", head)

    return run


def test_what_was_swept_and_given_up(object_store, bucket, tmp_path, audit):
    """Parts that were never sealed, a record of a restore whose date is past, an archive that lost a part."""
    settings = with_log(some_settings(bucket, tmp_path))
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    for month in ("2026-05", "2026-06"):
        seal_month(store, settings, month)
    upload_parts(store, settings, "2026-07")
    Vandal(object_store.client("admin"), store, bucket).remove(MAY.part_key(0, "zstd"))
    verify_and_record(store, MAY, who="ada", now=NOW)
    condemn_archive(store, MAY, why="the disk died", who="ada", now=NOW, claim_ttl=timedelta(hours=1))
    purger = PurgeStore(object_store.client("purger"), settings.store)
    later, days = NOW + timedelta(days=9), timedelta(days=7)
    swept = sweep_store(store, purger, run=RUN, now=later, grace=days, claim_ttl=timedelta(hours=1))
    assert "unsealed" in {one.kind for one in swept if one.result == "removed"}

    verdict = audit()

    assert verdict.false == []
    assert len(verdict.unproved) == 1
    assert "which was given up by entry" in verdict.unproved[0]
    assert "1 archive with 30 rows" in str(verdict.of("proved", "archives"))


def test_what_was_restored_and_ran_out(source, object_store, bucket, tmp_path, audit):
    """The sweep removes the record, and its entry says so before."""
    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    execute(source, "INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 5) AS n")
    chain = Chain(source, object_store.client("archiver"), with_log(some_settings(bucket, tmp_path)))
    chain.run()
    restore(chain)
    purger = PurgeStore(object_store.client("purger"), chain.settings.store)
    later = chain.now + timedelta(days=4000)
    swept = sweep_store(chain.store, purger, run=RUN, now=later, grace=timedelta(days=7), claim_ttl=timedelta(hours=1))
    assert "restore_record" in {one.kind for one in swept if one.result == "removed"}

    verdict = audit()

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])


def test_partitions_that_were_detached_and_dropped(source, object_store, bucket, tmp_path, audit):
    execute(source, f"CREATE SCHEMA {HELD}")
    execute(source, TABLE + ROWS)
    settings = with_log(some_settings(bucket, tmp_path, partition_delete={"enabled": True}))
    chain = Chain(source, object_store.client("archiver"), settings)
    assert chain.run().outcome == "archived"
    assert [one.result for one in chain.drop_detached(now=chain.now + timedelta(days=2))] == ["dropped"]
    assert {"detach intended", "detached", "drop intended", "dropped"} <= set(kinds_of(chain.store))

    verdict = audit()

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])


def test_a_warm_month_that_was_dropped(source, object_store, bucket, tmp_path, audit):
    with an_archiver(source) as archiver:
        chain = a_warm_chain(source, archiver, object_store.client("archiver"), bucket, tmp_path)
        chain = replace_settings(chain, with_log(chain.settings))
        chain.apply()
        chain.run()
        assert "dropped" in {one.result for one in purge_warm(chain).values()}
        assert {"drop intended", "dropped"} <= set(kinds_of(chain.store))

        verdict = audit()

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])


def replace_settings(chain: Any, settings: Any) -> Any:
    """The same chain in a store with a log."""
    owner = chain.owner
    other = replace(chain, settings=settings)
    other.owner = owner
    return other


def test_a_store_that_is_older_than_its_log(object_store, bucket, tmp_path, audit):
    """What was adopted names no settings, so nothing but its manifest says how long it had to be kept."""
    old = some_settings(bucket, tmp_path)
    unlogged = Store(object_store.client("archiver"), old.store)
    for month in ("2026-05", "2026-06"):
        seal_month(unlogged, old, month)
    verify_and_record(unlogged, MAY, who="ada", now=NOW)
    for what in (MAY, JUNE):
        place_hold(unlogged, str(what), why="w", who="ada", reference="r", now=NOW, hold_id=hold_id(what))
    release_hold(unlogged, hold_id(MAY), who="ada", reason="closed", now=NOW)
    settings = with_log(old)
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    begin_log(store)
    before = audit()
    adopt(store, missing_from_log(store), who="ada", why="the log is new", now=NOW)
    assert log_of(store) is not None

    after = audit()

    assert before.code == 1
    assert "was planted: no entry says that it was sealed" in str(before.false)
    assert after.false == []
    assert {text.partition(": ")[0] for text in after.unproved} == {str(MAY), str(JUNE), text_of_release(after)}
    assert sum("names no settings" in text for text in after.unproved) == 2


def hold_id(archive: ArchiveId) -> str:
    return f"20260101T000000Z-0000000{archive.partition_key[-1]}"


def text_of_release(verdict: Verdict) -> str:
    """A release that was entered late, of a hold whose placing was not."""
    [text] = [text for text in verdict.unproved if "and not that it was placed" in text]
    return text.partition(": ")[0]


def test_settings_that_changed_and_what_was_refused(object_store, bucket, tmp_path, audit):
    """The change is between the settings of the two archives. Whoever has the log's key cannot hide what differed."""
    settings = with_log(some_settings(bucket, tmp_path))
    later = settings.model_copy(update={"legal_basis": "another one"})
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    seal_month(store, settings, "2026-05")
    seal_month(store, later, "2026-06")
    refused = PurgeResult(archive_id=str(MAY), result="refused", detail="nobody approved it")
    enter_refusals(store, "public.audit", [refused])

    verdict = audit()

    assert kinds_of(store)[-2:] == ["archived", "refused"]
    assert kinds_of(store).count("configuration changed") == 1
    assert verdict.false == []
    assert verdict.of("proved", "settings") == ["1 entry of settings in force, each after the one before it"]

    copy = Copy.of(tmp_path / "copy", tmp_path / "forged")
    [key] = copy.names("evidence/public.audit/settings/changes/")
    copy.edit(key, changed=["organisation"])
    digest = hashlib.sha256(copy.read(key)).hexdigest()
    copy.rewrite(lambda acts: those(acts, "configuration changed")[0]["subject"][0]["digest"].update(sha256=digest))

    forged = verify_evidence(copy.folder, "--key", str(KEY.verifier))

    assert "names other settings than those that differ" in str(forged.of("false", "settings"))


def test_an_archive_under_settings_that_nobody_announced_is_named(object_store, bucket, tmp_path, audit):
    """A third archive, under the first settings, after the change: its own change was left out with the log's key."""
    settings = with_log(some_settings(bucket, tmp_path))
    later = settings.model_copy(update={"legal_basis": "another one"})
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    for month, given in (("2026-05", settings), ("2026-06", later), ("2026-07", settings)):
        seal_month(store, given, month)
    assert audit().of("proved", "settings") == ["2 entries of settings in force, each after the one before it"]

    copy = Copy.of(tmp_path / "copy", tmp_path / "forged")
    copy.rewrite(lambda acts: acts.remove(those(acts, "configuration changed")[1]))
    verdict = verify_evidence(copy.folder, "--key", str(KEY.verifier))

    assert "was under settings that no entry made those in force" in str(verdict.of("not proved", "settings"))
    assert "has no entry" in str(verdict.of("not proved", "records"))
