"""The first, cheap comparison: what DuckDB is asked of a part, so that few rows must be looked at one by one.

DuckDB does not compare all values as PostgreSQL does: it turns ``66.40`` into ``66.4`` and does not know the year 44 BC. So a
sieve only has to let every row through for which the conditions hold. Which rows these are is decided afterwards, on the
archived texts (:class:`strongroom.query.conditions.Check`). What cannot be sieved passes.

No name and no value becomes part of a statement. Columns are found by a parameter (JSON lines) or by their position
(parquet), and values are parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.formats.type_names import without_modifier
from strongroom.query.conditions import Check
from strongroom.records import Column, CompressionType

_PACKED = {"zstd": "zstd", "gzip": "gzip", "none": "uncompressed"}
_SIGNS = frozenset({"=", "<", "<=", ">", ">="})
_WIDER = {"=": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">="}
_MARGIN = 1e-9
"""A number as a float is off by far less, relative to its size."""

_ZONED = "timestamp with time zone"


@dataclass(frozen=True)
class Statement:
    """A query for DuckDB with its parameters. The path of the part is the first."""

    text: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True)
class _Term:
    """A condition in SQL and its parameters, in their order."""

    text: str
    parameters: tuple[Any, ...] = ()


def line_statement(
    path: str, compression: CompressionType, checks: Sequence[Check], *, longest_line_bytes: int
) -> Statement:
    """Select lines of a part of JSON lines."""
    source = (
        f"SELECT json FROM read_ndjson_objects(?, compression = '{_PACKED[compression]}', "  # noqa: S608 - of our own table
        f"maximum_object_size = {int(longest_line_bytes)})"
    )
    terms = [term for check in checks if (term := _of_line(check)) is not None]
    return _joined(source, path, terms)


def parquet_statement(
    path: str, columns: Sequence[Column], wanted: Sequence[int], checks: Sequence[Check]
) -> Statement:
    """Select columns of a parquet part, and last the one of exact texts.

    Args:
        columns: All columns of the table, in the order of the file.
        wanted: Positions of those to select.
    """
    names = [f"c{position}" for position in range(len(columns))]
    listed = ", ".join([*(names[position] for position in wanted), "x"])
    source = f"SELECT {listed} FROM read_parquet(?, hive_partitioning = false) AS t({', '.join([*names, 'x'])})"  # noqa: S608 - of our own names
    position_of = {column.name: position for position, column in enumerate(columns)}
    terms = [term for check in checks if (term := _of_column(check, names[position_of[check.column.name]])) is not None]
    return _joined(source, path, terms)


def _joined(source: str, path: str, terms: Sequence[_Term]) -> Statement:
    where = " WHERE " + " AND ".join(f"({term.text})" for term in terms) if terms else ""
    return Statement(source + where, (path, *(one for term in terms for one in term.parameters)))


def _of_line(check: Check) -> _Term | None:
    """What DuckDB compares in a line; None if it cannot."""
    field = _Term("json_extract_string(json, ?)", (_pointer(check.column.name),))
    if check.operator in ("is null", "is not null"):
        return _Term(f"{field.text} {check.operator.upper()}", field.parameters)
    kind = check.kind.name
    if is_plain(check.column):
        return _on_text(check, field)
    if kind in ("integer", "numeric", "float"):
        return _on_json_number(check, field)
    if kind == "date":
        return _on_iso(check, field)
    if kind == "boolean" and check.operator in ("=", "in"):
        return _any_of(field, [{"t": "true", "f": "false"}[value] for value in check.values])
    return None


def is_plain(column: Column) -> bool:
    """Whether a JSON line has the value's text itself, in a string."""
    if column.encoding in ("jsonb", "array"):
        return False
    name = without_modifier(column.base_type)
    return column.encoding == "text" or not (
        name in ("smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean")
        or name.startswith("timestamp ")
    )


def _pointer(name: str) -> str:
    """A JSON pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _of_column(check: Check, name: str) -> _Term | None:
    """The same for a column of a parquet file. Where it does not hold the value, the exact text does."""
    from strongroom.formats.parquet import is_typed  # and with it Arrow, which JSON lines do without

    field = _Term(name)
    if not is_typed(check.column):
        if check.operator in ("is null", "is not null"):
            return _Term(f"{name} {check.operator.upper()}")
        return _on_text(check, field)
    term = _on_typed(check, field)
    return None if term is None else _Term(f"({term.text}) OR x IS NOT NULL", term.parameters)


def _on_typed(check: Check, field: _Term) -> _Term | None:
    if check.operator in ("is null", "is not null"):
        return _Term(f"{field.text} {check.operator.upper()}")
    kind = check.kind.name
    if kind == "integer" and check.operator in (*_SIGNS, "in"):
        if check.operator == "in":
            return _any_of(field, [int(value) for value in check.values])
        return _Term(f"{field.text} {check.operator} ?", (int(check.values[0]),))
    if kind in ("numeric", "float"):
        return _on_number(check, _Term(f"CAST({field.text} AS DOUBLE)"))
    if kind == "boolean" and check.operator in ("=", "in"):
        return _any_of(field, [value == "t" for value in check.values])
    if kind == "date" and check.operator in _SIGNS and _is_common(check.values[0]):
        name = without_modifier(check.column.base_type)
        type_ = "DATE" if name == "date" else "TIMESTAMPTZ" if name == _ZONED else "TIMESTAMP"
        return _Term(f"{field.text} {check.operator} CAST(? AS {type_})", (check.values[0],))
    return None


def _on_text(check: Check, field: _Term) -> _Term | None:
    """Texts compare byte by byte in both, where their order counts at all."""
    kind = check.kind.name
    if check.operator == "contains":
        return _Term(f"contains({field.text}, ?)", (*field.parameters, check.values[0]))
    if check.operator == "begins with":
        return _Term(f"starts_with({field.text}, ?)", (*field.parameters, check.values[0]))
    if kind == "padded" and check.operator in ("=", "in"):
        trimmed = _Term(f"rtrim({field.text}, ' ')", field.parameters)
        return _any_of(trimmed, [value.rstrip(" ") for value in check.values])
    if kind == "text" or (kind == "date" and without_modifier(check.column.base_type) == "date"):
        if check.operator in ("=", "in"):
            return _any_of(field, check.values)
        if check.operator in _SIGNS:
            return _in_order(check, field, check.values[0]) if kind == "date" else _compared(check, field)
    if kind == "integer" and check.operator in ("=", "in"):  # oid and the like, which are kept as texts
        return _any_of(field, check.values)
    return None


def _compared(check: Check, field: _Term) -> _Term:
    return _Term(f"{field.text} {check.operator} ?", (*field.parameters, check.values[0]))


def _on_iso(check: Check, field: _Term) -> _Term | None:
    """Timestamps in ISO 8601; two of common years are in the order of their texts."""
    iso = [value.replace(" ", "T", 1).replace("+00", "+00:00") for value in check.values]
    if not all(map(_is_common, check.values)):
        return None
    if check.operator in ("=", "in"):
        return _any_of(field, iso)
    return _in_order(check, field, iso[0]) if check.operator in _SIGNS else None


def _in_order(check: Check, field: _Term, value: str) -> _Term | None:
    """Dates of uncommon years, and infinity, pass."""
    if not _is_common(value):
        return None
    text = f"{field.text} {check.operator} ? OR {field.text}[5:5] <> '-' OR ends_with({field.text}, 'BC')"
    return _Term(text, (*field.parameters, value, *field.parameters, *field.parameters))


def _is_common(date: str) -> bool:
    """Whether a date has a year from 1 to 9999."""
    return date[4:5] == "-" and not date.endswith("BC") and date[:4].isdecimal()


def _on_number(check: Check, number: _Term) -> _Term | None:
    """Numbers compare as floats, with a margin for what is rounded away."""
    if check.operator not in (*_SIGNS, "in"):
        return None
    ranges = [_around(float(value)) for value in check.values]
    if check.operator in ("=", "in"):
        text = " OR ".join(f"{number.text} BETWEEN ? AND ?" for _ in ranges)
        return _Term(text, tuple(one for bounds in ranges for one in (*number.parameters, *bounds)))
    lowest, highest = ranges[0]
    bound = highest if check.operator.startswith("<") else lowest
    return _Term(f"{number.text} {_WIDER[check.operator]} ?", (*number.parameters, bound))


def _around(value: float) -> tuple[float, float]:
    if value != value or value in (float("inf"), float("-inf")):
        return value, value
    return value - abs(value) * _MARGIN, value + abs(value) * _MARGIN


def _on_json_number(check: Check, field: _Term) -> _Term | None:
    """What DuckDB cannot read as a number passes, unless it is NULL."""
    number = _Term(f"TRY_CAST({field.text} AS DOUBLE)", field.parameters)
    term = _on_number(check, number)
    if term is None:
        return None
    text = f"({term.text}) OR ({number.text} IS NULL AND {field.text} IS NOT NULL)"
    return _Term(text, (*term.parameters, *number.parameters, *field.parameters))


def _any_of(field: _Term, values: Sequence[Any]) -> _Term:
    return _Term(f"{field.text} IN ({', '.join('?' * len(values))})", (*field.parameters, *values))
