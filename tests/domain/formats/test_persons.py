"""Tokens, locators and protected records of persons."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.formats.copy_text import copy_rows, escape_all
from strongroom.formats.persons import Locator, LocatorWriter, Persons, SubjectKey, Suppressed, canonical
from strongroom.records import Column, TableShape

SECRET = hashlib.sha256(b"a secret").hexdigest()
KEY = SubjectKey(SECRET)
COLUMNS = {"caller": "msisdn", "callee": "msisdn", "imsi": "imsi"}


def shape() -> TableShape:
    columns = [Column(name="at", type="timestamptz", base_type="timestamp with time zone", encoding="json")]
    columns += [Column(name=name, type="text", base_type="text", encoding="json") for name in COLUMNS]
    return TableShape(
        schema_name="public",
        table_name="calls",
        date_column="at",
        date_type="timestamptz",
        primary_key=("at",),
        columns=tuple(columns),
        well_known_types=True,
    )


def written(rows: list[tuple[str | None, ...]], persons: Persons, cut: int = 7) -> LocatorWriter:
    """A writer that has seen rows of canonical texts, in blocks that end anywhere."""
    content = copy_rows([escape_all(column) for column in zip(*rows, strict=True)]) if rows else b""
    writer = LocatorWriter(shape(), "parquet", persons, rows=len(rows))
    assert b"".join(writer.watch(content[start : start + cut] for start in range(0, len(content), cut))) == content
    return writer


def test_a_token_is_the_hmac_that_the_format_document_describes():
    of_tokens = hmac.digest(bytes.fromhex(SECRET), b"strongroom tokens", "sha256")

    assert KEY.token("msisdn", "+234 é") == hmac.digest(of_tokens, "msisdn\0+234 é".encode(), "sha256").hex()


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.none() | texts] * 3), max_size=40), st.integers(1, 300))
def test_a_locator_misses_no_value(rows, cut):
    dated = [("2026-05-01 00:00:00+00", *row) for row in rows]

    body = written(dated, Persons(COLUMNS, KEY, {}), cut).locator.to_bytes()

    locator = Locator.parse("here", body)
    for row in rows:
        for kind, value in zip(COLUMNS.values(), row, strict=True):
            assert value is None or locator.may_hold(KEY.token(kind, value))


def test_a_locator_holds_few_others_to_be_there():
    rows = [("2026-05-01 00:00:00+00", f"+23480{number:07}", None, f"6{number:014}") for number in range(5000)]

    locator = written(rows, Persons(COLUMNS, KEY, {}), 100_000).locator

    false = sum(locator.may_hold(KEY.token("msisdn", f"+4900{number:07}")) for number in range(5000))
    assert false < 5000 * 0.02


def test_a_suppressed_value_is_seen_again_wherever_it_occurs():
    before = datetime(2026, 6, 1, tzinfo=timezone.utc)
    persons = Persons(COLUMNS, KEY, {KEY.token("msisdn", "+1"): Suppressed("DSR-1", before)})
    rows = [
        ("2026-05-01 00:00:00+00", "+1", "+2", None),
        ("2026-05-02 00:00:00+00", "+2", "+1", None),  # in another column, when the value is known
        ("2026-06-02 00:00:00+00", "+1", None, None),  # later: somebody else's number
        ("infinity", "+1", None, None),
        ("2026-05-01 00:00:00+00", "+2", None, "+1"),  # another class
    ]

    assert (written(rows, persons).suppressed_rows, written(rows, persons).cases) == (3, {"DSR-1"})
    keeping = Persons(COLUMNS, KEY, persons.suppressed, keep_about_two=True)
    assert written(rows, keeping).suppressed_rows == 1


def test_what_is_no_locator_no_key_and_no_record_is_refused():
    protected = KEY.protect(b"who it is")

    assert KEY.reveal("here", protected) == b"who it is"
    with pytest.raises(IntegrityError, match="cannot be read"):
        SubjectKey("0" * 64).reveal("here", protected)
    with pytest.raises(ConfigurationError, match="another form"):
        SubjectKey("too short")
    for body in (b"", b"planted", Locator(KEY.key_id, b"").to_bytes()):
        with pytest.raises(IntegrityError, match="is not a locator"):
            Locator.parse("here", body)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("text", " a", " a"),
        ("character varying(20)", "a", "a"),
        ("bigint", "007", "7"),
        ("integer", "seven", None),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("uuid", "no", None),
    ],
)
def test_a_value_is_compared_as_its_column_writes_it(column, value, text):
    assert canonical(column, value) == text


def test_a_column_whose_equal_values_are_written_differently_identifies_nobody():
    with pytest.raises(ConfigurationError, match="cannot identify a person"):
        canonical("numeric(10,2)", "1.0")
