"""JSON lines out of the text in which PostgreSQL writes whole rows, byte for byte those of :func:`shape.json_line`; and back.

The server writes a row as text in a third of the time that ``row_to_json`` takes it, and this process has a core of its
own. A row's text is ``(1,,"two words")``: fields between commas, quoted where they hold anything else than plain
characters, quotes and backslashes doubled inside quotes; nothing at all is NULL and ``""`` the empty string. See
https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX

The way back gives what ``COPY … FROM STDIN`` reads in its text format, each value as its type's own input takes it.

Rows are converted a batch at a time and column by column, which keeps the interpreter's own work small.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring as _quote
from typing import Any

import msgspec

from strongroom.errors import IntegrityError
from strongroom.records import Column, TableShape

_EMPTY = "\0"
"""Stands for the empty string, as '' stands for NULL: no text of PostgreSQL holds this character."""

_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^,"]*))(?:,|$)', re.DOTALL)
_ARRAY_TOKEN = re.compile(r'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)
_TYPMOD = re.compile(r"\(.*?\)")
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
    name = _TYPMOD.sub("", base_type)
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
    return ['"' + value.replace(" ", "T", 1).replace("+00", "+00:00", 1) + '"' if value else "null" for value in values]


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


class LineReader:
    """Reads JSON lines back into rows for ``COPY … FROM STDIN``.

    Args:
        columns: What to read of each line, in the order that COPY is to have; a line may have others.
        aside: Names of fields whose values follow, all in one JSON object; no names, no such object.
    """

    def __init__(self, columns: Sequence[Column], aside: Sequence[str] = ()) -> None:
        self._names = [*(column.name for column in columns), *aside]
        self._width = len(columns)
        kinds = [_kind(column) for column in columns]
        self._reads = [read for _, read in kinds]
        self._types: list[Any] = [*(type_ for type_, _ in kinds), *(msgspec.Raw for _ in aside)]
        self._decode: Callable[[bytes], tuple[Any, ...]] = self._decode_by_name
        if not any(_UNNAMEABLE.search(name) for name in self._names):
            fields = [
                (f"f{position}", type_, msgspec.field(name=name))
                for position, (name, type_) in enumerate(zip(self._names, self._types, strict=True))
            ]
            decoder = msgspec.json.Decoder(msgspec.defstruct("Line", fields))
            self._decode = lambda text: msgspec.structs.astuple(decoder.decode(text))
        self._aside = [msgspec.json.encode(name).decode() for name in aside]

    def rows(self, lines: Sequence[bytes]) -> list[str]:
        """The rows of some lines, without newlines.

        Args:
            lines: Without their newlines.

        Raises:
            msgspec.MsgspecError: A line is no JSON object with these fields.
        """
        fields = list(zip(*map(self._decode, lines), strict=True))
        columns = [read(values) for read, values in zip(self._reads, fields, strict=False)]
        if self._aside:
            columns.append(_escaped([self._object(values) for values in zip(*fields[self._width :], strict=True)]))
        return ["\t".join(row) for row in zip(*columns, strict=True)]

    def _decode_by_name(self, line: bytes) -> tuple[Any, ...]:
        """For names that the decoder knows no way to match."""
        found = _BY_NAME.decode(line)
        return tuple(
            found[name] if type_ is msgspec.Raw else msgspec.json.decode(found[name], type=type_)
            for name, type_ in zip(self._names, self._types, strict=True)
        )

    def _object(self, values: Sequence[msgspec.Raw]) -> str:
        pairs = (f"{name}:{bytes(value).decode()}" for name, value in zip(self._aside, values, strict=True))
        return "{" + ",".join(pairs) + "}"


def _kind(column: Column) -> tuple[Any, Callable[[Sequence[Any]], list[str]]]:
    """How a column's JSON is decoded, and how COPY's text is made of what comes out."""
    if column.encoding == "jsonb":
        return msgspec.Raw, lambda values: _escaped([_text_of_json(value) for value in values])
    if column.encoding == "array":
        return msgspec.Raw, lambda values: _escaped([_literal(value) for value in values])
    name = _TYPMOD.sub("", column.base_type) if column.encoding == "json" else ""
    if name in _NUMBERS:
        return msgspec.Raw, lambda values: [_number(value) for value in values]
    if name == "boolean":
        return bool | None, lambda values: [_BOOLEANS[value] for value in values]
    return str | None, _escaped


_BY_NAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')
_BOOLEANS = {True: "t", False: "f", None: "\\N"}


def _escaped(values: Sequence[str | None]) -> list[str]:
    """Texts as COPY reads them; all of them at once, with a character between them that no text of PostgreSQL holds."""
    joined = "\0".join([value or "" for value in values])
    for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        joined = joined.replace(character, escape)
    return ["\\N" if value is None else text for value, text in zip(values, joined.split("\0"), strict=True)]


def _number(value: msgspec.Raw) -> str:
    text = bytes(value).decode()
    return "\\N" if text == "null" else text.strip('"')


def _text_of_json(value: msgspec.Raw) -> str | None:
    text = bytes(value).decode()
    if text.startswith('"'):
        return msgspec.json.decode(value, type=str)
    return None if text == "null" else text


def _literal(value: msgspec.Raw) -> str | None:
    """An array's literal; one whose lower bound is not 1 is one already."""
    text = bytes(value)
    if text.startswith(b"["):
        return "".join(_array_literal(value))
    return msgspec.json.decode(value, type=str | None)


def _array_literal(value: msgspec.Raw) -> Iterator[str]:
    yield "{"
    for position, element in enumerate(msgspec.json.decode(value, type=list[msgspec.Raw])):
        if position:
            yield ","
        text = bytes(element)
        if text.startswith(b"["):
            yield from _array_literal(element)
        elif text.startswith(b'"'):
            inside = msgspec.json.decode(element, type=str).replace("\\", "\\\\").replace('"', '\\"')
            yield f'"{inside}"'
        else:
            yield text.decode()  # a number, true, false or null, all of which array input takes as they are
    yield "}"
