"""The rows of a proved part, a batch at a time: as COPY reads them, and as JSON lines where they must be compared.

Values that lie in a parquet file go to COPY as their texts; no JSON is made of them in between.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING

from strongroom.database.rebuild import batches, read_ahead
from strongroom.formats.codecs import blocks, decompress
from strongroom.formats.line_reader import LineReader, copy_rows, split_lines
from strongroom.records import VerifiedPart
from strongroom.restore.batch import Batch, Piece

if TYPE_CHECKING:
    from strongroom.formats.line_writer import LineWriter
    from strongroom.formats.row_texts import Texts

_PIECE_ROWS = 500


class _Lines:
    """A batch out of a part of JSON lines."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        for first in range(0, len(self._lines), _PIECE_ROWS):
            columns = reader.columns(self._lines[first : first + _PIECE_ROWS])
            yield Piece(copy_rows(columns), columns.__getitem__)

    def lines(self) -> list[bytes]:
        return self._lines

    def equals(self, texts: Texts, writer: LineWriter) -> bool:
        return writer.lines(texts) == b"\n".join([*self._lines, b""])


def restored_rows(
    part: VerifiedPart, handle: IO[bytes], done_rows: int, *, most_rows: int, most_bytes: int
) -> Generator[Batch]:
    """The rows of a part whose compressed file was proved before. Close it before the file.

    Args:
        part: What the file holds.
        handle: The file, at its beginning.
        done_rows: How many rows to leave out.
        most_rows: Of one batch.
        most_bytes: About the most bytes of one batch.
    """
    if part.format == "parquet":
        from strongroom.restore.parquet_rows import text_batches  # and with it Arrow, which JSON lines do without

        return text_batches(handle, part.shape_sha256, done_rows, most_rows=most_rows, most_bytes=most_bytes)
    lines = islice(split_lines(decompress(part.compression_type, blocks(handle), on_chunk=len)), done_rows, None)
    # Not so above: what Arrow allocates in a second thread comes out of a heap of its own, which cost 18 MB.
    return read_ahead(map(_Lines, batches(lines, most_lines=most_rows, most_bytes=most_bytes)))
