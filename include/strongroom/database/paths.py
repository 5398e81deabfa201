"""SQL that follows foreign keys: up from a row to the row that dates it, and down to what refers to a whole object."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from strongroom.database.references import Reference
from strongroom.database.session import qualified
from strongroom.database.units import Hop, Place, Unit


def matches(reference: Reference, referred: str, referring: str) -> sql.Composed:
    """A condition on two rows, by their aliases: the second one refers to the first, compared as the foreign key compares."""
    pairs = []
    for theirs, ours, operator, collation in zip(
        reference.referring, reference.referred, reference.operators, reference.collations, strict=True
    ):
        collate = sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL("")
        pairs.append(
            sql.SQL("{referred}.{ours}{collate} OPERATOR({schema}.{operator}) {referring}.{theirs}{collate}").format(
                referred=sql.SQL(referred),
                referring=sql.SQL(referring),
                ours=sql.Identifier(ours),
                theirs=sql.Identifier(theirs),
                schema=sql.Identifier(operator[0]),
                operator=sql.SQL(operator[1]),
                collate=collate,
            )
        )
    return sql.SQL(" AND ").join(pairs)


def refers(reference: Reference) -> sql.Composed:
    """A condition on the row ``t``: some row of the referring table points at it."""
    return sql.SQL("EXISTS (SELECT FROM {} AS r WHERE {})").format(
        qualified(reference.schema_name, reference.table_name), matches(reference, "t", "r")
    )


def way_up(
    path: Sequence[Hop], start: str = "t", letter: str = "p"
) -> tuple[list[sql.Composed], list[sql.Composed], str]:
    """What FROM and WHERE take to lead from a row along foreign keys, and the alias of the last row; nothing, and the row's own alias, of no path.

    Args:
        path: From the row's table on.
        start: The alias of the row.
        letter: What the aliases of the further rows begin with.
    """
    tables, conditions, below = [], [], start
    for number, hop in enumerate(path):
        above = f"{letter}{number}"
        tables.append(_aliased(hop.parent, above))
        conditions.append(matches(hop.reference, above, below))
        below = above
    return tables, conditions, below


def object_references(unit: Unit, place: Place) -> dict[tuple[Place, Reference], sql.Composed]:
    """For each foreign key from outside a unit: a condition on the row ``t``, that it refers to some row of the same object.

    Args:
        place: The table of the row ``t``.
    """
    up_tables, up_conditions, root = way_up(unit.table(place).path)
    found = {}
    for member in unit.tables:
        start = "m" if member.path else root
        down_tables, down_conditions = _way_to(member.path, root)
        for reference in member.outside:
            referring = _aliased((reference.schema_name, reference.table_name), "r")
            own = [_aliased(member.place, "m")] if member.path else []
            tables = [*up_tables, *own, *down_tables, referring]
            conditions = [*up_conditions, *down_conditions, matches(reference, start, "r")]
            found[member.place, reference] = sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(
                sql.SQL(", ").join(tables), sql.SQL(" AND ").join(conditions)
            )
    return found


def _way_to(path: Sequence[Hop], root: str) -> tuple[list[sql.Composed], list[sql.Composed]]:
    """As :func:`way_up` from the row ``m``, where the last row has an alias already."""
    if not path:
        return [], []
    tables, conditions, below = way_up(path[:-1], "m", "d")
    return tables, [*conditions, matches(path[-1].reference, root, below)]


def _aliased(place: Place, alias: str) -> sql.Composed:
    return sql.SQL("{} AS {}").format(qualified(*place), sql.SQL(alias))
