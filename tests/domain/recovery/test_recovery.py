"""Recovery from a kit and a bucket: checked first, filled without what was destroyed, never against the log."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from strongroom.errors import IdentityError, IntegrityError
from strongroom.ledger.log import CHECKPOINT
from strongroom.ledger.owner import change_owner
from strongroom.ledger.reread import verify_archive
from strongroom.object_keys.layout import SOURCE_IDENTITY
from strongroom.recovery.check import require_kit, survey_store
from strongroom.recovery.fill import fill_store
from strongroom.recovery.kit import (
    Kit,
    KitStore,
    RecoveryError,
    describe_store,
    make_kit,
    read_kit,
    read_variables,
    write_kit,
)
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from tests.support.audited import copy_bucket
from tests.support.chain import Chain
from tests.support.database import execute
from tests.support.erasing import ADA, CALLS, Person, person_settings
from tests.support.erasing import LATER as COOLED_OFF
from tests.support.logs import AUTHOR, KEY, kinds_of
from tests.support.sealing import SOURCE
from tests.support.second_copy import DAY, NOW, TwoCopies, fill_two_copies
from tests.support.tools import verify_evidence
from tests.support.vault import LATER, RUN, TTL, YES, an_archive

APRIL, MAY, JUNE = map(an_archive, ("2026-04", "2026-05", "2026-06"))


@pytest.fixture(scope="module")
def vault(object_store, coming_buckets, tmp_path_factory) -> TwoCopies:
    """Three months and their copies; April was purged after the copy, and May is held."""
    first, second = (next(coming_buckets).result() for _ in range(2))
    vault = fill_two_copies(object_store, first, second, tmp_path_factory.mktemp("vault"))
    vault.hold("2026-05", now=NOW)
    vault.copy()
    vault.purge("2026-04")
    vault.copy("2026-05", now=NOW + DAY)
    return vault


@pytest.fixture(scope="module")
def kept(vault) -> KitStore:
    return describe_store(vault.store, [vault.settings])


def empty(vault: TwoCopies, bucket: str) -> Store:
    """The bucket that replaces the lost one."""
    settings = vault.settings.store.model_copy(update={"bucket": bucket})
    return Store(vault.archiver, settings, author=AUTHOR, connect_replica=lambda: vault.replica)


def a_kit(vault: TwoCopies, kept: KitStore) -> Kit:
    return make_kit([kept], [vault.settings], now=datetime.now(timezone.utc))


def test_a_kit_names_what_a_person_must_bring_and_holds_no_secret(vault, kept, tmp_path, object_store):
    written = write_kit(
        tmp_path / "kit", a_kit(vault, kept), settings_file=b"tables: {}\n", variables={"STRONGROOM__POOL": "a=b"}
    )

    kit = read_kit(tmp_path / "kit")

    assert {path.name for path in written} == {path.name for path in (tmp_path / "kit").iterdir()}
    assert kit.stores == (kept,)
    assert read_variables(tmp_path / "kit") == {"STRONGROOM__POOL": "a=b"}
    readme = (tmp_path / "kit" / "README.md").read_text()
    for needed in ("strongroom_store", "strongroom_log", "strongroom_replica", "strongroom_restore", str(KEY.verifier)):
        assert needed in readme
    text = b"".join(path.read_bytes() for path in written).decode()
    secrets = [KEY.secret, *(key for name in ("archiver", "purger") for key in object_store.keys(name)[1:])]
    assert not [secret for secret in secrets if secret in text]
    (tmp_path / "kit" / "archive.yaml").write_text("tables: {other: {}}\n")
    with pytest.raises(RecoveryError, match="is not the file of the kit"):
        read_kit(tmp_path / "kit")
    with pytest.raises(RecoveryError, match="is not a recovery kit"):
        read_kit(tmp_path)


def test_an_empty_bucket_is_filled_and_nothing_that_was_destroyed_comes_back(vault, kept, coming_buckets, tmp_path):
    """April's copy is put back into the replica, as a late or malicious one: it is not copied. The log goes on where it was."""
    store = empty(vault, next(coming_buckets).result())
    for key in (APRIL.part_key(0, "zstd"), APRIL.manifest_key):
        vault.replica_vandal.write(key, b"what was destroyed")

    filled = fill_store(store, vault.replica, kept, who="ada", now=NOW + 2 * DAY)
    state, _ = survey_store(store, kept)

    assert (filled.archives, [(one.archive_id, one.reason) for one in filled.not_copied]) == (
        (str(MAY), str(JUNE)),
        [(str(APRIL), "purged")],
    )
    assert list(store.versions(APRIL.archive_prefix)) == []
    assert store.head(APRIL.destruction_key) is not None
    assert [one.archive_id for one in state.restorable] == [str(MAY), str(JUNE)]
    assert (state.held, state.purged, state.whole) == ((str(MAY),), (str(APRIL),), True)
    assert [verify_archive(store, archive).result for archive in (MAY, JUNE)] == ["sound", "sound"]
    assert kinds_of(store)[-1] == "recovered"
    copy_bucket(vault.admin, store.settings.bucket, tmp_path / "filled")
    copy_bucket(vault.admin, vault.store.settings.bucket, tmp_path / "first")
    since = ("--since", tmp_path / "first" / CHECKPOINT)
    verdict = verify_evidence(tmp_path / "filled", "--key", str(KEY.verifier), *since)
    before = verify_evidence(tmp_path / "first", "--key", str(KEY.verifier), *since)
    assert sorted(verdict.false) == sorted(
        before.false
    )  # the test purges seven years too early, as the log's own dates say
    assert verdict.of("proved", "archives")
    with pytest.raises(RecoveryError, match="is not empty"):
        fill_store(store, vault.replica, kept, who="ada", now=NOW + 2 * DAY)

    purger = PurgeStore(vault.purger, store.settings)
    [decision] = [one for one in judge(store, now=LATER.replace(year=2034)) if one.archive_id == str(JUNE)]
    now = LATER.replace(year=2034)
    result = purge_archive(store, purger, decision, YES, run=RUN, now=now, claim_ttl=TTL, second=None)
    assert (result.result, list(store.versions(JUNE.archive_prefix))) == ("purged", [])

    assert change_owner(store, SOURCE.model_copy(update={"database": "new"}), who="ada")
    assert not change_owner(store, SOURCE.model_copy(update={"database": "new"}), who="ada")
    assert b'"new"' in store.read(SOURCE_IDENTITY)[0]
    assert survey_store(store, kept)[0].database == "new"


def test_a_fill_that_broke_off_is_continued(vault, kept, coming_buckets):
    """Nothing is overwritten: an object that is there must be the one that belongs there."""
    store = empty(vault, next(coming_buckets).result())
    broken = Breaking(vault, store, after=12)

    with pytest.raises(IntegrityError, match="the machine died"):
        fill_store(broken, vault.replica, kept, who="ada", now=NOW + 2 * DAY)
    assert store.head(CHECKPOINT) is None
    fill_store(store, vault.replica, kept, who="ada", now=NOW + 3 * DAY)

    assert survey_store(store, kept)[0].whole

    other = empty(vault, next(coming_buckets).result())
    other.put_bytes(SOURCE_IDENTITY, b"{}")
    with pytest.raises(IntegrityError, match="taken by other content"):
        fill_store(other, vault.replica, kept, who="ada", now=NOW + 2 * DAY)


class Breaking(Store):
    """A store whose writer dies after some writes."""

    def __init__(self, vault: TwoCopies, store: Store, *, after: int) -> None:
        super().__init__(vault.archiver, store.settings, author=AUTHOR)
        self.left = after

    def put_bytes(self, key, body, *, content_type="application/json"):
        self.left -= 1
        if self.left < 0:
            raise IntegrityError("the machine died", hint="Try again.")
        return super().put_bytes(key, body, content_type=content_type)


def test_a_bucket_that_is_not_that_of_the_kit_is_refused(vault, kept):
    """A log that was rolled back since the kit, another owner, other keys: each is named, and nothing is changed."""
    with vault.replica_vandal.undone():
        vault.replica_vandal.replace(
            CHECKPOINT,
            vault.admin.get_object(
                Bucket=vault.replica.settings.bucket,
                Key=CHECKPOINT,
                VersionId=vault.replica.history(CHECKPOINT)[0].version_id,
            )["Body"].read(),
        )
        with pytest.raises(IntegrityError, match="log is damaged"):
            require_kit(vault.replica, kept)
    with vault.replica_vandal.undone():
        vault.replica_vandal.replace(SOURCE_IDENTITY, SOURCE.model_copy(update={"database": "theirs"}).to_bytes())
        with pytest.raises(IdentityError, match="belongs to another database"):
            require_kit(vault.replica, kept.model_copy(update={"checkpoint": None}))
    with pytest.raises(RecoveryError, match="trust other keys"):
        require_kit(vault.store, kept.model_copy(update={"log_keys": ()}))


def test_an_archive_that_is_gone_is_named(vault, kept):
    with vault.replica_vandal.undone():
        vault.replica_vandal.replace(JUNE.manifest_key, b"{}")
        damaged, _ = survey_store(vault.replica, kept.model_copy(update={"checkpoint": None}), read_from="replica")
        vault.replica_vandal.remove(JUNE.manifest_key)
        lost, _ = survey_store(vault.replica, kept.model_copy(update={"checkpoint": None}), read_from="replica")
        vault.replica_vandal.write(JUNE.manifest_key, b"{}")

    assert str(JUNE) in [one.archive_id for one in damaged.damaged]
    assert not damaged.whole
    assert (lost.lost, lost.whole) == ((str(JUNE),), False)


def test_an_erased_person_does_not_come_back(source, object_store, coming_buckets, tmp_path):
    """The replica still has the archive that was superseded: it is not copied, and the list of erased persons is."""
    first, second, third = (next(coming_buckets).result() for _ in range(3))
    execute(source, CALLS)
    settings = person_settings(first, tmp_path / "staging", part_rows=300)
    chain = Chain(source, object_store.client("archiver"), settings)
    chain.run()
    replica = Store(chain.client, settings.store.model_copy(update={"bucket": second}))
    copies = TwoCopies.of(object_store, chain.store, replica, settings)
    [old] = copies.sealed()
    copies.copy_one(old)
    person = Person(chain, object_store.client("purger"))
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    new = next(archive for archive in copies.sealed() if archive != old)
    copies.copy_all()

    store = Store(chain.client, settings.store.model_copy(update={"bucket": third}), author=AUTHOR)
    kept = describe_store(chain.store, [settings])
    filled = fill_store(store, replica, kept, who="ada", now=COOLED_OFF)

    assert filled.archives == (str(new),)
    assert [(one.archive_id, one.reason) for one in filled.not_copied] == [(str(old), "superseded")]
    assert list(store.versions(old.archive_prefix)) == []
    assert list(store.keys("evidence/suppressed/")) == list(chain.store.keys("evidence/suppressed/")) != []
    assert not [one for one in verify_archive(store, new).objects if one.result != "sound"]
