"""The list of tests that `make test` leaves out names tests that exist."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.conftest import THOROUGH
from tests.support.repository import REPOSITORY


def test_each_line_names_a_test_or_a_file() -> None:
    listed: defaultdict[str, set[str]] = defaultdict(set)
    for line in THOROUGH.read_text().splitlines():
        if not line.startswith("#"):
            file, _, test = line.partition("::")
            listed[file].add(test.partition("[")[0].rpartition("::")[2])

    wrong = {file: sorted(names - (functions_of(file) | {""})) for file, names in listed.items()}

    assert {file: names for file, names in wrong.items() if names} == {}


def functions_of(file: str) -> set[str]:
    """The names of the tests in a file, those in classes too."""
    tree = ast.parse((REPOSITORY / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
