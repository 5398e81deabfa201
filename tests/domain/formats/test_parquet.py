"""A parquet file gives back the texts that it was made of, whatever they are, and says itself what it holds."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
from collections.abc import Sequence
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from strongroom.errors import IntegrityError
from strongroom.formats import parquet as parquet_module
from strongroom.formats.codecs import Codec
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.parquet import PartWriter, parquet_lines
from strongroom.records import Column, TableShape, shape_sha256

ZSTD = Codec("zstd", 3)


def a_shape(*types: str, names: Sequence[str] = ()) -> TableShape:
    columns = (
        Column(name=name, type=type_, base_type=type_, encoding="json")
        for name, type_ in zip(names or [f"c{number}" for number in range(len(types))], types, strict=True)
    )
    return TableShape(
        schema_name="public",
        table_name="audit",
        date_column="c0",
        date_type="date",
        primary_key=("c0",),
        columns=tuple(columns),
        well_known_types=True,
    )


def written(shape: TableShape, *batches: list[list[str | None]], codec: Codec = ZSTD) -> bytes:
    """A file of some batches, each a list of columns."""
    target = io.BytesIO()
    with PartWriter(shape, target, codec) as writer:
        for batch in batches:
            writer.add([pa.array(values, pa.string()) for values in batch])
    return target.getvalue()


def lines_of(shape: TableShape, body: bytes) -> bytes:
    return b"".join(parquet_lines(io.BytesIO(body), shape_sha256(shape)))


def require_same(type_: str, values: list[str | None]) -> pa.Table:
    shape = a_shape(type_)
    body = written(shape, [values])
    assert lines_of(shape, body) == LineWriter(shape).lines([pa.array(values, pa.string())])
    return pq.read_table(io.BytesIO(body))


# Values that each type has and some that PostgreSQL would write in another way, or not at all.
AWKWARD = {
    "smallint": ["-32768", "32767", "99999", "x"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "9223372036854775808"],
    "boolean": ["t", "f"],
    "real": ["-0", "NaN", "-Infinity", "1e-45", "3.4028235e+38", "1e+06", "999999", "0.0001", "1e-05", "1.5e-07"],
    "double precision": ["1e+15", "100000000000000", "5e-324", "5.6843418860808015e-14", "1.0", "+1", "1e400", "Infinity"],
    "numeric(8,2)": ["0.00", "-66.40", "999999.99", "NaN", "1", "1000000.00"],
    "numeric(12,8)": ["0.00000000", "0.00000001", "-9999.99999999", "1e-8"],
    "numeric(38,0)": ["9" * 38, "-" + "9" * 38, "9" * 39],
    "numeric(39,2)": ["9" * 37 + ".99", "NaN"],
    "numeric(2,-3)": ["99000", "NaN"],
    "numeric(3,5)": ["0.00999", "NaN"],
    "date": ["0001-01-01", "9999-12-31", "10000-01-01", "infinity", "-infinity", "0044-03-15 BC", "2024-02-30"],
    "timestamp without time zone": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2026-05-01 10:00:00.1", "infinity"],
    "timestamp with time zone": ["2026-05-01 10:00:00+00", "294276-12-31 23:59:59.999999+00", "0044-03-15 12:00:00+00 BC"],
    "timestamp(3) with time zone": ["2026-05-01 10:00:00.123+00", "-infinity"],
    "time without time zone": ["24:00:00", "00:00:00.000001"],
    "text": ["", "null", "\\N", '"', "é 😀"],
}  # fmt: skip


@pytest.mark.parametrize("type_", AWKWARD)
def test_awkward_values_come_back_alone_and_together(type_):
    values = AWKWARD[type_]

    for value in values:
        require_same(type_, [value])
    require_same(type_, [None, *values, None, *values])
    require_same(type_, [None, None])


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(type_=st.sampled_from(list(AWKWARD)), data=st.data())
def test_random_values_come_back(type_, data):
    """Among them numbers and dates as PostgreSQL writes them, and text that no such type has."""
    known = st.sampled_from(AWKWARD[type_])
    floats = st.floats(width=32 if type_ == "real" else 64).map(repr)
    other = st.one_of(
        known, st.none(), st.integers().map(str), floats, st.datetimes().map(str), st.decimals(allow_nan=False).map(str)
    )
    values = data.draw(st.lists(known if type_ == "boolean" else other, min_size=1, max_size=9))

    require_same(type_, values)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("smallint", "-5", -5),
        ("integer", "5", 5),
        ("bigint", "5", 5),
        ("boolean", "t", True),
        ("boolean", "f", False),
        ("real", "1.234568e+06", 1234568.0),
        ("double precision", "123456789012345.6", 123456789012345.6),
        ("double precision", "-Infinity", -math.inf),
        ("numeric(8,2)", "66.40", Decimal("66.40")),
        ("numeric(12,8)", "0.00000001", Decimal("0.00000001")),
        ("date", "2024-02-29", date(2024, 2, 29)),
        ("timestamp without time zone", "2026-05-01 10:00:00.5", datetime(2026, 5, 1, 10, 0, 0, 500000)),
        ("timestamp(3) with time zone", "2026-05-01 10:00:00+00", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("numeric", "66.40", "66.40"),
        ("time without time zone", "10:00:00", "10:00:00"),
        ("uuid", "45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26", "45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26"),
    ],
)
def test_values_are_of_the_type_that_readers_expect_and_nothing_else(type_, text, value):
    table = require_same(type_, [text])

    assert table["c0"].to_pylist() == [value]
    assert table["strongroom_exact"].to_pylist() == [None]


def test_what_a_type_cannot_hold_is_text_in_the_last_column():
    table = require_same("date", ["2026-05-01", "infinity", None, "0044-03-15 BC"])

    assert table.schema.field("c0").type == pa.date32()
    assert [value is None for value in table["c0"].to_pylist()] == [False, True, True, True]
    assert table["strongroom_exact"].to_pylist() == [None, '{"c0": "infinity"}', None, '{"c0": "0044-03-15 BC"}']


def test_a_number_whose_text_is_another_is_there_as_a_number_too():
    table = require_same("double precision", ["5.6843418860808015e-14"])

    assert table["c0"].to_pylist() == [5.6843418860808015e-14]
    assert json.loads(table["strongroom_exact"][0].as_py()) == {"c0": "5.6843418860808015e-14"}


def test_a_column_of_the_name_of_the_last_one_keeps_its_name():
    shape = a_shape("text", "date", "date", names=["Strongroom_Exact", "strongroom_exact_", "d"])
    body = written(shape, [["mine"], ["infinity"], ["-infinity"]])

    assert pq.read_schema(io.BytesIO(body)).names == [
        "Strongroom_Exact",
        "strongroom_exact_",
        "d",
        "strongroom_exact__",
    ]
    assert lines_of(shape, body) == b'{"Strongroom_Exact":"mine","strongroom_exact_":"infinity","d":"-infinity"}\n'


def test_the_schema_depends_on_the_table_alone():
    shape = a_shape("date", "numeric(8,2)")

    schemas = [
        pq.read_schema(io.BytesIO(written(shape, [[date], [cost]])))
        for date, cost in (("2026-05-01", "66.40"), ("infinity", "NaN"), (None, None))
    ]

    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])


def test_row_groups_have_a_bounded_size_and_are_read_one_by_one(monkeypatch):
    """A batch over many row groups would have as many large rows as it has small ones."""
    shape = a_shape("integer", "text")
    monkeypatch.setattr(parquet_module, "ROW_GROUP_ROWS", 10)
    many = written(shape, *([["1"] * 4, ["x"] * 4] for _ in range(8)))
    monkeypatch.setattr(parquet_module, "ROW_GROUP_BYTES", 1000)
    large = written(shape, *([["1"], ["x" * 600]] for _ in range(4)))

    sizes = [
        [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        for file in (pq.ParquetFile(io.BytesIO(body)) for body in (many, large))
    ]

    assert sizes == [[12, 12, 8], [2, 2]]
    blocks = list(parquet_lines(io.BytesIO(many), shape_sha256(shape)))
    assert blocks == [b'{"c0":1,"c1":"x"}\n' * size for size in sizes[0]]


def test_large_rows_are_read_a_few_at_a_time(monkeypatch):
    shape = a_shape("text", "date", "boolean")
    texts = [
        ['"' * number if number % 3 else None for number in range(20)],
        ["infinity", "2026-05-01"] * 10,
        ["t", "f"] * 10,
    ]
    body = written(shape, texts)
    monkeypatch.setattr(parquet_module, "READ_BYTES", 40)

    blocks = list(parquet_lines(io.BytesIO(body), shape_sha256(shape)))

    assert len(blocks) > 5
    assert b"".join(blocks) == LineWriter(shape).lines([pa.array(values, pa.string()) for values in texts])


@pytest.mark.parametrize("codec", [Codec("zstd", 19), Codec("gzip", 9), Codec("none", None)], ids=lambda one: one.type)
def test_pages_are_compressed_as_the_file_says(codec):
    body = written(a_shape("text"), [["x" * 1000]], codec=codec)

    file = pq.ParquetFile(io.BytesIO(body))
    assert json.loads(file.metadata.metadata[b"strongroom.compression"]) == {"type": codec.type, "level": codec.level}
    page = file.metadata.row_group(0).column(0)
    assert page.compression == {"zstd": "ZSTD", "gzip": "GZIP", "none": "UNCOMPRESSED"}[codec.type]


def test_a_block_that_fails_leaves_no_parquet_file():
    shape, target = a_shape("text"), io.BytesIO()

    def fail() -> None:
        with PartWriter(shape, target, ZSTD) as writer:
            writer.add([pa.array(["x"])])
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert target.getvalue() == b"PAR1"


class NoRoom(io.BytesIO):
    """A file on a disk that is full after some writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes = writes

    def write(self, data: bytes) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_an_error_of_the_file_comes_out_as_it_is_wherever_it_happens(monkeypatch):
    """At the start, in a page, in the footer: staging tells what a full disk means."""
    monkeypatch.setattr(parquet_module, "ROW_GROUP_ROWS", 1)

    def write(target: io.BytesIO) -> None:
        with PartWriter(a_shape("text", "integer"), target, ZSTD) as writer:
            for _ in range(3):
                writer.add([pa.array(["x"]), pa.array(["1"])])

    counted = NoRoom(1000)
    write(counted)

    writes = 1000 - counted.writes
    assert writes > 10
    for room in range(writes):
        with pytest.raises(OSError, match="No space left") as caught:
            write(NoRoom(room))
        assert caught.value.errno == errno.ENOSPC


def test_the_sum_of_the_file_is_taken_while_it_is_written():
    target = io.BytesIO()
    with PartWriter(a_shape("text"), target, ZSTD) as writer:
        writer.add([pa.array(["x"])])

    assert writer.written.sha256 == hashlib.sha256(target.getvalue()).hexdigest()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PAR1",
        b"PAR1" * 100,
        written(a_shape("text"), [["x"]])[:-1],
        written(a_shape("text"), [["x"]])[4:],
        written(a_shape("text", "text"), [["x"], ["y"]]),
        pytest.param(b"other", id="no metadata of ours"),
    ],
)
def test_what_is_no_part_of_the_table_is_refused(body):
    if body == b"other":
        target = io.BytesIO()
        pq.write_table(pa.table({"c0": ["x"], "strongroom_exact": pa.array([None], pa.string())}), target)
        body = target.getvalue()

    with pytest.raises(IntegrityError, match="a parquet file is damaged"):
        lines_of(a_shape("text"), body)


def test_damage_brings_no_other_error_than_ours():
    """Most is found by the file itself; the rest is what the sums are for."""
    shape = a_shape("text", "date", "numeric(8,2)", "boolean", "double precision")
    body = written(shape, [["x", None], ["infinity", "2026-05-01"], ["1.10", "NaN"], ["t", None], ["1.5", "NaN"]])
    found = 0

    for bit in range(0, len(body) * 8, 11):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(IntegrityError):
            lines_of(shape, bytes(damaged))
            continue
        found += 1

    assert found > len(body) * 8 / 11 / 2


def test_a_flipped_bit_of_a_page_is_found_without_our_sums():
    shape = a_shape("text")
    body = written(shape, [["a text that nothing makes smaller"]], codec=Codec("none", None))
    at = body.index(b"nothing")

    with pytest.raises(IntegrityError, match="a parquet file is damaged"):
        lines_of(shape, body[:at] + b"N" + body[at + 1 :])
