"""JSON lines out of the texts of values, as PostgreSQL writes them: byte for byte those of :func:`shape.json_line`; and back.

The server writes a row as text in a third of the time that ``row_to_json`` takes it, and this process has a core of its
own. Rows are converted a batch at a time and column by column, by Arrow: the interpreter only sees values that need
more than quotes around them.

The way back gives what ``COPY … FROM STDIN`` reads in its text format, each value as its type's own input takes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring as _quote
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from strongroom.records import Column, TableShape
from strongroom.row_texts import Texts

_ARRAY_TOKEN = re.compile(r'([{},])|"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)
_TYPMOD = re.compile(r"\(.*?\)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = bytes([*range(0x20), *b'"\\'])

_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_NUMBERS = _INTEGERS | {"real", "double precision", "numeric"}

_Convert = Callable[[Any], Any]
"""Makes JSON of a column's texts; NULL stays NULL."""


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
        for name, convert, column in zip(self._names, self._converts, texts, strict=True):
            pieces += [name, pc.fill_null(convert(column), "null")]
        lines = pc.binary_join_element_wise(*pieces, "}\n", "")
        return bytes(lines.buffers()[2])


def _conversion(column: Column) -> _Convert:
    if column.encoding == "jsonb":
        return _jsonb
    if column.encoding == "array":
        return _arrays(_scalar(re.sub(r"(\[\])+$", "", column.base_type)))
    return _scalar(column.base_type) if column.encoding == "json" else _strings


def _scalar(base_type: str) -> _Convert:
    """How the values of a type that ``to_json`` has a form for are written."""
    name = _TYPMOD.sub("", base_type)
    if name in _INTEGERS:
        return _as_they_stand
    if name in _NUMBERS:
        return _numbers
    special: dict[str, _Convert] = {
        "boolean": _booleans,
        "timestamp without time zone": _timestamps,
        "timestamp with time zone": _timestamps,
    }
    return special.get(name, _strings)


def _as_they_stand(values: Any) -> Any:
    return values


def _numbers(values: Any) -> Any:
    """NaN and the infinities are no numbers in JSON, and end in these letters."""
    strange = pc.or_(pc.ends_with(values, "N"), pc.ends_with(values, "y"))
    return pc.if_else(strange, _quoted(values), values) if strange.true_count else values


def _booleans(values: Any) -> Any:
    return pc.if_else(pc.equal(values, "t"), "true", "false")


def _timestamps(values: Any) -> Any:
    """ISO 8601, as ``to_json`` writes it; the pinned time zone is UTC."""
    dated = pc.replace_substring(values, " ", "T", max_replacements=1)
    return _quoted(pc.replace_substring(dated, "+00", "+00:00", max_replacements=1))


def _strings(values: Any) -> Any:
    if not _needs_escapes(_characters(values)):
        return _quoted(values)
    return pa.array([None if value is None else _quote(value) for value in values.to_pylist()], pa.string())


def _jsonb(values: Any) -> Any:
    whole = pc.or_(pc.starts_with(values, "{"), pc.starts_with(values, "["))
    return pc.if_else(whole, values, _strings(pc.if_else(whole, None, values)))


def _characters(values: Any) -> bytes:
    """All values one after the other; a slice's buffers are those of the whole."""
    _, offsets, characters = values.buffers()
    if characters is None:
        return b""
    first, last = (memoryview(offsets).cast("i")[values.offset + position] for position in (0, len(values)))
    return bytes(characters.slice(first, last - first))


def _needs_escapes(characters: bytes) -> bool:
    return len(characters.translate(None, _TO_ESCAPE)) != len(characters)


def _quoted(values: Any) -> Any:
    return pc.binary_join_element_wise('"', values, '"', "")


def _arrays(convert: _Convert) -> _Convert:
    def write(values: Any) -> Any:
        each_once = values.dictionary_encode()
        elements: list[str] = []
        written = [_array(value, elements) for value in each_once.dictionary.to_pylist()]
        converted = iter(convert(pa.array(elements, pa.string())).to_pylist())
        texts = ["".join(next(converted) if token is None else token for token in tokens) for tokens in written]
        return pa.array(texts, pa.string()).take(each_once.indices)

    return write


def _array(literal: str, elements: list[str]) -> list[str | None]:
    """JSON of an array literal in pieces; each element is added to the list instead, and None takes its place."""
    if literal.startswith("["):  # a lower bound that is not 1
        return [_quote(literal)]
    return list(_tokens(literal, elements))


def _tokens(literal: str, elements: list[str]) -> Iterator[str | None]:
    for mark, quoted, plain in _ARRAY_TOKEN.findall(literal):
        if mark:
            yield {"{": "[", "}": "]", ",": ","}[mark]
        elif plain.upper() == "NULL":
            yield "null"
        else:
            elements.append(plain or _ESCAPED.sub(r"\1", quoted))
            yield None


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
        return msgspec.Raw, _literals
    name = _TYPMOD.sub("", column.base_type) if column.encoding == "json" else ""
    if name in _INTEGERS:
        return int | None, lambda values: ["\\N" if value is None else str(value) for value in values]
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
