"""Settings of one table, written and loaded, and the faults that loading reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError
from strongroom.settings import TableSettings, load_settings


def a_table(**changed: Any) -> TableSettings:
    return TableSettings(**{"table": "events", "date_column": "at", "legal_basis": "a law", **changed})


def one_table(*lines: str, top: str = "") -> str:
    """A file with one correct table `events`, extra lines in its section, and extra lines at the top."""
    section = "".join(f"    {line}\n" for line in ("date_column: at", "legal_basis: a law", *lines))
    return f"{top}\ntables:\n  events:\n{section}"


def faults_of(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(path, environ or {})
    assert refused.value.hint.startswith("Nothing was started and no row was touched")
    return [line.strip() for line in refused.value.what.splitlines()[1:]]
