"""Verify and restore find and name any damage to the store, and nothing damaged is loaded."""

from __future__ import annotations

import gzip
import io
import resource
from functools import cache

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.formats.codecs import Codec, compress_stream
from strongroom.ledger.index import read_index
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.reread import verify_archive
from strongroom.object_keys.layout import MANIFEST_INDEX
from strongroom.storage.store import CHUNK_BYTES
from tests.support.damaging import (
    A_FEW,
    a_part_of,
    fix_part,
    flipped,
    require_found_in_part,
    require_sound,
    seal_three_parts,
)


def test_an_archive_that_nobody_touched_is_sound_and_comes_back(damaged):
    assert damaged.verify().result == "sound"
    assert damaged.restore(1).result == "restored"
    assert len(damaged.rows()) == 10


# -------------------------------------------------------------------------------------------------- bits of a part


@pytest.mark.parametrize("codec", [Codec("zstd", 3), Codec("gzip", 6), Codec("none", None)], ids=lambda one: one.type)
def test_each_flipped_bit_of_a_part_is_found_by_its_reader(damaged, codec):
    """Every bit is tried. Verify, restore and the chain all read parts with this one reader."""
    original = b"".join(b'{"id":%d,"who":"agent %d"}\n' % (n, n * n) for n in range(30))
    target = io.BytesIO()
    compress_stream(codec, [original], target)
    packed = target.getvalue()
    part = a_part_of(damaged, codec, original, packed)
    require_sound(part, packed)

    for bit in range(len(packed) * 8):
        with pytest.raises(IntegrityError):
            require_sound(part, flipped(packed, bit))


@given(bit=st.integers(0, 1 << 20))
@A_FEW
def test_a_flipped_bit_of_a_stored_part_is_found(damaged, bit):
    with damaged.vandal.undone():
        damaged.vandal.rot(damaged.archive, 0, flipped(damaged.vandal.read(damaged.part_key(0)), bit))

        require_found_in_part(damaged, "corrupted")


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_part_is_found(damaged, share):
    """A share of zero leaves an empty object."""
    whole = damaged.vandal.read(damaged.part_key(0))
    damaged.vandal.rot(damaged.archive, 0, whole[: int(len(whole) * share)])

    require_found_in_part(damaged, "corrupted")


def test_each_length_that_a_part_can_be_cut_to_is_found_by_its_reader(damaged):
    whole = damaged.vandal.read(damaged.part_key(0))
    part = require_manifest(damaged.chain.store, damaged.archive).verified_part(0)

    for length in range(len(whole)):
        with pytest.raises(IntegrityError):
            require_sound(part, whole[:length])


def dictionary_frame(original: bytes) -> bytes:
    samples = [b'{"id":%d,"who":"agent %d"}' % (n, n) for n in range(2000)]
    dictionary = zstandard.train_dictionary(4096, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(original)


REPACKED = {
    "trailing garbage": lambda packed, _: packed + b"garbage",
    "a trailing newline": lambda packed, _: packed + b"\n",
    "a second empty frame": lambda packed, _: packed + zstandard.compress(b""),
    "a second frame with a row": lambda packed, _: packed + zstandard.compress(b'{"id":99}\n'),
    "a skippable frame before it": lambda packed, _: b"\x50\x2a\x4d\x18\x04\0\0\0skip" + packed,
    "a frame that needs a dictionary": lambda _, original: dictionary_frame(original),
    "a frame that needs gigabytes": lambda _, original: zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    ).compress(original),
    "the same rows at another level": lambda _, original: zstandard.compress(original, 19),
    "rows in another order": lambda _, original: zstandard.compress(b"".join(reversed(original.splitlines(True)))),
    "one row fewer": lambda _, original: zstandard.compress(b"".join(original.splitlines(True)[1:])),
    "plain rows": lambda _, original: original,
    "gzip": lambda _, original: gzip.compress(original),
}


@pytest.mark.parametrize("repack", REPACKED.values(), ids=REPACKED.keys())
def test_a_part_that_was_packed_in_another_way_is_found(damaged, repack):
    packed = damaged.vandal.read(damaged.part_key(0))
    damaged.vandal.rot(
        damaged.archive, 0, repack(packed, zstandard.ZstdDecompressor().decompressobj().decompress(packed))
    )

    require_found_in_part(damaged, "corrupted")


# -------------------------------------------------------------------------------------------------- bombs


@cache
def a_bomb() -> bytes:
    """Four gigabytes of zeros, compressed to less than one megabyte."""
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    zeros = bytes(16 << 20)
    return b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()


@pytest.mark.parametrize("corrected", [False, True], ids=["its size is wrong", "its size is right"])
def test_a_bomb_of_zeros_is_not_unpacked(damaged, corrected):
    """It uses neither memory nor disk, even if its compressed size and checksum were changed to match."""
    bomb = a_bomb()
    damaged.vandal.rot(damaged.archive, 0, bomb)
    if corrected:
        manifest = require_manifest(damaged.chain.store, damaged.archive)
        damaged.vandal.edit(damaged.archive, lambda document: fix_part(document, manifest, bomb), copy_too=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    verdict = damaged.verify()
    restored = damaged.restore(0)

    wrong = "original size" if corrected else "compressed size"
    assert (verdict.objects[0].result, restored.result) == ("corrupted", "corrupted")
    assert f"{wrong} of {damaged.archive} part 0 does not match" in verdict.objects[0].detail
    assert f"{wrong} of {damaged.archive} part 0 does not match" in restored.detail
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
    assert damaged.rows() == []


def test_a_part_that_only_grows_and_unpacks_to_nothing_does_not_fill_the_disk(damaged):
    """Skippable frames can hold any number of bytes without content."""
    frame = b"\x50\x2a\x4d\x18" + (CHUNK_BYTES).to_bytes(4, "little") + bytes(CHUNK_BYTES)
    damaged.vandal.rot(damaged.archive, 0, damaged.vandal.read(damaged.part_key(0)) + frame * 8)

    require_found_in_part(damaged, "corrupted", expected="compressed size")


def test_an_index_of_manifests_that_is_a_bomb_is_as_good_as_none(damaged):
    damaged.vandal.write(MANIFEST_INDEX, a_bomb())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert read_index(damaged.chain.store) == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


# -------------------------------------------------------------------------------------------------- whole objects


def test_a_part_that_was_removed_for_good_is_missing_until_its_bytes_are_there_again(postgres, object_store, tmp_path):
    """In an archive of its own, since the version that was verified cannot be put back. The content decides, not the version."""
    own = seal_three_parts(postgres, object_store, tmp_path, "removed-for-good")
    body = own.vandal.read(own.part_key(0))
    version = require_manifest(own.chain.store, own.archive).parts[0].version_id
    own.vandal.admin.delete_object(Bucket=own.vandal.bucket, Key=own.part_key(0), VersionId=version)

    require_found_in_part(own, "missing")
    own.vandal.write(own.part_key(0), body)

    verdict, restored = verify_archive(own.chain.store, own.archive), own.restore(0)
    assert (verdict.result, restored.result, restored.inserted) == ("sound", "restored", 10)
    assert "has the same content" in verdict.objects[0].detail


OVER = {
    "a delete marker": lambda damaged, key: damaged.vandal.hide(key),
    "an empty object": lambda damaged, key: damaged.vandal.write(key, b""),
    "the next part": lambda damaged, key: damaged.vandal.write(key, damaged.vandal.read(damaged.part_key(1))),
    "a part of another archive": lambda damaged, key: damaged.vandal.write(
        key, zstandard.compress(b'{"id":1,"at":"2026-04-01T00:00:00+00:00","who":"x","cost":1}\n' * 10)
    ),
    "the same size and other bytes": lambda damaged, key: damaged.vandal.write(
        key, flipped(damaged.vandal.read(key), 77)
    ),
}


@pytest.mark.parametrize("put", OVER.values(), ids=OVER.keys())
def test_what_lies_over_a_part_is_found_and_the_proved_version_is_what_comes_back(damaged, put):
    put(damaged, damaged.part_key(0))

    verdict = damaged.verify()
    restored = damaged.restore(0)

    assert (verdict.result, verdict.objects[0].result) == ("hidden", "hidden")
    assert "covers version" in verdict.objects[0].detail
    assert (restored.result, restored.inserted) == ("restored", 10)
    assert "covers version" in restored.sentence()


def test_two_parts_that_were_swapped_are_found(damaged):
    bodies = [damaged.vandal.read(damaged.part_key(number)) for number in (0, 1)]
    for number, body in zip((1, 0), bodies, strict=True):
        damaged.vandal.rot(damaged.archive, number, body)

    verdict = damaged.verify()

    assert [one.result for one in verdict.objects] == ["corrupted", "corrupted", "sound", "sound"]
    require_found_in_part(damaged, "corrupted", number=0)
    require_found_in_part(damaged, "corrupted", number=1)


def test_an_older_version_that_was_put_back_on_top_is_as_good_as_the_first(damaged):
    whole = damaged.vandal.read(damaged.part_key(0))
    damaged.vandal.write(damaged.part_key(0), b"a slip")
    damaged.vandal.write(damaged.part_key(0), whole)

    assert damaged.verify().result == "sound"
    assert damaged.restore(0).detail == ""


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (lambda _: b"", "corrupted"),
        (lambda sums: sums[:-1], "corrupted"),
        (lambda sums: sums + b"\n", "corrupted"),
        *((lambda sums, bit=bit: flipped(sums, bit), "corrupted") for bit in range(0, 3 * 88 * 8, 301)),
        (None, "missing"),
    ],
)
def test_damage_to_sha256sums_is_found(damaged, change, result):
    key = damaged.archive.sums_key
    if change is None:
        damaged.vandal.hide(key)
    else:
        damaged.vandal.write(key, change(damaged.vandal.read(key)))

    verdict = damaged.verify()

    assert (verdict.result, verdict.objects[-1].result) == (result, result)
    assert [one.result for one in verdict.objects[:-1]] == ["sound"] * 3


# -------------------------------------------------------------------------------------------------- the manifest


# -------------------------------------------------------------------------------------------------- helpers
