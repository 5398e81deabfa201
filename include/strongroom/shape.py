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
        on_delete: pg_constraint.confdeltype.
    """

    name: str
    schema_name: str
    table_name: str
    referring: tuple[str, ...]
    referred: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True)
class InspectedTable:
    """A table that can be archived, as the catalogue shows it now.

    Attributes:
        shape: What goes into the manifest.
        key_types: Type of each primary key column, in order.
        references: Foreign keys that point at the table; rows they refer to stay.
        date_nullable: Whether rows without a date may exist.
    """

    shape: TableShape
    key_types: tuple[str, ...]
    references: tuple[Reference, ...]
    date_nullable: bool

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
    columns, faults = _columns(connection, oid)
    by_name = {column.name: column for column in columns}
    faults += _table_faults(connection, oid)
    primary_key = settings.primary_key or _primary_key(connection, oid)
    if primary_key is None:
        faults.append("it has no primary key, nor a unique index on NOT NULL columns, to delete rows by")
        primary_key = ()
    elif settings.primary_key is not None and not _is_key(connection, oid, primary_key):
        faults.append(f"its configured primary key {', '.join(primary_key)} is not a unique index on NOT NULL columns")
    date = by_name.get(settings.date_column)
    date_type = _DATE_TYPES.get(_short(connection, oid, settings.date_column)) if date else None
    if date is None:
        faults.append(f"it has no column {settings.date_column} to date rows by")
    elif date_type is None:
        faults.append(f"its date column {date.name} is {date.type}, not date, timestamp or timestamp with time zone")
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
        date_column=date.name,
        date_type=date_type,
        primary_key=tuple(primary_key),
        columns=tuple(columns),
        well_known_types=_well_known(connection, oid),
    )
    key_types = tuple(by_name[name].type for name in primary_key)
    return InspectedTable(shape, key_types, references, date.nullable)


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


_TYPES = """
WITH RECURSIVE base AS (
    SELECT a.attnum, a.atttypid AS typid, a.atttypmod AS typmod
    FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.typmod END
    FROM base b JOIN pg_type t ON t.oid = b.typid WHERE t.typtype = 'd'
)
"""

_COLUMNS = (
    _TYPES
    + """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), format_type(b.typid, b.typmod), NOT a.attnotnull,
       a.attgenerated::text <> '', a.attidentity::text <> '',
       t.typname, t.typtype::text, t.typnamespace = 'pg_catalog'::regnamespace,
       e.typname, e.typtype::text, e.typnamespace = 'pg_catalog'::regnamespace, dt.typname
FROM base b
JOIN pg_attribute a ON a.attrelid = %s AND a.attnum = b.attnum
JOIN pg_type t ON t.oid = b.typid AND t.typtype <> 'd'
JOIN pg_type dt ON dt.oid = a.atttypid
LEFT JOIN pg_type e ON e.typarray = t.oid
ORDER BY a.attnum
"""
)


def _columns(connection: Connection, oid: int) -> tuple[list[Column], list[str]]:
    columns: list[Column] = []
    faults: list[str] = []
    for row in _rows(connection, _COLUMNS, oid, oid):
        (
            name,
            type_,
            base,
            nullable,
            generated,
            identity,
            typname,
            kind,
            builtin,
            elem,
            elem_kind,
            elem_builtin,
            declared,
        ) = row
        if "lo" in (typname, declared):
            faults.append(f"its column {name} holds large objects, whose bytes lie outside the table")
        elif builtin and typname == "oid" and _points_at_large_objects(connection, oid, name):
            faults.append(f"its column {name} holds the oids of large objects, whose bytes lie outside the table")
        elif (builtin and typname in _POINTERS) or (elem_builtin and elem in _POINTERS):
            faults.append(f"its column {name} is {type_}, whose values mean something only inside this database")
        elif kind == "p":
            faults.append(f"its column {name} has the pseudo-type {type_}")
        encoding: str
        if elem is not None:
            encoding = "array" if _plain(elem, elem_kind, elem_builtin) else "text"
        elif builtin and typname == "jsonb":
            encoding = "jsonb"
        else:
            encoding = "json" if _plain(typname, kind, builtin) else "text"
        columns.append(
            Column(
                name=name,
                type=type_,
                base_type=base,
                encoding=encoding,  # type: ignore[arg-type]
                nullable=nullable,
                generated=generated,
                identity=identity,
            )
        )
    if not columns:
        faults.append("it has no columns")
    return columns, faults


def _plain(typname: str, kind: str, builtin: bool) -> bool:
    return kind == "e" or (builtin and typname in _AS_JSON)


def _points_at_large_objects(connection: Connection, oid: int, column: str) -> bool:
    [(schema_name, table_name)] = _rows(
        connection,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s",
        oid,
    )
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} t JOIN pg_largeobject_metadata l ON l.oid = t.{})").format(
        qualified(schema_name, table_name), sql.Identifier(column)
    )
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _well_known(connection: Connection, oid: int) -> bool:
    """Whether each column stands on a type whose text form we know to be exact."""
    for row in _rows(connection, _COLUMNS, oid, oid):
        typname, kind, builtin, elem, elem_kind, elem_builtin = row[6:12]
        name, kind, builtin = (elem, elem_kind, elem_builtin) if elem is not None else (typname, kind, builtin)
        if kind != "e" and not (builtin and (name in _AS_JSON or name in _AS_TEXT or name == "jsonb")):
            return False
    return True


def _short(connection: Connection, oid: int, column: str) -> str:
    for row in _rows(connection, _COLUMNS, oid, oid):
        if row[0] == column:
            return str(row[6])
    return ""


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
    [(row_security, forced, inherited, rules)] = _rows(
        connection,
        """
        SELECT row_security_active(c.oid::oid), c.relrowsecurity AND c.relforcerowsecurity,
               c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
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
    if rules:
        faults.append(f"it has rules on DELETE ({rules})")
    [(encoding,)] = _rows(connection, "SELECT current_setting('server_encoding')")
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


def _references(connection: Connection, oid: int) -> tuple[Reference, ...]:
    rows = _rows(
        connection,
        """
        SELECT f.conname::text, n.nspname::text, c.relname::text,
               (SELECT array_agg(a.attname::text ORDER BY k.position) FROM unnest(f.conkey) WITH ORDINALITY k(attnum, position)
                JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
               (SELECT array_agg(a.attname::text ORDER BY k.position) FROM unnest(f.confkey) WITH ORDINALITY k(attnum, position)
                JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum),
               f.confdeltype::text
        FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE f.contype = 'f' AND f.confrelid = %s AND f.conparentid = 0
        ORDER BY 2, 3, 1
        """,
        oid,
    )
    return tuple(Reference(row[0], row[1], row[2], tuple(row[3]), tuple(row[4]), row[5]) for row in rows)


def _reference_faults(references: Iterable[Reference]) -> list[str]:
    """Foreign keys that would change the referring rows. A new one could appear between looking and deleting, and the
    server would then not refuse the DELETE, as it does for NO ACTION and RESTRICT, but follow it."""
    return [
        f"a DELETE would {_FOLLOWED[one.on_delete]} rows of {one.schema_name}.{one.table_name} ({one.name})"
        for one in references
        if one.on_delete in _FOLLOWED
    ]


def _check_rights(connection: Connection, oid: int, where: str, references: Iterable[Reference]) -> None:
    missing = []
    [(may_read, may_delete)] = _rows(
        connection, "SELECT has_table_privilege(%s::oid, 'SELECT'), has_table_privilege(%s::oid, 'DELETE')", oid, oid
    )
    missing += [] if may_read else [f"SELECT on {where}"]
    missing += [] if may_delete else [f"DELETE on {where}"]
    for reference in references:
        name = f"{reference.schema_name}.{reference.table_name}"
        [(may_look,)] = _rows(
            connection,
            "SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s",
            reference.schema_name,
            reference.table_name,
        )
        missing += [] if may_look else [f"SELECT on {name}, which refers to {where}"]
    if missing:
        raise SourceAccessError(
            f"the source role lacks rights for {where}",
            found="no " + ", no ".join(missing),
            hint="Nothing was read and no row was deleted. Grant what is missing and clear the task.",
        )


# The SQL that writes a row, and the SQL that rebuilds it.


def row_digest(row: sql.Composable) -> sql.Composed:
    """SHA-256 over the text of a whole row: every column that the table has at that moment, in order."""
    return sql.SQL("encode(sha256(convert_to(({})::text, 'UTF8')), 'hex')").format(row)


def json_line(shape: TableShape) -> sql.Composed:
    """An expression over the row ``t`` that gives its JSON line."""
    fields = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(_write(column), sql.Identifier(column.name)) for column in shape.columns
    )
    return sql.SQL("(SELECT row_to_json(line) FROM (SELECT {}) AS line)").format(fields)


def _write(column: Column) -> sql.Composed:
    value = sql.SQL("t.{}").format(sql.Identifier(column.name))
    forms = {
        "json": "{v}",
        "text": "{v}::text",
        "jsonb": "CASE WHEN jsonb_typeof({v}) IN ('object', 'array') THEN {v} ELSE to_jsonb({v}::text) END",
        "array": "CASE WHEN left({v}::text, 1) = '[' THEN to_json({v}::text) ELSE to_json({v}) END",
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
