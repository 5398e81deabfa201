"""Compression comes back to the byte, stays flat in memory, and damage is found whatever its kind."""

from __future__ import annotations

import gzip
import hashlib
import io
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.formats import codecs
from strongroom.formats.codecs import Codec, choose_codec, compress_stream, decompress
from strongroom.settings import Compression

EVERY_CODEC = [Codec("zstd", 3), Codec("zstd", 1), Codec("gzip", 6), Codec("none", None)]


def compressed(codec: Codec, content: bytes) -> bytes:
    target = io.BytesIO()
    compress_stream(codec, [content], target)
    return target.getvalue()


def expanded(codec: Codec, content: bytes, chunk_bytes: int = 1000) -> bytes:
    chunks = (content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes))
    return b"".join(decompress(codec.type, chunks, on_chunk=len))


@pytest.mark.parametrize("codec", EVERY_CODEC, ids=str)
@given(content=st.binary(max_size=5000), chunk_bytes=st.integers(1, 700))
def test_what_goes_in_comes_out(codec, content, chunk_bytes):
    assert expanded(codec, compressed(codec, content), chunk_bytes) == content


@pytest.mark.parametrize("codec", EVERY_CODEC, ids=str)
def test_the_same_input_gives_the_same_bytes(codec):
    """However it is cut: an upload that is repeated after a crash must meet its own bytes in the store."""
    content = b'{"id": 1}\n' * 5000

    target = io.BytesIO()
    compress_stream(codec, (content[first : first + 999] for first in range(0, len(content), 999)), target)

    assert target.getvalue() == compressed(codec, content)


@pytest.mark.parametrize("codec", EVERY_CODEC[:3], ids=str)
@given(data=st.data())
def test_a_flipped_bit_never_gives_the_original(codec, data):
    """It ends in an error, or (in a header field that means nothing) at least the compressed sum differs."""
    content = b'{"id": 1, "name": "x"}\n' * 50
    sound = compressed(codec, content)
    at = data.draw(st.integers(0, len(sound) * 8 - 1))
    damaged = bytearray(sound)
    damaged[at // 8] ^= 1 << (at % 8)

    seen = hashlib.sha256()
    try:
        for _ in decompress(codec.type, iter([bytes(damaged)]), on_chunk=seen.update):
            pass
    except IntegrityError:
        return
    assert seen.digest() != hashlib.sha256(sound).digest()


@pytest.mark.parametrize("codec", EVERY_CODEC[:3], ids=str)
def test_a_stream_that_ends_early_is_not_taken_for_the_whole(codec):
    content = b"".join(b'{"id": %d}\n' % number for number in range(20_000))
    short = compressed(codec, content)[:-7]

    try:
        found = expanded(codec, short)
    except IntegrityError:
        return
    assert found != content


@pytest.mark.parametrize(("codec", "extra"), [(Codec("zstd", 3), b"junk"), (Codec("gzip", 6), b"junk")], ids=str)
def test_bytes_after_the_end_are_an_error(codec, extra):
    with pytest.raises(IntegrityError, match="damaged"):
        expanded(codec, compressed(codec, b"row\n") + extra)


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_a_bomb_of_zeros_passes_in_small_blocks(kind):
    """200 MB of zeros fit into a few kilobytes; they must never be in memory at once."""
    zeros = bytes(1 << 20)
    if kind == "zstd":
        packer = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join([*(packer.compress(zeros) for _ in range(200)), packer.flush()])
    else:
        bomb = gzip.compress(zeros * 200)
    tracemalloc.start()
    try:
        size = sum(len(block) for block in decompress(kind, iter([bomb]), on_chunk=len))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == 200 << 20
    assert peak < 20 << 20


def test_without_zstandard_gzip_stands_in_with_a_warning(monkeypatch, caplog):
    """The one thing that cannot be had for real here is a machine without the wheel."""
    monkeypatch.setattr(codecs, "zstandard", None)

    assert choose_codec(Compression(type="zstd")) == Codec("gzip", 6)
    assert "gzip" in caplog.text


def test_without_zstandard_and_without_leave_to_fall_back_it_is_an_error(monkeypatch):
    monkeypatch.setattr(codecs, "zstandard", None)

    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        choose_codec(Compression(type="zstd", allow_fallback=False))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(decompress("zstd", iter([b"x"]), on_chunk=len))
