"""JSON lines from the texts in which PostgreSQL writes values: byte for byte those of :func:`strongroom.database.rows.json_line`.

A row as text costs the server little more than half of ``row_to_json``, and this process has a core of its own. Arrow
converts a batch of rows column by column; Python handles only values that need more than quotes around them.
:mod:`strongroom.formats.line_reader` does the reverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as _quote
from typing import Any

from strongroom.formats.arrow import pa, pc
from strongroom.formats.row_texts import Texts, characters
from strongroom.formats.type_names import INTEGERS, NUMBERS, without_modifier
from strongroom.records import Column, TableShape

_ARRAY_TOKEN = re.compile(r'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = bytes([*range(0x20), *b'"\\'])

_Json = tuple[Any, str]
"""JSON of a column's values, and what is to stand on both sides of each: a quote or nothing. NULL stays NULL."""
_Convert = Callable[[Any], _Json]
"""Makes JSON of a column's texts."""


class LineWriter:
    """Writes the JSON lines of one table."""

    def __init__(self, shape: TableShape) -> None:
        self._converts = [_conversion(column) for column in shape.columns]
        marks = ["{", *([","] * len(shape.columns))]
        self._names = [f"{mark}{_quote(column.name)}:" for mark, column in zip(marks, shape.columns, strict=False)]

    def lines(self, texts: Texts) -> bytes:
        """The lines of a batch of rows, each with its newline.

        Args:
            texts: The table's columns, at least one row.
        """
        pieces: list[Any] = []
        between = ""  # two values: what closes the one and opens the other
        for name, convert, column in zip(self._names, self._converts, texts, strict=True):
            values, quote = convert(column)
            if values.null_count:
                values, quote = _whole(values, quote), ""
            pieces += [between + name + quote, values]
            between = quote
        lines = pc.binary_join_element_wise(
            *pieces, between + "}\n", "", null_handling="replace", null_replacement="null"
        )
        return bytes(lines.buffers()[2])


def _conversion(column: Column) -> _Convert:
    if column.encoding == "jsonb":
        return _jsonb
    if column.encoding == "array":
        return _arrays(_scalar(re.sub(r"(\[\])+$", "", column.base_type)))
    return _scalar(column.base_type) if column.encoding == "json" else _strings


def _scalar(base_type: str) -> _Convert:
    """How the values of a type that ``to_json`` has a form for are written."""
    name = without_modifier(base_type)
    if name in INTEGERS:
        return _as_they_stand
    if name in NUMBERS:
        return _numbers
    special: dict[str, _Convert] = {
        "boolean": _booleans,
        "bytea": _bytes,
        "timestamp without time zone": _timestamps,
        "timestamp with time zone": _timestamps,
    }
    return special.get(name, _strings)


def _as_they_stand(values: Any) -> _Json:
    return values, ""


def _numbers(values: Any) -> _Json:
    """NaN and the infinities are no numbers in JSON, and end in these letters."""
    strange = pc.or_(pc.ends_with(values, "N"), pc.ends_with(values, "y"))
    return pc.if_else(strange, _whole(values, '"'), values) if strange.true_count else values, ""


def _booleans(values: Any) -> _Json:
    return pc.if_else(pc.equal(values, "t"), "true", "false"), ""


def _timestamps(values: Any) -> _Json:
    """ISO 8601, as ``to_json`` writes it; the pinned time zone is UTC."""
    dated = pc.replace_substring(values, " ", "T", max_replacements=1)
    return pc.replace_substring(dated, "+00", "+00:00", max_replacements=1), '"'


def _bytes(values: Any) -> _Json:
    """Hexadecimal digits behind one backslash."""
    return pc.replace_substring(values, "\\", "\\\\"), '"'


def _strings(values: Any) -> _Json:
    if not _needs_escapes(characters(values)):
        return values, '"'
    return pa.array([None if value is None else _quote(value) for value in values.to_pylist()], pa.string()), ""


def _jsonb(values: Any) -> _Json:
    whole = pc.or_(pc.starts_with(values, "{"), pc.starts_with(values, "["))
    if not whole.false_count:
        return values, ""
    scalars = pc.if_else(whole, None, values)
    return pc.if_else(whole, values, _whole(*_strings(scalars))), ""


def _needs_escapes(text: bytes) -> bool:
    return len(text.translate(None, _TO_ESCAPE)) != len(text)


def _whole(values: Any, quote: str) -> Any:
    return pc.binary_join_element_wise(quote, values, quote, "") if quote else values


def _arrays(convert: _Convert) -> _Convert:
    def write(values: Any) -> _Json:
        each_once = values.dictionary_encode()
        elements: list[str] = []
        written = [_array(value, elements) for value in each_once.dictionary.to_pylist()]
        converted = iter(_whole(*convert(pa.array(elements, pa.string()))).to_pylist())
        texts = ["".join(next(converted) if token is None else token for token in tokens) for tokens in written]
        return pa.array(texts, pa.string()).take(each_once.indices), ""

    return write


def _array(literal: str, elements: list[str]) -> list[str | None]:
    """JSON of an array literal in pieces; each element is added to the list instead, and None takes its place."""
    if literal.startswith("["):  # a lower bound that is not 1
        return [_quote(literal)]
    inner = literal[1:-1]
    if not inner or '"' in inner or "{" in inner or "NULL" in inner.upper():
        return list(_tokens(literal, elements))
    plain = inner.split(",")
    elements += plain
    return ["[", *[None, ","] * (len(plain) - 1), None, "]"]


def _tokens(literal: str, elements: list[str]) -> Iterator[str | None]:
    for mark, quoted, plain in _ARRAY_TOKEN.findall(literal):
        if mark:
            yield {"{": "[", "}": "]", ",": ","}[mark]
        elif plain.upper() == "NULL":
            yield "null"
        else:
            elements.append(plain or _ESCAPED.sub(r"\1", quoted))
            yield None
