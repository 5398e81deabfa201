"""The files that extract_to_staging writes for a part: JSON lines or parquet, and beside them keys and digests."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from strongroom.formats.arrow import pa, pc
from strongroom.formats.codecs import Codec
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.parquet import PartWriter
from strongroom.formats.row_texts import Texts, copy_texts, read_copy
from strongroom.records import TableShape
from strongroom.settings import TableSettings


@contextmanager
def part_files(shape: TableShape, settings: TableSettings, rows: IO[bytes], keys: IO[bytes]) -> Iterator[PartFiles]:
    """Write a part's rows into two files; their sums are complete when the block ends."""
    if settings.format != "parquet":
        yield PartFiles(shape, rows, keys)
        return
    codec = Codec(settings.compression.type, settings.compression.effective_level)
    with PartWriter(shape, rows, codec) as parquet:
        written = PartFiles(shape, parquet, keys)
        yield written
    written.packed_sha256 = parquet.sha256


class PartFiles:
    """Makes lines and digests of one batch of rows at a time, and hashes them.

    The lines are hashed for parquet, too, though they are not written: reading the file must give the same lines.
    """

    def __init__(self, shape: TableShape, rows: IO[bytes] | PartWriter, keys: IO[bytes]) -> None:
        self._columns = shape.columns
        names = [column.name for column in shape.columns]
        self._key = [names.index(name) for name in shape.primary_key]
        self._write_json = LineWriter(shape)
        self._rows, self._keys = rows, keys
        self.lines_sha256, self.keys_sha256 = hashlib.sha256(), hashlib.sha256()
        self.packed_sha256: str | None = None
        self.rows = 0
        self.size_bytes = 0

    def add(self, rows: bytes) -> None:
        """Rows of the COPY, each its text; newlines between rows."""
        texts, columns = read_copy(self._columns, rows)
        lines = self._write_json.lines(columns)
        keys = self._key_lines(columns, _digests(texts))
        if isinstance(self._rows, PartWriter):
            self._rows.add(columns)
        else:
            self._rows.write(lines)
        self._keys.write(keys)
        self.lines_sha256.update(lines)
        self.keys_sha256.update(keys)
        self.rows += len(texts)
        self.size_bytes += len(lines)

    def _key_lines(self, columns: Texts, digests: Any) -> bytes:
        pieces: list[Any] = []
        for position in self._key:
            pieces += [copy_texts(columns[position]), "\t"]
        return bytes(pc.binary_join_element_wise(*pieces, digests, "\n", "").buffers()[2])


def _digests(texts: list[bytes]) -> Any:
    """SHA-256 of each row's text as a column of hexadecimal digits."""
    digits = b"".join([hashlib.sha256(text).digest() for text in texts]).hex().encode()
    ends = array("i", range(0, len(digits) + 1, 64))
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(digits))
