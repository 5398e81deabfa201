"""No error of ours is ever empty: each says what happened, and what is safe and to be done."""

from __future__ import annotations

import ast
import builtins
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache

import pytest

import strongroom
import strongroom_local
from strongroom.errors import StrongroomError
from tests.support.repository import REPOSITORY

SOURCES = [
    path
    for folder in ("include/strongroom", "local/strongroom_local", "plugins", "dags")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]
PLAIN = {"YamlError", "_Stop", "Stopped"}
"""Ours, but no errors that a user sees: the settings put the first into one of theirs, Ctrl-C and SIGTERM are the others."""


def every_error() -> list[type[StrongroomError]]:
    """All classes of errors that Airflow is not needed for, those that only travel inside one module too."""
    for package in (strongroom, strongroom_local):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: list[type[StrongroomError]] = [StrongroomError]
    for kind in found:
        found += (one for one in kind.__subclasses__() if one not in found)
    return found


ERRORS = every_error()


def classes() -> Iterator[ast.ClassDef]:
    for path in SOURCES:
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))


@cache
def ours() -> dict[str, ast.ClassDef]:
    """The classes below StrongroomError, as they are written; those beside Airflow too, which need not be imported for it."""
    found: dict[str, ast.ClassDef] = {}
    known = {"StrongroomError"}
    every = list(classes())
    while more := {
        one.name: one
        for one in every
        if one.name not in known and any(isinstance(base, ast.Name) and base.id in known for base in one.bases)
    }:
        found |= more
        known |= more.keys()
    return found


def value(kind: ast.ClassDef, name: str) -> object:
    """What the body of a class assigns to a name; None if it does not."""
    for line in kind.body:
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == [name]:
            return ast.literal_eval(line.value)
    return None


def is_retryable(kind: ast.ClassDef) -> bool:
    own = value(kind, "retryable")
    above = [ours()[base.id] for base in kind.bases if isinstance(base, ast.Name) and base.id in ours()]
    return bool(own) if own is not None else any(is_retryable(one) for one in above)


def test_each_kind_of_error_has_a_code_of_its_own():
    """Otherwise a code would not tell what happened. A new kind takes the next free number of its group."""
    codes = {name: value(kind, "code") for name, kind in ours().items()}

    assert len(codes) > 35
    assert [name for name, code in codes.items() if not re.fullmatch(r"SR-\d{3}", str(code))] == []
    assert len(set(codes.values())) == len(codes)


def test_the_reference_lists_exactly_the_kinds_there_are():
    """A line of docs/reference/errors.md: code, name, whether it is tried again, and the first line of the docstring."""
    page = (REPOSITORY / "docs" / "reference" / "errors.md").read_text()
    rows = re.findall(r"^\| (SR-\d+) \| `(\w+)` \| (yes|no) \| (.+?) \| .+ \|$", page, re.MULTILINE)

    assert sorted(rows) == sorted(
        (
            value(kind, "code"),
            name,
            "yes" if is_retryable(kind) else "no",
            (ast.get_docstring(kind) or "").splitlines()[0],
        )
        for name, kind in ours().items()
    )


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("what", "hint"), [("", "Wait."), ("it broke", ""), (" ", "\n")])
def test_no_error_can_be_raised_without_a_sentence_and_a_hint(kind, what, hint):
    with pytest.raises(ValueError, match=f"{kind.__name__} needs a sentence and a hint"):
        kind(what, hint=hint)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_says_both(kind):
    assert str(kind("it broke", hint="Wait.")) == f"it broke\nHINT: Wait.\nCODE: {kind.code}"


def test_every_class_of_errors_is_one_of_those():
    """Also in the modules that need Airflow: what is raised beside them would have no sentence and no hint."""
    errors = {kind.__name__ for kind in ERRORS}
    known = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    strangers = [
        node.name
        for node in classes()
        for base in node.bases
        if isinstance(base, ast.Name)
        and base.id in known
        and issubclass(getattr(builtins, base.id), BaseException)
        and node.name not in errors | PLAIN
    ]

    assert strangers == []


def test_no_error_is_raised_as_a_bare_class():
    """`raise SomeError` has no message at all."""
    errors = {node.name for node in classes()} - PLAIN
    bare = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}: raise {node.exc.id}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in errors
    ]

    assert bare == []
