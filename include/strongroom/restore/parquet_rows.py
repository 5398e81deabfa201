"""Batches of the rows of a parquet file, whose values go to COPY as texts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import IO, Any, cast

from strongroom.formats.arrow import pa, pc
from strongroom.formats.line_reader import NULL, LineReader
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.parquet import parquet_texts
from strongroom.formats.row_texts import Texts, copy_texts
from strongroom.records import TableShape
from strongroom.restore.batch import Piece


class _TextRows:
    """A batch out of a parquet file."""

    def __init__(self, shape: TableShape, parts: list[Texts]) -> None:
        self._shape, self._parts = shape, parts

    def __len__(self) -> int:
        return sum(len(texts[0]) for texts in self._parts)

    def pieces(self, reader: LineReader) -> Iterator[Piece]:
        names = [column.name for column in self._shape.columns]
        places = [names.index(name) for name in reader.names]
        for texts in self._parts:
            columns = [pc.fill_null(copy_texts(texts[place]), NULL) for place in places]
            pieces: list[Any] = []
            for mark, column in zip(["", *["\t"] * (len(columns) - 1)], columns, strict=True):
                pieces += [mark, column]
            rows = pc.binary_join_element_wise(*pieces, "\n", "")
            yield Piece(bytes(rows.buffers()[2]), partial(_values, columns))

    def lines(self) -> list[bytes]:
        writer = LineWriter(self._shape)
        return [line for texts in self._parts for line in writer.lines(texts).split(b"\n")[:-1]]

    def equals(self, texts: Texts, writer: LineWriter) -> bool:  # noqa: ARG002 - no JSON is made of them
        return all(
            pa.chunked_array([part[place] for part in self._parts]).equals(pa.chunked_array([column]))
            for place, column in enumerate(texts)
        )


def _values(columns: Texts, place: int) -> list[str]:
    return cast("list[str]", columns[place].to_pylist())


def text_batches(
    handle: IO[bytes], shape_sum: str, done_rows: int, *, most_rows: int, most_bytes: int
) -> Generator[_TextRows]:
    """Few rows at a time where they are large, as :func:`restored_rows.restored_rows` says it.

    Raises:
        IntegrityError: The file is damaged.
    """
    parts: list[Texts] = []
    rows = size_bytes = 0
    for shape, texts in parquet_texts(handle, shape_sum):
        count = len(texts[0])
        first = min(done_rows, count)
        done_rows -= first
        while first < count:
            taken = [column.slice(first, most_rows - rows) for column in texts]
            parts.append(taken)
            first += len(taken[0])
            rows += len(taken[0])
            size_bytes += sum(column.nbytes for column in taken)
            if rows >= most_rows or size_bytes >= most_bytes:
                yield _TextRows(shape, parts)
                parts, rows, size_bytes = [], 0, 0
    if parts:
        yield _TextRows(shape, parts)
