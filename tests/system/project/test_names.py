"""A second definition of a name silently replaces the first. Ruff reports only a first that nothing used until then."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.support.repository import REPOSITORY


def test_no_module_defines_a_function_or_class_twice():
    modules = [path for room in ("tests", "bench", "include", "plugins", "local", "tools") for path in _modules(room)]

    twice = {str(module.relative_to(REPOSITORY)): names for module in modules if (names := _defined_twice(module))}

    assert twice == {}
    assert len(modules) > 400


def _modules(room: str) -> list[Path]:
    return sorted((REPOSITORY / room).rglob("*.py"))


def _defined_twice(module: Path) -> list[str]:
    plain = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [statement.name for statement in ast.parse(module.read_text()).body if isinstance(statement, plain)]
    return [name for name, times in Counter(names).items() if times > 1]
