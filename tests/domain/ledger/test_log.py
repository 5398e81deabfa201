"""The transparency log of a store, on a real S3 server: one history, whoever dies where."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from strongroom.errors import IdentityError, IntegrityError
from strongroom.ledger.log import CHECKPOINT, Log
from strongroom.object_keys.layout import LOG
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import SignerKey
from strongroom.tlog.tiles import Tile
from tests.support.damaging import Vandal

ORIGIN = "strongroom.test/log"
KEY = SignerKey.generate(ORIGIN)


class DiedError(Exception):
    """The process was killed."""


class Mortal(Store):
    """A store whose process dies at one of its writes, before it or right after it."""

    def __init__(self, client, settings, *, at: int, after: bool) -> None:
        super().__init__(client, settings)
        self._left, self._after = at, after

    def put_bytes(self, *args, **kwargs):
        return self._write(lambda: super(Mortal, self).put_bytes(*args, **kwargs))

    def swap(self, *args, **kwargs):
        return self._write(lambda: super(Mortal, self).swap(*args, **kwargs))

    def _write(self, write):
        self._left -= 1
        if self._left == 0 and not self._after:
            raise DiedError
        written = write()
        if self._left == 0:
            raise DiedError
        return written


@pytest.fixture
def store(object_store, bucket) -> Store:
    return Store(object_store.client("admin"), StoreSettings(bucket=bucket))


def a_log(store, *, entries: int = 0) -> Log:
    log = Log(store, ORIGIN, [KEY.verifier])
    log.create(KEY)
    if entries:
        log.append([f"old {number}".encode() for number in range(entries)], KEY)
    return log


def test_entries_are_there_in_their_order_with_proofs(store):
    """Across the borders of tiles and of levels."""
    log = a_log(store)
    appended: list[bytes] = []
    for count in (1, 2, 253, 1, 300, 5):
        entries = [f"{len(appended) + number}".encode() for number in range(count)]
        first, head = log.append(entries, KEY)
        assert (first, head.checkpoint.size) == (len(appended), len(appended) + count)
        appended += entries

    assert log.entries(0, len(appended)) == appended
    for index in (0, 255, 256, 560, 561):
        proof = log.prove(index)
        assert proof.require("a proof", appended[index]) == log.head().checkpoint
    assert log.entries(250, 260) == appended[250:260]


def test_a_log_only_grows_and_says_so_when_it_did_not(store):
    """Today's log starts with every entry of an older checkpoint. Otherwise entries were removed or rewritten."""
    log = a_log(store, entries=3)
    earlier = log.head().checkpoint
    log.append([b"more"], KEY)

    assert log.require_growth(earlier).checkpoint.size == 4
    for other in (Checkpoint(ORIGIN, 3, b"\0" * 32), Checkpoint(ORIGIN, 9, earlier.root)):
        with pytest.raises(IntegrityError):
            log.require_growth(other)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_writer_that_dies_at_any_write_leaves_one_history(store, object_store, bucket, at, after):
    """What it had appended is whole or not there, and the next writer goes on. The log crosses a tile's border here."""
    log = a_log(store, entries=254)
    mortal = Mortal(object_store.client("admin"), StoreSettings(bucket=bucket), at=at, after=after)

    died = False
    try:
        Log(mortal, ORIGIN, [KEY.verifier]).append([b"a", b"b", b"c"], KEY)
    except DiedError:
        died = True
    first, head = log.append([b"next"], KEY)

    entries = log.entries(0, head.checkpoint.size)
    assert entries[:254] == [f"old {number}".encode() for number in range(254)]
    assert entries[254:] in ([b"next"], [b"a", b"b", b"c", b"next"])
    assert died or entries[254:] == [b"a", b"b", b"c", b"next"]
    assert first == len(entries) - 1


def test_two_writers_at_once_leave_one_history_with_all_entries(store):
    """Each entry is there once, and those that one call appended stand together."""
    a_log(store)
    logs = [Log(store, ORIGIN, [KEY.verifier]) for _ in range(3)]
    batches = [[f"{writer}-{turn}-{each}".encode() for each in range(2)] for writer in range(3) for turn in range(6)]
    random.shuffle(batches)

    with ThreadPoolExecutor(3) as writers:
        firsts = list(writers.map(lambda one: logs[one[0] % 3].append(one[1], KEY)[0], enumerate(batches)))

    entries = logs[0].entries(0, 36)
    assert sorted(entries) == sorted(entry for batch in batches for entry in batch)
    for first, batch in zip(firsts, batches, strict=True):
        assert entries[first : first + 2] == batch


def test_a_store_without_a_log_is_not_taken_for_a_new_one(store):
    """Somebody may have removed its checkpoint."""
    with pytest.raises(IdentityError, match="has no transparency log"):
        Log(store, ORIGIN, [KEY.verifier]).head()


def test_a_head_that_another_key_signed_is_not_believed(store):
    """Nor one of another log."""
    a_log(store)

    with pytest.raises(IntegrityError, match="no signature of a key that is trusted"):
        Log(store, ORIGIN, [SignerKey.generate(ORIGIN).verifier]).head()
    with pytest.raises(IntegrityError, match="the head of another log"):
        Log(store, "another", [KEY.verifier]).head()


@pytest.mark.parametrize("tile", [Tile(None, 0, 3), Tile(0, 0, 3)])
def test_a_changed_entry_or_hash_is_found(store, object_store, bucket, tile):
    """Whoever reads the entries compares them with the signed root."""
    log = a_log(store, entries=3)
    vandal = Vandal(object_store.client("admin"), store, bucket)
    body = bytearray(vandal.read(f"{LOG}{tile.path}"))
    body[-1] ^= 1
    vandal.write(f"{LOG}{tile.path}", bytes(body))

    with pytest.raises(IntegrityError, match="transparency log"):
        log.entries(0, 3)


def test_a_log_that_was_rolled_back_is_found_by_who_kept_a_checkpoint(store, object_store, bucket):
    """Its older head has a sound signature; only an anchor outside tells."""
    log = a_log(store, entries=2)
    vandal = Vandal(object_store.client("admin"), store, bucket)
    older = vandal.read(CHECKPOINT)
    kept = log.append([b"a hold"], KEY)[1].checkpoint
    vandal.write(CHECKPOINT, older)

    assert log.head().checkpoint.size == 2
    with pytest.raises(IntegrityError, match="3 entries or more"):
        log.require_growth(kept)
