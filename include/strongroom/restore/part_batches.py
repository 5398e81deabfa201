"""The rows of a proved part as canonical texts, one batch at a time, whatever the part's format."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import IO

from strongroom.formats.blocks import CutRows, cut_into_blocks
from strongroom.formats.codecs import blocks, decompress
from strongroom.formats.line_reader import texts_of_content
from strongroom.records import TableShape, VerifiedPart
from strongroom.restore.refusals import TYPE_CHANGED


class PartBatches:
    """The rows of a part whose compressed file was proved before. Close them before the file.

    Rows in the order of their date are cut where the date changes, so that a range of dates holds exactly those of a batch.

    Args:
        part: The record of the file.
        shape: Of the archived table.
        handle: The file, at its beginning.
        done_rows: How many rows to leave out.
        most_rows: The most rows of one batch.
        most_bytes: About the most bytes of one batch.
    """

    def __init__(
        self,
        part: VerifiedPart,
        shape: TableShape,
        handle: IO[bytes],
        done_rows: int,
        *,
        most_rows: int,
        most_bytes: int,
    ) -> None:
        self._texts = _behind(done_rows, _texts(part, shape, handle))
        self._ahead: deque[bytes] = deque()
        self._most_ahead = most_bytes
        date = [column.name for column in shape.columns].index(shape.date_column) if part.ordered else None
        end = part.end_at.isoformat()
        self._batches = cut_into_blocks(self._in_turn(), date, end, most_rows=most_rows, most_bytes=most_bytes)

    def __iter__(self) -> Iterator[CutRows]:
        """The batches in their order.

        Raises:
            IntegrityError: A parquet file is damaged, or a line does not have the columns' values.
        """
        return self._batches

    def read_ahead(self) -> None:
        """Read a few rows of the next batch, while somebody else works on this one. Raises as the iteration does."""
        if sum(map(len, self._ahead)) < self._most_ahead:
            self._ahead += islice(self._texts, 1)

    def close(self) -> None:
        """Stop reading."""
        self._texts.close()

    def _in_turn(self) -> Iterator[bytes]:
        while True:
            if not self._ahead:
                self.read_ahead()
            if not self._ahead:
                return
            yield self._ahead.popleft()


def _texts(part: VerifiedPart, shape: TableShape, handle: IO[bytes]) -> Iterator[bytes]:
    """The part's rows, some at a time, each with its newline."""
    if part.format == "parquet":
        from strongroom.formats.parquet import parquet_rows  # imports Arrow, which JSON lines do not need

        yield from parquet_rows(handle, part.shape_sha256)
        return
    content = decompress(part.compression_type, blocks(handle), on_chunk=len)
    yield from texts_of_content(shape, content, hint=TYPE_CHANGED)


def _behind(done_rows: int, texts: Iterable[bytes]) -> Generator[bytes]:
    """The rows behind some, without the newline of the last one."""
    for rows in texts:
        if not done_rows:
            yield rows[:-1]
            continue
        every = rows.split(b"\n")[:-1]
        if done_rows < len(every):
            yield b"\n".join(every[done_rows:])
        done_rows = max(0, done_rows - len(every))
