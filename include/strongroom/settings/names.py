"""What a table may be called: as in the file, with its schema, or by its slug."""

from __future__ import annotations

import re
from collections.abc import Iterable


def qualify(table: str) -> str:
    """A table's name in the file with its schema, which is public where none is written."""
    return table if "." in table else f"public.{table}"


def names_of(table: str) -> tuple[str, str, str]:
    """What a table may be called, casefolded: as in the file, with its schema, by its slug."""
    return table.casefold(), qualify(table).casefold(), make_slug(table).casefold()


def make_slug(table: str) -> str:
    """What stands for a table in a DAG id and in the name of a variable."""
    return re.sub(r"\W", "_", table.removeprefix("public.").replace(".", "__"))


def find_twins(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Find pairs of names that DAG ids and variables cannot tell apart, each with what is expected instead."""
    seen: dict[str, str] = {}
    twins = []
    for name in names:
        slug = make_slug(name)
        first = seen.setdefault(slug.casefold(), name)
        if first != name:
            twins.append(
                (
                    first,
                    name,
                    f"a table that differs from {first!r} in the slug {slug!r}, which names DAG and variables",
                )
            )
    return twins
