"""Archives under S3's Object Lock, in both modes, on a real server."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from strongroom.errors import StoreAccessError
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.object_lock import lock_archive, short_locks
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.archive_versions import versions_of
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.retention.sweep import sweep_store
from strongroom.settings import StoreSettings
from strongroom.storage.purge_store import PurgeStore
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.database import AUDIT, execute

MODES = ("governance", "compliance")
AFTER = datetime(2033, 6, 2, tzinfo=timezone.utc)
"""The term of the archives of May 2026 is over."""


@pytest.fixture(params=MODES)
def chain(request, source, object_store, bucket, tmp_path) -> Chain:
    execute(source, AUDIT)
    store = StoreSettings(bucket=bucket, object_lock=request.param)
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, store=store, part_rows=300))


def purger_of(chain: Chain, object_store: Any) -> PurgeStore:
    return PurgeStore(object_store.client("purger"), chain.settings.store)


def purge(chain: Chain, object_store: Any) -> PurgeResult:
    """Purge the chain's one archive as on the day after its term."""
    [decision] = judge(chain.store, now=AFTER)
    assert decision.purge
    approval = Approval(approved=True, by="ada", at=AFTER)
    return purge_archive(
        chain.store,
        purger_of(chain, object_store),
        decision,
        approval,
        run=RUN,
        now=AFTER,
        claim_ttl=timedelta(hours=1),
    )


def test_every_object_of_an_archive_is_locked_until_its_term_is_over_before_a_row_is_deleted(chain, object_store):
    sealed = chain.seal(chain.plan())
    archive = ArchiveId.parse(sealed.archive_id)
    manifest = require_manifest(chain.store, archive)
    versions = [*versions_of(chain.store, archive), *chain.store.versions(archive.seal_key)]

    locks = [chain.store.locked_until(one.key, one.version_id) for one in versions]

    assert len(versions) == len(manifest.parts) + 3, "parts, SHA256SUMS, manifest and its copy"
    assert locks == [(chain.settings.store.object_lock, manifest.retention_until)] * len(versions)
    assert list(short_locks(chain.store, [manifest], now=NOW)) == []
    for identity in ("archiver", "purger"):
        client = object_store.client(identity)
        for one in versions:
            place = {"Bucket": chain.settings.store.bucket, "Key": one.key, "VersionId": one.version_id}
            with pytest.raises(ClientError, match="AccessDenied"):
                client.delete_object(**place, BypassGovernanceRetention=True)
            with pytest.raises(ClientError, match="AccessDenied"):
                client.put_object_retention(
                    **place,
                    Retention={
                        "Mode": chain.settings.store.object_lock.upper(),
                        "RetainUntilDate": AFTER - timedelta(days=1000),
                    },
                    BypassGovernanceRetention=True,
                )


def test_a_purge_of_a_locked_archive_is_a_result_and_leaves_it_whole(chain, object_store):
    """By our clock the term is over, by the store's it is not."""
    report = chain.run()
    before = versions_of(chain.store, ArchiveId.parse(report.archive_id))

    result = purge(chain, object_store)

    assert result.result == "locked"
    assert f"an Object Lock in {chain.settings.store.object_lock.upper()} mode until 2033-06-01" in result.detail
    assert versions_of(chain.store, ArchiveId.parse(report.archive_id)) == before


def test_a_lock_grows_and_never_shrinks(chain):
    report = chain.run()
    [key, *_] = [key for key in chain.store.keys("archives/") if "part-00000" in key]
    version = chain.store.head(key).version_id
    mode = chain.settings.store.object_lock
    until = require_manifest(chain.store, ArchiveId.parse(report.archive_id)).retention_until
    other = next(one for one in MODES if one != mode)

    assert not chain.store.lock(key, version, mode=mode, until=until - timedelta(days=1))
    assert chain.store.locked_until(key, version) == (mode, until)
    assert chain.store.lock(key, version, mode=other, until=until + timedelta(days=1))
    assert chain.store.locked_until(key, version) == (mode, until + timedelta(days=1))


def test_a_lock_that_is_over_hinders_nobody(chain, object_store):
    """The same archive, locked for some seconds only."""
    mode = chain.settings.store.object_lock
    chain.settings = chain.settings.model_copy(
        update={"store": chain.settings.store.model_copy(update={"object_lock": "off"})}
    )
    report = chain.run()
    for one in versions_of(chain.store, ArchiveId.parse(report.archive_id)):
        until = datetime.now(timezone.utc) + timedelta(seconds=6)
        chain.store.lock(one.key, one.version_id, mode=mode, until=until)

    assert purge(chain, object_store).result == "locked"
    time.sleep(max(0, (until - datetime.now(timezone.utc)).total_seconds()) + 1.5)
    assert purge(chain, object_store).result == "purged"


def test_parts_that_never_became_an_archive_are_not_locked_and_can_be_swept(chain, object_store):
    plan = chain.plan()
    chain.verified(plan, plan.parts[0])
    later = datetime.now(timezone.utc) + timedelta(days=30)

    [swept] = [
        one
        for one in sweep_store(
            chain.store,
            purger_of(chain, object_store),
            run=RUN,
            now=later,
            grace=timedelta(days=7),
            claim_ttl=timedelta(hours=1),
        )
        if one.kind == "unsealed"
    ]

    assert swept.result == "removed"


def test_archives_from_before_are_found_and_locked_later(source, object_store, bucket, tmp_path):
    """What `airflow strongroom bucket lock` does when the setting is switched on."""
    execute(source, AUDIT)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    manifest = require_manifest(chain.store, ArchiveId.parse(chain.run().archive_id))

    short = list(short_locks(chain.store, [manifest], now=NOW))
    first = lock_archive(chain.store, manifest, mode="governance", now=NOW)
    second = lock_archive(chain.store, manifest, mode="governance", now=NOW)
    expired = lock_archive(chain.store, manifest, mode="governance", now=AFTER)

    assert {(one.locked_until, one.retention_until) for one in short} == {(None, manifest.retention_until)}
    objects = len(manifest.parts) + 3
    assert (len(short), first, second, expired) == (objects, objects, 0, 0)
    assert list(short_locks(chain.store, [manifest], now=NOW)) == []


def test_a_copy_of_a_manifest_from_before_copies_were_locked_is_found_and_locked(chain):
    """Of an archive whose other objects were locked by an earlier version."""
    archive = ArchiveId.parse(chain.run().archive_id)
    manifest, mode = require_manifest(chain.store, archive), chain.settings.store.object_lock
    [sealed] = chain.store.versions(archive.seal_key)
    older = manifest.model_copy(update={"retention_until": manifest.retention_until + timedelta(days=1)})
    for one in versions_of(chain.store, archive):
        chain.store.lock(one.key, one.version_id, mode=mode, until=older.retention_until)

    [short] = short_locks(chain.store, [older], now=NOW)
    locked = lock_archive(chain.store, older, mode=mode, now=NOW)

    assert (short.key, locked) == (archive.seal_key, 1)
    assert chain.store.locked_until(sealed.key, sealed.version_id) == (mode, older.retention_until)


def test_a_bucket_without_object_lock_is_refused_before_anything_is_written(source, object_store, tmp_path):
    execute(source, AUDIT)
    admin = object_store.client("admin")
    admin.create_bucket(Bucket="without-a-lock")
    admin.put_bucket_versioning(Bucket="without-a-lock", VersioningConfiguration={"Status": "Enabled"})
    store = StoreSettings(bucket="without-a-lock", object_lock="compliance")
    chain = Chain(source, object_store.client("archiver"), some_settings("without-a-lock", tmp_path, store=store))

    with pytest.raises(StoreAccessError, match="the bucket without-a-lock has no Object Lock"):
        chain.run()

    assert list(chain.store.keys("")) == []
