"""JSON lines back to canonical texts: rows exactly as the server's ``COPY`` writes them under pinned settings.

The reverse of :mod:`strongroom.formats.line_writer`, value for value. Values are copied from the line as text: no number
passes through a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from strongroom.errors import IntegrityError
from strongroom.formats.copy_text import NULL, copy_rows, escape_all
from strongroom.formats.type_names import INTEGERS, NUMBERS, without_modifier
from strongroom.records import Column, TableShape

_DECODE_TEXT: Callable[[bytes | str], str | None] = msgspec.json.Decoder(str | None).decode


class LineReader:
    """Reads JSON lines back into canonical texts.

    Args:
        columns: The columns to read as they were archived, in the order of the texts; a line may have others.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        kinds = [_kind(column) for column in columns]
        self._reads = [read for _, read in kinds]
        self._types: list[Any] = [type_ for type_, _ in kinds]
        self._decoded: Callable[[Sequence[bytes]], Iterable[tuple[Any, ...]]] = self._decoded_by_name
        if not any(_UNNAMEABLE.search(name) for name in self._names):
            fields = [
                (f"f{position}", type_, msgspec.field(name=name))
                for position, (name, type_) in enumerate(zip(self._names, self._types, strict=True))
            ]
            # The values of a line hold no references, so the garbage collector need not track them.
            decode = msgspec.json.Decoder(msgspec.defstruct("Line", fields, gc=False)).decode
            self._decoded = lambda lines: map(msgspec.structs.astuple, map(decode, lines))

    def texts(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The canonical texts of lines, some rows at a time, a newline behind each. Raises as :meth:`columns`."""
        for some in batches(lines, most_lines=_LINES, most_bytes=_BYTES):
            yield copy_rows(self.columns(some))

    def columns(self, lines: Sequence[bytes]) -> list[Sequence[str]]:
        """The values of some lines, column by column, as COPY writes them.

        Args:
            lines: Without their newlines, at least one.

        Raises:
            msgspec.MsgspecError: A line is no JSON object with these fields, or holds what no text of PostgreSQL does.
        """
        try:
            try:
                fields = list(zip(*self._decoded(lines), strict=True))
            except RecursionError:  # a document is nested deeper than the decoder allows
                fields = list(zip(*self._decoded_flat(lines), strict=True))
            return [read(values) for read, values in zip(self._reads, fields, strict=True)]
        except (KeyError, ValueError, RecursionError):
            # no such field; bytes that are no UTF-8, a NUL, a number without end; an array of too many dimensions
            raise msgspec.ValidationError("a line does not have the columns' values") from None

    def _decoded_by_name(self, lines: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        """For names that the decoder cannot match."""
        for line in lines:
            yield self._typed(_BY_NAME.decode(line))

    def _decoded_flat(self, lines: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        """For values of any depth: the decoder does not see what is inside them."""
        for line in lines:
            flat, taken_out = _flattened(line)
            found = _BY_NAME.decode(flat)
            for name, value in found.items():
                place = bytes(value)
                if place.startswith(b"["):
                    found[name] = msgspec.Raw(taken_out[int(place[1:-1])])
            yield self._typed(found)

    def _typed(self, found: dict[str, msgspec.Raw]) -> tuple[Any, ...]:
        return tuple(
            found[name] if type_ is msgspec.Raw else msgspec.json.decode(found[name], type=type_)
            for name, type_ in zip(self._names, self._types, strict=True)
        )


def _kind(column: Column) -> tuple[Any, Callable[[Sequence[Any]], Sequence[str]]]:
    """How a column's JSON is decoded, and how COPY's text is made of what comes out."""
    if column.encoding == "jsonb":
        return msgspec.Raw, _texts_of_json
    name = without_modifier(column.base_type)
    if column.encoding == "array":
        return msgspec.Raw, partial(_literals, dated=name.removesuffix("[]") in _DATED)
    if column.encoding == "text":
        return str | None, escape_all
    if name in INTEGERS:
        return int | None, _integers
    if name in NUMBERS:
        return msgspec.Raw, _numbers
    if name == "boolean":
        return bool | None, lambda values: [_BOOLEANS[value] for value in values]
    return str | None, _timestamps if name in _DATED else escape_all


def _flattened(line: bytes) -> tuple[bytes, list[bytes]]:
    """A line with the number of each array and object in it in brackets instead, and these."""
    pieces: list[bytes] = []
    taken_out: list[bytes] = []
    depth = begin = end = 0
    for token in _TEXT_OR_BRACKET.finditer(line):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth == 2:
                begin = token.start()
                pieces.append(line[end:begin])
        elif token[0] in (b"}", b"]"):
            depth -= 1
            if depth == 1:
                end = token.end()
                pieces.append(b"[%d]" % len(taken_out))
                taken_out.append(line[begin:end])
    return b"".join([*pieces, line[end:]]), taken_out


_TEXT_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)
_BY_NAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')
_BOOLEANS = {True: "t", False: "f", None: NULL}
_DATED = frozenset({"timestamp without time zone", "timestamp with time zone"})
_LINES, _BYTES = 500, 1 << 20
"""The most that are read at a time. With more of them each takes longer: they leave the processor's cache."""


def _integers(values: Sequence[int | None]) -> Sequence[str]:
    return [NULL if value is None else str(value) for value in values] if None in values else [*map(str, values)]


def _numbers(values: Sequence[msgspec.Raw]) -> Sequence[str]:
    texts = _texts(values)
    if "null" in texts or '"' in "".join(texts):  # NaN and the infinities are in quotes
        return [NULL if text == "null" else text.strip('"') for text in texts]
    return texts


def _texts_of_json(values: Sequence[msgspec.Raw]) -> Sequence[str]:
    """Scalars are in the text of a string."""
    return escape_all(
        [text if text[0] in "{[" else None if text == "null" else _DECODE_TEXT(text) for text in _texts(values)]
    )


def _texts(values: Sequence[msgspec.Raw]) -> list[str]:
    texts = str(b"\n".join(values), "utf-8").split("\n")
    return texts if len(texts) == len(values) else [str(value, "utf-8") for value in values]


def _timestamps(values: Sequence[str | None]) -> Sequence[str]:
    return _without_iso("\n".join(escape_all(values))).split("\n")


def _without_iso(text: str) -> str:
    """Timestamps in ISO 8601 as the server writes them in its own style."""
    return text.replace("T", " ").replace("+00:00", "+00")


def _literals(values: Sequence[msgspec.Raw], *, dated: bool) -> Sequence[str]:
    """Array literals. Most tables repeat a few arrays, so each different one is made once."""
    texts = _texts(values)
    each_once = [*set(texts)]
    written = dict(zip(each_once, escape_all([_literal(text, dated) for text in each_once]), strict=True))
    return [*map(written.__getitem__, texts)]


def _literal(text: str, dated: bool) -> str | None:
    """An array's literal; one whose lower bound is not 1 is one already."""
    return "".join(_array_literal(text, dated)) if text.startswith("[") else _DECODE_TEXT(text)


def _array_literal(value: str | msgspec.Raw, dated: bool) -> Iterator[str]:
    yield "{"
    for position, element in enumerate(msgspec.json.decode(value, type=list[msgspec.Raw])):
        if position:
            yield ","
        text = bytes(element)
        if text.startswith(b"["):
            yield from _array_literal(element, dated)
        elif text.startswith(b'"'):
            inside = msgspec.json.decode(element, type=str)
            yield _element(_without_iso(inside) if dated else inside)
        else:
            yield _WORDS.get(text) or text.decode()
    yield "}"


def _element(text: str) -> str:
    """An element in quotes where the server would put it in quotes."""
    if _TO_QUOTE.search(text) is None and text and text.upper() != "NULL":
        return text
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


_TO_QUOTE = re.compile(r'[\t-\r "\\{},]')
_WORDS = {b"true": "t", b"false": "f", b"null": "NULL"}


def texts_of_content(shape: TableShape, content: Iterable[bytes], *, hint: str) -> Iterator[bytes]:
    """Canonical texts of archived JSON lines, some rows at a time, each row with its newline.

    Args:
        content: The lines in blocks of any size.
        hint: Of the error.

    Raises:
        IntegrityError: A line does not have the columns' values.
    """
    try:
        yield from LineReader(shape.columns).texts(split_lines(content))
    except msgspec.MsgspecError as error:
        raise unreadable(shape, type(error).__name__, hint=hint) from None


def unreadable(shape: TableShape, found: str, *, hint: str) -> IntegrityError:
    """The error about archived rows that are not what their columns can hold."""
    return IntegrityError(
        f"archived rows of {shape.schema_name}.{shape.table_name} do not read back into their column types",
        expected="rows that their column types can hold",
        found=found,
        hint=hint,
    )


def split_lines(source: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream of blocks, without their newlines."""
    begun: list[bytes] = []  # of a line that goes on: joined once, however many blocks it has
    for block in source:
        first, *further = block.split(b"\n")
        begun.append(first)
        if further:
            yield b"".join(begun)
            *lines, rest = further
            yield from lines
            begun = [rest]
    if rest := b"".join(begun):
        yield rest


def batches(lines: Iterable[bytes], *, most_lines: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Group lines, limited by number and by bytes; a single larger line forms its own batch."""
    batch: list[bytes] = []
    size_bytes = 0
    for line in lines:
        batch.append(line)
        size_bytes += len(line)
        if len(batch) >= most_lines or size_bytes >= most_bytes:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
