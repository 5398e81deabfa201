"""The table that archived rows are restored into: as the catalogue shows it now, or newly created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from strongroom.database.column_types import read_column_types
from strongroom.database.rights import Rights
from strongroom.database.session import Connection, fetch_rows, qualified, type_name
from strongroom.errors import RestoreError, SourceAccessError
from strongroom.formats.type_names import INTEGERS, is_builtin
from strongroom.records import Column, TableShape

_RELATION = """
    SELECT c.oid::bigint, c.relkind::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
_ATTRIBUTES = """
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
"""
"""Columns: name, whether a row must give a value, collation and its schema, schema and name of the ascending sequence."""


@dataclass(frozen=True)
class Target:
    """A table that rows can be restored into, as the catalogue shows it now.

    Attributes:
        oid: Of the table.
        columns: By name, in the table's order.
        required: Columns that are NOT NULL and have no default.
        collations: Schema and name of the collation, by column; only columns whose type has one.
        sequences: Schema and name of the ascending sequence that belongs to a column of integers, by column.
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


def find_target(connection: Connection, schema_name: str, table_name: str) -> Target | None:
    """Look a table up; None if there is none of that name.

    Raises:
        RestoreError: The name is that of something else, such as a view.
    """
    rows = fetch_rows(connection, _RELATION, schema_name, table_name)
    if not rows:
        return None
    oid, kind = rows[0]
    if kind not in "rp":
        raise RestoreError(
            f"{schema_name}.{table_name} is not a table",
            expected="an ordinary or partitioned table",
            hint="Nothing was loaded. Name another target.",
        )
    return _described(connection, int(oid), schema_name, table_name)


def _described(connection: Connection, oid: int, schema_name: str, table_name: str) -> Target:
    attributes: list[tuple[Any, ...]] = fetch_rows(connection, _ATTRIBUTES, oid)
    columns = {one.column.name: one.column for one in read_column_types(connection, oid)}
    return Target(
        oid=oid,
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


def own_type(column: Column) -> str:
    """The type of an archived column in a table that the restore creates: a built-in type that takes every archived value.

    A user-defined type may have been dropped or changed since, and may run its owner's functions.
    """
    if is_builtin(column.base_type):
        return column.base_type
    return "text[]" if column.encoding == "array" else "text"


def create_target(connection: Connection, shape: TableShape, schema_name: str, table_name: str) -> None:
    """Create a table of the archived columns, with the identity columns and the primary key of the manifest.

    Types are those of :func:`own_type`. Only the key is NOT NULL: a column may have held NULLs from before its constraint.
    Generated columns become plain ones that hold the archived values, since no manifest has their expressions. An
    existing table is left as it is.
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


def require_writable(connection: Connection) -> None:
    """Check that the session may write, and that the server checks foreign keys and fires triggers for what it writes.

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
    """Check that a table can be created in a schema.

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
    rights = ((may_create, f"CREATE on schema {schema_name}"), (may_stage, "TEMPORARY on the database"))
    missing = [right for held, right in rights if not held]
    if missing:
        raise SourceAccessError(
            f"the restoring role may not create a table in schema {schema_name}",
            found="no " + ", no ".join(missing),
            hint="Nothing was loaded. Grant what is missing to the role of the restore connection and clear the task.",
        )


def require_rights(connection: Connection, target: Target) -> None:
    """Check that the role may load the rows.

    Raises:
        SourceAccessError: Names each right that is missing.
    """
    rights = Rights(connection)
    rights.look_at_table(target.schema_name, target.table_name, "SELECT", "INSERT")
    rights.look_at_temporary_tables()
    for schema_name, sequence in target.sequences.values():
        rights.look_at_sequence(schema_name, sequence, "SELECT")
    rights.require(str(target), safe="Nothing was loaded.")
