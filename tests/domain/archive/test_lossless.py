"""What comes out of an archive equals what went in, for every type that PostgreSQL has.

Rows are archived through the whole chain, deleted, and rebuilt from the downloaded objects into an empty copy of their
table. Two independent witnesses compare them: the text of each whole row, and the bytes of ``COPY … (FORMAT binary)``,
which know nothing of the text forms that the archive is made of.
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.every_type import DATE, REFUSED, SCHEMA, TABLE
from tests.support.lossless import (
    FORMATS,
    Bench,
    archived_lines,
    archived_texts,
    every_type,
    server_lines,
    server_texts,
)


@pytest.fixture(params=FORMATS)
def bench(source, object_store, bucket, tmp_path, request) -> Bench:
    execute(source, every_type(source))
    table = some_settings(
        bucket, tmp_path, f"{SCHEMA}.{TABLE}", date_column=DATE, proof_rows="all", format=request.param
    )
    return Bench(Chain(source, object_store.client("archiver"), table))


def assert_survives(bench: Bench, rows) -> None:
    bench.insert(rows)
    before, lines, texts = bench.contents(TABLE), server_lines(bench.chain), server_texts(bench.chain)

    report = bench.chain.run()

    assert (report.archived_rows, report.deleted_rows) == (len(rows), len(rows))
    assert archived_lines(bench.chain, report.archive_id) == lines
    assert archived_texts(bench.chain, report.archive_id) == texts
    assert bench.ask(sql.SQL("SELECT count(*) FROM {}").format(bench.name())) == [(0,)]
    bench.restore(report.archive_id)
    assert bench.contents("restored") == before


def test_the_table_has_a_column_of_every_type_that_postgresql_has(bench):
    """A type that a later PostgreSQL brings fails here first."""
    types = {
        name
        for (name,) in bench.ask(
            "SELECT typname::text FROM pg_type t WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') "
            "AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)"
        )
    }
    used = {
        name
        for (name,) in bench.ask(
            "SELECT t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = %s::regclass",
            bench.name().as_string(),
        )
    }

    assert types - used - REFUSED <= ({"xml"} if "v_xml" not in bench.columns else set())


def test_nasty_values_of_every_type_survive(bench):
    """All literals of the table above, in as many rows as the longest list has, and a row of NULLs."""
    longest = max(map(len, bench.literals.values()))
    rows = [
        {name: literals[number % len(literals)] for name, literals in bench.literals.items()}
        for number in range(longest)
    ]

    assert_survives(bench, [*rows, dict.fromkeys(bench.columns)])


# Random values, as literals.

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def quoted(text):
    """An element of an array or composite literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arrays(elements):
    """Literals of one- and two-dimensional arrays with NULLs and any lower bound."""
    element = st.one_of(st.just("NULL"), elements.map(quoted))
    flat = st.lists(element, max_size=4)
    grids = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
        lambda size: st.lists(st.lists(element, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0])
    )
    bounded = st.tuples(st.integers(-3, 3), st.lists(element, min_size=1, max_size=4)).map(
        lambda it: f"[{it[0]}:{it[0] + len(it[1]) - 1}]={braced(it[1])}"
    )
    return st.one_of(flat.map(braced), grids.map(lambda rows: braced(map(braced, rows))), bounded)


def braced(elements):
    return "{" + ",".join(elements) + "}"


def floats(width):
    return st.floats(width=width).map(repr)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.tuples(st.integers(), st.integers(0, 40)).map(lambda it: f"{it[0]}e-{it[1]}"),
).filter(lambda text: len(text) < 60 and abs(int(re.search(r"E([+-]\d+)|$", text)[1] or 0)) < 200)
BYTES = st.binary(max_size=20).map(lambda value: "\\x" + value.hex())
BITS = st.text("01", max_size=9)
INSTANTS = st.tuples(
    st.integers(1, 294275), st.integers(1, 12), st.integers(1, 28), st.integers(0, 86_399_999_999)
).map(
    lambda it: (
        f"{it[0]:04d}-{it[1]:02d}-{it[2]:02d} {it[3] // 3_600_000_000:02d}:{it[3] // 60_000_000 % 60:02d}:"
        f"{it[3] // 1_000_000 % 60:02d}.{it[3] % 1_000_000:06d}" + (" BC" if it[0] < 4000 and it[3] % 2 else "")
    )
)
SPANS = st.tuples(
    st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**63) + 1, 2**63 - 1)
).map(lambda it: f"{it[0]} mons {it[1]} days {it[2]} microseconds")

RANDOM = {
    "v_int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "v_int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "v_int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "v_numeric": NUMBERS,
    "v_float4": floats(32),
    "v_float8": floats(64),
    "v_text": TEXTS,
    "v_varchar": TEXTS,
    "v_bpchar": TEXTS,
    "v_bytea": BYTES,
    "v_timestamp": INSTANTS,
    "v_timestamptz": INSTANTS,
    "v_interval": SPANS,
    "v_uuid": st.uuids().map(str),
    "v_inet": st.ip_addresses().map(str),
    "v_varbit": BITS,
    "v_json": JSON_VALUES.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False)),
    "v_jsonb": JSON_VALUES.map(json.dumps).filter(lambda text: "\\u0000" not in text),
    "a_int": arrays(st.integers(-(2**31), 2**31 - 1).map(str)),
    "a_float4": arrays(floats(32)),
    "a_float8": arrays(floats(64)),
    "a_numeric": arrays(NUMBERS),
    "a_text": arrays(TEXTS),
    "a_bytea": arrays(BYTES),
    "a_timestamp": arrays(INSTANTS),
    "a_timestamptz": arrays(INSTANTS),
    "a_interval": arrays(SPANS),
    "a_varbit": arrays(BITS),
    "a_json": arrays(JSON_VALUES.map(json.dumps)),
    "t": TEXTS,
    "line": TEXTS,
}


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_random_rows_of_every_type_survive(bench, data):
    """Each value is NULL, one of the nasty ones, or random. Few archives of many rows: it is the archive that takes long."""

    def values(name):
        known = st.sampled_from(bench.literals[name])
        return st.one_of(st.none(), known, RANDOM.get(name, known))

    row = st.fixed_dictionaries({name: values(name) for name in bench.columns})

    assert_survives(bench, data.draw(st.lists(row, min_size=6, max_size=18)))
