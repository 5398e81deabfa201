"""Where archived rows are brought back to: the table as it is now, and how an archive's columns lie in it.

The schema may have moved on since the rows were archived. Columns that were added take their default; for what cannot
be brought back exactly the whole restore is refused before anything is loaded, with every fault told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from strongroom.database.column_types import read_column_types
from strongroom.database.inspect import is_key
from strongroom.database.rights import Rights
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.errors import RestoreError, SourceAccessError
from strongroom.formats.type_names import INTEGERS, is_builtin, type_name
from strongroom.records import Column, Record, TableShape
from strongroom.restore.records import DroppedColumns

SIDE_COLUMN = "strongroom_dropped"
"""The jsonb column that takes the values of columns which the table no longer has, where the caller chose to keep them."""


@dataclass(frozen=True)
class Target:
    """A table that rows may be brought back to, as the catalogue shows it now.

    Attributes:
        oid: Of the table.
        columns: By name, in the table's order.
        required: Columns that take no NULL and have no default.
        collations: By column of a type that has one: schema and name.
        sequences: By column of integers, the ascending sequence that belongs to it: schema and name.
    """

    oid: int
    schema_name: str
    table_name: str
    columns: Mapping[str, Column]
    required: frozenset[str]
    collations: Mapping[str, tuple[str, str]]
    sequences: Mapping[str, tuple[str, str]]

    @property
    def name(self) -> sql.Identifier:
        """The table's quoted name."""
        return qualified(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


class Fit(Record):
    """How the columns of an archive lie in the target."""

    rebuilt: tuple[Column, ...]
    """Columns to read back from the lines, as the types that the target has: those that are loaded, and the key."""

    loaded: tuple[str, ...]
    """Columns that are inserted."""

    compared: tuple[Column, ...]
    """Columns whose values in the table say whether a row is the archived one, as they were archived."""

    kept_aside: tuple[str, ...]
    """Columns that the table no longer has, whose values go to the side column."""

    added: tuple[str, ...]
    """Columns that the archive does not know; they take their default."""


def find_target(connection: Connection, schema_name: str, table_name: str) -> Target | None:
    """Look a table up; None if there is none of that name.

    Raises:
        RestoreError: The name is that of something that rows cannot be brought back to.
    """
    rows = fetch_rows(
        connection,
        "SELECT c.oid::bigint, c.relkind::text FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        schema_name,
        table_name,
    )
    if not rows:
        return None
    oid, kind = rows[0]
    if kind not in "rp":
        raise RestoreError(
            f"{schema_name}.{table_name} is no table",
            expected="an ordinary or partitioned table",
            hint="Nothing was loaded. Name another target.",
        )
    attributes = fetch_rows(
        connection,
        """
        SELECT a.attname::text, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', l.collname::text,
               ln.nspname::text, s.nspname::text, s.relname::text
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
        LEFT JOIN LATERAL (
            SELECT n.nspname, q.relname FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_class q ON q.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = q.relnamespace
            JOIN pg_catalog.pg_sequence o ON o.seqrelid = q.oid AND o.seqincrement > 0
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
              AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
            LIMIT 1
        ) AS s ON true
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
        """,
        oid,
    )
    columns = {one.column.name: one.column for one in read_column_types(connection, oid)}
    return Target(
        oid=int(oid),
        schema_name=schema_name,
        table_name=table_name,
        columns=columns,
        required=frozenset(name for name, required, *_ in attributes if required),
        collations={
            name: (schema, collation) for name, _, collation, schema, *_ in attributes if collation is not None
        },
        sequences={
            name: (schema, sequence)
            for name, *_, schema, sequence in attributes
            if sequence is not None and columns[name].base_type in INTEGERS
        },
    )


def shape_of_its_own(shapes: Mapping[str, TableShape]) -> TableShape:
    """The shape of a table that takes the rows of several archives: the columns of all of them.

    Args:
        shapes: By what their archives are called, the newest last.

    Raises:
        RestoreError: No table can take them together, and why.
    """
    *_, (name_of_newest, newest) = shapes.items()
    columns = {column.name: column for column in newest.columns}
    faults = []
    for archives, shape in shapes.items():
        for column in shape.columns:
            other = columns.setdefault(column.name, column)
            if own_type(other) != own_type(column):
                faults.append(
                    f"column {column.name} is {column.type} in {archives} and {other.type} in {name_of_newest}"
                )
        if set(shape.primary_key) != set(newest.primary_key):
            faults.append(
                f"the key is {', '.join(shape.primary_key)} in {archives} and {', '.join(newest.primary_key)} in {name_of_newest}"
            )
    if faults:
        raise RestoreError(
            "one table cannot take the rows of these archives: " + "; ".join(faults),
            hint="Nothing was loaded. Start one restore for the archives of each kind, each into a table of its own.",
        )
    everywhere = set.intersection(*({column.name for column in shape.columns} for shape in shapes.values()))
    kept = [
        column.model_copy(update={"identity": column.identity and column.name in everywhere})
        for column in columns.values()
    ]
    return newest.model_copy(update={"columns": tuple(kept)})


def own_type(column: Column) -> str:
    """The type that a column has in a table of its own: one of PostgreSQL's, which takes every archived value.

    A type that somebody made may be gone or another one by now, and may run that somebody's functions.
    """
    if is_builtin(column.base_type):
        return column.base_type
    return "text[]" if column.encoding == "array" else "text"


def create_target(connection: Connection, shape: TableShape, schema_name: str, table_name: str) -> None:
    """Create a table of the archived columns with the identity and primary key that the manifest has.

    Types are those of :func:`own_type`. Only the key is NOT NULL: a column may have held NULLs that were there before its
    constraint. Generated columns become plain ones that hold the archived values, since no manifest knows their
    expressions. A table that is there already is left as it is.
    """
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            type_name(own_type(column)),
            sql.SQL(" GENERATED BY DEFAULT AS IDENTITY" if column.identity else ""),
        )
        for column in shape.columns
    ]
    key = sql.SQL(", ").join(map(sql.Identifier, shape.primary_key))
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({}))").format(
            qualified(schema_name, table_name), sql.SQL(", ").join(columns), key
        )
    )


def fit_columns(
    connection: Connection, shape: TableShape, target: Target, dropped_columns: DroppedColumns = "refuse"
) -> Fit:
    """Say how archived rows of a shape go into the target.

    Args:
        connection: A session on the target's database.
        shape: From the manifest.
        target: The table as it is now.
        dropped_columns: What to do with values of columns that the target no longer has.

    Raises:
        RestoreError: Names every column that was renamed, retyped, dropped or added so that the rows do not fit, and
            a key that the target has no unique index for.
    """
    archived = {column.name: column for column in shape.columns}
    unknown = [column for name, column in target.columns.items() if name not in archived and name != SIDE_COLUMN]
    faults = list(_rule_faults(connection, target))
    gone = [column for column in shape.columns if column.name not in target.columns]
    faults += [fault for column in gone if (fault := _gone_fault(column, unknown, shape, dropped_columns))]
    faults += _changed_faults(archived, target)
    faults += [
        f"its column {column.name} ({column.type}) was added, takes no NULL and has no default"
        for column in unknown
        if column.name in target.required
    ]
    if gone and dropped_columns == "keep" and not faults:
        faults += _side_faults(archived, target)
    if not faults and not is_key(connection, target.oid, shape.primary_key):
        faults.append(f"it has no unique index on just {', '.join(shape.primary_key)}, by which its rows were archived")
    if faults:
        raise RestoreError(
            f"{target} no longer takes the archived rows as they are: " + "; ".join(faults),
            hint="Nothing was loaded. Change the table, or restore into a table of its own (a new target, created from "
            "the archive's columns) and take the rows over from there.",
        )
    there = [column for column in shape.columns if column.name in target.columns]
    loaded = [column.name for column in there if not target.columns[column.name].generated]
    return Fit(
        rebuilt=tuple(
            column.model_copy(update={"base_type": target.columns[column.name].base_type})
            for column in there
            if column.name in loaded or column.name in shape.primary_key
        ),
        loaded=tuple(loaded),
        compared=tuple(there),
        kept_aside=tuple(column.name for column in gone),
        added=tuple(column.name for column in unknown),
    )


def _gone_fault(
    column: Column, unknown: list[Column], shape: TableShape, dropped_columns: DroppedColumns
) -> str | None:
    likely = [other.name for other in unknown if other.type == column.type]
    what = f"its column {column.name} ({column.type})"
    if likely:
        return f"{what} is gone and looks renamed to {' or '.join(likely)}"
    if column.name in shape.primary_key:
        return f"{what} is gone, and rows are told apart by it"
    if dropped_columns == "refuse":
        return f"{what} was dropped (choose to keep dropped columns, and its values go to {SIDE_COLUMN})"
    return None


def _changed_faults(archived: Mapping[str, Column], target: Target) -> list[str]:
    faults = []
    for name, now in target.columns.items():
        before = archived.get(name)
        if before is None:
            continue
        if not _takes(now, before):
            faults.append(
                f"its column {name} was archived as {type_in_words(before, now)} and is {type_in_words(now, before)} now"
            )
        elif now.generated and not before.generated:
            faults.append(f"its column {name} was archived as a plain column and is generated now")
    return faults


def _takes(now: Column, before: Column) -> bool:
    """Whether a column of the target has the archived type, or the one that takes its values in a table of its own."""
    if now.type == now.base_type == own_type(before) != before.type:
        return True
    if before.composites is not None and before.composites != now.composites:
        return False
    return (now.type, now.base_type, now.encoding) == (before.type, before.base_type, before.encoding)


def type_in_words(column: Column, other: Column) -> str:
    """A column's type in words, down to what tells it from another one."""
    if column.type != other.type:
        return column.type
    if column.base_type != other.base_type:
        return f"{column.type} over {column.base_type}"
    if column.composites != other.composites:
        return "; ".join(
            f"{one.type} of {', '.join(' '.join(attribute) for attribute in one.attributes)}"
            for one in column.composites or ()
            if one not in (other.composites or ())
        )
    return column.type if column.encoding == other.encoding else f"{column.type} written as {column.encoding}"


def _rule_faults(connection: Connection, target: Target) -> Iterator[str]:
    """Rules that the server would rewrite an INSERT by; with one on UPDATE it knows no ON CONFLICT either."""
    for name, event in fetch_rows(
        connection,
        "SELECT rulename::text, CASE ev_type WHEN '3' THEN 'INSERT' ELSE 'UPDATE' END FROM pg_catalog.pg_rewrite "
        "WHERE ev_class = %s AND (ev_type = '2' OR ev_type = '3' AND ev_enabled IN ('O', 'A')) ORDER BY 1",
        target.oid,
    ):
        yield f"its rule {name} on {event} would rewrite what is loaded"


def _side_faults(archived: Mapping[str, Column], target: Target) -> list[str]:
    side = target.columns.get(SIDE_COLUMN)
    if SIDE_COLUMN in archived:
        return [f"its column {SIDE_COLUMN} was archived itself, and cannot take dropped columns too"]
    if side is None or side.base_type != "jsonb" or side.generated:
        statement = sql.SQL("ALTER TABLE {} ADD COLUMN {} jsonb").format(target.name, sql.Identifier(SIDE_COLUMN))
        return [f"it has no column {SIDE_COLUMN} of type jsonb for dropped columns ({statement.as_string()})"]
    return []


def require_writable(connection: Connection) -> None:
    """See that the session may write, and that the server watches over what it writes.

    Raises:
        RestoreError: Says why not.
    """
    [(role, read_only, standby)] = fetch_rows(
        connection,
        "SELECT current_setting('session_replication_role'), current_setting('transaction_read_only'), pg_is_in_recovery()",
    )
    if standby or read_only != "off":
        raise RestoreError(
            "the database to restore into takes no writes",
            found="a standby" if standby else "read-only transactions (default_transaction_read_only)",
            hint="Nothing was loaded. Point the restore connection at the primary, or let its role write.",
        )
    if role != "origin":
        raise RestoreError(
            "the server would check no foreign key of restored rows and fire no trigger",
            expected="session_replication_role origin",
            found=role,
            hint="Nothing was loaded. Reset session_replication_role for the role and the database of the restore connection.",
        )


def require_schema(connection: Connection, schema_name: str) -> None:
    """See that a table can be created in a schema.

    Raises:
        RestoreError: There is no such schema.
        SourceAccessError: The role may not create tables in it.
    """
    rows = fetch_rows(
        connection,
        "SELECT has_schema_privilege(oid, 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY') "
        "FROM pg_catalog.pg_namespace WHERE nspname = %s",
        schema_name,
    )
    if not rows:
        statement = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema_name)).as_string()
        raise RestoreError(
            f"there is no schema {schema_name} to create the table in",
            hint=f"Nothing was loaded. {statement}, and give the restoring role CREATE and USAGE on it.",
        )
    [(may_create, may_stage)] = rows
    missing = [
        what
        for held, what in (
            (may_create, f"CREATE on schema {schema_name}"),
            (may_stage, "TEMPORARY on the database"),
        )
        if not held
    ]
    if missing:
        raise SourceAccessError(
            f"the restoring role may not create a table in schema {schema_name}",
            found="no " + ", no ".join(missing),
            hint="Nothing was loaded. Grant what is missing to the role of the restore connection and clear the task.",
        )


def require_rights(connection: Connection, target: Target) -> None:
    """See that the role may load the rows.

    Raises:
        SourceAccessError: Names each right that is missing.
    """
    rights = Rights(connection)
    rights.look_at_table(target.schema_name, target.table_name, "SELECT", "INSERT")
    rights.look_at_temporary_tables()
    for schema_name, sequence in target.sequences.values():
        rights.look_at_sequence(schema_name, sequence, "SELECT")
    rights.require(str(target), safe="Nothing was loaded.")


def move_sequences(connection: Connection, target: Target, highest: Mapping[str, int]) -> tuple[str, ...]:
    """Move the sequences of identity columns past the highest value that was loaded; names those that were moved.

    Raises:
        RestoreError: One ends before that value.
        SourceAccessError: One must be moved and the role may not.
    """
    moved = []
    for column, value in highest.items():
        sequence = target.sequences.get(column)
        if sequence is None or not _is_behind(connection, sequence, value):
            continue
        name = sql.Identifier(*sequence)
        [(end,)] = fetch_rows(
            connection,
            "SELECT seqmax FROM pg_catalog.pg_sequence WHERE seqrelid = %s::regclass",
            name.as_string(),
        )
        if value > end:
            raise RestoreError(
                f"the sequence {'.'.join(sequence)} of {target} cannot be moved past the restored rows",
                expected=f"a maximum of at least {value}",
                found=f"{end}",
                hint="The rows are restored, but new rows would get numbers that are taken. Raise the maximum "
                f"({sql.SQL('ALTER SEQUENCE {} MAXVALUE …').format(name).as_string()}), then clear this task.",
            )
        if not _may(connection, sequence, "UPDATE"):
            role = Rights(connection).role
            raise SourceAccessError(
                f"the role {role} may not move the sequence {'.'.join(sequence)} past {value}",
                hint=f"The rows are restored, but new rows of {target} would get numbers that are taken. As the owner of "
                f"the table, or a superuser, run in psql:\n  GRANT UPDATE ON SEQUENCE {name.as_string()} TO {role};\n"
                "Then clear this task.",
            )
        connection.execute(
            sql.SQL("SELECT setval({}::regclass, greatest({}, last_value)) FROM {}").format(
                sql.Literal(name.as_string()), sql.Literal(value), name
            )
        )
        moved.append(".".join(sequence))
    return tuple(moved)


def _is_behind(connection: Connection, sequence: tuple[str, str], value: int) -> bool:
    query = sql.SQL("SELECT last_value < {value} OR (last_value = {value} AND NOT is_called) FROM {name}")
    [(behind,)] = connection.execute(query.format(value=sql.Literal(value), name=sql.Identifier(*sequence))).fetchall()
    return bool(behind)


def _may(connection: Connection, sequence: tuple[str, str], right: str) -> bool:
    name = sql.Identifier(*sequence).as_string()
    [(held,)] = fetch_rows(connection, "SELECT has_sequence_privilege(%s, %s)", name, right)
    return bool(held)
