"""The tables of a unit, as the catalogue shows them now: which foreign keys tie their rows to one business object.

A unit is a root table, whose rows are dated, and its members: tables that refer to the root or to another member. Each member has
exactly one foreign key into the unit, so that each of its rows belongs to one row of the root at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from strongroom.database.references import Reference, read_references
from strongroom.database.session import Session, fetch_rows
from strongroom.records import ForeignKey

Place = tuple[str, str]
"""Schema and name of a table."""


@dataclass(frozen=True)
class Hop:
    """The foreign key that leads from a member to its parent.

    Attributes:
        reference: The foreign key, as the parent sees it.
        parent: The table that it points at.
    """

    reference: Reference
    parent: Place

    @property
    def record(self) -> ForeignKey:
        """What a manifest says of it."""
        return ForeignKey(
            name=self.reference.name,
            columns=self.reference.referring,
            parent=".".join(self.parent),
            parent_columns=self.reference.referred,
        )


@dataclass(frozen=True)
class UnitTable:
    """One table of a unit.

    Attributes:
        place: Where it is.
        path: The foreign keys from it to the root; none of the root itself.
        outside: Foreign keys that point at it from tables outside the unit, or from the root at itself.
    """

    place: Place
    path: tuple[Hop, ...]
    outside: tuple[Reference, ...]


@dataclass(frozen=True)
class Unit:
    """The tables of a unit, the root first and each parent before its children."""

    tables: tuple[UnitTable, ...]

    def table(self, place: Place) -> UnitTable:
        """One of its tables."""
        return next(one for one in self.tables if one.place == place)


def read_unit(connection: Session, places: Sequence[Place]) -> tuple[Unit | None, list[str]]:
    """Find the foreign keys that tie a unit together; or say why they do not.

    Args:
        places: The root first, then the members in any order.
    """
    oids = {place: oid_of(connection, place) for place in places}
    if missing := [
        f"there is no table {_name(place)}, which its unit names" for place, oid in oids.items() if oid is None
    ]:
        return None, missing
    pointing = {place: read_references(connection, oid) for place, oid in oids.items() if oid is not None}
    hops: dict[Place, list[Hop]] = {place: [] for place in places}
    for parent, references in pointing.items():
        for one in references:
            place = (one.schema_name, one.table_name)
            if (
                place in hops and not place == parent == places[0]
            ):  # a row of the root that refers to another is outside its object
                hops[place].append(Hop(one, parent))
    if faults := [*_faults(places, hops)]:
        return None, faults
    paths = {place: _path(place, hops) for place in places}
    tables = (
        UnitTable(place, paths[place], tuple(one for one in pointing[place] if not _is_inside(one, place, places)))
        for place in places
    )
    return Unit(tuple(sorted(tables, key=lambda one: len(one.path)))), []


def _is_inside(reference: Reference, parent: Place, places: Sequence[Place]) -> bool:
    place = (reference.schema_name, reference.table_name)
    return place in places and place != parent


def _faults(places: Sequence[Place], hops: Mapping[Place, Sequence[Hop]]) -> list[str]:
    root, *members = places
    faults = [
        f"{_name(root)} refers to {_name(hop.parent)} ({hop.reference.name}), which belongs to it: neither could be deleted first"
        for hop in hops[root]
    ]
    for place in members:
        own = [hop.reference.name for hop in hops[place] if hop.parent == place]
        others = [hop for hop in hops[place] if hop.parent != place]
        if own:
            faults.append(
                f"{_name(place)} refers to itself ({', '.join(own)}), so its rows are no part of one object each"
            )
        if not others:
            faults.append(f"no foreign key leads from {_name(place)} to {_name(root)} or to another member of its unit")
        elif len(others) > 1:
            named = ", ".join(f"{hop.reference.name} to {_name(hop.parent)}" for hop in others)
            faults.append(
                f"several foreign keys lead from {_name(place)} into its unit ({named}), so a row may belong to two objects"
            )
    for place in members:
        faults += _faults_of_hops(place, hops[place])
    if not faults and (lost := [place for place in members if not _leads_to(root, place, hops)]):
        faults.append(
            f"the foreign keys of {', '.join(map(_name, lost))} go round in a circle and do not lead to {_name(root)}"
        )
    return faults


def _faults_of_hops(place: Place, hops: Sequence[Hop]) -> Iterator[str]:
    """Why a row may belong to no row of its parent, or to two of them."""
    for hop in hops:
        name = hop.reference.name
        if not hop.reference.validated:
            yield (
                f"the foreign key {name} of {_name(place)} is NOT VALID or NOT ENFORCED, so rows may refer to none of {_name(hop.parent)}"
            )
        if hop.reference.to_partition:
            yield (
                f"the foreign key {name} of {_name(place)} leads to a table partition of {_name(hop.parent)}, so a row may belong to "
                "rows of several"
            )


def _leads_to(root: Place, place: Place, hops: Mapping[Place, Sequence[Hop]]) -> bool:
    seen: set[Place] = set()
    while place != root and place not in seen:
        seen.add(place)
        place = hops[place][0].parent
    return place == root


def _path(place: Place, hops: Mapping[Place, Sequence[Hop]]) -> tuple[Hop, ...]:
    path = []
    while hops[place]:
        path.append(hops[place][0])
        place = hops[place][0].parent
    return tuple(path)


def oid_of(connection: Session, place: Place) -> int | None:
    """The number of a table; None if there is none of that name."""
    rows = fetch_rows(
        connection,
        "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
        *place,
    )
    return int(rows[0][0]) if rows else None


def _name(place: Place) -> str:
    return ".".join(place)
