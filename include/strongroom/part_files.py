"""What extract_to_staging writes of a part: JSON lines or a parquet file, and beside it keys and digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from strongroom.codecs import Codec
from strongroom.json_lines import LineWriter
from strongroom.parquet import PartWriter
from strongroom.records import TableShape
from strongroom.row_texts import read_rows
from strongroom.settings import TableSettings

_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
"""What stands behind a backslash in a COPY for another character; every other character stands for itself."""


@contextmanager
def part_files(shape: TableShape, settings: TableSettings, rows: IO[bytes], keys: IO[bytes]) -> Iterator[PartFiles]:
    """Write a part's rows into two files; their sums are there when the block ends."""
    if settings.format != "parquet":
        yield PartFiles(shape, rows, keys)
        return
    codec = Codec(settings.compression.type, settings.compression.effective_level)
    with PartWriter(shape, rows, codec) as parquet:
        written = PartFiles(shape, parquet, keys)
        yield written
    written.packed_sha256 = parquet.sha256


class PartFiles:
    """Makes lines and digests of a batch of rows at a time, and sums them up.

    A parquet file has the sum of its lines, too, though they are not written: it must give them back.
    """

    def __init__(self, shape: TableShape, rows: IO[bytes] | PartWriter, keys: IO[bytes]) -> None:
        self._columns = shape.columns
        self._key_columns = len(shape.primary_key)
        self._write_json = LineWriter(shape)
        self._rows, self._keys = rows, keys
        self.lines_sha256, self.keys_sha256 = hashlib.sha256(), hashlib.sha256()
        self.packed_sha256: str | None = None
        self.rows = 0
        self.size_bytes = 0

    def add(self, rows: list[bytes]) -> None:
        """Rows of the COPY: the primary key, the row's text and what the server wrote of it besides, between tabs."""
        width = self._key_columns
        fields = [row.split(b"\t") for row in rows]
        texts = [_unescape(values[width]) for values in fields]
        served = [[None if value == b"\\N" else _unescape(value) for value in values[width + 1 :]] for values in fields]
        columns = read_rows(self._columns, texts, served)
        lines = self._write_json.lines(columns)
        keys = b"".join(
            b"%b\t%b\n" % (b"\t".join(values[:width]), hashlib.sha256(text).hexdigest().encode())
            for values, text in zip(fields, texts, strict=True)
        )
        if isinstance(self._rows, PartWriter):
            self._rows.add(columns)
        else:
            self._rows.write(lines)
        self._keys.write(keys)
        self.lines_sha256.update(lines)
        self.keys_sha256.update(keys)
        self.rows += len(rows)
        self.size_bytes += len(lines)


def _unescape(value: bytes) -> bytes:
    """A field of a COPY in its text format that is not NULL."""
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)
