"""JSON lines read back into rows for ``COPY … FROM STDIN``, each value as its type's own input takes it.

Values are taken out of a line as they stand: a number's digits are never those of a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from strongroom.records import Column
from strongroom.type_names import INTEGERS, NUMBERS, without_modifier


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
            msgspec.MsgspecError: A line is no JSON object with these fields, or holds what no text of PostgreSQL does.
        """
        try:
            return self._rows(lines)
        except (KeyError, ValueError):  # no such field; bytes that are no UTF-8, a NUL, a number without end
            raise msgspec.ValidationError("a line does not have the columns' values") from None

    def _rows(self, lines: Sequence[bytes]) -> list[str]:
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
        return msgspec.Raw, _literals
    name = without_modifier(column.base_type) if column.encoding == "json" else ""
    if name in INTEGERS:
        return int | None, lambda values: ["\\N" if value is None else str(value) for value in values]
    if name in NUMBERS:
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


def _literals(values: Sequence[msgspec.Raw]) -> list[str]:
    """Arrays' literals. Most tables have the same few arrays again and again: each is made once."""
    texts = [bytes(value) for value in values]
    written = {text: _literal(text) for text in set(texts)}
    return _escaped([written[text] for text in texts])


def _literal(text: bytes) -> str | None:
    """An array's literal; one whose lower bound is not 1 is one already."""
    if text.startswith(b"["):
        return "".join(_array_literal(text))
    return msgspec.json.decode(text, type=str | None)


def _array_literal(value: bytes | msgspec.Raw) -> Iterator[str]:
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
