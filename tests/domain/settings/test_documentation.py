"""The settings file and the documentation tell the truth about the settings."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from strongroom.errors import ConfigurationError
from strongroom.settings import DEFAULT_FILE, TableSettings, load_settings
from tests.support.repository import REPOSITORY
from tests.support.settings_files import a_table

DOCUMENTATION = REPOSITORY / "docs" / "reference" / "configuration.md"


def every_setting() -> dict[str, str]:
    """Key path and default, as the documentation writes them, of every setting."""
    found = {}
    for name, field in TableSettings.model_fields.items():
        if isinstance(field.default, BaseModel):
            inner = type(field.default).model_fields
            found |= {f"{name}.{key}": write_default(part.default) for key, part in inner.items()}
        elif name != "table":
            found[name] = write_default(field.default)
    return found


def write_default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return "none"
    if value == "":
        return "empty"
    shown = value.value if isinstance(value, Enum) else str(value).lower() if isinstance(value, bool) else value
    return f"`{shown}`"


def test_the_documentation_lists_exactly_the_settings_there_are():
    rows = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| `([^`]+)` \| ([^|]+) \|$", DOCUMENTATION.read_text(), re.M
    )

    assert {key: default for key, _, default, _, _ in rows} == every_setting()
    assert {key: variable for key, _, _, variable, _ in rows} == {
        key: "STRONGROOM__" + key.upper().replace(".", "__") for key in every_setting()
    }


def test_the_values_that_the_file_repeats_are_the_defaults():
    """The file teaches the main defaults; it must not quietly differ from the documentation."""
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    written = {key: value for key, value in document.items() if key not in ("tables", "legal_basis")}

    assert a_table(**written) == a_table(compression={"level": 3})


def test_the_example_of_the_documentation_loads(a_file):
    whole, section = re.findall(r"```yaml\n(.*?)```", DOCUMENTATION.read_text(), re.S)

    invoices = load_settings(a_file(whole), {}).table("billing.invoices")
    second = load_settings(a_file(f"legal_basis: a law\ntables:\n{section}"), {}).table("billing.invoices")

    assert (invoices.slug, str(invoices.cold_retention)) == ("billing__invoices", "P10Y")
    assert (second.compression.level, second.store.sse) == (9, "aws:kms")


def test_the_message_that_the_documentation_shows_is_the_real_one(a_file):
    path = a_file("legal_basis: a law\ntables: {audit_events: {date_column: at, compression: {level: 23}}}")

    with pytest.raises(ConfigurationError) as refused:
        load_settings(path, {"STRONGROOM__FREQUENCY": "yearly"})

    shown = re.search(r"```\n(2 faults.*?)\n```", DOCUMENTATION.read_text(), re.S)
    assert shown
    assert sorted(str(refused.value).replace(str(path), "include/config/archive.yaml").splitlines()) == sorted(
        shown[1].splitlines()
    )
