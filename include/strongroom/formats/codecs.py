"""zstd, gzip or nothing, always as a stream with bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Protocol

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.records import CompressionType
from strongroom.settings import Compression, TableSettings

zstandard: Any
try:
    import zstandard
except ImportError:  # a machine whose zstandard wheel is missing or broken; choose_codec() decides what follows
    zstandard = None

BLOCK_BYTES = 1 << 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Codec:
    """The compression that is used, after any fallback."""

    type: CompressionType
    level: int | None


def choose_codec(wanted: Compression) -> Codec:
    """Decide what to compress with.

    Raises:
        ConfigurationError: zstd is wanted but cannot be loaded, and the settings allow no fallback.
    """
    if wanted.type != "zstd" or zstandard is not None:
        return Codec(wanted.type, wanted.effective_level)
    if not wanted.allow_fallback:
        raise ConfigurationError(
            "zstd was chosen but the zstandard package cannot be loaded",
            hint="Nothing was compressed and no row was deleted. Install zstandard, "
            "or set `compression.allow_fallback: true` to use gzip.",
        )
    fallback = Compression(type="gzip")
    _logger.warning("zstandard cannot be loaded: compressing with gzip level %s instead", fallback.effective_level)
    return Codec("gzip", fallback.effective_level)


class Writable(Protocol):
    """What takes bytes in turn."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""


class Summed:
    """Passes bytes on to a file, and keeps their sum and their number."""

    def __init__(self, handle: Writable) -> None:
        self._handle = handle
        self._sum = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes, /) -> int:
        """Take some bytes; returns their number, as files do."""
        self._sum.update(data)
        self._handle.write(data)
        self.size_bytes += len(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._sum.hexdigest()


def codec_as_read(settings: TableSettings) -> Codec:
    """What rows are compressed with while they are read.

    The pages of parquet are compressed as the settings say. JSON lines are compressed with zstd's fastest level, so that
    the server need not wait; or not at all, if the settings say so or zstd cannot be loaded.
    """
    wanted = settings.compression
    if settings.format == "parquet":
        return Codec(wanted.type, wanted.effective_level)
    return Codec("none", None) if wanted.type == "none" or zstandard is None else Codec("zstd", 1)


@contextmanager
def compressing(codec: Codec, target: Writable) -> Iterator[Writable]:
    """Compress what is written in the block. The same input and codec give the same bytes.

    If the block ends with an error, the stream has no end.
    """
    if codec.type == "zstd":
        # With the frame's own checksum, `zstd -t` finds damage without our sums.
        compressor = zstandard.ZstdCompressor(level=codec.level or 3, write_checksum=True)
        writer = compressor.stream_writer(target, write_size=BLOCK_BYTES, closefd=False)
        yield writer
        writer.flush(zstandard.FLUSH_FRAME)
    elif codec.type == "gzip":
        level = 6 if codec.level is None else codec.level
        with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=target, mtime=0) as packed:  # type: ignore[call-overload]
            yield packed
    else:
        yield target


def compress_stream(codec: Codec, source: Iterable[bytes], target: Writable) -> None:
    """Compress all blocks of a stream into a file."""
    with compressing(codec, target) as packed:
        for block in source:
            packed.write(block)


def blocks(source: IO[bytes]) -> Iterator[bytes]:
    """The content of a file, a block at a time."""
    return iter(partial(source.read, BLOCK_BYTES), b"")


def decompress(
    compression_type: CompressionType, chunks: Iterator[bytes], *, on_chunk: Callable[[bytes], object]
) -> Iterator[bytes]:
    """Decompress a stream of chunks into blocks of bounded size, however much one chunk expands.

    Args:
        compression_type: What the stream was compressed with.
        chunks: The compressed bytes.
        on_chunk: Called with each compressed chunk, in order; used for hashing.

    Raises:
        IntegrityError: The stream is damaged, ends early, or has bytes after its end.
    """

    def seen() -> Iterator[bytes]:
        for chunk in chunks:
            on_chunk(chunk)
            yield chunk

    if compression_type == "zstd":
        if zstandard is None:
            raise ConfigurationError(
                "a zstd archive cannot be read: the zstandard package cannot be loaded",
                hint="Nothing was read and no row was deleted. Install zstandard and try again.",
            )
        yield from _unzstd(seen())
    elif compression_type == "gzip":
        yield from _gunzip(seen())
    else:
        yield from seen()


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    source = io.BufferedReader(_Chunks(chunks), BLOCK_BYTES)
    reader = zstandard.ZstdDecompressor().stream_reader(source, read_size=BLOCK_BYTES, read_across_frames=True)
    try:
        yield from iter(partial(reader.read, BLOCK_BYTES), b"")
    except zstandard.ZstdError as error:
        raise _damaged("zstd", str(error)) from None
    if source.read(1):
        raise _damaged("zstd", "bytes after the end")


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        if unpacker.eof:
            raise _damaged("gzip", "bytes after the end")
        pending = chunk
        while pending:
            try:
                block = unpacker.decompress(pending, BLOCK_BYTES)
            except zlib.error as error:
                raise _damaged("gzip", str(error)) from None
            if block:
                yield block
            pending = unpacker.unconsumed_tail
        if unpacker.unused_data:
            raise _damaged("gzip", "bytes after the end")
    if not unpacker.eof:
        raise _damaged("gzip", "an end in the middle")


def _damaged(compression_type: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"a {compression_type} stream is damaged",
        found=found,
        hint="No row was deleted because of it. Clear 'compress' if the damage is in staging; "
        "if it is in the store, run `airflow strongroom verify` on the archive.",
    )


class _Chunks(io.RawIOBase):
    """A raw stream over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken
