"""Says what is wrong with a setting: where it is, what was expected, what was found. It never shows a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from strongroom.settings.sections import SECTIONS
from strongroom.settings.tables import TableSettings
from strongroom.settings.values import guess

_SECRET = re.compile(
    r"pass(word|wd|phrase)|pwd|secret|token|credential|(access|private|api|account)_?key|dsn|connection_?(string|ur[il])",
    re.IGNORECASE,
)

Key = tuple[str | int, ...]
"""The place of a value: ("tables", "audit_events", "compression", "level")."""


@dataclass(frozen=True)
class Finding:
    """What pydantic found wrong with one value, in the words of this module."""

    key: Key
    text: str
    mutual: bool


_REQUIRED = {
    "date_column": "the column that dates a row",
    "legal_basis": "the law or contract that sets the term",
}
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "{le:,} or less",
    "literal_error": "{expected}",
    "model_type": "a mapping of settings",
    "setting": "{expected}",
    "string_type": "text",
    "too_short": "at least one name",
    "tuple_type": "a list",
}


def list_findings(error: ValidationError) -> list[Finding]:
    """Everything that one validation found, in the words of this module."""
    return [_tell(each) for each in error.errors(include_url=False)]


def _tell(error: ErrorDetails) -> Finding:
    kind, ctx = error["type"], error.get("ctx", {})
    key = (*error["loc"], ctx["at"]) if ctx.get("at") else error["loc"]
    if kind == "extra_forbidden":
        text = describe_unknown(key)
    elif kind == "missing":
        wanted = _REQUIRED.get(key[-1]) if isinstance(key[-1], str) else None
        text = (
            f"expected {wanted}, here or as a default at the top, found nothing"
            if wanted
            else "expected this key, found nothing"
        )
    else:
        expected = _EXPECTED[kind].format(**ctx) if kind in _EXPECTED else error["msg"]
        value = error["input"]
        found = ctx.get("found") or (_describe_kind(value) if kind == "model_type" else show(value))
        text = f"expected {expected}, found {found}"
    return Finding(key, text, mutual=bool(ctx.get("mutual")))


def describe_unknown(key: Key) -> str:
    """Say that a key does not exist; never shows its value, which may be a secret."""
    name = str(key[-1])
    if _SECRET.search(name):
        connections = "source_conn_id, store_conn_id or purge_conn_id"
        return f"secrets are not kept in settings; put it into the Airflow connection that {connections} names"
    section = SECTIONS.get(str(key[0])) if len(key) > 1 else None
    if section is not None:
        return f"unknown key{guess(name, list(section.model_fields))}"
    elsewhere = {field: f"{part}.{field}" for part, model in SECTIONS.items() for field in model.model_fields}
    known = [field for field in TableSettings.model_fields if field != "table"]
    return f"unknown key{guess(name, known) or guess(name, elsewhere)}"


def describe_misplaced(key: Key) -> str:
    """Say what is wrong with a variable that names no setting, or a part of a setting that has none."""
    if key[0] in TableSettings.model_fields:
        return f"expected no further part after {str(key[0]).upper()}"
    return describe_unknown(key[:1])


def show(value: Any) -> str:
    """Show one value in a message: short, on one line, and without the contents of a collection."""
    if isinstance(value, dict | list | tuple) or value is None:
        return _describe_kind(value)
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _describe_kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", tuple: "a list", str: "text", type(None): "nothing"}
    return kinds.get(type(value), "a single value")


def show_key(key: Key) -> str:
    """Write a key as people do: `tables.audit_events.primary_key[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else repr(part)}" for part in key)
    return "".join(parts).removeprefix(".")


def name_heirs(heirs: list[str], tables: int) -> str:
    """Say for which tables a default is wrong, unless it is wrong for all."""
    if len(heirs) in (0, tables):
        return ""
    more = f" and {len(heirs) - 3} more" if len(heirs) > 3 else ""
    return f" (for {', '.join(heirs[:3])}{more})"
