"""Look a table up in the system catalogue, and refuse what cannot be archived without loss or without touching other rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from strongroom.database.column_types import NEVER_NULL, ColumnTypes, column_faults, key_faults, read_column_types
from strongroom.database.references import Reference, read_references, reference_faults
from strongroom.database.rights import Rights
from strongroom.database.session import Session, fetch_rows, qualified
from strongroom.database.triggers import delete_triggers
from strongroom.database.units import Hop, Place, Unit, oid_of, read_unit
from strongroom.errors import UnarchivableError
from strongroom.records import Column, PlannedPart, TableShape, VerifiedPart, shape_sha256
from strongroom.settings import TableSettings

DateType = Literal["date", "timestamp", "timestamptz"]


_DATE_TYPES: dict[str, DateType] = {"date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz"}


@dataclass(frozen=True)
class InspectedTable:
    """A table that can be archived, as the catalogue shows it now.

    Attributes:
        shape: What goes into the manifest.
        key_types: Type of each primary key column without its domains, in order.
        references: Foreign keys that point at the table; rows they refer to stay.
        date_nullable: Whether rows without a date may exist.
        text_to_try: Columns that may hold a value whose text reads back as a different value.
        unit: The tables that are archived with it, if the settings name any.
    """

    shape: TableShape
    key_types: tuple[str, ...]
    references: tuple[Reference, ...]
    date_nullable: bool
    text_to_try: tuple[Column, ...]
    unit: Unit | None = None

    @property
    def place(self) -> Place:
        """Its schema and name."""
        return self.shape.schema_name, self.shape.table_name

    @property
    def path(self) -> tuple[Hop, ...]:
        """The foreign keys that lead to the row that dates a row; none if it is dated by itself."""
        return () if self.unit is None else self.unit.table(self.place).path

    @property
    def date_position(self) -> int:
        """Which of the columns dates a row."""
        return [column.name for column in self.shape.columns].index(self.shape.date_column)

    @property
    def name(self) -> sql.Identifier:
        """The table's quoted name."""
        return qualified(self.shape.schema_name, self.shape.table_name)


def inspect_table(connection: Session, settings: TableSettings) -> InspectedTable:
    """Read a table's shape from the catalogue and refuse what cannot be archived without loss.

    Raises:
        UnarchivableError: Names each reason, all of them at once.
        SourceAccessError: The role may not read or delete the rows.
    """
    table, faults = examine_table(connection, settings)
    if table is None:
        raise UnarchivableError(
            f"{settings.qualified_name} cannot be archived: " + "; ".join(faults),
            hint="Nothing was read and no row was deleted. Change the table or its settings, or take it out of archive.yaml.",
        )
    _check_rights(connection, settings, table.references, table.unit)
    return table


def examine_table(connection: Session, settings: TableSettings) -> tuple[InspectedTable | None, list[str]]:
    """A table's shape and no fault, or all reasons why it cannot be archived. The rights of the role are not looked at.

    Raises:
        UnarchivableError: There is no such table.
    """
    oid = _find(connection, settings)
    types = read_column_types(connection, oid)
    by_name = {one.column.name: one for one in types}
    primary_key = settings.primary_key or _primary_key(connection, oid) or ()
    unit, unit_faults = (None, []) if settings.unit is None else read_unit(connection, settings.unit.places)
    date = _date_column(connection, settings, by_name)
    date_type = _DATE_TYPES.get(date.leaf.name) if date is not None and date.leaf.builtin else None
    references = read_references(connection, oid)
    faults = [
        *column_faults(connection, settings, types),
        *_table_faults(connection, oid),
        *_primary_key_faults(connection, settings, oid, by_name, primary_key),
        *_date_faults(settings, date, date_type),
        *_trigger_faults(connection, settings),
        *reference_faults(references),
        *unit_faults,
    ]
    if faults or date is None or date_type is None:  # the last two are faults themselves
        return None, faults
    shape = TableShape(
        schema_name=settings.schema_name,
        table_name=settings.table_name,
        date_column=date.column.name,
        date_type=date_type,
        primary_key=tuple(primary_key),
        columns=tuple(one.column for one in types),
        well_known_types=all(one.well_known for one in types),
        dated_through=tuple(hop.record for hop in _path(unit, settings)),
    )
    table = InspectedTable(
        shape=shape,
        key_types=tuple(by_name[name].column.base_type for name in primary_key),
        references=references,
        date_nullable=date.column.nullable and not shape.dated_through,
        text_to_try=tuple(one.column for one in types if any(type_.unsteady for type_ in one.reached)),
        unit=unit,
    )
    return table, []


def _primary_key_faults(
    connection: Session,
    settings: TableSettings,
    oid: int,
    types: Mapping[str, ColumnTypes],
    primary_key: Sequence[str],
) -> list[str]:
    if not primary_key:
        return [f"it has no primary key, nor a unique index on NOT NULL columns, to delete rows by {_NO_KEYS}"]
    if settings.primary_key is not None and not is_key(connection, oid, primary_key):
        named = ", ".join(primary_key)
        return [f"its configured primary key {named} is not a unique index on NOT NULL columns {_NO_KEYS}"]
    return list(key_faults(types[name] for name in primary_key))


def _path(unit: Unit | None, settings: TableSettings) -> tuple[Hop, ...]:
    return () if unit is None else unit.table((settings.schema_name, settings.table_name)).path


def _date_column(connection: Session, settings: TableSettings, own: Mapping[str, ColumnTypes]) -> ColumnTypes | None:
    """The column that dates a row: one of the table's own, or of the root of its unit."""
    if settings.unit is None or settings.unit.is_root(settings.table):
        return own.get(settings.date_column)
    root = oid_of(connection, settings.unit.places[0])
    types = read_column_types(connection, root) if root is not None else ()
    return next((one for one in types if one.column.name == settings.date_column), None)


def _date_faults(settings: TableSettings, date: ColumnTypes | None, date_type: DateType | None) -> list[str]:
    if date is None:
        return [f"it has no column {settings.date_column} to date rows by"]
    if date_type is None:
        column = date.column
        return [f"its date column {column.name} is {column.type}, not date, timestamp or timestamp with time zone"]
    return []


def _find(connection: Session, settings: TableSettings) -> int:
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


def _primary_key(connection: Session, oid: int) -> tuple[str, ...] | None:
    keys = _unique_indexes(connection, oid)
    return keys[0] if keys else None


def is_key(connection: Session, oid: int, columns: Sequence[str]) -> bool:
    """Whether the primary key or a usable unique index is on exactly these columns."""
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
"""A condition on a column of a B-tree index: its equality is the ``=`` that rows are looked up by.

Another collation or operator class (record_image_ops) distinguishes values that ``=`` does not, or has no ``=``. Strategy 3 is
equality. :func:`column_types.key_faults` checks types of extensions."""


def _unique_indexes(connection: Session, oid: int) -> list[tuple[str, ...]]:
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


def _table_faults(connection: Session, oid: int) -> list[str]:
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
        faults.append(f"session_replication_role is {role} for this role, so the server checks no foreign key")
    if encoding == "SQL_ASCII":
        faults.append("its database has the encoding SQL_ASCII, so its bytes may be any characters")
    if encoding in _MERGED_BY_UTF8:
        faults.append(f"its database has the encoding {encoding}, some of whose characters are the same one in UTF-8")
    return faults


_MERGED_BY_UTF8 = frozenset({"EUC_JP", "EUC_JIS_2004", "EUC_TW"})
"""Server encodings that PostgreSQL does not convert to UTF-8 and back without loss. EUC_JP has 23 characters twice, EUC_TW a whole
plane, and EUC_JIS_2004 has pairs of characters that come back as one. All others are exact (``tests/domain/archive/test_exact.py``)."""


def _trigger_faults(connection: Session, settings: TableSettings) -> list[str]:
    """Triggers that a DELETE would fire, except guards and those that the settings accept."""
    names = {one.name for one in delete_triggers(connection, settings) if not one.guard}
    return [
        f"a DELETE fires its trigger {name} (see accepted_delete_triggers)"
        for name in sorted(names - set(settings.accepted_delete_triggers))
    ]


def _check_rights(
    connection: Session, settings: TableSettings, references: Iterable[Reference], unit: Unit | None
) -> None:
    where = settings.qualified_name
    rights = Rights(connection)
    rights.look_at_table(settings.schema_name, settings.table_name, "SELECT", "DELETE")
    rights.look_at_temporary_tables()
    for one in references:
        rights.look_at_table(one.schema_name, one.table_name, "SELECT", why=f", which refers to {where}")
    for member in unit.tables if unit else ():
        rights.look_at_table(*member.place, "SELECT", why=f", which belongs to one unit with {where}")
        for one in member.outside:
            rights.look_at_table(
                one.schema_name, one.table_name, "SELECT", why=f", which refers to {'.'.join(member.place)}"
            )
    rights.require(where, safe="Nothing was read and no row was deleted.")


def inspect_unchanged(connection: Session, settings: TableSettings, part: PlannedPart) -> InspectedTable:
    """Inspect the table again and check that it is as it was when the part was planned.

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


def inspect_again(connection: Session, settings: TableSettings, part: VerifiedPart) -> InspectedTable:
    """Inspect the table and check that it is as it was when a verified part of it was planned.

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
