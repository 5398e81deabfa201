"""Parameters of which `make test` tries some, and CI all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], *, every: int, first: int = 0) -> list[Any]:
    """The same parameters, all but each ``every``-th marked thorough.

    Args:
        values: As :func:`pytest.mark.parametrize` takes them.
        first: Which of them is the first that is always tried.
    """
    return [value if position % every == first % every else _thorough(value) for position, value in enumerate(values)]


def _thorough(value: Any) -> Any:
    if hasattr(value, "marks"):
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.thorough], id=value.id)
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.thorough)
