"""Tables that are archived together: a root, which names its members in ``with``, and they."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from strongroom.settings.names import qualify
from strongroom.settings.sections import Section
from strongroom.settings.values import TableNames

if TYPE_CHECKING:
    WithMembers = Section
else:  # no class can have an attribute of that name in its body
    WithMembers = create_model(
        "WithMembers", __base__=Section, **{"with": (TableNames, Field(default=(), exclude_if=lambda names: not names))}
    )

WITH = "with"

OF_A_MEMBER = (
    "accepted_delete_triggers",
    "compression",
    "delete_batch_rows",
    "format",
    "part_bytes",
    "part_rows",
    "primary_key",
    "proof_rows",
)
"""What a member's own section may set. Everything else is the root's, because one run archives them all."""

_OF_THE_ROOT_ALONE = frozenset({WITH, "accepted_delete_triggers", "primary_key"})

_NOT_YET = {
    "warm": "warm: false, because a warm tier holds single tables",
    "partition_delete": "partition_delete.enabled: false, because a detached partition would take rows out before their children",
    "subjects": "no subjects.columns, because erasing a person from one table would leave half an object",
}


@dataclass(frozen=True)
class UnitSettings:
    """Which tables are archived together.

    Attributes:
        tables: Their names in the file, the root first.
    """

    tables: tuple[str, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """All but the root."""
        return self.tables[1:]

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of each, the root first."""
        return tuple((schema, name) for schema, _, name in (qualify(table).partition(".") for table in self.tables))

    def is_root(self, table: str) -> bool:
        """Whether the others are archived with this table."""
        return qualify(table) == qualify(self.tables[0])


def named_members(section: Mapping[str, Any]) -> list[str]:
    """The members that a table's section names; none where it names them wrongly, which its check reports."""
    named = section.get(WITH) or []
    named = [named] if isinstance(named, str) else named
    return [one for one in named if isinstance(one, str)] if isinstance(named, list | tuple) else []


def section_of_member(root: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a member takes from its root: all but what speaks of the root's own rows.

    Args:
        root: The root's section, with the defaults.
        defaults: Those of the whole file, which count for the member, too.
    """
    own = {name: defaults[name] for name in _OF_THE_ROOT_ALONE & defaults.keys()}
    return {name: value for name, value in root.items() if name not in _OF_THE_ROOT_ALONE} | own


def faults_of_member(root: str, section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a member's own section sets and may not: the key, and what is wrong."""
    for name in section:
        if name == WITH:
            yield name, f"expected no members of its own, because {root} names it in its `with`; name them there"
        elif name == "date_column":
            yield (
                name,
                f"expected nothing, because {root} names it in its `with`: its rows are dated by those of {root}",
            )
        elif name not in OF_A_MEMBER:
            yield (
                name,
                f"expected it in {root} alone, which names this table in its `with` (here only {', '.join(OF_A_MEMBER)})",
            )


def faults_of_root(root: Any) -> Iterator[str]:
    """What a table with members cannot have."""
    if root.warm:
        yield _NOT_YET["warm"]
    if root.partition_delete.enabled:
        yield _NOT_YET["partition_delete"]
    if root.subjects.columns:
        yield _NOT_YET["subjects"]
