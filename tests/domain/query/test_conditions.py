"""Conditions as people type them, and the values that suit each type. What cannot be told apart from an archive is refused."""

from __future__ import annotations

import pytest

from strongroom.errors import QueryError
from strongroom.query.conditions import check_conditions, read_condition
from strongroom.query.records import Condition
from strongroom.query.values import operators_of
from strongroom.records import Column


def a_column(type_: str, encoding: str = "json") -> Column:
    return Column.model_validate({"name": "v", "type": type_, "base_type": type_, "encoding": encoding})


def holds(type_: str, operator: str, value: object, text: str | None, encoding: str = "json") -> bool:
    condition = Condition.model_validate({"column": "v", "operator": operator, "value": value})
    [check] = check_conditions([condition], [a_column(type_, encoding)])
    return check.deciding()(text)


READ = [
    ("cost >= 66.40", ("cost", ">=", "66.40")),
    ("cost>=66.40", ("cost", ">=", "66.40")),
    ("who =  Ada  Lovelace ", ("who", "=", "Ada  Lovelace")),
    ('who = " a "', ("who", "=", " a ")),
    ("who = ", ("who", "=", "")),
    ('"odd ""name"" = x" != 1', ('odd "name" = x', "!=", "1")),
    ("note is null", ("note", "is null", None)),
    ("note IS  NOT NULL", ("note", "is not null", None)),
    ("caller begins with +234", ("caller", "begins with", "+234")),
    ("caller contains = or <", ("caller", "contains", "= or <")),
    ('way in ["in", 66.40, 7]', ("way", "in", ("in", "66.40", "7"))),
    ('in in ["x"]', ("in", "in", ("x",))),
    ("who = '; DROP TABLE audit; --", ("who", "=", "'; DROP TABLE audit; --")),
]


@pytest.mark.parametrize(("text", "read"), READ)
def test_a_condition_is_read_as_it_was_meant(text, read):
    condition = read_condition(text)

    assert (condition.column, condition.operator, condition.value) == read


NO_CONDITIONS = """
|cost|cost 5|noteis null|note is nullable|way in out|way in []|way in [1|who = "agent" 007"|x is null 5|caller contains|= 5|"" = 5|way in {}|way in [[1]]
""".strip("\n").split("|")


@pytest.mark.parametrize("text", NO_CONDITIONS)
def test_what_is_no_condition_is_refused_without_being_quoted(text):
    with pytest.raises(QueryError) as raised:
        read_condition(text)

    assert "007" not in str(raised.value)


HOLD = [
    ("numeric", "=", "66.4", "66.40"),
    ("numeric", ">", "1e400", "NaN"),
    ("numeric", "<", "12345678901234567890.0000000001", "12345678901234567890.00000000009"),
    ("bigint", "=", "+9007199254740993", "9007199254740993"),
    ("double precision", ">=", "NaN", "NaN"),
    ("real", "=", "0.1", "0.1"),
    ("boolean", "=", "Yes", "t"),
    ("character(8)", "=", "a", "a       "),
    ("date", "<", "0044-03-16 BC", "0044-03-15 BC"),
    ("date", "<", "2026-01-01", "-infinity"),
    ("timestamp with time zone", "=", "2026-05-01T02:00:00+02:00", "2026-05-01 00:00:00+00"),
    ("timestamp with time zone", ">=", "2026-05-01", "10000-01-01 00:00:00+00"),
    ("timestamp(3) without time zone", "<", "2026-05-01 12:00:00.5", "2026-05-01 12:00:00.499"),
    ("time without time zone", "<=", "24:00", "24:00:00"),
    ("uuid", "=", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("inet", "=", "10.0.0.1/32", "10.0.0.1"),
    ("public.mood", "in", ["sad", "happy"], "happy"),
    ("jsonb", "contains", '"a": 1', '{"a": 1.10}'),
    ("text", "is null", None, None),
]


@pytest.mark.parametrize(("type_", "operator", "value", "text"), HOLD)
def test_values_compare_as_postgresql_compares_them(type_, operator, value, text):
    assert holds(type_, operator, value, text, "jsonb" if type_ == "jsonb" else "json")


@pytest.mark.parametrize("operator", ["=", "!=", "<", ">=", "in", "contains"])
def test_nothing_holds_for_null_but_is_null(operator):
    value = ["5"] if operator == "in" else "5"

    assert not holds("integer", operator, value, None)


UNSUITED = [
    ("integer", "2147483648"),
    ("integer", "5.0"),
    ("integer", "٣"),
    ("smallint", "-32769"),
    ("numeric", "6,5"),
    ("numeric", "0x10"),
    ("double precision", "1e400"),
    ("real", "1e39"),
    ("boolean", "maybe"),
    ("date", "2026-02-29"),
    ("date", "2026-05-01 12:00:00"),
    ("date", "0000-01-01"),
    ("timestamp without time zone", "2026-05-01T00:00:00Z"),
    ("timestamp with time zone", "2026-05-01T25:00:00Z"),
    ("timestamp with time zone", "9999-12-31T23:59:59-12:00"),
    ("time without time zone", "24:00:01"),
    ("uuid", "urn:uuid:00000000-0000-0000-0000-000000000000"),
    ("bytea", "\\x0"),
    ("inet", "10.0.0"),
    ("cidr", "10.0.0.1/8"),
    ("bit(3)", "102"),
    ("text", "a\0b"),
]


@pytest.mark.parametrize(("type_", "value"), UNSUITED)
def test_a_value_that_the_type_does_not_have_is_refused_without_being_quoted(type_, value):
    with pytest.raises(QueryError, match="a value does not suit a column of type") as raised:
        holds(type_, "=", value, "any")

    assert f"'{value}'" not in str(raised.value)


@pytest.mark.parametrize("type_", ["text", "public.mood", "character varying(20)", "boolean", "inet", "bit(3)"])
def test_an_order_that_an_archive_does_not_have_is_refused_with_the_reason(type_):
    with pytest.raises(QueryError, match="cannot be compared with <") as raised:
        holds(type_, "<", "x", "y")

    assert "The reason: " in raised.value.hint


@pytest.mark.parametrize(
    ("type_", "encoding"),
    [("json", "text"), ("jsonb", "jsonb"), ("integer[]", "array"), ("interval", "json"), ("point", "text")],
)
def test_values_that_only_the_server_compares_are_looked_into_as_text(type_, encoding):
    assert operators_of(a_column(type_, encoding)) == ("contains", "begins with", "is null", "is not null")
