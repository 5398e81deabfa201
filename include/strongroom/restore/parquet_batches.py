"""Batches of the rows of a parquet file. The values go to COPY as texts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import IO, cast

from strongroom.formats.arrow import pa, pc
from strongroom.formats.copy_text import NULL
from strongroom.formats.line_reader import LineReader
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.parquet import parquet_texts
from strongroom.formats.row_texts import Texts, copy_rows, copy_texts
from strongroom.records import TableShape
from strongroom.restore.batch import Piece


class _TextBatch:
    """A batch of a parquet file."""

    def __init__(self, shape: TableShape, slices: list[Texts]) -> None:
        self._shape, self._slices = shape, slices

    def __len__(self) -> int:
        return sum(len(texts[0]) for texts in self._slices)

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        names = [column.name for column in self._shape.columns]
        positions = [names.index(name) for name in reader.names]
        for texts in self._slices:
            columns = [texts[position] for position in positions]
            yield Piece(copy_rows(columns), partial(_values, columns))

    def lines(self) -> list[bytes]:
        writer = LineWriter(self._shape)
        return [line for texts in self._slices for line in writer.lines(texts).split(b"\n")[:-1]]

    def equals(self, texts: Texts, writer: LineWriter) -> bool:  # noqa: ARG002 - texts are compared, not JSON
        return all(
            pa.chunked_array([part[position] for part in self._slices]).equals(pa.chunked_array([column]))
            for position, column in enumerate(texts)
        )


def _values(columns: Texts, position: int) -> list[str]:
    return cast("list[str]", pc.fill_null(copy_texts(columns[position]), NULL).to_pylist())


def parquet_batches(
    handle: IO[bytes], shape_sum: str, done_rows: int, *, most_rows: int, most_bytes: int
) -> Generator[_TextBatch]:
    """As :func:`strongroom.restore.part_batches.part_batches`; large rows make smaller batches.

    Raises:
        IntegrityError: The file is damaged.
    """
    slices: list[Texts] = []
    rows = size_bytes = 0
    for shape, texts in parquet_texts(handle, shape_sum):
        count = len(texts[0])
        first = min(done_rows, count)
        done_rows -= first
        while first < count:
            taken = [column.slice(first, most_rows - rows) for column in texts]
            slices.append(taken)
            first += len(taken[0])
            rows += len(taken[0])
            size_bytes += sum(column.nbytes for column in taken)
            if rows >= most_rows or size_bytes >= most_bytes:
                yield _TextBatch(shape, slices)
                slices, rows, size_bytes = [], 0, 0
    if slices:
        yield _TextBatch(shape, slices)
