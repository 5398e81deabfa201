"""Rows as ``COPY`` writes them in its text format, split into columns of text, and columns joined to such rows.

That format of a row, under the pinned settings of a session and with xml as its exact text, is its *canonical text*:
extraction reads it, an archive gives it back, a delete returns it, and a restore loads it. Arrow reads and writes many rows
at a time, outside the interpreter.
"""

from __future__ import annotations

from typing import Any

from pyarrow import csv

from strongroom.errors import IntegrityError
from strongroom.formats.arrow import pa, pc
from strongroom.formats.copy_text import ESCAPES, NULL

Texts = list[pa.Array]
"""Columns of strings: the text in which PostgreSQL writes each value, NULL where there is none."""

_STAND_IN = "\0"
"""Stands for a backslash meanwhile. No text of PostgreSQL holds it."""


def read_copy(width: int, rows: bytes, count: int) -> Texts:
    """Split rows into columns.

    Args:
        width: How many columns a row has.
        rows: Canonical texts in UTF-8, a newline between each two.
        count: How many rows these are.

    Raises:
        IntegrityError: A text has another number of columns.
    """
    names = [str(position) for position in range(width)]
    # The line before the rows is skipped: a mark of byte order at the very beginning would be, too.
    block = b"\n%b\n" % rows
    try:
        read = csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=names, skip_rows=1, block_size=len(block) + 1, use_threads=False),
            csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                check_utf8=False,
                null_values=[NULL],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        raise _not_a_row(width, "another number of columns") from None
    if read.num_rows != count:
        raise _not_a_row(width, f"{read.num_rows} rows in the text of {count}")
    texts = [column.combine_chunks() for column in read.columns]
    return [*map(_unescaped, texts)] if b"\\" in block else texts


def copy_rows(texts: Texts) -> bytes:
    """The canonical texts of rows, each with its newline.

    Args:
        texts: At least one column, and one row.
    """
    pieces: list[Any] = []
    for column in texts:
        pieces += [pc.fill_null(copy_texts(column), NULL), "\t"]
    rows = pc.binary_join_element_wise(*pieces[:-1], "\n", "")
    return bytes(rows.buffers()[2])


def characters(values: pa.Array) -> bytes:
    """All values of a column one after the other; a slice's buffers are those of the whole."""
    _, offsets, every = values.buffers()
    if every is None:
        return b""
    first, last = (memoryview(offsets).cast("i")[values.offset + position] for position in (0, len(values)))
    return bytes(every.slice(first, last - first))


def copy_texts(values: pa.Array) -> pa.Array:
    """A column's texts with COPY's escapes; NULL stays NULL."""
    text = characters(values)
    for character, escape in ESCAPES.items():  # the backslash comes first
        if character.encode() in text:
            values = pc.replace_substring(values, character, escape)
    return values


def _unescaped(values: pa.Array) -> pa.Array:
    """The reverse of :func:`copy_texts`."""
    text = characters(values)
    escapes = text.count(b"\\")
    if not escapes:
        return values
    if escapes == 2 * text.count(b"\\\\"):  # nothing but backslashes is escaped
        return pc.replace_substring(values, "\\\\", "\\")
    values = pc.replace_substring(values, "\\\\", _STAND_IN)
    for character, escape in ESCAPES.items():
        values = pc.replace_substring(values, escape, character) if character != "\\" else values
    return pc.replace_substring(values, _STAND_IN, "\\")


def _not_a_row(width: int, found: str) -> IntegrityError:
    return IntegrityError(
        "the server's text of a row does not have the table's columns",
        expected=f"{width} columns",
        found=found,
        hint="Nothing was kept of this part and no row was deleted. Clear 'plan' and the tasks after it.",
    )
