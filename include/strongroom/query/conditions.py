"""Conditions: read from text, checked against the columns of an archive, and decided on the texts of values."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from strongroom.errors import QueryError
from strongroom.query.records import WITHOUT_VALUE, Condition, Operator, QueryRequest
from strongroom.query.values import Kind, kind_of
from strongroom.records import Column, TableShape

_SAFE = "Nothing was read."
_COLUMN = r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s"=!<>]+))'
_WORD = "|".join(sorted((re.escape(one).replace(r"\ ", r"\s+") for one in get_args(Operator)), key=len, reverse=True))
_CONDITION = re.compile(rf"\s*{_COLUMN}\s*(?P<operator>{_WORD})(?P<value>.*)", re.DOTALL | re.IGNORECASE)
_EXAMPLE = 'such as: cost >= 66.40 | way in ["in", "out"] | note is null'

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def read_condition(text: str) -> Condition:
    """Read a condition as people type it: column, operator, value.

    A column whose name has blanks, quotes or signs stands in double quotes, a double quote in it twice. The value is all that
    follows, without the blanks around it; in double quotes it is a JSON string. ``in`` takes a JSON list.

    Raises:
        QueryError: It is no condition. The error does not quote the value.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise _unread()
    plain, quoted, word, value = (found[name] for name in ("plain", "quoted", "operator", "value"))
    word = " ".join(word.lower().split())
    if word[0].isalpha() and (value[:1].strip() or (plain and found.start("operator") == found.end("plain"))):
        raise _unread()  # words stand apart: `noteis null` is no condition on `note`
    column = plain if plain is not None else quoted.replace('""', '"')
    try:
        return Condition.model_validate({"column": column, "operator": word, "value": _read_value(word, value.strip())})
    except ValidationError as error:
        raise unfit_request(error) from None


def _read_value(word: str, text: str) -> Any:
    if word in WITHOUT_VALUE:
        return text or None
    if word != "in" and not (len(text) > 1 and text.startswith('"') and text.endswith('"')):
        return text
    try:
        return json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        raise _unread() from None


def _unread() -> QueryError:
    return QueryError(
        "a condition cannot be read",
        expected=f"column, operator and value, {_EXAMPLE}",
        hint=f"{_SAFE} Operators: {', '.join(get_args(Operator))}. `in` takes a JSON list.",
    )


def unfit_request(error: ValidationError) -> QueryError:
    """The error for a request whose fields do not hold together; it does not quote their values."""
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, problem["loc"])) or "condition"
    return QueryError(
        f"the query's {where} cannot be used",
        found=problem["msg"].removeprefix("Value error, "),
        hint=f"{_SAFE} Correct it and start the query again.",
    )


@dataclass(frozen=True)
class Check:
    """A condition that was found to suit a column.

    Attributes:
        values: What the column is compared with, as archived texts; for ``contains`` and ``begins with`` any text.
    """

    column: Column
    kind: Kind
    operator: Operator
    values: tuple[str, ...]

    def deciding(self) -> Callable[[str | None], bool]:
        """A function that says of a value's archived text whether the condition holds; never for NULL, as in SQL."""
        key = self.kind.key
        if self.operator == "is null":
            return lambda text: text is None
        if self.operator == "is not null":
            return lambda text: text is not None
        if self.operator == "contains":
            return lambda text: text is not None and self.values[0] in text
        if self.operator == "begins with":
            return lambda text: text is not None and text.startswith(self.values[0])
        keys = [key(value) for value in self.values]
        if self.operator == "in":
            return lambda text: text is not None and key(text) in keys
        [wanted], compare = keys, _COMPARED[self.operator]
        return lambda text: text is not None and compare(key(text), wanted)


def check_conditions(conditions: Sequence[Condition], columns: Sequence[Column]) -> list[Check]:
    """Check conditions against the columns of an archive.

    Raises:
        NoColumnError: It has no such column.
        QueryError: An operator or a value does not suit the column's type. Errors quote no value.
    """
    by_name = {column.name: column for column in columns}
    return [_check(condition, by_name) for condition in conditions]


class NoColumnError(QueryError):
    """An archive has no column of that name."""

    code = "SR-604"


def require_columns(names: Sequence[str], columns: Sequence[Column]) -> None:
    """Check that there are columns of these names.

    Raises:
        NoColumnError: Names the first that there is not.
    """
    known = [column.name for column in columns]
    for name in names:
        if name not in known:
            raise NoColumnError(
                f"the archives have no column {name[:100]!r}",
                expected=", ".join(known[:50]),
                hint=f"{_SAFE} Names are as PostgreSQL has them, capitals included.",
            )


def _check(condition: Condition, columns: dict[str, Column]) -> Check:
    require_columns([condition.column], list(columns.values()))
    column = columns[condition.column]
    kind = kind_of(column)
    if condition.operator not in kind.operators:
        raise QueryError(
            f"a column of type {column.type} cannot be compared with {condition.operator}: {condition}",
            expected=", ".join(kind.operators),
            hint=f"{_SAFE} The reason: {kind.why_not}.",
        )
    if condition.operator in ("contains", "begins with"):
        if "\0" in condition.values[0]:
            raise _unsuited(condition, column, "a text without NUL")
        return Check(column, kind, condition.operator, condition.values)
    try:
        read = tuple(kind.read(value.strip() if kind.strips else value) for value in condition.values)
        return Check(column, kind, condition.operator, read)
    except ValueError:
        raise _unsuited(condition, column, kind.expected) from None


def _unsuited(condition: Condition, column: Column, expected: str) -> QueryError:
    return QueryError(
        f"a value does not suit a column of type {column.type}: {condition}",
        expected=expected,
        hint=f"{_SAFE} The value is not shown here, because logs are open to more people than rows. Correct it and start "
        "the query again.",
    )


def range_conditions(request: QueryRequest, shape: TableShape) -> Iterator[Condition]:
    """The time range as conditions on the date column, as a restore reads one: a date is compared with the bound's date.

    None if rows of another table date the rows: then the range holds all of them.
    """
    for bound, sign in ((request.since, ">="), (request.before, "<")):
        if bound is not None and not shape.dated_through:
            plain = bound.replace(tzinfo=None)
            text = plain.date().isoformat() if shape.date_type == "date" else plain.isoformat(" ")
            yield Condition.model_validate({"column": shape.date_column, "operator": sign, "value": text})
