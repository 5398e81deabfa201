"""Make mutants of a module: each is the module's source with one thing wrong.

Both the Python and the SQL in its strings are changed: a condition is dropped or negated, a call is left out, a sum is off
by one, AND replaces OR, ``=`` replaces ``<>``, a NOT is removed.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv}
_SQL = (
    (r" AND ", " OR "),
    (r" = (?!excluded)", " <> "),
    (r"NOT (?=EXISTS|$)", ""),
    (r" IS NOT ", " IS "),
    (r"ON COMMIT DELETE ROWS", "ON COMMIT PRESERVE ROWS"),
    (r"IF NOT EXISTS ", ""),
    (r"DO UPDATE SET \{replaced\}", "DO NOTHING"),
    (r"\bJOIN\b", "LEFT JOIN"),
    (r"= off", "= on"),
    (r"FROM gone\)", "FROM gone WHERE false)"),
    (r"FROM moved\)", "FROM gone)"),
    (r"COLLATE \{\}", ""),
    (r"\bEXISTS\b", "NOT EXISTS"),
)
_TYPES = ("Callable", "Literal", "Mapping", "dict", "list", "tuple")
_LEVELS = {"READ_COMMITTED": ("REPEATABLE_READ",)}
_REASONS = {"changed": "referenced", "referenced": "changed"}


@dataclass(frozen=True)
class Mutant:
    """One broken version of a module.

    Attributes:
        module: Its dotted name.
        name: The function, the change, and a number if there are several changes of that kind.
        source: The module's source with the change.
    """

    module: str
    name: str
    source: str


def make_mutants(
    module: str, source: str, functions: tuple[str, ...] = (), wanted: Callable[[str], bool] = lambda _: True
) -> list[Mutant]:
    """All mutants of a module, or of some of its functions, in source order.

    Args:
        wanted: Whether a mutant is wanted, by its name. To make one takes longer than to name it.
    """
    tree = ast.parse(source)
    original = ast.unparse(tree)
    seen: Counter[str] = Counter()
    mutants = []
    for position, (where, node) in enumerate(_walk(tree)):
        if functions and not {where, where.partition(".")[0]} & set(functions):
            continue
        for what, change in _changes(node):
            name = f"{where}: {what}"
            seen[name] += 1
            if not wanted(f"{name} #{seen[name]}"):
                continue
            broken = copy.deepcopy(tree)
            _, twin = list(_walk(broken))[position]
            change(twin)
            text = ast.unparse(ast.fix_missing_locations(broken))
            if text != original:
                mutants.append(Mutant(module, f"{name} #{seen[name]}", text))
    return mutants


def _walk(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node that may be changed, with its enclosing function, except docstrings, types and messages."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
        yield where, node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                    yield from visit(child, child.name if where == "module" else f"{where}.{child.name}")
                elif isinstance(child, ast.AST) and not _is_prose(child):
                    yield from visit(child, where)

    return visit(tree, "module")


def _is_prose(node: ast.AST) -> bool:
    """Whether a node is a docstring, an import, an f-string, a type, or a call that only builds an error or a type variable."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _TYPES:
        return True
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith(("Error", "TypeVar"))
    )


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        if isinstance(statements, list):
            for position, statement in enumerate(statements):
                if _can_go(statement):
                    yield f"without `{_short(statement)}`", _replace(field, position, ast.Pass())
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        for truth in (True, False):
            if not (truth and isinstance(node, ast.While)):  # the mutant would loop forever
                yield f"{truth} for `{_short(node.test)}`", _set("test", ast.Constant(truth))
    if isinstance(node, ast.With) and "transaction" in ast.unparse(node.items[0]):
        nothing = ast.parse("__import__('contextlib').nullcontext()", mode="eval").body
        yield f"without `with {_short(node.items[0])}`", _set("items", [ast.withitem(nothing)])
    if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        yield f"otherwise `{_short(node)}`", _set("op", _ARITHMETIC[type(node.op)]())
    if isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            for other in _COMPARISONS.get(type(operator), ()):
                yield f"{other.__name__} in `{_short(node)}`", _replace("ops", position, other())
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{other.__name__} in `{_short(node)}`", _set("op", other())
        for position, value in enumerate(node.values):
            yield f"without `{_short(value)}` in a condition", _drop("values", position)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        other_operator = _ARITHMETIC[type(node.op)]
        yield f"{other_operator.__name__} in `{_short(node)}`", _set("op", other_operator())
    if isinstance(node, (ast.List, ast.Tuple)) and len(node.elts) > 1 and isinstance(node.ctx, ast.Load):
        for position, element in enumerate(node.elts):
            yield f"without `{_short(element)}` in a list", _drop("elts", position)
    if isinstance(node, ast.Attribute) and node.attr in _LEVELS:
        for level in _LEVELS[node.attr]:
            yield f"{level} for {node.attr}", _set("attr", level)
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            for text, replacement in _broken_texts(node.value):
                yield f"`{text}` in SQL", _set("value", replacement)
        elif isinstance(node.value, int) and not isinstance(node.value, bool):
            yield f"{node.value + 1} for {node.value}", _set("value", node.value + 1)


def _broken_texts(text: str) -> Iterator[tuple[str, str]]:
    if text in _REASONS:
        yield f"{_REASONS[text]} for {text}", _REASONS[text]
    for pattern, replacement in _SQL:
        for found in re.finditer(pattern, text):
            broken = text[: found.start()] + replacement + text[found.end() :]
            if broken != text:
                yield f"{replacement.strip() or 'nothing'} for {found[0].strip()}", broken


def _can_go(statement: ast.AST) -> bool:
    """Whether the module still runs without a statement: a call, a raise, or an assignment to an attribute."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, (ast.Call, ast.YieldFrom, ast.Yield))
    if isinstance(statement, ast.Assign):
        return isinstance(statement.targets[0], ast.Attribute)
    return isinstance(statement, (ast.Raise, ast.Continue))


def _set(field: str, value: object) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, value)


def _replace(field: str, position: int, value: object) -> Callable[[ast.AST], None]:
    return lambda node: getattr(node, field).__setitem__(position, value)


def _drop(field: str, position: int) -> Callable[[ast.AST], None]:
    return lambda node: getattr(node, field).__delitem__(position)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."
