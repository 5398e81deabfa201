"""The tables of a database: sizes, columns that could date rows, and how many rows the planner expects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from strongroom.database.date_index import has_date_index
from strongroom.database.session import Connection, fetch_rows, qualified

_TABLES = """
SELECT n.nspname::text, c.relname::text, c.oid::bigint,
       coalesce(leaves.size_bytes, 0), leaves.rows,
       ARRAY(SELECT DISTINCT f.conrelid::regclass::text FROM pg_constraint f
             WHERE f.contype = 'f' AND f.confrelid = c.oid AND f.conrelid <> c.oid AND f.conparentid = 0 ORDER BY 1)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT sum(pg_total_relation_size(l.oid))::bigint AS size_bytes,
           CASE WHEN bool_and(l.reltuples >= 0) THEN sum(l.reltuples)::bigint END AS rows
    FROM pg_class l
    WHERE l.oid = c.oid AND l.relkind = 'r' OR l.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
) AS leaves
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%s)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""

_DATES = """
SELECT a.attname::text, t.typname::text, a.attnotnull,
       coalesce(pg_get_expr(d.adbin, d.adrelid) ~* '(now|current_timestamp|clock_timestamp|current_date)', false),
       coalesce((SELECT p.partattrs[0] = a.attnum AND p.partstrat = 'r' FROM pg_partitioned_table p WHERE p.partrelid = a.attrelid), false),
       (SELECT abs(s.correlation) FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
  AND t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN ('date', 'timestamp', 'timestamptz')
ORDER BY a.attnum
"""

OWN_SCHEMAS = ("warm", "restored", "strongroom_drill")
"""Schemas that Strongroom itself fills."""


@dataclass(frozen=True)
class DateColumn:
    """A column that could date the rows of a table.

    Attributes:
        by_default: Whether its default is the time of the insert.
        partitions: Whether the table is partitioned by ranges of it.
        correlation: How well its order is that of the rows on disk, 0 to 1; None if the table was never analysed.
    """

    name: str
    type: str
    not_null: bool
    by_default: bool
    partitions: bool
    correlation: float | None
    indexed: bool


@dataclass(frozen=True)
class SeenTable:
    """A table as the catalogue shows it.

    Attributes:
        size_bytes: With its indexes and partitions.
        rows: The planner's estimate; None if the table was never analysed.
        referenced_by: Tables with a foreign key to it.
        dates: Columns that could date its rows, in their order.
    """

    schema_name: str
    table_name: str
    size_bytes: int
    rows: int | None
    referenced_by: tuple[str, ...]
    dates: tuple[DateColumn, ...]

    @property
    def name(self) -> str:
        """As archive.yaml names it: without its schema where that is `public`."""
        return (
            self.table_name
            if self.schema_name == "public" and "." not in self.table_name
            else f"{self.schema_name}.{self.table_name}"
        )


def look(connection: Connection, schemas: Sequence[str] = ()) -> list[SeenTable]:
    """List the tables of a database, those of the server, of extensions and of Strongroom left out.

    Args:
        connection: Of any role; it need not have a right on the tables.
        schemas: Only tables of these; none means all.
    """
    found = []
    for schema_name, table_name, oid, size_bytes, rows, referenced_by in fetch_rows(
        connection, _TABLES, list(OWN_SCHEMAS)
    ):
        if schemas and schema_name not in schemas:
            continue
        dates = tuple(
            DateColumn(*(*column, has_date_index(connection, schema_name, table_name, column[0])))
            for column in fetch_rows(connection, _DATES, oid)
        )
        found.append(SeenTable(schema_name, table_name, size_bytes, rows, tuple(referenced_by), dates))
    return found


def rows_before(connection: Connection, table: SeenTable, column: str, end: datetime) -> int | None:
    """How many rows the planner expects before an instant; None if it may not be asked.

    Args:
        end: Aware instant.
    """
    statement = sql.SQL("EXPLAIN (FORMAT JSON) SELECT 1 FROM {} WHERE {} < {}").format(
        qualified(table.schema_name, table.table_name), sql.Identifier(column), sql.Literal(end)
    )
    try:
        [(plan,)] = connection.execute(statement).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return None
    told = json.loads(plan) if isinstance(plan, str) else plan
    return int(told[0]["Plan"]["Plan Rows"])  # type: ignore[index]


def oldest(connection: Connection, table: SeenTable, column: DateColumn) -> datetime | None:
    """The earliest date of a table where an index gives it at once; None where it would take a scan, or may not be read."""
    if not column.indexed:
        return None
    statement = sql.SQL("SELECT min({})::timestamptz FROM {} WHERE isfinite({})").format(
        sql.Identifier(column.name), qualified(table.schema_name, table.table_name), sql.Identifier(column.name)
    )
    try:
        [(first,)] = connection.execute(statement).fetchall()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DataError):
        return None
    return first if isinstance(first, datetime) else None
