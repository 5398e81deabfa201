"""Split the text in which PostgreSQL writes whole rows into columns.

A row's text is ``(1,,"two words")``: fields between commas, quoted where they hold anything else than plain characters,
quotes and backslashes doubled inside quotes; nothing at all is NULL and ``""`` the empty string. See
https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX

But for the backslashes that is CSV. Arrow reads a batch of it at a time into columns of text, outside the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyarrow import csv

from strongroom.errors import IntegrityError
from strongroom.formats.arrow import pa, pc
from strongroom.formats.copy_text import ESCAPES, unescape
from strongroom.formats.type_names import xml_columns
from strongroom.records import Column

Texts = list[pa.Array]
"""Columns of strings: the text in which PostgreSQL writes each value, NULL where there is none."""


def read_copy(columns: Sequence[Column], rows: bytes) -> tuple[list[bytes], Texts]:
    """Split the rows of a COPY into columns.

    Args:
        columns: Of the table.
        rows: The text of each row, as :func:`read_rows` says it; newlines between rows.

    Returns:
        The rows' texts, and their columns.

    Raises:
        IntegrityError: A text is not that of a row of the table.
    """
    # A newline inside a text is escaped here, so that each of these ends a row.
    texts = rows.split(b"\n")
    if b"\\" in rows:
        texts = [unescape(text) if b"\\" in text else text for text in texts]
    return texts, read_rows(columns, b"\n".join([text[1:-1] for text in texts]), len(texts))


def read_rows(columns: Sequence[Column], rows: bytes, count: int) -> Texts:
    """Split a batch of rows into columns.

    Args:
        columns: Of the table.
        rows: Each row as :func:`strongroom.database.rows.row_text` has the server write it with the pinned settings of a session, in UTF-8, but without
            its brackets; a newline between each two.
        count: How many rows these are.

    Raises:
        IntegrityError: A text is not that of a row of the table.
    """
    xml = xml_columns(columns)
    names = [str(position) for position in range(len(columns) + len(xml))]
    # The line before the rows is skipped: a mark of byte order at the very beginning would be, too.
    block = b"\n%b\n" % rows
    try:
        read = csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=names, skip_rows=1, block_size=len(block) + 1, use_threads=False),
            csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                check_utf8=False,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        raise _not_a_row(columns, "another number of columns") from None
    if read.num_rows != count:
        raise _not_a_row(columns, f"{read.num_rows} rows in the text of {count}")
    texts = [column.combine_chunks() for column in read.columns]
    if b"\\" in block:
        texts = [pc.replace_substring(text, "\\\\", "\\") if b"\\" in characters(text) else text for text in texts]
    for position, exact in zip(xml, texts[len(columns) :], strict=True):
        texts[position] = exact
    return texts[: len(columns)]


def characters(values: pa.Array) -> bytes:
    """All values of a column one after the other; a slice's buffers are those of the whole."""
    _, offsets, every = values.buffers()
    if every is None:
        return b""
    first, last = (memoryview(offsets).cast("i")[values.offset + position] for position in (0, len(values)))
    return bytes(every.slice(first, last - first))


def copy_texts(values: pa.Array) -> pa.Array:
    """A column's texts as COPY writes them in its text format."""
    text = characters(values)
    if any(character.encode() in text for character in ESCAPES):
        for character, escape in ESCAPES.items():  # the backslash comes first
            values = pc.replace_substring(values, character, escape)
    return values


def _not_a_row(columns: Sequence[Column], found: str) -> IntegrityError:
    return IntegrityError(
        "the server's text of a row does not have the table's columns",
        expected=f"{len(columns)} columns",
        found=found,
        hint="Nothing was kept of this part and no row was deleted. Clear 'plan' and the tasks after it.",
    )
