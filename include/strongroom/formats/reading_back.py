"""Read a part back from its compressed form: both sums in one pass, compared with the part's record."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from strongroom.errors import NO_ROOM, IntegrityError, StagingError
from strongroom.formats.codecs import decompress
from strongroom.formats.line_reader import split_lines
from strongroom.records import ChecksummedPart, CompressedPart, TableShape


@contextmanager
def kept_aside(stream: Iterable[bytes], folder: Path | None) -> Iterator[IO[bytes]]:
    """A stream as a seekable file without a name, which is gone when the block ends.

    Args:
        stream: It is read to its end.
        folder: Where to put the file, made if it is missing; None means the system's folder for temporary files.

    Raises:
        StagingError: The disk is full.
    """
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as handle:
        try:
            handle.writelines(stream)
            handle.seek(0)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise StagingError(
                f"{folder or tempfile.gettempdir()} has no room left for what is read back of an archive",
                hint="No row is deleted before its archive is proved. Free space, or point `staging`, and TMPDIR where an "
                "archive is read without staging, at a larger disk; the task then tries again.",
            ) from None
        yield handle


@dataclass(frozen=True)
class ReadBack:
    """Sums and counts of a compressed stream."""

    sha256: str
    size_bytes: int
    original_sha256: str
    original_size_bytes: int
    lines: int


class ReadingBack:
    """Hashes a compressed stream and its decompressed form in one pass.

    Iterate over :meth:`blocks` to the end, then ask for :meth:`result`.

    Args:
        part: What it should be.
        chunks: The compressed stream.
        scratch: Folder for a nameless copy of a parquet file, which must be seekable; None means the system's.
    """

    def __init__(self, part: CompressedPart, chunks: Iterator[bytes], scratch: Path | None = None) -> None:
        self._part, self._scratch = part, scratch
        self._chunks = chunks
        self._sha256, self._original_sha256 = hashlib.sha256(), hashlib.sha256()
        self._size_bytes = self._original_size_bytes = self._lines = 0

    def lines(self, shape: TableShape) -> Iterator[bytes]:
        """The rows as JSON lines, without their newlines. Raises as :meth:`blocks`."""
        if self._part.format == "parquet" and self._part.blocks_sha256 is not None:
            return _lines_of(shape, self.blocks())
        return split_lines(self.blocks())

    def blocks(self) -> Iterator[bytes]:
        """The decompressed content: JSON lines; of parquet since version 3, canonical texts.

        Raises as soon as there is more content, or more compressed bytes, than the record says; and for parquet before the
        file is opened, if its sum differs.
        """
        for block in self._parquet() if self._part.format == "parquet" else self._decompressed():
            self._original_sha256.update(block)
            self._original_size_bytes += len(block)
            self._lines += block.count(b"\n")
            if self._original_size_bytes > self._part.original_size_bytes:
                raise unequal(self._part, "original size", self._part.original_size_bytes, "more")
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

    def _decompressed(self) -> Iterator[bytes]:
        return decompress(self._part.compression_type, self._chunks, on_chunk=self._see)

    def _parquet(self) -> Iterator[bytes]:
        with kept_aside(self._seen(), self._scratch) as copy:
            if self._size_bytes != self._part.compressed_size_bytes:
                raise unequal(self._part, "compressed size", self._part.compressed_size_bytes, self._size_bytes)
            if self._sha256.hexdigest() != self._part.compressed_sha256:
                raise unequal(self._part, "SHA-256", self._part.compressed_sha256, self._sha256.hexdigest())
            yield from _parquet_content(copy, self._part)

    def _seen(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._see(chunk)
            yield chunk

    def _see(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes > self._part.compressed_size_bytes:
            raise unequal(self._part, "compressed size", self._part.compressed_size_bytes, "more")


class RowStream:
    """Rows of a stream of blocks, some at a time. Rows that nobody wants are counted, and not made into objects."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""  # of the last block: it begins where a row does

    def take(self, rows: int) -> list[bytes]:
        """The next rows, without their newlines; fewer at the end of the stream."""
        pieces = [self._rest]
        missing = rows - self._rest.count(b"\n")
        while missing > 0 and (block := next(self._blocks, b"")):
            pieces.append(block)
            missing -= block.count(b"\n")
        *taken, self._rest = b"".join(pieces).split(b"\n", rows)
        return taken

    def skip(self, rows: int) -> None:
        """Pass the next rows over, or what is left of the stream."""
        block = self._rest
        while (found := block.count(b"\n")) < rows:
            rows -= found
            block = next(self._blocks, b"")
            if not block:
                break
        self._rest = block.split(b"\n", rows)[-1]


def _parquet_content(handle: IO[bytes], part: CompressedPart) -> Iterator[bytes]:
    from strongroom.formats import parquet  # and with it Arrow, which a part of JSON lines can do without

    read = parquet.parquet_lines if part.blocks_sha256 is None else parquet.parquet_rows
    return read(handle, part.shape_sha256)


def _lines_of(shape: TableShape, content: Iterable[bytes]) -> Iterator[bytes]:
    from strongroom.formats.line_writer import LineWriter
    from strongroom.formats.row_texts import read_copy

    writer = LineWriter(shape)
    for rows in content:
        yield from writer.lines(read_copy(len(shape.columns), rows[:-1], rows.count(b"\n"))).splitlines()


def require_equal(part: CompressedPart, found: ReadBack) -> None:
    """Check that a stream is the part it should be.

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
            raise unequal(part, what, expected, actual)
    sums = [part.compressed_sha256, part.sha256] if isinstance(part, ChecksummedPart) else [part.compressed_sha256]
    for expected in sums:
        if expected != found.sha256:
            raise unequal(part, "SHA-256", expected, found.sha256)


def unequal(part: CompressedPart, what: str, expected: object, found: object) -> IntegrityError:
    """The error for a part that is not what its record says."""
    return IntegrityError(
        f"{what} of {part.archive_id} part {part.number} does not match",
        expected=expected,
        found=found,
        hint="No row was deleted. Clear 'plan' and the tasks after it: the rows are read again into a new archive.",
    )
