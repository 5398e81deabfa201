"""Step 4, checksum: sum the compressed file, and see that it gives the original back before anything is uploaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.codecs import blocks, decompress
from strongroom.errors import IntegrityError
from strongroom.records import ChecksummedPart, CompressedPart
from strongroom.staging import Staging


@dataclass(frozen=True)
class ReadBack:
    """What a compressed stream turned out to be."""

    sha256: str
    size_bytes: int
    original_sha256: str
    original_size_bytes: int
    lines: int


class ReadingBack:
    """Hashes a compressed stream and its decompressed form in one pass.

    Iterate over :meth:`blocks` to the end, then ask for :meth:`result`.
    """

    def __init__(self, part: CompressedPart, chunks: Iterator[bytes]) -> None:
        self._part = part
        self._chunks = chunks
        self._sha256, self._original_sha256 = hashlib.sha256(), hashlib.sha256()
        self._size_bytes = self._original_size_bytes = self._lines = 0

    def blocks(self) -> Iterator[bytes]:
        """The decompressed content; stops with an error as soon as there is more of it than there should be, or of the
        compressed bytes."""
        for block in decompress(self._part.compression_type, self._chunks, on_chunk=self._see):
            self._original_sha256.update(block)
            self._original_size_bytes += len(block)
            self._lines += block.count(b"\n")
            if self._original_size_bytes > self._part.original_size_bytes:
                raise _unequal(self._part, "original size", self._part.original_size_bytes, "more")
            yield block

    def result(self) -> ReadBack:
        """The sums, once the stream is at its end."""
        return ReadBack(
            self._sha256.hexdigest(),
            self._size_bytes,
            self._original_sha256.hexdigest(),
            self._original_size_bytes,
            self._lines,
        )

    def _see(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes > self._part.compressed_size_bytes:
            raise _unequal(self._part, "compressed size", self._part.compressed_size_bytes, "more")


def checksum_part(staging: Staging, part: CompressedPart) -> ChecksummedPart:
    """Sum a part's compressed file and compare what it decompresses to; then drop the original from staging.

    Raises:
        IntegrityError: The compressed file does not give the original back.
    """
    finished = staging.finished(ChecksummedPart, part)
    if finished is not None:
        return finished
    path = staging.compressed(part.number, part.compression_type)
    if not path.exists():
        raise IntegrityError(f"{path} is gone", hint="No row was deleted. Clear 'compress' and the tasks after it.")
    with path.open("rb") as handle:
        reading = ReadingBack(part, blocks(handle))
        for _ in reading.blocks():
            pass
    found = reading.result()
    require_equal(part, found)
    checksummed = ChecksummedPart(**part.model_dump(), sha256=found.sha256)
    staging.save(checksummed)
    if part.compression_type != "none":
        staging.discard(staging.original(part.number))
    return checksummed


def require_equal(part: CompressedPart, found: ReadBack) -> None:
    """See that a stream is the part it should be.

    Raises:
        IntegrityError: Says what differs.
    """
    for what, expected, actual in (
        ("compressed size", part.compressed_size_bytes, found.size_bytes),
        ("original size", part.original_size_bytes, found.original_size_bytes),
        ("original SHA-256", part.original_sha256, found.original_sha256),
        ("number of rows", part.rows, found.lines),
    ):
        if expected != actual:
            raise _unequal(part, what, expected, actual)
    if isinstance(part, ChecksummedPart) and part.sha256 != found.sha256:
        raise _unequal(part, "SHA-256", part.sha256, found.sha256)


def _unequal(part: CompressedPart, what: str, expected: object, found: object) -> IntegrityError:
    return IntegrityError(
        f"{what} of {part.archive_id} part {part.number} does not match",
        expected=expected,
        found=found,
        hint="No row was deleted. Clear 'plan' and the tasks after it: the rows are read again into a new archive.",
    )
