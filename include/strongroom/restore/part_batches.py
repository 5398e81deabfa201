"""The rows of a proved part, one batch at a time.

Values of a parquet file go to COPY as texts. They become JSON lines only where rows must be compared one by one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING

from strongroom.database.rebuild import batches, read_ahead
from strongroom.formats.codecs import blocks, decompress
from strongroom.formats.copy_text import copy_rows
from strongroom.formats.line_reader import LineReader, split_lines
from strongroom.records import VerifiedPart
from strongroom.restore.batch import Batch, Piece

if TYPE_CHECKING:
    from strongroom.formats.line_writer import LineWriter
    from strongroom.formats.row_texts import Texts

PIECE_ROWS = 500
"""The most rows of one piece of a batch of JSON lines."""


class _LineBatch:
    """A batch of a part of JSON lines."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        for first in range(0, len(self._lines), PIECE_ROWS):
            columns = reader.columns(self._lines[first : first + PIECE_ROWS])
            yield Piece(copy_rows(columns), columns.__getitem__)

    def lines(self) -> list[bytes]:
        return self._lines

    def equals(self, texts: Texts, writer: LineWriter) -> bool:
        return writer.lines(texts) == b"\n".join([*self._lines, b""])


def part_batches(
    part: VerifiedPart, handle: IO[bytes], done_rows: int, *, most_rows: int, most_bytes: int
) -> Generator[Batch]:
    """The rows of a part whose compressed file was proved before. Close the generator before the file.

    Args:
        part: The record of the file.
        handle: The file, at its beginning.
        done_rows: How many rows to leave out.
        most_rows: The most rows of one batch.
        most_bytes: About the most bytes of one batch.
    """
    if part.format == "parquet":
        from strongroom.restore.parquet_batches import parquet_batches  # imports Arrow, which JSON lines do not need

        return parquet_batches(handle, part.shape_sha256, done_rows, most_rows=most_rows, most_bytes=most_bytes)
    lines = islice(split_lines(decompress(part.compression_type, blocks(handle), on_chunk=len)), done_rows, None)
    # Parquet is not read ahead: memory that Arrow allocates in a second thread comes from a heap of its own, and cost 18 MB.
    return read_ahead(map(_LineBatch, batches(lines, most_lines=most_rows, most_bytes=most_bytes)))
