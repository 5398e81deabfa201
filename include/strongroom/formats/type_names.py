"""Names of PostgreSQL types: only text that ``format_type()`` can write may become part of a statement.

Others may be able to write to the store that holds a manifest, and a type's name can neither be a parameter nor be quoted as
a whole. So each name is checked against the grammar of ``format_type()``, which leaves no room for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from strongroom.records import Column

_NAME = r'(?:[a-z_][a-z0-9_]*|"(?:[^"\x00]|"")+")'
_MODIFIER = r"-?[A-Za-z0-9_.]+"
_FIELD = r"(?:year|month|day|hour|minute|second)"
_TYPE_NAME = re.compile(
    rf"{_NAME}(?:\.{_NAME})?(?: varying| precision)?(?:\({_MODIFIER}(?:, ?{_MODIFIER})*\))?"
    rf"(?: (?:with|without) time zone| {_FIELD}(?: to {_FIELD})?(?:\([0-9]\))?)?(?:\[\])*"
)

_IN_A_SCHEMA = re.compile(rf"{_NAME}\.")

_WITHIN_BRACKETS = re.compile(r"\(.*?\)")

INTEGERS = frozenset({"smallint", "integer", "bigint"})
NUMBERS = INTEGERS | {"real", "double precision", "numeric"}
"""Types whose JSON is a number."""


def without_modifier(text: str) -> str:
    """A type's name without the part in brackets: ``numeric(8,2)`` and ``timestamp(3) with time zone``."""
    return _WITHIN_BRACKETS.sub("", text)


def is_type_name(text: str) -> bool:
    """Whether ``format_type()`` can have written a text: ``numeric(8,2)[]``, ``public."My type"``."""
    return _TYPE_NAME.fullmatch(text) is not None


def is_builtin(text: str) -> bool:
    """Whether ``format_type()`` means a type of PostgreSQL's own: sessions see no other schema, so all others are qualified."""
    return _IN_A_SCHEMA.match(text) is None


def xml_columns(columns: Sequence[Column]) -> list[int]:
    """Positions of the columns whose exact text the row's own text does not have: xml's output function leaves out the
    encoding that a document declares, and with it the whole declaration."""
    return [position for position, column in enumerate(columns) if column.base_type == "xml"]
