"""JSON lines out of the text in which PostgreSQL writes whole rows: byte for byte those of :func:`shape.json_line`.

The server writes a row as text in a third of the time that ``row_to_json`` takes it, and this process has a core of its
own. A row's text is ``(1,,"two words")``: fields between commas, quoted where they hold anything else than plain
characters, quotes and backslashes doubled inside quotes; nothing at all is NULL and ``""`` the empty string. See
https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX

Rows are converted a batch at a time and column by column, which keeps the interpreter's own work small.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring as _quote

from strongroom.errors import IntegrityError
from strongroom.records import Column, TableShape

_EMPTY = "\0"
"""Stands for the empty string, as '' stands for NULL: no text of PostgreSQL holds this character."""

_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^,"]*))(?:,|$)', re.DOTALL)
_ARRAY_TOKEN = re.compile(r'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_NUMBERS = frozenset({"smallint", "integer", "bigint", "real", "double precision", "numeric"})

_Values = Sequence[str]
_Convert = Callable[[_Values], list[str]]

csv.field_size_limit(sys.maxsize)  # of the whole process: a field may have a gigabyte


class LineWriter:
    """Writes the JSON lines of one table.

    Args:
        shape: The table's columns. Those of type xml are not taken from a row's text: see :meth:`lines`.
    """

    def __init__(self, shape: TableShape) -> None:
        self._columns = shape.columns
        self._converts = [_conversion(column) for column in shape.columns]
        names = (_quote(column.name).replace("%", "%%") for column in shape.columns)
        self._template = "{" + ",".join(f"{name}:%s" for name in names) + "}\n"

    def lines(self, texts: Sequence[str], served: Sequence[Sequence[str]] = ()) -> list[str]:
        """The lines of a batch of rows, each with its newline.

        Args:
            texts: Each row as ``concat(row.*)`` writes it, with the settings of :data:`source.PINNED`.
            served: Of each row, the JSON text of its xml columns, made by the server: what xml's own output leaves out
                (the encoding that a document declares) is not in a row's text.

        Raises:
            IntegrityError: A text is not that of a row of the table.
        """
        columns = [list(values) for values in zip(*self._fields(texts), strict=True)]
        converted = [convert(values) for convert, values in zip(self._converts, columns, strict=True)]
        for position, values in zip(server_written(self._columns), zip(*served, strict=True), strict=True):
            converted[position] = list(values)
        template = self._template
        return [template % row for row in zip(*converted, strict=True)]

    def _fields(self, texts: Sequence[str]) -> list[list[str]]:
        width = len(self._columns)
        if width == 1 or any(map(_has_empty_string, texts)):
            rows = [_split(text) for text in texts]
        else:
            rows = list(csv.reader((text[1:-1] for text in texts), strict=True))
            if any("\\" in text for text in texts):
                rows = [[value.replace("\\\\", "\\") for value in row] for row in rows]
        if len(rows) != len(texts) or any(len(row) != width for row in rows):
            raise IntegrityError(
                "the server's text of a row does not have the table's columns",
                expected=f"{width} columns",
                found=", ".join(sorted({str(len(row)) for row in rows} - {str(width)})) or f"{len(rows)} rows",
                hint="Nothing was kept of this part and no row was deleted. Clear 'plan' and the tasks after it.",
            )
        return rows


def server_written(columns: Sequence[Column]) -> list[int]:
    """Positions of the columns whose JSON text the server has to write."""
    return [position for position, column in enumerate(columns) if column.base_type == "xml"]


def _has_empty_string(text: str) -> bool:
    """Whether a field may be the empty string, which the csv module cannot tell from NULL."""
    return '""' in text and (',"",' in text or text.startswith('("",') or text.endswith(',"")'))


def _split(text: str) -> list[str]:
    """The fields of one row's text."""
    inside, fields, position = text[1:-1], [], 0
    while True:
        found = _FIELD.match(inside, position)
        if found is None:
            return []
        quoted, plain = found.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"').replace("\\\\", "\\") or _EMPTY)
        if found.end() == len(inside) and not found.group().endswith(","):
            return fields
        if found.end() == len(inside):
            return [*fields, ""]
        position = found.end()


def _conversion(column: Column) -> _Convert:
    if column.encoding == "jsonb":
        return _jsonb
    if column.encoding == "array":
        return _arrays(_scalar(re.sub(r"(\[\])+$", "", column.base_type)))
    return _scalar(column.base_type) if column.encoding == "json" else _strings


def _scalar(base_type: str) -> _Convert:
    """How the values of a type that ``to_json`` has a form for are written."""
    name = re.sub(r"\(.*?\)", "", base_type)
    if name in _NUMBERS:
        return _numbers if name in ("real", "double precision", "numeric") else _integers
    special: dict[str, _Convert] = {
        "boolean": _booleans,
        "timestamp without time zone": _timestamps,
        "timestamp with time zone": _timestamps,
    }
    return special.get(name, _strings)


def _integers(values: _Values) -> list[str]:
    return [value or "null" for value in values]


def _numbers(values: _Values) -> list[str]:
    """NaN and the infinities are no numbers in JSON, and end in a letter."""
    return [(value if value[-1].isdigit() else f'"{value}"') if value else "null" for value in values]


def _booleans(values: _Values) -> list[str]:
    words = {"t": "true", "f": "false", "": "null"}
    return [words[value] for value in values]


def _timestamps(values: _Values) -> list[str]:
    """ISO 8601, as ``to_json`` writes it; the pinned time zone is UTC."""
    return [
        '"' + value.replace(" ", "T", 1).replace("+00", "+00:00", 1) + '"' if value else "null" for value in values
    ]


def _strings(values: _Values) -> list[str]:
    quote = _quote
    return [(quote(value) if value != _EMPTY else '""') if value else "null" for value in values]


def _jsonb(values: _Values) -> list[str]:
    return [(value if value[0] in "{[" else _quote(value)) if value else "null" for value in values]


def _arrays(convert: _Convert) -> _Convert:
    def write(value: str) -> str:
        if not value:
            return "null"
        if value.startswith("["):  # a lower bound that is not 1
            return _quote(value)
        return "".join(_array(value, convert))

    return lambda values: [write(value) for value in values]


def _array(literal: str, convert: _Convert) -> Iterator[str]:
    """JSON of an array literal: brackets, commas and elements in their order."""
    for mark, quoted, plain in _ARRAY_TOKEN.findall(literal):
        if mark:
            yield {"{": "[", "}": "]", ",": ","}[mark]
        elif plain:
            yield "null" if plain.upper() == "NULL" else convert([plain])[0]
        else:
            yield convert([_ESCAPED.sub(r"\1", quoted) or _EMPTY])[0]


