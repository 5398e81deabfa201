"""Whatever bytes, lines and type names are given, they are read exactly or refused with a named error.

A few hundred examples each; ``make fuzz`` takes twenty thousand.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.database.session import type_name
from strongroom.errors import IntegrityError
from strongroom.formats.arrow import pa
from strongroom.formats.codecs import BLOCK_BYTES, decompress
from strongroom.formats.line_reader import LineReader, split_lines
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.row_texts import copy_rows
from strongroom.formats.type_names import is_type_name
from strongroom.records import (
    TableShape,
)
from tests.support.fuzzing import (
    damaged,
    fuzzed,
    require_named,
    values,
)
from tests.support.synthetic import a_manifest


@given(text=st.text() | st.text("abz_09\"\\'()[],.; -/*$%\0\nwithoutme", max_size=30))
@example('"a""b"')
@example("numeric(1--2)")
@fuzzed
def test_a_type_name_holds_nothing_that_ends_or_goes_on_a_statement(text):
    if not is_type_name(text):
        with pytest.raises(IntegrityError, match="is not the name of a type"):
            type_name(text)
    else:
        assert type_name(text).as_string() == text
        bare = re.sub(r'"(?:[^"]|"")+"', "q", text)
        assert re.fullmatch(r"[a-zA-Z0-9_. ,()\[\]-]+", bare)
        assert "--" not in bare
        assert bare.count("(") == bare.count(")") <= 2
        assert "\0" not in text


@pytest.mark.parametrize("kind", ["zstd", "gzip", "none"])
@given(body=st.binary(max_size=400) | damaged(zstandard.compress(b"x" * 100), as_json=False))
@fuzzed
def test_bytes_are_unpacked_in_blocks_or_named(kind, body):
    def unpack() -> bytes:
        return b"".join(blocks(kind, body))

    require_named(unpack)


def blocks(kind: Any, body: bytes) -> Any:
    for block in decompress(kind, iter([body]), on_chunk=len):
        assert len(block) <= BLOCK_BYTES
        yield block


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text(
    'nN\\"\t\n\r\b/,{}[]\x1f\x7fé ', max_size=6
)
NUMBERS = st.integers(-(10**40), 10**40).map(str) | st.sampled_from(["66.40", "-0.00", "1e-16383", "NaN", "-Infinity"])
INSTANTS = st.sampled_from(
    ["2026-05-01 12:00:00", "2026-05-01 12:00:00.000001", "0044-03-15 00:00:00 BC", "infinity", "-infinity"]
)
BYTES = st.binary(max_size=5).map(lambda value: "\\x" + value.hex())


def in_utc(instant: str) -> str:
    return re.sub(r"(:[\d.]+)( BC)?$", r"\1+00\2", instant)


def arrays(elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Literals as the server writes them, some with a lower bound."""
    nested = st.recursive(
        st.none() | elements,
        lambda inner: st.lists(inner, min_size=1, max_size=3),
        max_leaves=6,
    ).filter(lambda value: isinstance(value, list)) | st.just([])  # fmt: skip
    bounded = st.lists(elements, min_size=2, max_size=2).map(lambda value: "[0:1]=" + literal(value))
    return nested.map(literal) | bounded


def literal(value: Any) -> str:
    """Of an array. Elements are in quotes where they must be."""
    if isinstance(value, list):
        return "{" + ",".join(map(literal, value)) + "}"
    if value is None:
        return "NULL"
    if value and value.lower() != "null" and not set(value) & set(' \t\n\r\v\f"\\{},'):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


SHAPES: list[tuple[str, str, st.SearchStrategy[str]]] = [
    ("bigint", "json", st.integers(-(2**63), 2**63 - 1).map(str)),
    ("numeric", "json", NUMBERS),
    ("boolean", "json", st.sampled_from("tf")),
    ("text", "json", TEXTS),
    ("bytea", "json", BYTES),
    ("timestamp(6) without time zone", "json", INSTANTS),
    ("timestamp with time zone", "json", INSTANTS.map(in_utc)),
    ("public.mood", "text", TEXTS),
    (
        "jsonb",
        "jsonb",
        values.map(lambda value: json.dumps(value, ensure_ascii=False)).filter(
            lambda text: re.search("NaN|Infinity", text) is None
        ),
    ),
    ("text[]", "array", arrays(TEXTS)),
    ("numeric[]", "array", arrays(NUMBERS)),
    ("boolean[]", "array", arrays(st.sampled_from("tf"))),
    ("bytea[]", "array", arrays(BYTES)),
    ("timestamp with time zone[]", "array", arrays(INSTANTS.map(in_utc))),
]


@st.composite
def some_rows(draw: st.DrawFn) -> tuple[TableShape, list[tuple[str | None, ...]]]:
    """Rows of the texts of values, in a table of some of the kinds of columns that there are."""
    kinds = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8))
    awkward = draw(st.sampled_from(["", '"', "\\"]))
    columns = [
        {"name": f"c{place}{awkward}", "type": base, "base_type": base, "encoding": encoding}
        | {"nullable": True, "generated": False, "identity": False}
        for place, (base, encoding, _) in enumerate(kinds)
    ]
    shape = TableShape.model_validate(a_manifest().table.model_dump() | {"columns": columns})
    rows = draw(st.lists(st.tuples(*(st.none() | texts for *_, texts in kinds)), min_size=1, max_size=9))
    return shape, rows


@given(written=some_rows())
@fuzzed
def test_texts_that_became_lines_come_back_as_they_were(written):
    """Byte for byte: whatever escapes or quotes a value needs, or has no need of."""
    shape, rows = written
    texts = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
    lines = LineWriter(shape).lines(texts)

    read = b"".join(LineReader(shape.columns).texts(lines.split(b"\n")[:-1]))

    assert read == copy_rows(texts)


@given(stream=st.lists(st.binary(max_size=9) | st.sampled_from([b"\n", b"a\nb", b"\n\n"])))
@fuzzed
def test_lines_are_the_same_however_their_stream_is_cut(stream):
    whole = b"".join(stream).split(b"\n")

    assert list(split_lines(stream)) == (whole if whole[-1] else whole[:-1])
