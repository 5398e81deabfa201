"""Look a table up in the catalogue, and refuse what cannot be archived without loss or without touching other rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

from psycopg import sql

from strongroom.database.column_types import NEVER_NULL, column_faults, key_faults, read_column_types
from strongroom.database.rights import Rights
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.errors import UnarchivableError
from strongroom.records import Column, PlannedPart, TableShape, VerifiedPart, shape_sha256
from strongroom.settings import TableSettings

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


def inspect_table(connection: Connection, settings: TableSettings) -> InspectedTable:
    """Read a table's shape from the catalogue and refuse what cannot be archived without loss.

    Raises:
        UnarchivableError: Names each reason, all of them at once.
        SourceAccessError: The role may not read or delete the rows.
    """
    where = settings.qualified_name
    oid = _find(connection, settings)
    types = read_column_types(connection, oid)
    by_name = {one.column.name: one for one in types}
    faults = column_faults(connection, settings, types)
    faults += _table_faults(connection, oid)
    primary_key = settings.primary_key or _primary_key(connection, oid)
    if primary_key is None:
        faults.append(f"it has no primary key, nor a unique index on NOT NULL columns, to delete rows by {_NO_KEYS}")
        primary_key = ()
    elif settings.primary_key is not None and not is_key(connection, oid, primary_key):
        faults.append(
            f"its configured primary key {', '.join(primary_key)} is not a unique index on NOT NULL columns {_NO_KEYS}"
        )
    else:
        faults += key_faults(by_name[name] for name in primary_key)
    date = by_name.get(settings.date_column)
    date_type = _DATE_TYPES.get(date.leaf.name) if date is not None and date.leaf.builtin else None
    if date is None:
        faults.append(f"it has no column {settings.date_column} to date rows by")
    elif date_type is None:
        faults.append(
            f"its date column {date.column.name} is {date.column.type}, not date, timestamp or timestamp with time zone"
        )
    faults += _trigger_faults(connection, settings)
    references = _references(connection, oid)
    faults += _reference_faults(references)
    if faults:
        raise UnarchivableError(
            f"{where} cannot be archived: " + "; ".join(faults),
            hint="Nothing was read and no row was deleted. Change the table or its settings, or take it out of archive.yaml.",
        )
    _check_rights(connection, settings, references)
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


def _find(connection: Connection, settings: TableSettings) -> int:
    rows = fetch_rows(
        connection,
        "SELECT c.oid::bigint, c.relkind::text, c.relpersistence::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        settings.schema_name,
        settings.table_name,
    )
    if not rows:
        near = fetch_rows(
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


def _primary_key(connection: Connection, oid: int) -> tuple[str, ...] | None:
    keys = _unique_indexes(connection, oid)
    return keys[0] if keys else None


def is_key(connection: Connection, oid: int, columns: Sequence[str]) -> bool:
    """Whether a usable unique index, or the primary key, is on just these columns."""
    return any(set(key) == set(columns) for key in _unique_indexes(connection, oid))


_NO_KEYS = "(a NOT NULL that is NOT VALID, and a collation or operator class that is not the column's, make none)"

_SAME_EQUALITY = """(
    k.collation_oid = a.attcollation AND EXISTS (
        SELECT FROM pg_opclass c JOIN pg_type t ON t.oid = c.opcintype
        LEFT JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
            AND p.amopstrategy = 3
        LEFT JOIN pg_operator e ON e.oid = p.amopopr
        WHERE c.oid = k.class_oid AND (
            (t.typtype = 'b' AND t.typnamespace <> 'pg_catalog'::regnamespace)
            OR (c.opcnamespace = 'pg_catalog'::regnamespace AND e.oprname = '=' AND e.oprnamespace = 'pg_catalog'::regnamespace)
        )
    )
)"""
"""Of a column of a B-tree: what the index takes for equal is equal by the ``=`` that rows are looked up by. Another collation or
operator class (record_image_ops) tells values apart that ``=`` does not, or has no ``=``. Strategy 3 is equality. What an
extension's type is compared by is left to :func:`column_types.key_faults`."""


def _unique_indexes(connection: Connection, oid: int) -> list[tuple[str, ...]]:
    """Columns of each usable unique index, the primary key first, then the shortest."""
    rows = fetch_rows(
        connection,
        f"""
        SELECT array_agg(a.attname::text ORDER BY k.position)
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam
        CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[]) WITH ORDINALITY
            AS k(attnum, collation_oid, class_oid, position)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
          AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
        GROUP BY i.indexrelid, i.indisprimary
        HAVING bool_and({NEVER_NULL} AND (m.amname <> 'btree' OR {_SAME_EQUALITY}))
        ORDER BY i.indisprimary DESC, count(*), i.indexrelid
        """,  # noqa: S608 - constants
        oid,
    )
    return [tuple(row[0]) for row in rows]


def _table_faults(connection: Connection, oid: int) -> list[str]:
    faults = []
    [(row_security, forced, inherited, foreign, rules)] = fetch_rows(
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
    [(encoding, role)] = fetch_rows(
        connection, "SELECT current_setting('server_encoding'), current_setting('session_replication_role')"
    )
    if role != "origin":
        faults.append(f"session_replication_role is {role} for this role, so the server watches over no foreign key")
    if encoding == "SQL_ASCII":
        faults.append("its database has the encoding SQL_ASCII, so nobody knows which characters its bytes are")
    if encoding in _MERGED_BY_UTF8:
        faults.append(f"its database has the encoding {encoding}, some of whose characters are the same one in UTF-8")
    return faults


_MERGED_BY_UTF8 = frozenset({"EUC_JP", "EUC_JIS_2004", "EUC_TW"})
"""Server encodings that PostgreSQL does not convert to UTF-8 and back without loss: EUC_JP has 23 characters twice, EUC_TW a whole
plane, and EUC_JIS_2004 pairs of characters that come back as one. All others give back each character (``tests/domain/archive/test_exact.py``)."""


SOMEBODYS_TRIGGER = "(NOT g.tgisinternal OR (g.tgparentid <> 0 AND g.tgconstraint = 0))"
"""Of a row of pg_trigger: not one of the server's own for a constraint. PostgreSQL 13 and 14 call a trigger that a partition has
from its table an internal one, too."""


@dataclass(frozen=True)
class DeleteTrigger:
    """A trigger that a DELETE fires.

    Attributes:
        name: Of the trigger.
        table: The table or partition that has it, with its schema.
        function: What it calls, as the server writes a function with its schema and arguments.
        function_name: Its name alone.
        guard: Whether it is a guard of ours (:mod:`strongroom.tables.guard`): it refuses the DELETE, and nothing else comes of it.
        may_keep: Whether it can keep a row without a word: it fires for each row, before it goes.
    """

    name: str
    table: str
    function: str
    function_name: str
    guard: bool
    may_keep: bool

    def is_in(self, context: str) -> bool:
        """Whether its function was at work, by the CONTEXT of an error. That quotes rows, and names functions as they are."""
        called = (self.function, self.function.partition(".")[2], f'"{self.function_name}"')
        return any(f"function {name} " in f"{context} " for name in called)

    def __str__(self) -> str:
        return f"trigger {self.name} of {self.table} (function {self.function})"


_DELETE_TRIGGERS = f"""
SELECT g.tgname::text, format('%%s.%%s', n.nspname, c.relname), f.oid::regprocedure::text, f.proname::text,
       f.proname = %s AND f.pronamespace = coalesce(to_regnamespace(%s)::oid, 0::oid), g.tgtype & 3 = 3
FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace
JOIN pg_trigger g ON g.tgrelid = t.oid OR g.tgrelid IN (SELECT relid FROM pg_partition_tree(t.oid))
JOIN pg_proc f ON f.oid = g.tgfoid
JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.nspname = %s AND t.relname = %s AND {SOMEBODYS_TRIGGER} AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0
ORDER BY 1, 2
"""  # noqa: S608 - a constant


def delete_triggers(connection: Connection, settings: TableSettings) -> list[DeleteTrigger]:
    """Triggers of a table and its partitions that a DELETE would fire (bit 3 of tgtype; bits 0 and 1: for each row, before)."""
    rows = fetch_rows(
        connection, _DELETE_TRIGGERS, GUARD_FUNCTION, DETACHED_SCHEMA, settings.schema_name, settings.table_name
    )
    return [DeleteTrigger(*row) for row in rows]


def _trigger_faults(connection: Connection, settings: TableSettings) -> list[str]:
    """Triggers that a DELETE would fire, but for those the settings accept, and guards."""
    names = {one.name for one in delete_triggers(connection, settings) if not one.guard}
    return [
        f"a DELETE fires its trigger {name} (see accepted_delete_triggers)"
        for name in sorted(names - set(settings.accepted_delete_triggers))
    ]


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
    rows = fetch_rows(connection, _REFERENCES, oid, oid, oid)
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


def _check_rights(connection: Connection, settings: TableSettings, references: Iterable[Reference]) -> None:
    where = settings.qualified_name
    rights = Rights(connection)
    rights.look_at_table(settings.schema_name, settings.table_name, "SELECT", "DELETE")
    rights.look_at_temporary_tables()
    for one in references:
        rights.look_at_table(one.schema_name, one.table_name, "SELECT", why=f", which refers to {where}")
    rights.require(where, safe="Nothing was read and no row was deleted.")


def inspect_unchanged(connection: Connection, settings: TableSettings, part: PlannedPart) -> InspectedTable:
    """Inspect the table again and see that it still looks as it did when the part was planned.

    Raises:
        UnarchivableError: A column was added, dropped, renamed or retyped, or the key changed.
    """
    table = inspect_table(connection, settings)
    if shape_sha256(table.shape) != part.shape_sha256:
        raise UnarchivableError(
            f"{settings.qualified_name} changed its columns or key since {part.archive_id} was planned",
            hint="Nothing was deleted by this step; what was archived before stays valid. "
            "Clear 'plan' and the tasks after it to plan with the table as it is now.",
        )
    return table


def inspect_again(connection: Connection, settings: TableSettings, part: VerifiedPart) -> InspectedTable:
    """Inspect the table and see that it is as it was when a verified part of it was planned.

    Raises:
        UnarchivableError: It is not, or cannot be archived any more.
    """
    try:
        return inspect_unchanged(connection, settings, part)
    except UnarchivableError as error:
        raise UnarchivableError(
            error.what,
            hint="No row was deleted that is not in a verified archive, and none of another table. Undo the change, "
            "or clear 'plan' and the tasks after it to plan with the table as it is now.",
        ) from None


DETACHED_SCHEMA = "strongroom_detached"
"""Where detached partitions wait, and the guard's function lies."""


GUARD_FUNCTION = "refuse_changes"
"""Its name in that schema."""
