"""Ranges of dates that hold exactly the rows of a block of a part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from strongroom.calendar import Window
from strongroom.formats.blocks import Block
from strongroom.records import VerifiedPart

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:\+00(?::00)?)?)?")


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


def instant_of(text: str) -> datetime:
    """A date as PostgreSQL writes it in UTC, or an instant in ISO's form."""
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:50]!r} is not a date")
    day, time, fraction = found.groups()
    whole = datetime.fromisoformat(f"{day}T{time or '00:00:00'}")
    return whole.replace(microsecond=int((fraction or "").ljust(6, "0")), tzinfo=timezone.utc)
