"""Ranges of dates that hold exactly the rows of a block of a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from strongroom.calendar import Window
from strongroom.formats.blocks import Block
from strongroom.formats.copy_text import instant_of
from strongroom.records import VerifiedPart


class BlockRange(NamedTuple):
    """A block that holds exactly the archived rows of a range of dates.

    Attributes:
        first: The number of its first row in the part.
        window: Of the dates of its rows.
    """

    first: int
    block: Block
    window: Window

    @property
    def behind(self) -> int:
        """The number of the first row behind it."""
        return self.first + self.block.rows


def ranges_of(part: VerifiedPart, blocks: Sequence[Block]) -> list[BlockRange]:
    """The blocks of a part that end where their date ends, in their order."""
    ranges = []
    first, start, alone = 0, part.start_at, True
    for block in blocks:
        if block.until is not None:
            end = instant_of(block.until)
            if alone:
                ranges.append(BlockRange(first, block, Window(start, end)))
            start = end
        alone = block.until is not None
        first += block.rows
    return ranges


def rows_between(ranges: Sequence[BlockRange], rows: int) -> Iterator[tuple[int, int]]:
    """The rows of a part that are in none of some blocks: the first of each run, and how many.

    Args:
        ranges: In the order of the part's rows.
        rows: Of the part.
    """
    place = 0
    for one in ranges:
        if one.first > place:
            yield place, one.first - place
        place = one.behind
    if rows > place:
        yield place, rows - place


def date_of(row: bytes, position: int) -> datetime:
    """The date of a canonical text.

    Args:
        position: Of the date column.
    """
    return instant_of(row.split(b"\t", position + 1)[position].decode())
