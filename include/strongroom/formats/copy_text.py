"""The text format of ``COPY``: one line a row, tabs between the fields, backslashes before what would end either.

See https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from operator import itemgetter
from typing import Final, cast

NULL = "\\N"
"""What stands for NULL."""

ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
"""Each character that the server escapes when it writes. The backslash must be replaced first."""

_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:\+00(?::00)?)?)?")
_TRANSLATED: Final = str.maketrans(ESCAPES)


def copy_rows(columns: Iterable[Iterable[str]]) -> bytes:
    """Rows for ``COPY … FROM STDIN``, each with its newline; the values must be escaped."""
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""]).encode()


def escape(value: str) -> str:
    """One value as COPY writes it."""
    return value.translate(_TRANSLATED)


def escape_all(values: Sequence[str | None]) -> Sequence[str]:
    """Values as COPY writes them. Nearly all need no escape, so they are searched as one text.

    Raises:
        ValueError: A value holds a NUL, which no text of PostgreSQL does.
    """
    joined = "".join(filter(None, values))
    if "\0" in joined:
        raise ValueError("a NUL")
    if any(character in joined for character in ESCAPES):
        # All of them at once, with a character between them that none of them holds.
        joined = "\0".join([value or "" for value in values])
        for character, escaped in ESCAPES.items():
            joined = joined.replace(character, escaped)
        values = [None if value is None else text for value, text in zip(values, joined.split("\0"), strict=True)]
    if None in values:
        return [NULL if value is None else value for value in values]
    return cast("Sequence[str]", values)


def unescape_all(values: Sequence[str]) -> list[str | None]:
    """The reverse of :func:`escape_all`: the texts of values that COPY wrote, None where it wrote NULL."""
    return [
        value if "\\" not in value else None if value == NULL else _ESCAPED.sub(_unescaped, value) for value in values
    ]


_ESCAPED = re.compile(r"\\(.)")
_BACK = {escaped[1]: character for character, escaped in ESCAPES.items()}


def _unescaped(found: re.Match[str]) -> str:
    return _BACK[found[1]]


def picked(rows: Sequence[bytes], width: int, positions: Sequence[int]) -> Sequence[bytes]:
    """Some fields of each row.

    Args:
        rows: Of COPY's text format, without newlines.
        width: How many fields each has.
        positions: Of the fields to take, in their new order; at least one.
    """
    head, tail = [*positions], width
    while head and head[-1] == tail - 1:  # what is behind the last field that is left out stays in one piece
        tail = head.pop()
    if not head and not tail:
        return rows
    places = [*head, tail] if tail < width else head
    take = itemgetter(*places)
    splits = max(places) + (tail == width)
    if len(places) == 1:
        return [take(row.split(b"\t", splits)) for row in rows]
    return [b"\t".join(take(row.split(b"\t", splits))) for row in rows]


def instant_of(text: str) -> datetime:
    """A date or an instant, as PostgreSQL writes it in UTC or in ISO's form.

    Python 3.10 reads neither ``+00`` nor a fraction that has not three or six digits.

    Raises:
        ValueError: It is neither, or one that Python's calendar does not have, such as ``infinity``.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:50]!r} is not a date")
    day, time, fraction = found.groups()
    whole = datetime.fromisoformat(f"{day}T{time or '00:00:00'}")
    return whole.replace(microsecond=int((fraction or "").ljust(6, "0")), tzinfo=timezone.utc)
