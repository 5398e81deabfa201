"""A second copy in another bucket: filled, compared byte for byte, never overwritten, and never believed without reading it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.ledger.claims import take_claim
from strongroom.ledger.copies import require_apart
from strongroom.ledger.holds import holds_in_force, release_hold
from strongroom.ledger.log import CHECKPOINT
from strongroom.ledger.manifests import require_manifest, require_readable
from strongroom.ledger.reread import verify_archive
from strongroom.replication.due import due_in
from strongroom.replication.records import require_same, sum_up
from strongroom.replication.rest import replicate_rest
from strongroom.restore.download import download_either
from strongroom.storage.staging_folder import FolderRoot
from strongroom.storage.store import Store
from tests.support.audited import copy_bucket
from tests.support.damaging import flipped
from tests.support.logs import KEY, entries_of
from tests.support.second_copy import DAY, NOW, TwoCopies, fill_two_copies
from tests.support.tools import verify_evidence
from tests.support.vault import MONTHS, an_archive

MAY = an_archive("2026-05")
PART = MAY.part_key(1, "zstd")


@pytest.fixture
def vault(object_store, coming_buckets, tmp_path) -> TwoCopies:
    first, second = (next(coming_buckets).result() for _ in range(2))
    return fill_two_copies(object_store, first, second, tmp_path)


@pytest.fixture(scope="module")
def copied(object_store, coming_buckets, tmp_path_factory) -> TwoCopies:
    """Three months and their copies. A test undoes what it does to the replica, and has a month of its own in the store."""
    first, second = (next(coming_buckets).result() for _ in range(2))
    vault = fill_two_copies(object_store, first, second, tmp_path_factory.mktemp("copied"))
    vault.copy()
    return vault


def test_all_that_recovery_needs_is_copied_and_compared(vault, tmp_path):
    """Archives, evidence, holds, the owner and the log lie in the replica with the same bytes; the log knows it."""
    vault.hold("2026-06", now=NOW)

    archives, rest = vault.copy()

    assert ([one.result for one in archives], rest.result, rest.wrong) == (["same"] * 3, "same", ())
    assert not any(key.startswith("claims/") for key in vault.replica.keys(""))
    for key in vault.store.keys(""):
        if not key.startswith(("claims/", "index/", "reports/replicas/")) and key != CHECKPOINT:
            assert vault.replica.read(key)[0] == vault.store.read(key)[0], key
    assert [each.sha256 for each in require_manifest(vault.replica, MAY).parts] == [
        one.sha256 for one in archives[1].objects[:3]
    ]
    told = [entry for entry in entries_of(vault.replica) if entry.act.kind == "replicated"]
    assert [(one.act.archive_id, one.act.facts["result"]) for one in told] == [
        *((str(an_archive(month)), "same") for month in MONTHS),
        (None, "same"),
    ]
    for store, name in ((vault.store, "first"), (vault.replica, "second")):
        copy_bucket(vault.admin, store.settings.bucket, tmp_path / name)
    verdict = verify_evidence(tmp_path / "first", "--key", str(KEY.verifier), "--replica", tmp_path / "second")
    assert verdict.of("proved", "replica"), verdict.findings
    assert verdict.false == []
    assert verify_evidence(tmp_path / "second", "--key", str(KEY.verifier)).false == []


def test_a_second_run_copies_nothing_and_compares_only_what_is_new_or_old(vault):
    vault.copy()
    sealed = list(map(an_archive, MONTHS))

    archives, rest = vault.copy("2026-05", now=NOW + 3 * DAY)

    assert (archives[0].copied, rest.result, rest.whole) == (0, "same", False)
    assert rest.compared < rest.objects or rest.copied < 10
    assert due_in(vault.store, sealed, now=NOW + 80 * DAY, compare_days=90) == []
    assert due_in(vault.store, sealed, now=NOW + 91 * DAY, compare_days=90) == [sealed[0], sealed[2]]


@pytest.mark.parametrize(
    ("damage", "result"),
    [
        (lambda vandal: vandal.replace(PART, flipped(vandal.read(PART), 99)), "differs"),
        (lambda vandal: vandal.replace(PART, vandal.read(PART)[:-1]), "differs"),
        (lambda vandal: vandal.hide(PART), "hidden"),
        (lambda vandal: vandal.write(PART, b"something else"), "hidden"),
        (lambda vandal: vandal.replace(MAY.manifest_key, b"{}"), "differs"),
    ],
    ids=["flipped", "truncated", "hidden by a marker", "covered", "another manifest"],
)
def test_a_copy_that_differs_is_named_and_not_touched(copied, damage, result):
    """Neither the store's word nor an earlier comparison counts: the copy is read back."""
    with copied.replica_vandal.undone():
        damage(copied.replica_vandal)
        before = list(copied.replica.versions(""))

        one = copied.copy_one(MAY, now=datetime.now(timezone.utc))

        assert (one.result, one.copied, one.is_wrong) == (result, 0, True)
        assert list(copied.replica.versions("")) == before
    with pytest.raises(IntegrityError, match="not the same"):
        require_same(sum_up(1, [one], [], who="ada", now=NOW))


def test_a_damaged_or_claimed_archive_is_not_copied(vault):
    key = an_archive("2026-04").part_key(0, "zstd")
    manifest = require_manifest(vault.store, an_archive("2026-04"))
    vault.vandal.replace(key, b"rot")

    one = vault.copy_one(an_archive("2026-04"))

    assert (one.result, vault.replica.head(key)) == ("unverifiable", None)
    assert manifest.parts[0].object_key == key
    take_claim(vault.store, MAY.claim_key, owner="a purge", now=NOW, ttl=timedelta(hours=1))

    one = vault.copy_one(MAY)

    assert (one.result, one.is_wrong) == ("contended", False)
    assert [key for key in vault.replica.keys("") if "part-00000" in key or key.startswith("metadata/")] == []


def test_what_a_store_fills_by_itself_is_only_compared(vault):
    """A copy that is not there yet is lag, not a fault; nothing is written to the replica."""
    archives, rest = vault.copy("2026-05", filled_by="store")

    assert ([one.result for one in archives], rest.result) == (["missing"], "missing")
    assert not any(one.is_wrong for one in archives)
    assert list(vault.replica.keys("")) == []
    require_same(sum_up(1, archives, [rest], who="ada", now=NOW))

    vault.copy()
    archives, rest = vault.copy("2026-05", filled_by="store", now=NOW + DAY)

    assert archives[0].result == "same"
    assert rest.result in ("same", "missing")  # the record of the run before is not there


def test_an_emptied_replica_is_filled_anew(vault):
    vault.copy()
    for key in list(vault.replica.keys("")):
        vault.replica_vandal.remove(key)

    assert due_in(vault.store, list(map(an_archive, MONTHS)), now=NOW + DAY, compare_days=90) == list(
        map(an_archive, MONTHS)
    )
    archives, rest = vault.copy(now=NOW + DAY)

    assert ([one.result for one in archives], rest.result) == (["same"] * 3, "same")


def test_a_log_in_the_replica_that_was_rolled_back_is_named(vault):
    """An older checkpoint is signed as well, and a prefix: only the record of its size before gives it away."""
    empty = vault.vandal.read(CHECKPOINT)
    vault.copy("2026-05")
    vault.replica_vandal.replace(CHECKPOINT, empty)

    _, rest = vault.copy("2026-05", now=NOW + DAY)

    assert rest.result == "differs"
    assert "entries and had" in rest.problem
    assert vault.replica_vandal.read(CHECKPOINT) == empty


def test_a_log_of_the_store_that_does_not_continue_the_replicas_is_not_copied(vault):
    """If somebody rolls the store's log back, the replica keeps the longer one, and the run fails."""
    older = vault.vandal.read(CHECKPOINT)
    vault.copy("2026-05")
    longer = vault.replica_vandal.read(CHECKPOINT)
    vault.vandal.replace(CHECKPOINT, older)

    with pytest.raises(IntegrityError, match="does not continue the one in its replica"):
        replicate_rest(vault.store, vault.replica, filled_by="strongroom", compare_days=90, who="ada", now=NOW + DAY)

    assert vault.replica_vandal.read(CHECKPOINT) == longer


def test_a_released_hold_is_released_in_the_replica_and_lost_evidence_is_named(vault):
    hold = vault.hold("2026-05", now=NOW)
    vault.copy("2026-05")
    assert [one.hold_id for one in holds_in_force(vault.replica)] == [hold.hold_id]
    release_hold(vault.store, hold.hold_id, who="ada", reason="over", now=NOW + DAY)

    vault.vandal.remove(MAY.seal_key)

    _, rest = vault.copy("2026-04", now=NOW + DAY)

    assert holds_in_force(vault.replica) == []
    assert (rest.result, rest.lost) == ("differs", (MAY.seal_key,))
    assert vault.replica.head(MAY.seal_key) is not None


def test_a_replica_that_is_the_store_is_refused(copied):
    with pytest.raises(ConfigurationError, match="is the store itself"):
        require_apart(copied.store, copied.store)
    require_apart(copied.store, copied.replica)


@pytest.mark.parametrize(("month", "body"), [("2026-04", None), ("2026-05", b"rot")], ids=["gone", "replaced"])
def test_a_part_is_read_from_the_replica_when_the_first_one_is_not_sound(copied, tmp_path, month, body):
    """By its content: in the replica it has another version id. Verifying still says that the first one is not sound."""
    archive = an_archive(month)
    part = require_manifest(copied.store, archive).verified_part(1)
    copied.vandal.remove(part.object_key)
    if body is not None:
        copied.vandal.write(part.object_key, body)

    with copied.replica_vandal.undone():
        copied.replica_vandal.write(part.object_key, b"something over the copy")
        with FolderRoot(str(tmp_path)).of("restore") as staging:
            path, why = download_either(copied.store, staging, part)
            assert path.stat().st_size == part.compressed_size_bytes
        [bad] = [one for one in verify_archive(copied.store, archive).objects if one.result != "sound"]

    assert "read from the replica" in str(why)
    assert (bad.object_key, bad.result, bad.replica) == (part.object_key, "missing", "sound")


def test_a_replica_that_cannot_be_reached_hides_no_fault(copied, tmp_path):
    """Such as one whose connection nobody made: what is told is what is wrong with the first copy."""

    def no_connection() -> Store:
        raise ConfigurationError("Airflow has no connection strongroom_replica", hint="Add it.")

    store = Store(copied.archiver, copied.settings.store, connect_replica=no_connection)
    part = require_manifest(store, MAY).verified_part(2)
    copied.vandal.remove(part.object_key)
    with (
        FolderRoot(str(tmp_path)).of("restore") as staging,
        pytest.raises(IntegrityError, match="is not in the store"),
    ):
        download_either(store, staging, part)
    [bad] = [one for one in verify_archive(store, MAY).objects if one.object_key == part.object_key]
    with pytest.raises(IntegrityError, match="there is no archive"):
        require_readable(store, an_archive("2026-01"))

    assert (bad.result, bad.replica) == ("missing", None)
    assert "no connection strongroom_replica" in bad.detail


def test_without_a_sound_copy_the_first_fault_is_told(copied, tmp_path):
    archive = an_archive("2026-06")
    part = require_manifest(copied.store, archive).verified_part(1)
    copied.vandal.remove(part.object_key)
    copied.replica_vandal.replace(part.object_key, b"rot")

    with FolderRoot(str(tmp_path)).of("restore") as staging, pytest.raises(IntegrityError) as caught:
        download_either(copied.store, staging, part)

    assert str(copied.store) in str(caught.value)
    [bad] = [one for one in verify_archive(copied.store, archive).objects if one.result != "sound"]
    assert bad.replica == "unsound"


def test_a_manifest_is_read_from_the_replica_when_the_first_one_is_not_sound(copied):
    """The copy must be attested by the log as well. What was destroyed stays destroyed."""
    archive = an_archive("2026-06")
    manifest = require_manifest(copied.store, archive)
    copied.vandal.remove(archive.manifest_key)

    assert require_readable(copied.store, archive) == manifest
    with copied.replica_vandal.undone():
        copied.replica_vandal.replace(archive.manifest_key, manifest.to_bytes().replace(b"a test", b"a lie!"))
        with pytest.raises(IntegrityError, match="is gone"):
            require_readable(copied.store, archive)
    copied.vandal.write(archive.destruction_key, b"{}")
    with pytest.raises(IntegrityError, match="was destroyed"):
        require_readable(copied.store, archive)
