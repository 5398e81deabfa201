"""A row of a result as a line of its file: a JSON array of the archive's id and the text of each value.

It stands alone because the process that searches writes such lines and needs little else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from strongroom.query.records import ResultRow

_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(tuple[str | None, ...]).decode


def as_lines(archive_id: str, rows: Iterable[Sequence[str | None]]) -> bytes:
    """Rows of one archive, a newline behind each."""
    return b"".join(_ENCODE((archive_id, *values)) + b"\n" for values in rows)


def read_line(line: bytes) -> ResultRow:
    """A row from its line, without the newline."""
    archive_id, *values = _DECODE(line)
    return ResultRow(str(archive_id), tuple(values))
