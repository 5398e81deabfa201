"""The table partitions of a partitioned table: which of them a window covers, which cannot be detached, and the detach itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from psycopg import errors, sql

from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.database.triggers import DETACHED_SCHEMA, SOMEBODYS_TRIGGER
from strongroom.errors import SourceError
from strongroom.settings import TableSettings
from strongroom.tables.guard import GuardedTable, guarded_table
from strongroom.tables.locks import CONTENDED, briefly, tried

_logger = logging.getLogger(__name__)

_INSTANT = r"'(\d{4})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?:\+00)?'"
_BOUNDS = re.compile(rf"FOR VALUES FROM \({_INSTANT}\) TO \({_INSTANT}\)")


@dataclass(frozen=True)
class Leaf:
    """A table partition that holds rows itself.

    Attributes:
        oid: Of the table.
        schema_name: Its schema.
        table_name: Its name.
        window: The time range that it holds rows of.
        bounds: The same, as ATTACH PARTITION takes it.
        obstacle: Why it cannot be detached and dropped; empty if it can.
    """

    oid: int
    schema_name: str
    table_name: str
    window: Window
    bounds: str
    obstacle: str

    @property
    def name(self) -> sql.Identifier:
        """The quoted name."""
        return qualified(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


@dataclass(frozen=True)
class PartitionedTable:
    """A partitioned table, as its owner sees it.

    Attributes:
        oid: Of the table.
        has_default: Whether it has a DEFAULT partition; a concurrent detach is then not allowed.
        lacking: Rights that the role lacks, in words.
        obstacle: Why none of its partitions can be detached and dropped; empty if some can.
    """

    oid: int
    has_default: bool
    lacking: tuple[str, ...]
    obstacle: str


def read_partitioned(connection: Connection, settings: TableSettings, table: InspectedTable) -> PartitionedTable:
    """Read whether an inspected table is partitioned by time, and whether its partitions may go without a DELETE."""
    [(oid, owner, nested, strategy, by_date, has_default)] = fetch_rows(
        connection,
        """
        SELECT c.oid::bigint, pg_has_role(c.relowner, 'USAGE'), c.relispartition, p.partstrat::text,
               p.partnatts = 1 AND p.partattrs[0] = (
                   SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = %s),
               coalesce(p.partdefid, 0) <> 0
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
        WHERE n.nspname = %s AND c.relname = %s
        """,
        settings.date_column,
        settings.schema_name,
        settings.table_name,
    )
    lacking = () if owner else (f"ownership of {settings.qualified_name}",)
    return PartitionedTable(
        oid=oid,
        has_default=has_default,
        lacking=lacking,
        obstacle=next(_obstacles(connection, settings, table, oid, nested, strategy, by_date), ""),
    )


def _obstacles(
    connection: Connection,
    settings: TableSettings,
    table: InspectedTable,
    oid: int,
    nested: bool,
    strategy: str | None,
    by_date: bool,
) -> Iterator[str]:
    if strategy is None:
        yield "the table is not partitioned"
        return
    if strategy != "r" or not by_date:
        yield f"the table is not partitioned by range of {settings.date_column}"
    if nested:
        yield "the table is a partition itself"
    if settings.date_column not in table.shape.primary_key:
        yield f"its key does not hold {settings.date_column}"
    if settings.warm:
        yield "its rows move to the warm tier"
    if table.references:
        names = ", ".join(f"{one.schema_name}.{one.table_name} ({one.name})" for one in table.references)
        yield f"rows of others may refer to its rows: {names}"
    rows = fetch_rows(
        connection,
        "SELECT DISTINCT f.conname::text FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid IN (SELECT relid FROM "
        "pg_partition_tree(%s)) AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd')) ORDER BY 1",
        oid,
    )
    if rows:
        yield f"its rows follow changes of others ({', '.join(name for (name,) in rows)})"
    rows = fetch_rows(
        connection,
        "SELECT DISTINCT g.tgname::text FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_namespace n ON "  # noqa: S608 - a constant
        f"n.oid = f.pronamespace WHERE {SOMEBODYS_TRIGGER} AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0 AND n.nspname <> %s "
        "AND g.tgrelid IN (SELECT relid FROM pg_partition_tree(%s)) ORDER BY 1",
        DETACHED_SCHEMA,
        oid,
    )
    if rows:
        yield f"a DELETE fires its trigger {', '.join(name for (name,) in rows)}, and to drop a table fires none"


def read_leaves(connection: Connection, oid: int, window: Window) -> list[Leaf]:
    """The partitions that overlap a window, by name. Those that are being detached no longer count."""
    rows = fetch_rows(
        connection,
        """
        SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, pg_get_expr(c.relpartbound, c.oid),
               pg_has_role(c.relowner, 'USAGE'),
               (SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ') FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
                WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                  AND r.ev_class <> c.oid),
               EXISTS (SELECT FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace
                       WHERE s.nspname = %s AND o.relname = c.relname)
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = %s AND NOT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false)
        ORDER BY n.nspname, c.relname
        """,
        DETACHED_SCHEMA,
        oid,
    )
    leaves = []
    for leaf_oid, schema_name, table_name, kind, bounds, owner, depending, taken in rows:
        held = _held(bounds)
        if held is None or not held.overlaps(window):
            continue
        if kind != "r":
            obstacle = "it is partitioned itself" if kind == "p" else "it is not an ordinary table"
        elif not window.covers(held):
            obstacle = "the window covers only a part of it"
        elif not owner:
            obstacle = "the role does not own it"
        elif depending:
            obstacle = f"it is read by {depending}"
        elif taken:
            obstacle = f"there is a {table_name} in schema {DETACHED_SCHEMA} already"
        else:
            obstacle = ""
        leaves.append(Leaf(leaf_oid, schema_name, table_name, held, bounds, obstacle))
    return leaves


def _held(bounds: str) -> Window | None:
    """The time range that a partition holds rows of; None if it is unbounded or not a time range."""
    found = _BOUNDS.fullmatch(bounds)
    if found is None:
        return None
    groups = found.groups()
    start, end = _instant(groups[:7]), _instant(groups[7:])
    return Window(start, end)


def _instant(groups: tuple[str | None, ...]) -> datetime:
    year, month, day, hour, minute, second = (int(group or 0) for group in groups[:6])
    micros = int((groups[6] or "").ljust(6, "0"))
    return datetime(year, month, day, hour, minute, second, micros, timezone.utc)


def detach_statement(parent: sql.Identifier, name: sql.Identifier, ending: str = "CONCURRENTLY") -> sql.Composed:
    """The statement that takes a partition out of its table."""
    return sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(parent, name, sql.SQL(ending))


def detach_concurrently(
    connection: Connection,
    settings: TableSettings,
    parent: sql.Identifier,
    name: sql.Identifier,
    ending: str = "CONCURRENTLY",
) -> None:
    """Detach while readers and writers continue; the caller checks the outcome.

    It waits for transactions that use the table. Only sessions that want to change the table's definition wait behind it, so it
    may wait as long as any of our statements. If it then gives up, the partition stays in the state of being detached:
    new statements no longer see it, and a later try finishes the detach.
    """
    try:
        connection.execute(detach_statement(parent, name, ending))
    except (*CONTENDED, errors.ObjectNotInPrerequisiteState, errors.FeatureNotSupported, errors.SyntaxError) as error:
        _logger.info(
            "%s is not detached from %s yet (%s)", name.as_string(), settings.qualified_name, type(error).__name__
        )


def settle_detached(connection: Connection, settings: TableSettings, guarded: GuardedTable) -> GuardedTable:
    """Finish a detach, and move the table to the schema of detached partitions, as far as other sessions' locks allow.

    The next call does what could not be done now. Either way the rows are no longer in the partitioned table.
    """
    if guarded.state == "detaching":
        parent = qualified(settings.schema_name, settings.table_name)
        detach_concurrently(connection, settings, parent, guarded.name, "FINALIZE")
        guarded = _again(connection, guarded)
    if guarded.state == "detached" and guarded.schema_name != DETACHED_SCHEMA:
        name = guarded.name

        def work() -> None:
            with briefly(connection):
                connection.execute(
                    sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(name, sql.Identifier(DETACHED_SCHEMA))
                )

        tried(work)
        guarded = _again(connection, guarded)
    return guarded


def _again(connection: Connection, guarded: GuardedTable) -> GuardedTable:
    found = guarded_table(connection, guarded.oid)
    if found is None:
        raise not_settled(guarded)
    return found


def not_settled(guarded: GuardedTable) -> SourceError:
    return SourceError(
        f"{guarded}, which was detached, was locked or removed by another session",
        hint="No row was deleted by this step. The task tries again by itself.",
    )
