"""Blocks: some thousand neighbouring rows of a part, with one digest over their canonical texts.

Rows are archived in the order of their date column. A block ends where the date changes, so that a range of dates holds
exactly its rows. Its digest is made of the sorted texts: whoever reads the rows again need not keep an order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from strongroom.errors import IntegrityError
from strongroom.formats.copy_text import NULL

BLOCK_ROWS = 4000
BLOCK_BYTES = 2 << 20
"""The most rows, and about the most bytes of canonical text, of one block."""


class Block(NamedTuple):
    """One block of a part.

    Attributes:
        rows: How many rows it has.
        sha256: Over the sorted canonical texts of its rows, each with its newline; hexadecimal.
        until: Text of the first date that is not in it; None if the rows of its last date go on in the next block. The first
            block begins where the part does.
    """

    rows: int
    sha256: str
    until: str | None


class CutRows(NamedTuple):
    """The rows of one block: canonical texts without newlines."""

    rows: list[bytes]
    until: str | None

    def block(self) -> Block:
        """What is kept of the rows."""
        return Block(len(self.rows), digest(self.rows), self.until)


def digest(rows: Iterable[bytes]) -> str:
    """SHA-256 over sorted canonical texts, each with its newline; hexadecimal."""
    return hashlib.sha256(b"".join([row + b"\n" for row in sorted(rows)])).hexdigest()


def cut_into_blocks(
    batches: Iterable[bytes], date: int | None, end: str, *, most_rows: int | None = None, most_bytes: int = BLOCK_BYTES
) -> Iterator[CutRows]:
    """Cut rows into blocks.

    Args:
        batches: Canonical texts in the order of the rows, a newline between each two.
        date: Position of the date column that the rows are ordered by; None if they are in no order.
        end: Text of the first date after the part.
        most_rows: Of one block; :data:`BLOCK_ROWS` by default.
    """
    most_rows = most_rows or BLOCK_ROWS
    waiting: list[bytes] = []
    size_bytes = 0
    for batch in batches:
        waiting += batch.split(b"\n")
        size_bytes += len(batch) + 1
        if len(waiting) <= most_rows and size_bytes <= most_bytes:
            continue
        while (most := _most(waiting, most_rows, most_bytes)) < len(waiting):
            rows, until = most, None
            if date is not None:
                rows, until = _border(waiting, most, date)
            yield CutRows(waiting[:rows], until)
            del waiting[:rows]
        size_bytes = sum(map(len, waiting)) + len(waiting)
    if waiting:
        yield CutRows(waiting, None if date is None else end)


def _most(rows: Sequence[bytes], most_rows: int, most_bytes: int) -> int:
    """How many of some rows a block takes, at least one."""
    if sum(map(len, rows[:most_rows])) <= most_bytes:
        return most_rows
    size_bytes = 0
    for number, row in enumerate(rows):
        size_bytes += len(row)
        if size_bytes > most_bytes:
            return max(1, number)
    return most_rows


def _border(rows: Sequence[bytes], most: int, date: int) -> tuple[int, str | None]:
    """How many of the first rows go into a block, so that the date changes after them, and to which."""
    following = _field(rows[most], date)
    for number in range(most, 0, -1):
        here = _field(rows[number - 1], date)
        if here != following:
            return number, following.decode()
        following = here
    return most, None


def _field(row: bytes, position: int) -> bytes:
    return row.split(b"\t", position + 1)[position]


def to_line(block: Block) -> bytes:
    """A block as it stands in staging, with its newline."""
    return f"{block.rows}\t{block.sha256}\t{NULL if block.until is None else block.until}\n".encode()


def parse_line(line: bytes) -> Block:
    """Read a block as :func:`to_line` writes it.

    Raises:
        IntegrityError: The line has another form.
    """
    try:
        rows, sha256, until = line.decode().rstrip("\n").split("\t")
        return Block(int(rows), sha256, None if until == NULL else until)
    except ValueError:
        raise IntegrityError(
            "the blocks of a part in staging do not have their form",
            hint="No row was deleted because of them. Clear this task: they are rebuilt from the archive.",
        ) from None
