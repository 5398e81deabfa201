"""Lines, blocks and sums of a part, against a slow and plain way to make the same of one value after the other."""

from __future__ import annotations

import hashlib
import io
import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strongroom.formats.blocks import CutRows
from strongroom.formats.part_writer import PartFiles
from strongroom.records import Column, TableShape

ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}

TEXTS = st.text('aé"\\,(){}\n\r\t\b\x01\x1f\x7f😀 ', max_size=5) | st.text("ab", max_size=3)
STAMPS = ["2026-05-01 00:00:00+00", "2026-05-01 12:34:56.789012+00", "0044-03-15 00:00:00+00 BC", "infinity"]
ARRAYS = {
    "{}": "[]",
    "{a}": '["a"]',
    "{a,b,é}": '["a","b","é"]',
    '{"a,b",c}': '["a,b","c"]',
    '{a,"",b}': '["a","","b"]',
    "{NULL,x}": '[null,"x"]',
    '{"NULL",nullable,null}': '["NULL","nullable",null]',
    r'{"a\"b"}': r'["a\"b"]',
    "{{a,b},{c,d}}": '[["a","b"],["c","d"]]',
    "[0:1]={a,b}": '"[0:1]={a,b}"',
}
NUMBER_ARRAYS = {"{}": "[]", "{1,-2}": "[1,-2]", "{1,NULL}": "[1,null]", "{{1},{2}}": "[[1],[2]]"}
QUOTED = json.JSONEncoder(ensure_ascii=False).encode


def as_stamp(text: str) -> str:
    return QUOTED(text.replace(" ", "T", 1).replace("+00", "+00:00"))


KINDS = {
    ("bigint", "json"): (st.integers(-99, 99).map(str), str),
    ("numeric", "json"): (
        st.sampled_from(["0.10", "-7", "NaN", "Infinity", "-Infinity"]),
        lambda text: QUOTED(text) if text[-1] in "Ny" else text,
    ),
    ("boolean", "json"): (st.sampled_from("tf"), lambda text: {"t": "true", "f": "false"}[text]),
    ("timestamp with time zone", "json"): (st.sampled_from(STAMPS), as_stamp),
    ("text", "json"): (TEXTS, QUOTED),
    ("bytea", "json"): (st.binary(max_size=3).map(lambda value: f"\\x{value.hex()}"), QUOTED),
    ("public.mood", "text"): (TEXTS, QUOTED),
    ("jsonb", "jsonb"): (
        st.sampled_from(['{"a": "\\n"}', "[]", '"scalar"', "null", "1"]),
        lambda text: text if text[0] in "{[" else QUOTED(text),
    ),
    ("text[]", "array"): (st.sampled_from(sorted(ARRAYS)), ARRAYS.__getitem__),
    ("integer[]", "array"): (st.sampled_from(sorted(NUMBER_ARRAYS)), NUMBER_ARRAYS.__getitem__),
}


def a_shape(kinds, key) -> TableShape:
    return TableShape(
        schema_name="public",
        table_name="audit",
        date_column="c0",
        date_type="date",
        primary_key=tuple(f"c{position}" for position in key),
        columns=tuple(
            Column(name=f"c{position}", type=base, base_type=base, encoding=encoding)
            for position, (base, encoding) in enumerate(kinds)
        ),
        well_known_types=True,
    )


def row_text(row) -> str:
    """As COPY writes it."""
    return "\t".join("\\N" if value is None else "".join(ESCAPES.get(one, one) for one in value) for value in row)


@st.composite
def some_batches(draw: st.DrawFn):
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6))
    key = draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=2, unique=True))
    nulls = [draw(st.sampled_from([0, 1, 2])) for _ in kinds]  # none, some, nothing else

    def value(position: int):
        texts, _ = KINDS[kinds[position]]
        if position in key or nulls[position] == 0:
            return texts
        return st.none() | texts if nulls[position] == 1 else st.none()

    rows = st.lists(st.tuples(*map(value, range(len(kinds)))), min_size=1, max_size=5)
    return kinds, key, draw(st.lists(rows, min_size=1, max_size=3))


ONE_TEXT = [("text", "json")]
TEXT_BESIDE_TEXT = [("bigint", "json"), ("text", "json"), ("text", "json"), ("text", "json")]


@example(batch=(ONE_TEXT, [0], [[("",), ("a",)], [("a\\nb",), ("a\nb",), ('"',), ("\\",), ("a)\n(b",)]]))
@example(batch=(TEXT_BESIDE_TEXT, [0], [[("1", "a", None, ""), ("2", "b", "c", "d")]]))
@example(batch=(TEXT_BESIDE_TEXT, [0], [[("1", None, None, None), ("2", None, None, None)]]))
@example(batch=(TEXT_BESIDE_TEXT, [0, 1], [[("1", 'a"', "b", '"'), ("2", "\\", "", None)]]))
@given(batch=some_batches())
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_each_row_becomes_the_line_that_its_values_say_and_counts_in_its_block(batch):
    kinds, key, batches = batch
    lines, blocks = io.BytesIO(), io.BytesIO()
    written = PartFiles(a_shape(kinds, key), lines, blocks)

    for number, rows in enumerate(batches):
        written.add(CutRows([row_text(row).encode() for row in rows], f"day {number}"))

    def as_json(position: int, value) -> str:
        return "null" if value is None else KINDS[kinds[position]][1](value)

    every = [row for rows in batches for row in rows]
    wanted_lines = "".join(
        "{" + ",".join(f'"c{place}":{as_json(place, value)}' for place, value in enumerate(row)) + "}\n"
        for row in every
    ).encode()
    sums = [hashlib.sha256("".join(f"{text}\n" for text in sorted_texts(rows)).encode()) for rows in batches]
    wanted_blocks = "".join(
        f"{len(rows)}\t{found.hexdigest()}\tday {number}\n"
        for number, (rows, found) in enumerate(zip(batches, sums, strict=True))
    ).encode()
    assert (lines.getvalue(), blocks.getvalue()) == (wanted_lines, wanted_blocks)
    assert written.original_sha256.digest() == hashlib.sha256(wanted_lines).digest()
    assert written.blocks_sha256.digest() == hashlib.sha256(wanted_blocks).digest()
    assert (written.rows, written.size_bytes) == (len(every), len(wanted_lines))


def sorted_texts(rows) -> list[str]:
    """By bytes, not by characters."""
    return sorted(map(row_text, rows), key=str.encode)
