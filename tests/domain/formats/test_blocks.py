"""Rows are cut into blocks where their date changes, and a block's digest depends on its rows alone."""

from __future__ import annotations

import hashlib
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import IntegrityError
from strongroom.formats.blocks import Block, CutRows, cut_into_blocks, digest, parse_line, to_line
from tests.support.fuzzing import fuzzed

END = "the end"


def row(date: int, content: str = "x") -> bytes:
    return f"{content}\t{date:04d}\ty".encode()


def dates_of(cut: CutRows) -> set[bytes]:
    return {one.split(b"\t")[1] for one in cut.rows}


ORDERED = st.lists(st.tuples(st.integers(0, 5), st.text("ab", max_size=9)), max_size=30).map(sorted)


@given(
    rows=ORDERED,
    sizes=st.lists(st.integers(1, 7), min_size=1),
    most_rows=st.integers(1, 6),
    most_bytes=st.integers(1, 80),
)
@fuzzed
def test_blocks_hold_all_rows_in_their_order_and_end_where_the_date_changes(rows, sizes, most_rows, most_bytes):
    """Blocks without an end of their own hold rows of one date, which go on in the next block."""
    texts = [row(date, content) for date, content in rows]

    cut = [*cut_into_blocks(batched(texts, sizes), 1, END, most_rows=most_rows, most_bytes=most_bytes)]

    assert [one for block in cut for one in block.rows] == texts
    assert all(1 <= len(block.rows) <= most_rows for block in cut)
    assert all(len(block.rows) == 1 or sum(map(len, block.rows)) <= most_bytes for block in cut)
    for block, following in pairwise(cut):
        if block.until is None:
            assert len(dates_of(block)) == 1
            assert min(dates_of(following)) == max(dates_of(block))
        else:
            assert max(dates_of(block)) < block.until.encode() == min(dates_of(following))
    assert not cut or cut[-1].until == END


@given(rows=ORDERED, sizes=st.lists(st.integers(1, 7), min_size=1))
@fuzzed
def test_it_does_not_matter_how_the_rows_arrive(rows, sizes):
    texts = [row(date, content) for date, content in rows]

    def cut(batches):
        return [*cut_into_blocks(batches, 1, END, most_rows=3, most_bytes=40)]

    assert cut(batched(texts, sizes)) == cut(batched(texts, [1])) == cut([b"\n".join(texts)] if texts else [])


@pytest.mark.parametrize(("most_bytes", "sizes"), [(9, [1, 1, 1]), (10, [1, 1, 1]), (19, [1, 1, 1]), (20, [2, 1])])
def test_a_block_takes_just_as_many_bytes_as_it_may_and_one_row_whatever_its_size(most_bytes, sizes):
    rows = [b"ten bytes!"] * 3

    cut = [*cut_into_blocks([b"\n".join(rows)], None, END, most_rows=5, most_bytes=most_bytes)]

    assert [len(block.rows) for block in cut] == sizes


def test_rows_in_no_order_are_cut_by_number_alone():
    cut = [*cut_into_blocks([b"\n".join(row(date) for date in (3, 1, 2, 1, 5))], None, END, most_rows=2)]

    assert [(len(block.rows), block.until) for block in cut] == [(2, None), (2, None), (1, None)]


@given(rows=st.lists(st.binary(max_size=5).filter(lambda one: b"\n" not in one)), data=st.data())
@fuzzed
def test_a_digest_counts_each_row_and_no_order(rows, data):
    shuffled = data.draw(st.permutations(rows))

    assert digest(rows) == digest(shuffled)
    assert digest(rows) == hashlib.sha256(b"".join(one + b"\n" for one in sorted(rows))).hexdigest()
    assert digest([*rows, b"more"]) != digest(rows)


@pytest.mark.parametrize("until", [None, "2026-05-01 12:00:00.5+00"])
def test_a_block_reads_back_from_its_line(until):
    block = Block(4000, "a" * 64, until)

    assert parse_line(to_line(block)) == block


@pytest.mark.parametrize("line", [b"", b"1\t2", b"x\ty\tz", b"1\t2\t3\t4", b"\xff\t\t"])
def test_a_line_of_another_form_is_refused(line):
    with pytest.raises(IntegrityError, match="do not have their form"):
        parse_line(line)


def batched(texts, sizes):
    """Batches of these sizes, over and over."""
    number = iter(sizes * (len(texts) + 1))
    places = [place for place, size in enumerate(number) for _ in range(size)][: len(texts)]
    for _, group in groupby(zip(places, texts, strict=True), lambda pair: pair[0]):
        yield b"\n".join(text for _, text in group)
