"""The text format of ``COPY``: one line a row, tabs between the fields, backslashes before what would end either.

See https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

NULL = "\\N"
"""What stands for NULL."""

ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
"""Each character that the server escapes when it writes. The backslash must be replaced first."""

NEEDED = {character: ESCAPES[character] for character in "\\\n\r\t"}
"""The escapes that the server needs when it reads. Fewer to look for, so they are used where nobody compares bytes."""

_NEEDED: Final = str.maketrans(NEEDED)


def copy_rows(columns: Iterable[Iterable[str]]) -> bytes:
    """Rows for ``COPY … FROM STDIN``, each with its newline; the values must be escaped."""
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""]).encode()


def escape(value: str) -> str:
    """One value for ``COPY … FROM STDIN``."""
    return value.translate(_NEEDED)


def escape_all(values: Sequence[str | None]) -> Sequence[str]:
    """Values for ``COPY … FROM STDIN``. Nearly all need no escape, so they are searched as one text.

    Raises:
        ValueError: A value holds a NUL, which no text of PostgreSQL does.
    """
    joined = "".join(filter(None, values))
    if "\0" in joined:
        raise ValueError("a NUL")
    if any(character in joined for character in NEEDED):
        # All of them at once, with a character between them that none of them holds.
        joined = "\0".join([value or "" for value in values])
        for character, escaped in NEEDED.items():
            joined = joined.replace(character, escaped)
        values = [None if value is None else text for value, text in zip(values, joined.split("\0"), strict=True)]
    if None in values:
        return [NULL if value is None else value for value in values]
    return cast("Sequence[str]", values)
