"""The files that extract_to_staging writes for a part: JSON lines or parquet, and beside them the list of its blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from strongroom.formats.blocks import CutRows, to_line
from strongroom.formats.codecs import Codec, Summed, Writable, compressing
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.parquet import PartWriter
from strongroom.formats.row_texts import read_copy
from strongroom.records import Packed, PartFormat, TableShape


@contextmanager
def part_files(
    shape: TableShape, format: PartFormat, codec: Codec, rows: IO[bytes], blocks: IO[bytes]
) -> Iterator[PartFiles]:
    """Write a part's rows into two files; their sums are complete when the block ends."""
    if format == "parquet":
        with PartWriter(shape, rows, codec) as parquet:
            written = PartFiles(shape, parquet, blocks)
            yield written
        summed = parquet.written
    else:
        summed = Summed(rows)
        with compressing(codec, summed) as lines:
            written = PartFiles(shape, lines, blocks)
            yield written
    written.packed = Packed(
        compression_type=codec.type,
        compression_level=codec.level,
        size_bytes=summed.size_bytes,
        sha256=summed.sha256,
    )


class PartFiles:
    """Writes one block of rows at a time, and hashes what it writes.

    Of parquet the canonical texts are hashed: reading the file must give the same texts.
    """

    def __init__(self, shape: TableShape, rows: Writable | PartWriter, blocks: IO[bytes]) -> None:
        self._width = len(shape.columns)
        self._write_json = LineWriter(shape)
        self._rows, self._blocks = rows, blocks
        self.original_sha256, self.blocks_sha256 = hashlib.sha256(), hashlib.sha256()
        self.packed: Packed | None = None
        self.rows = 0
        self.size_bytes = 0

    def add(self, cut: CutRows) -> None:
        """Add the rows of one block."""
        content = self._write(b"\n".join(cut.rows), len(cut.rows))
        block = to_line(cut.block())
        self._blocks.write(block)
        self.blocks_sha256.update(block)
        self.original_sha256.update(content)
        self.rows += len(cut.rows)
        self.size_bytes += len(content)

    def _write(self, rows: bytes, count: int) -> bytes:
        """Write some rows, and return the content that is hashed."""
        texts = read_copy(self._width, rows, count)
        if isinstance(self._rows, PartWriter):
            self._rows.add(texts)
            return rows + b"\n"
        lines = self._write_json.lines(texts)
        self._rows.write(lines)
        return lines
