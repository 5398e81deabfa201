"""Which blocks of a part hold exactly the rows of a range of dates."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from strongroom.calendar import Window
from strongroom.formats.blocks import Block
from strongroom.tables.block_ranges import BlockRange, date_of, ranges_of, rows_between
from tests.support.synthetic import a_manifest

DAY = datetime(2026, 5, 2, tzinfo=timezone.utc)
PART = a_manifest("audit", "2026-05").verified_part(0)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-05-02", DAY),
        ("2026-05-02 00:00:00", DAY),
        ("2026-05-02 00:00:01.5", DAY + timedelta(seconds=1.5)),
        ("2026-05-02 00:00:01.000007+00", DAY + timedelta(seconds=1, microseconds=7)),
        ("2026-05-02T13:04:05+00:00", DAY + timedelta(hours=13, minutes=4, seconds=5)),
    ],
)
def test_a_block_begins_where_the_part_does_and_ends_before_its_until(text, instant):
    [found] = ranges_of(PART, [Block(3, "a", text)])

    assert (found.first, found.behind, found.window) == (0, 3, Window(PART.start_at, instant))


@pytest.mark.parametrize("text", ["infinity", "2026-05-02 BC", "2026-05-02 00:00:00+02"])
def test_what_is_no_date_in_utc_is_no_border(text):
    with pytest.raises(ValueError, match="is not a date"):
        ranges_of(PART, [Block(3, "a", text)])


def test_blocks_that_share_a_date_with_another_are_left_out():
    """The second goes on in the third, and the third begins in the midst of a date."""
    blocks = [
        Block(3, "a", "2026-05-02"),
        Block(4, "b", None),
        Block(2, "c", "2026-05-04"),
        Block(1, "d", "2026-05-05"),
    ]

    found = ranges_of(PART, blocks)

    assert [(one.first, one.behind) for one in found] == [(0, 3), (9, 10)]
    assert found[1].window == Window(DAY + timedelta(days=2), DAY + timedelta(days=3))


def test_the_rows_between_blocks_are_all_others():
    def at(first: int, rows: int) -> BlockRange:
        return BlockRange(first, Block(rows, "a", "unused"), Window(DAY, DAY + timedelta(days=1)))

    assert [*rows_between([], 0)] == []
    assert [*rows_between([], 7)] == [(0, 7)]
    assert [*rows_between([at(0, 3), at(3, 4)], 7)] == []
    assert [*rows_between([at(1, 2), at(5, 1)], 7)] == [(0, 1), (3, 2), (6, 1)]


def test_the_date_of_a_text_is_that_of_its_column():
    assert date_of(b"2026-05-03\t2026-05-02\t7", 1) == DAY
