"""What `make mutants` changes: Python and the SQL in its strings, but no messages."""

from __future__ import annotations

import ast
from pathlib import Path

from bench.mutants.__main__ import FIRST, TARGETS
from bench.mutants.making import make_mutants
from tests.support.repository import REPOSITORY

SOURCE = '''
"""Docs."""
Pair = tuple[str, Literal["a", "b"]]
def guard(rows, known):
    """More docs: a = b AND c."""
    require(rows)
    if rows < 3 and known is not None:
        raise ValueError(f"rows = {rows} AND more")
    return sql("DELETE FROM t WHERE a = b AND NOT EXISTS (SELECT 1)"), rows + known
'''


def test_each_condition_call_sum_and_fragment_of_sql_is_broken_once():
    names = {mutant.name for mutant in make_mutants("m", SOURCE)}

    assert names == {
        "guard: without `require(rows)` #1",
        "guard: True for `rows < 3 and known is not None` #1",
        "guard: False for `rows < 3 and known is not None` #1",
        "guard: without `raise ValueError(f'rows = {rows} AND more')` #1",
        "guard: Or in `rows < 3 and known is not None` #1",
        "guard: without `rows < 3` in a condition #1",
        "guard: without `known is not None` in a condition #1",
        "guard: LtE in `rows < 3` #1",
        "guard: GtE in `rows < 3` #1",
        "guard: 4 for 3 #1",
        "guard: Is in `known is not None` #1",
        """guard: without `sql('DELETE FROM t WHERE a = b AND NOT EXISTS (SELECT 1)')` in a list #1""",
        "guard: without `rows + known` in a list #1",
        "guard: `OR for AND` in SQL #1",
        "guard: `<> for =` in SQL #1",
        "guard: `nothing for NOT` in SQL #1",
        "guard: `NOT EXISTS for EXISTS` in SQL #1",
        "guard: Sub in `rows + known` #1",
    }


def test_each_mutant_is_another_program():
    mutants = make_mutants("m", SOURCE)

    assert len({ast.dump(ast.parse(mutant.source)) for mutant in mutants}) == len(mutants)


def test_only_the_functions_that_are_asked_for_are_broken():
    assert make_mutants("m", SOURCE, ("other",)) == []


def test_each_function_that_is_to_be_broken_is_where_it_is_looked_for():
    """One that moved to another module would be broken no more, and nobody would notice."""
    known: set[str] = set()
    for module, functions in TARGETS.items():
        names = names_in(REPOSITORY / "include" / Path(*module.split(".")).with_suffix(".py"))
        assert set(functions) <= names, module
        known |= names

    assert FIRST.keys() <= known


def names_in(path: Path) -> set[str]:
    """Functions and classes of a module, and methods with their class."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names
