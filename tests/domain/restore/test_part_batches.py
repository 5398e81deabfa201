"""The rows of a part come in batches, whatever was read ahead and wherever an earlier try stopped."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.formats.copy_text import picked
from strongroom.records import Column, VerifiedPart
from strongroom.restore.part_batches import PartBatches
from tests.support.fuzzing import VERIFIED, fuzzed
from tests.support.synthetic import a_manifest

ID = Column(name="id", type="bigint", base_type="bigint", encoding="json")
SHAPE = a_manifest().table.model_copy(update={"columns": (ID,), "date_column": "id"})
PART = VerifiedPart.model_validate(VERIFIED | {"compression_type": "none", "compression_level": None})


def the_batches(numbers, done_rows=0, *, most_rows=1000, most_bytes=1 << 20, ordered=False) -> PartBatches:
    handle = io.BytesIO(b"".join(b'{"id":%d}\n' % number for number in numbers))
    part = PART.model_copy(update={"ordered": ordered})
    return PartBatches(part, SHAPE, handle, done_rows, most_rows=most_rows, most_bytes=most_bytes)


def numbers_in(batch) -> list[int]:
    return [*map(int, batch.rows)]


@pytest.mark.parametrize("done_rows", [0, 1, 499, 500, 501, 1700, 1799])
def test_a_later_try_goes_on_behind_the_rows_that_are_done(done_rows):
    found = [numbers_in(batch) for batch in the_batches(range(1800), done_rows)]

    assert [number for batch in found for number in batch] == [*range(done_rows, 1800)]
    assert all(len(batch) <= 1000 for batch in found)


def test_what_was_read_ahead_comes_in_its_order_and_only_so_much_is():
    batches = the_batches(range(9000), most_bytes=4000)
    for _ in range(50):
        batches.read_ahead()
    ahead = sum(rows.count(b"\n") + 1 for rows in batches._ahead)

    found = [numbers_in(batch) for batch in batches]

    assert 500 <= ahead <= 2000
    assert [number for batch in found for number in batch] == [*range(9000)]


def test_batches_of_ordered_rows_end_where_the_date_changes():
    found = [*the_batches([1, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 5], most_rows=4, ordered=True)]

    assert [(numbers_in(batch), batch.until) for batch in found] == [
        ([1, 1], "2"),
        ([2, 2, 2, 3], "4"),
        ([4, 4, 4, 4], None),
        ([4, 5], "2026-06-01T00:00:00+00:00"),
    ]


def test_a_line_that_is_no_row_is_an_error_that_does_not_quote_it():
    with pytest.raises(IntegrityError, match="do not read back into their column types") as caught:
        next(iter(PartBatches(PART, SHAPE, io.BytesIO(b'{"id":"agent-47"}\n'), 0, most_rows=9, most_bytes=9)))

    assert "agent" not in str(caught.value)


@given(data=st.data(), width=st.integers(1, 5))
@fuzzed
def test_fields_are_picked_in_any_order(data, width):
    positions = data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=width, unique=True))
    rows = data.draw(
        st.lists(st.lists(st.binary(max_size=3).filter(lambda it: b"\t" not in it), min_size=width, max_size=width))
    )

    found = picked([b"\t".join(row) for row in rows], width, positions)

    assert [*found] == [b"\t".join([row[position] for position in positions]) for row in rows]
