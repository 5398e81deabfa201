"""What a table looks like, whether it can be archived without loss, and the SQL that writes and rebuilds its rows.

Four encodings say how a JSON line holds a value (``docs/archive-format.md`` tells the reader's side):

``json``   the value as ``to_json`` writes it: numbers with all their digits, text, ISO 8601 dates and times.
``jsonb``  an object or array as it stands; a bare string, number, boolean or null as a string that holds its JSON text,
           so that a JSON null and an SQL NULL stay apart.
``array``  a JSON array; a string with PostgreSQL's literal when a lower bound is not 1.
``text``   a string with PostgreSQL's literal, for everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from psycopg import sql

from strongroom.errors import SourceAccessError, UnarchivableError
from strongroom.records import Column, TableShape
from strongroom.settings import TableSettings
from strongroom.source import Connection, qualified

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
"""Built-in types whose text literal is exact, and that JSON has no form for."""

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
"""Built-in types whose value means something only inside the database that wrote it."""

DateType = Literal["date", "timestamp", "timestamptz"]

_KNOWN = _AS_JSON | _AS_TEXT | {"jsonb"}

_FOLLOWED = {"c": "also delete", "n": "set columns to NULL in", "d": "set columns to their default in"}
"""What a foreign key does to referring rows, by pg_constraint.confdeltype."""

_DATE_TYPES: dict[str, DateType] = {"date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz"}


@dataclass(frozen=True)
class Reference:
    """A foreign key of some table that points at ours.

    Attributes:
        name: Constraint name.
        schema_name: Schema of the referring table.
        table_name: The referring table.
        referring: Its columns.
        referred: Our columns, in the same order.
        operators: Schema and name of the equality that the constraint compares each pair by, ours on the left.
        collations: Schema and name of our column's collation, where the two sides differ in it; else None.
        on_delete: pg_constraint.confdeltype.
        temporal: Whether the last pair is a period, which need not be equal to be referred to.
    """

    name: str
    schema_name: str
    table_name: str
    referring: tuple[str, ...]
    referred: tuple[str, ...]
    operators: tuple[tuple[str, str], ...]
    collations: tuple[tuple[str, str] | None, ...]
    on_delete: str
    temporal: bool


@dataclass(frozen=True)
class InspectedTable:
    """A table that can be archived, as the catalogue shows it now.

    Attributes:
        shape: What goes into the manifest.
        key_types: Type of each primary key column without its domains, in order.
        references: Foreign keys that point at the table; rows they refer to stay.
        date_nullable: Whether rows without a date may exist.
        text_to_try: Columns with a value somewhere in them whose text may read back as another value.
    """

    shape: TableShape
    key_types: tuple[str, ...]
    references: tuple[Reference, ...]
    date_nullable: bool
    text_to_try: tuple[Column, ...]

    @property
    def name(self) -> sql.Identifier:
        """The table's quoted name."""
        return qualified(self.shape.schema_name, self.shape.table_name)


def shape_sha256(shape: TableShape) -> str:
    """Digest of a shape; two equal digests mean that rows read then and now have the same columns and types."""
    return hashlib.sha256(shape.model_dump_json().encode()).hexdigest()


def inspect_table(connection: Connection, settings: TableSettings) -> InspectedTable:
    """Read a table's shape from the catalogue and refuse what cannot be archived without loss.

    Raises:
        UnarchivableError: Names each reason, all of them at once.
        SourceAccessError: The role may not read or delete the rows.
    """
    where = settings.qualified_name
    oid = _find(connection, settings)
    types = _column_types(connection, oid)
    by_name = {one.column.name: one for one in types}
    faults = _column_faults(connection, settings, types)
    faults += _table_faults(connection, oid)
    primary_key = settings.primary_key or _primary_key(connection, oid)
    if primary_key is None:
        faults.append("it has no primary key, nor a unique index on NOT NULL columns, to delete rows by")
        primary_key = ()
    elif settings.primary_key is not None and not _is_key(connection, oid, primary_key):
        faults.append(f"its configured primary key {', '.join(primary_key)} is not a unique index on NOT NULL columns")
    else:
        faults += _key_faults(by_name[name] for name in primary_key)
    date = by_name.get(settings.date_column)
    date_type = _DATE_TYPES.get(date.leaf.name) if date is not None and date.leaf.builtin else None
    if date is None:
        faults.append(f"it has no column {settings.date_column} to date rows by")
    elif date_type is None:
        faults.append(
            f"its date column {date.column.name} is {date.column.type}, not date, timestamp or timestamp with time zone"
        )
    faults += _trigger_faults(connection, oid, settings.accepted_delete_triggers)
    references = _references(connection, oid)
    faults += _reference_faults(references)
    if faults:
        raise UnarchivableError(
            f"{where} cannot be archived: " + "; ".join(faults),
            hint="Nothing was read and no row was deleted. Change the table or its settings, or take it out of archive.yaml.",
        )
    _check_rights(connection, oid, where, references)
    assert date is not None  # noqa: S101 - its absence is a fault
    assert date_type is not None  # noqa: S101 - so is any other type
    shape = TableShape(
        schema_name=settings.schema_name,
        table_name=settings.table_name,
        date_column=date.column.name,
        date_type=date_type,
        primary_key=tuple(primary_key),
        columns=tuple(one.column for one in types),
        well_known_types=all(one.well_known for one in types),
    )
    return InspectedTable(
        shape=shape,
        key_types=tuple(by_name[name].column.base_type for name in primary_key),
        references=references,
        date_nullable=date.column.nullable,
        text_to_try=tuple(one.column for one in types if any(type_.unsteady for type_ in one.reached)),
    )


def _rows(connection: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return connection.execute(query, parameters).fetchall()


def _find(connection: Connection, settings: TableSettings) -> int:
    rows = _rows(
        connection,
        "SELECT c.oid::bigint, c.relkind::text, c.relpersistence::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        settings.schema_name,
        settings.table_name,
    )
    if not rows:
        near = _rows(
            connection,
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p') AND (lower(c.relname) = lower(%s) OR c.relname LIKE %s) ORDER BY 1 LIMIT 3",
            settings.table_name,
            settings.table_name[:8].replace("%", "").replace("_", r"\_") + "%",
        )
        raise UnarchivableError(
            f"there is no table {settings.qualified_name} in the source database",
            found="near it " + ", ".join(row[0] for row in near) if near else None,
            hint="Nothing was read and no row was deleted. Correct the table's name in archive.yaml, "
            "or point the source connection at the right database.",
        )
    oid, kind, persistence = rows[0]
    if kind not in "rp" or persistence == "t":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
        raise UnarchivableError(
            f"{settings.qualified_name} cannot be archived",
            expected="an ordinary or partitioned table",
            found="a temporary table" if persistence == "t" else kinds.get(kind, f"a relation of kind {kind}"),
            hint="Nothing was read and no row was deleted. Archive the table underneath it instead.",
        )
    return int(oid)


@dataclass(frozen=True)
class _Type:
    """One entry of pg_type.

    Attributes:
        name: Its name, without a schema.
        kind: pg_type.typtype.
        builtin: Whether it is PostgreSQL's own.
        array: Whether it is the array of another type.
        cast_to_json: Whether somebody made a cast, which ``to_json`` would follow instead of writing the value.
    """

    name: str
    kind: str
    builtin: bool
    array: bool
    cast_to_json: bool

    @property
    def plain(self) -> bool:
        """Whether ``to_json`` writes what the type reads back."""
        return (self.kind == "e" and not self.cast_to_json) or (self.builtin and self.name in _AS_JSON)

    @property
    def well_known(self) -> bool:
        """Whether we know its text form to be exact."""
        return self.kind == "e" or (self.builtin and self.name in _KNOWN)

    @property
    def unsteady(self) -> bool:
        """Whether its text may read back as another value: tsquery prints ``a & (b & c)`` without the brackets."""
        return self.builtin and self.name == "tsquery"


@dataclass(frozen=True)
class _ColumnTypes:
    """A column and the types it is made of.

    Attributes:
        column: What goes into the manifest.
        leaf: Its type, without domains.
        element: What an array holds, without domains; None for anything else, also for an array of arrays.
        reached: Every type in it at any depth: behind domains, in arrays, composites and ranges.
    """

    column: Column
    leaf: _Type
    element: _Type | None
    reached: frozenset[_Type]

    @property
    def well_known(self) -> bool:
        return (self.element or self.leaf).well_known


_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attnum, a.atttypid AS typid, a.atttypmod AS typmod
    FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.typmod END
    FROM base b JOIN pg_type t ON t.oid = b.typid WHERE t.typtype = 'd'
), leaf AS (
    SELECT b.* FROM base b JOIN pg_type t ON t.oid = b.typid WHERE t.typtype <> 'd'
), element AS (
    SELECT l.attnum, t.oid AS typid, l.typmod FROM leaf l JOIN pg_type t ON t.typarray = l.typid
    UNION ALL
    SELECT e.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE e.typmod END
    FROM element e JOIN pg_type t ON t.oid = e.typid WHERE t.typtype = 'd'
), innermost AS (
    SELECT e.attnum, e.typid, e.typmod, t.typarray FROM element e JOIN pg_type t ON t.oid = e.typid
    WHERE t.typtype <> 'd' AND NOT EXISTS (SELECT FROM pg_type i WHERE i.typarray = e.typid)
)
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       coalesce(format_type(i.typarray, i.typmod), format_type(l.typid, l.typmod)),
       NOT a.attnotnull, a.attgenerated::text <> '', a.attidentity::text <> '', l.typid::bigint, i.typid::bigint
FROM pg_attribute a
JOIN leaf l ON l.attnum = a.attnum
LEFT JOIN innermost i ON i.attnum = a.attnum
WHERE a.attrelid = %s
ORDER BY a.attnum
"""

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
        UNION ALL SELECT g.rngtypid FROM pg_range g WHERE g.rngmultitypid = t.oid
    ) AS inside
)
SELECT r.attname, t.oid::bigint, t.typname, t.typtype::text, t.typnamespace = 'pg_catalog'::regnamespace,
       EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid),
       EXISTS (SELECT FROM pg_cast c WHERE c.castsource = t.oid AND c.casttarget = 'json'::regtype)
FROM reached r JOIN pg_type t ON t.oid = r.typid
"""


def _column_types(connection: Connection, oid: int) -> list[_ColumnTypes]:
    types: dict[int, _Type] = {}
    reached: dict[str, set[_Type]] = {}
    for name, type_oid, *described in _rows(connection, _REACHED, oid):
        types[type_oid] = _Type(*described)
        reached.setdefault(name, set()).add(types[type_oid])
    columns = []
    for name, type_, base, nullable, generated, identity, leaf_oid, element_oid in _rows(
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
        )
        columns.append(_ColumnTypes(column, leaf, element, frozenset(reached[name])))
    return columns


def _encoding(leaf: _Type, element: _Type | None) -> Literal["json", "jsonb", "array", "text"]:
    if element is not None:
        return "array" if element.plain else "text"
    if leaf.builtin and leaf.name == "jsonb":
        return "jsonb"
    return "json" if leaf.plain else "text"


def _column_faults(connection: Connection, settings: TableSettings, types: Sequence[_ColumnTypes]) -> list[str]:
    faults = [] if types else ["it has no columns"]
    for one in types:
        what = f"its column {one.column.name} ({one.column.type})"
        if any(type_.name == "lo" and not type_.builtin for type_ in one.reached):
            faults.append(f"{what} holds large objects, whose bytes lie outside the table")
        elif _points_at_large_objects(connection, settings, one):
            faults.append(f"{what} holds the oids of large objects, whose bytes lie outside the table")
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


def _points_at_large_objects(connection: Connection, settings: TableSettings, one: _ColumnTypes) -> bool:
    """Whether a column has oids and one of them is that of a large object.

    Where an oid lies deeper than in an array, any large object in the database is taken to be its target.
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


def _key_faults(key: Iterable[_ColumnTypes]) -> list[str]:
    """Sessions see no schema but pg_catalog, so an extension's own equality is not there to look a key up by."""
    return [
        f"its key column {one.column.name} is {one.column.type}, an extension's type that rows cannot be looked up by"
        for one in key
        if one.leaf.kind == "b" and not one.leaf.builtin and one.element is None
    ]


def _primary_key(connection: Connection, oid: int) -> tuple[str, ...] | None:
    keys = _unique_indexes(connection, oid)
    return keys[0] if keys else None


def _is_key(connection: Connection, oid: int, columns: Sequence[str]) -> bool:
    return any(set(key) == set(columns) for key in _unique_indexes(connection, oid))


def _unique_indexes(connection: Connection, oid: int) -> list[tuple[str, ...]]:
    """Columns of each usable unique index, the primary key first, then the shortest."""
    rows = _rows(
        connection,
        """
        SELECT array_agg(a.attname::text ORDER BY k.position)
        FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
          AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
        GROUP BY i.indexrelid, i.indisprimary
        HAVING bool_and(a.attnotnull)
        ORDER BY i.indisprimary DESC, count(*), i.indexrelid
        """,
        oid,
    )
    return [tuple(row[0]) for row in rows]


def _table_faults(connection: Connection, oid: int) -> list[str]:
    faults = []
    [(row_security, forced, inherited, foreign, rules)] = _rows(
        connection,
        """
        SELECT row_security_active(c.oid::oid), c.relrowsecurity AND c.relforcerowsecurity,
               c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
               (SELECT string_agg(f.relname, ', ' ORDER BY f.relname) FROM pg_partition_tree(c.oid) AS p
                JOIN pg_class f ON f.oid = p.relid AND f.relkind = 'f'),
               (SELECT string_agg(r.rulename, ', ' ORDER BY r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4')
        FROM pg_class c WHERE c.oid = %s
        """,
        oid,
    )
    if row_security:
        forced_too = ", even from its owner" if forced else ""
        faults.append(f"row-level security hides rows of it from this role{forced_too}")
    if inherited:
        faults.append("other tables inherit from it")
    if foreign:
        faults.append(f"its rows lie partly in foreign tables ({foreign})")
    if rules:
        faults.append(f"it has rules on DELETE ({rules})")
    [(encoding, role)] = _rows(
        connection, "SELECT current_setting('server_encoding'), current_setting('session_replication_role')"
    )
    if role != "origin":
        faults.append(f"session_replication_role is {role} for this role, so the server watches over no foreign key")
    if encoding == "SQL_ASCII":
        faults.append("its database has the encoding SQL_ASCII, so nobody knows which characters its bytes are")
    return faults


def _trigger_faults(connection: Connection, oid: int, accepted: Iterable[str]) -> list[str]:
    """Triggers that a DELETE would fire (bit 3 of tgtype), but for those the settings accept."""
    rows = _rows(
        connection,
        "SELECT DISTINCT tgname::text FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 8 <> 0 "
        "AND (tgrelid = %s OR tgrelid IN (SELECT relid FROM pg_partition_tree(%s))) ORDER BY 1",
        oid,
        oid,
    )
    names = [name for (name,) in rows if name not in set(accepted)]
    return [f"a DELETE fires its trigger {name} (see accepted_delete_triggers)" for name in names]


_REFERENCES = """
SELECT f.conname::text, n.nspname::text, c.relname::text, f.confdeltype::text,
       coalesce((to_jsonb(f) ->> 'conperiod')::boolean, false),
       ours.attname::text, theirs.attname::text, operator_schema.nspname::text, o.oprname::text,
       CASE WHEN ours.attcollation <> theirs.attcollation THEN collation_schema.nspname::text END, l.collname::text
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS k(referring, referred, operator, position)
JOIN pg_attribute ours ON ours.attrelid = f.confrelid AND ours.attnum = k.referred
JOIN pg_attribute theirs ON theirs.attrelid = f.conrelid AND theirs.attnum = k.referring
JOIN pg_operator o ON o.oid = k.operator
JOIN pg_namespace operator_schema ON operator_schema.oid = o.oprnamespace
LEFT JOIN pg_collation l ON l.oid = ours.attcollation
LEFT JOIN pg_namespace collation_schema ON collation_schema.oid = l.collnamespace
WHERE f.contype = 'f' AND f.conparentid = 0
  AND f.confrelid IN (
      SELECT %s::oid UNION SELECT relid FROM pg_partition_tree(%s) UNION SELECT relid FROM pg_partition_ancestors(%s)
  )
ORDER BY n.nspname, c.relname, f.conname, f.oid, k.position
"""


def _references(connection: Connection, oid: int) -> tuple[Reference, ...]:
    """Foreign keys that point at the table, at a partition of it, or at a table that it is a partition of."""
    rows = _rows(connection, _REFERENCES, oid, oid, oid)
    references = []
    for (name, schema_name, table_name, on_delete, temporal), pairs in groupby(rows, key=itemgetter(0, 1, 2, 3, 4)):
        referred, referring, *compared = zip(*(pair[5:] for pair in pairs), strict=True)
        operator_schemas, operators, collation_schemas, collations = compared
        references.append(
            Reference(
                name=name,
                schema_name=schema_name,
                table_name=table_name,
                referring=referring,
                referred=referred,
                operators=tuple(zip(operator_schemas, operators, strict=True)),
                collations=tuple(
                    (schema, collation) if schema is not None else None
                    for schema, collation in zip(collation_schemas, collations, strict=True)
                ),
                on_delete=on_delete,
                temporal=temporal,
            )
        )
    return tuple(references)


def _reference_faults(references: Iterable[Reference]) -> list[str]:
    """Foreign keys that would change the referring rows. A new one could appear between looking and deleting, and the
    server would then not refuse the DELETE, as it does for NO ACTION and RESTRICT, but follow it."""
    faults = []
    for one in references:
        where = f"{one.schema_name}.{one.table_name} ({one.name})"
        if one.on_delete in _FOLLOWED:
            faults.append(f"a DELETE would {_FOLLOWED[one.on_delete]} rows of {where}")
        elif one.temporal:
            faults.append(f"periods of its rows are referred to by {where}")
    return faults


def _check_rights(connection: Connection, oid: int, where: str, references: Iterable[Reference]) -> None:
    missing = []
    [(may_read, may_delete, may_stage)] = _rows(
        connection,
        "SELECT has_table_privilege(%s::oid, 'SELECT'), has_table_privilege(%s::oid, 'DELETE'), "
        "has_database_privilege(current_database(), 'TEMPORARY')",
        oid,
        oid,
    )
    missing += [] if may_read else [f"SELECT on {where}"]
    missing += [] if may_delete else [f"DELETE on {where}"]
    missing += [] if may_stage else ["TEMPORARY on the database"]
    for reference in references:
        name = f"{reference.schema_name}.{reference.table_name}"
        [(may_look, may_see_all)] = _rows(
            connection,
            "SELECT has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), NOT row_security_active(c.oid) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            reference.schema_name,
            reference.table_name,
        )
        missing += [] if may_look else [f"SELECT on {name}, which refers to {where}"]
        missing += [] if may_see_all else [f"sight of all rows of {name}, which refers to {where}"]
    if missing:
        raise SourceAccessError(
            f"the source role lacks rights for {where}",
            found="no " + ", no ".join(missing),
            hint="Nothing was read and no row was deleted. Grant what is missing and clear the task.",
        )


# The SQL that writes a row, and the SQL that rebuilds it.


def row_digest(alias: sql.Composable) -> sql.Composed:
    """SHA-256 over the text of a whole row: every column that the table has at that moment, in order.

    Args:
        alias: What the statement calls the row.
    """
    # Not alias::text: a column of that name would be taken for the row, and a cast of the row's type be followed.
    return sql.SQL("encode(sha256(convert_to(concat({}.*), 'UTF8')), 'hex')").format(alias)


def json_line(shape: TableShape) -> sql.Composed:
    """An expression over the row ``t`` that gives its JSON line."""
    fields = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(_write(column), sql.Identifier(column.name)) for column in shape.columns
    )
    return sql.SQL("(SELECT row_to_json(line.*) FROM (SELECT {}) AS line)").format(fields)


def _write(column: Column) -> sql.Composed:
    value = sql.SQL("t.{}").format(sql.Identifier(column.name))
    # concat() calls the type's own output function; ::text would follow a cast that somebody made, and xml's output
    # function would leave out the encoding that the document declares.
    text = "{v}::text" if column.base_type == "xml" else "CASE WHEN {v} IS DISTINCT FROM NULL THEN concat({v}) END"
    forms = {
        "json": "{v}",
        "text": text,
        "jsonb": "CASE WHEN jsonb_typeof({v}) IN ('object', 'array') THEN {v} ELSE to_jsonb({v}::text) END",
        "array": "CASE WHEN left(concat({v}), 1) = '[' THEN to_json(concat({v})) ELSE to_json({v}) END",
    }
    return sql.SQL(forms[column.encoding]).format(v=value)


def read_columns(shape: TableShape) -> sql.Composed:
    """The column definition list for ``json_to_record(line) AS r(...)``.

    Everything that JSON has no exact form for is taken as text first; see :func:`read_value`.
    """
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            sql.Identifier(column.name),
            sql.SQL(column.base_type if column.encoding in ("json", "array") else "text"),
        )
        for column in shape.columns
    )


def read_value(column: Column) -> sql.Composed:
    """The value of one column of ``r``, in the type that the table's column stands on."""
    value = sql.SQL("r.{}").format(sql.Identifier(column.name))
    if column.encoding in ("json", "array"):
        return sql.SQL("{}").format(value)
    return sql.SQL("{}::{}").format(value, sql.SQL(column.base_type))
