"""The types of a table's columns, how an archive holds each of them, and which ones it cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from strongroom.database.session import Session, fetch_rows, qualified
from strongroom.formats.type_names import is_type_name
from strongroom.records import Column, Composite
from strongroom.settings import TableSettings

_AS_JSON = frozenset(
    [
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "text",
        "varchar",
        "bpchar",
        "name",
        "uuid",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "bytea",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "bit",
        "varbit",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "tstzrange",
        "daterange",
        "int4multirange",
        "int8multirange",
        "nummultirange",
        "tsmultirange",
        "tstzmultirange",
        "datemultirange",
    ]
)
"""Built-in types whose ``to_json`` form is read back by the type's own input."""

_AS_TEXT = frozenset(
    [
        "json",
        "jsonpath",
        "money",
        "xml",
        "tsvector",
        "tsquery",
        "pg_lsn",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
        "char",
        "oid",
        "txid_snapshot",
        "pg_snapshot",
        "xid8",
        "int2vector",
        "oidvector",
    ]
)
"""Built-in types whose text literal is exact, and for which JSON has no form."""

_POINTERS = frozenset(
    [
        "regproc",
        "regprocedure",
        "regoper",
        "regoperator",
        "regclass",
        "regtype",
        "regrole",
        "regnamespace",
        "regconfig",
        "regdictionary",
        "regcollation",
        "xid",
        "cid",
        "tid",
        "refcursor",
        "aclitem",
        "pg_node_tree",
    ]
)
"""Built-in types whose values have a meaning only inside the database that wrote them."""

MOST_COLUMNS = 1598
"""The most columns of a table, because :mod:`strongroom.database.rebuild` adds two; PostgreSQL's own limit is 1600."""

_KNOWN = _AS_JSON | _AS_TEXT | {"jsonb"}


@dataclass(frozen=True)
class _Type:
    """One entry of pg_type.

    Attributes:
        name: Its name, without a schema.
        kind: pg_type.typtype.
        builtin: Whether it is PostgreSQL's own.
        array: Whether it is the array of another type.
        cast_to_json: Whether a user created a cast to json, which ``to_json`` would follow instead of writing the value.
    """

    name: str
    kind: str
    builtin: bool
    array: bool
    cast_to_json: bool

    @property
    def plain(self) -> bool:
        """Whether the type reads back what ``to_json`` writes."""
        return (self.kind == "e" and not self.cast_to_json) or (self.builtin and self.name in _AS_JSON)

    @property
    def well_known(self) -> bool:
        """Whether its text form is known to be exact."""
        return self.kind == "e" or (self.builtin and self.name in _KNOWN)

    @property
    def unsteady(self) -> bool:
        """Whether its text may read back as another value: tsquery prints ``a & (b & c)`` without the brackets."""
        return self.builtin and self.name == "tsquery"


@dataclass(frozen=True)
class ColumnTypes:
    """A column and the types it is made of.

    Attributes:
        column: What goes into the manifest.
        leaf: Its type, without domains.
        element: The element type of an array, without domains; None for anything else, also for an array of arrays.
        reached: Every type in it at any depth: behind domains, in arrays, composites and ranges.
    """

    column: Column
    leaf: _Type
    element: _Type | None
    reached: frozenset[_Type]

    @property
    def well_known(self) -> bool:
        return (self.element or self.leaf).well_known


NEVER_NULL = """(a.attnotnull AND NOT EXISTS (
    SELECT FROM pg_constraint v WHERE v.conrelid = a.attrelid AND v.contype = 'n' AND NOT v.convalidated AND a.attnum = ANY (v.conkey)
))"""
"""A condition on a row of pg_attribute: no row has NULL there. PostgreSQL 18 sets attnotnull also for a NOT NULL that is NOT VALID."""

# The server finds a type by its oid, but has no index on pg_type.typarray: so an array leads to its element, never the other way.
_TYPE = "t.oid AS typid, t.typtype, t.typbasetype, t.typtypmod, t.typelem, t.typarray"

_COLUMNS = f"""
WITH RECURSIVE base AS (
    SELECT a.attnum, a.atttypmod AS typmod, {_TYPE} FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, CASE WHEN b.typtypmod >= 0 THEN b.typtypmod ELSE b.typmod END, {_TYPE}
    FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
), element AS (
    SELECT b.attnum, b.typmod, {_TYPE} FROM base b JOIN pg_type t ON t.oid = b.typelem AND t.typarray = b.typid
    WHERE b.typtype <> 'd'
    UNION ALL
    SELECT e.attnum, CASE WHEN e.typtypmod >= 0 THEN e.typtypmod ELSE e.typmod END, {_TYPE}
    FROM element e JOIN pg_type t ON t.oid = e.typbasetype WHERE e.typtype = 'd'
), innermost AS (
    SELECT e.attnum, e.typid, e.typmod, e.typarray FROM element e
    WHERE e.typtype <> 'd' AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = e.typelem AND t.typarray = e.typid)
)
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       coalesce(format_type(i.typarray, i.typmod), format_type(b.typid, b.typmod)),
       NOT {NEVER_NULL}, a.attgenerated::text <> '', a.attidentity::text <> '', b.typid::bigint, i.typid::bigint
FROM base b
JOIN pg_attribute a ON a.attrelid = %s AND a.attnum = b.attnum
LEFT JOIN innermost i ON i.attnum = a.attnum
WHERE b.typtype <> 'd'
ORDER BY a.attnum
"""  # noqa: S608 - a constant

# PostgreSQL 13 has no multiranges, and no column for them.
_REACHED = """
WITH RECURSIVE reached AS (
    SELECT a.attname, a.atttypid AS typid
    FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT r.attname, inside.typid
    FROM reached r JOIN pg_type t ON t.oid = r.typid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype AS typid WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT g.rngsubtype FROM pg_range g WHERE g.rngtypid = t.oid
        UNION ALL SELECT g.rngtypid FROM pg_range g WHERE t.typtype = 'm' AND (to_jsonb(g) ->> 'rngmultitypid')::oid = t.oid
    ) AS inside
)
SELECT r.attname, t.oid::bigint, t.typname, t.typtype::text, t.typnamespace = 'pg_catalog'::regnamespace,
       e.oid IS NOT NULL, c.oid IS NOT NULL
FROM reached r JOIN pg_type t ON t.oid = r.typid
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
LEFT JOIN pg_cast c ON c.castsource = t.oid AND c.casttarget = 'json'::regtype
ORDER BY r.attname, t.oid
"""


_COMPOSITES = """
SELECT t.oid::bigint, format_type(t.oid, NULL), array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
WHERE t.oid = ANY (%s) GROUP BY t.oid
"""


def read_column_types(connection: Session, oid: int) -> list[ColumnTypes]:
    """Read the columns of a table, in their order, each with every type that it contains."""
    types: dict[int, _Type] = {}
    oids: dict[str, set[int]] = {}
    for name, type_oid, *described in fetch_rows(connection, _REACHED, oid):
        types[type_oid] = _Type(*described)
        oids.setdefault(name, set()).add(type_oid)
    composites = _read_composites(connection, [type_oid for type_oid, type_ in types.items() if type_.kind == "c"])
    columns = []
    for name, type_, base, nullable, generated, identity, leaf_oid, element_oid in fetch_rows(
        connection, _COLUMNS, oid, oid
    ):
        leaf, element = types[leaf_oid], types.get(element_oid)
        column = Column(
            name=name,
            type=type_,
            base_type=base,
            encoding=_encoding(leaf, element),
            nullable=nullable,
            generated=generated,
            identity=identity,
            composites=_inside(composites, oids[name]),
        )
        columns.append(ColumnTypes(column, leaf, element, frozenset(types[type_oid] for type_oid in oids[name])))
    return columns


def _read_composites(connection: Session, oids: Sequence[int]) -> dict[int, Composite]:
    if not oids:
        return {}
    return {
        oid: Composite(type=name, attributes=tuple(zip(attributes, of_types, strict=True)))
        for oid, name, attributes, of_types in fetch_rows(connection, _COMPOSITES, list(oids))
    }


def _inside(composites: dict[int, Composite], oids: Iterable[int]) -> tuple[Composite, ...] | None:
    found = [composites[oid] for oid in oids if oid in composites]
    return tuple(sorted(found, key=lambda composite: composite.type)) or None


def _encoding(leaf: _Type, element: _Type | None) -> Literal["json", "jsonb", "array", "text"]:
    if element is not None:
        return "array" if element.plain else "text"
    if leaf.builtin and leaf.name == "jsonb":
        return "jsonb"
    return "json" if leaf.plain else "text"


def column_faults(connection: Session, settings: TableSettings, types: Sequence[ColumnTypes]) -> list[str]:
    """Name the columns that cannot be archived without loss, each with the reason."""
    faults = [] if types else ["it has no columns"]
    if len(types) > MOST_COLUMNS:
        faults.append(
            f"it has {len(types)} columns, and its rows are read back into a table with two more: {MOST_COLUMNS} at most"
        )
    for one in types:
        what = f"its column {one.column.name} ({one.column.type})"
        if not is_type_name(one.column.type) or not is_type_name(one.column.base_type):
            faults.append(f"{what} has a type whose name cannot be read back safely")
        if any(type_.name == "lo" and not type_.builtin for type_ in one.reached):
            faults.append(f"{what} holds large objects, whose bytes lie outside the table")
        elif _points_at_large_objects(connection, settings, one):
            faults.append(f"{what} holds the oids of large objects, whose bytes lie outside the table")
        if any(type_.builtin and type_.name == "xml" for type_ in one.reached) and one.column.base_type != "xml":
            faults.append(f"{what} holds xml inside other values, whose text leaves out what a document declares")
        for type_ in sorted(one.reached, key=lambda type_: type_.name):
            if type_.builtin and type_.name in _POINTERS:
                faults.append(
                    f"{what} holds values of type {type_.name}, which mean something only inside this database"
                )
            elif type_.kind == "p" or (
                type_.builtin and type_.kind == "b" and not type_.array and type_.name not in _KNOWN
            ):
                faults.append(f"{what} holds values of type {type_.name}, whose text cannot be read back")
    return faults


def _points_at_large_objects(connection: Session, settings: TableSettings, one: ColumnTypes) -> bool:
    """Whether a column holds oids and one of them is that of a large object.

    If an oid lies deeper than in an array, any large object in the database counts as its target.
    """
    if not any(type_.builtin and type_.name == "oid" for type_ in one.reached):
        return False
    column = sql.Identifier("t", one.column.name)
    innermost = (one.element or one.leaf).name
    if one.element is None and innermost == "oid":
        points = sql.SQL("l.oid = {}").format(column)
    elif innermost in ("oid", "oidvector") and (one.element is None or innermost == "oid"):
        points = sql.SQL("l.oid = ANY ({}::oid[])").format(column)
    else:
        points = sql.SQL("{} IS NOT NULL").format(column)
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t JOIN pg_largeobject_metadata AS l ON {})").format(
        qualified(settings.schema_name, settings.table_name), points
    )
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def key_faults(key: Iterable[ColumnTypes]) -> list[str]:
    """Name the key columns that rows cannot be looked up by.

    Sessions see only the schema pg_catalog, so an extension's own equality is not available. And a delete reads keys back, which
    runs the checks of domains inside composites and ranges: code of the type's owner.
    """
    faults = []
    for one in key:
        what = f"its key column {one.column.name} is {one.column.type}"
        if one.leaf.kind == "b" and not one.leaf.builtin and one.element is None:
            faults.append(f"{what}, an extension's type that rows cannot be looked up by")
        elif (one.element or one.leaf).kind in "crm" and any(type_.kind == "d" for type_ in one.reached):
            faults.append(f"{what}, whose domain's checks would run in the delete")
    return faults
