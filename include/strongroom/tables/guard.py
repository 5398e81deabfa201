"""A guard on a table partition: nobody can insert, update or delete a row, not even logical replication.

It consists of two triggers that are always enabled. The one for rows is a row trigger, because a statement on the partitioned
table fires no statement triggers of its partitions. The trigger's argument says what the guard is for, so anybody who finds it
after a crash knows what was going on. A rename, a detach and a move to another schema keep the trigger, so it is also the mark
by which detached partitions are found.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from psycopg import errors, sql
from pydantic import AwareDatetime

from strongroom.calendar import Window
from strongroom.database.session import Connection, fetch_rows, qualified
from strongroom.database.triggers import DETACHED_SCHEMA, GUARD_FUNCTION
from strongroom.errors import SourceAccessError, SourceError
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record, parse_record
from strongroom.tables.locks import CONTENDED, briefly, tried

ROW_GUARD, TRUNCATE_GUARD = "strongroom_guard", "strongroom_guard_truncate"


_BODY = """
BEGIN
  RAISE EXCEPTION 'the rows of %.% are archived as % and are about to be deleted',
    TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]::json ->> 'archive_id'
    USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'See docs/partitions.md of Strongroom: how to bring a partition back.';
END
"""

_GUARDED = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, encode(g.tgargs, 'hex'),
       CASE WHEN i.inhparent IS NULL THEN 'detached'
            WHEN coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false) THEN 'detaching'
            ELSE 'attached' END,
       f.prosrc = %s AND (
           SELECT count(*) = 2 FROM pg_trigger t
           WHERE t.tgrelid = c.oid AND t.tgfoid = f.oid AND t.tgenabled = 'A' AND t.tgqual IS NULL AND t.tgattr::text = ''
             AND t.tgargs = g.tgargs AND (t.tgname, t.tgtype) IN ((%s, 31::smallint), (%s, 34::smallint))),
       f.xmin::text || ' ' || (
           SELECT string_agg(t.oid::text || ' ' || t.xmin::text, ' ' ORDER BY t.tgname) FROM pg_trigger t
           WHERE t.tgrelid = c.oid AND t.tgfoid = f.oid)
FROM pg_trigger g
JOIN pg_proc f ON f.oid = g.tgfoid AND f.proname = %s
JOIN pg_namespace s ON s.oid = f.pronamespace AND s.nspname = %s
JOIN pg_class c ON c.oid = g.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE g.tgname = %s
ORDER BY c.oid
"""


class GuardTag(Record):
    """What a guard says about its table. The trigger holds it as JSON in ASCII."""

    archive_id: str
    schema_name: str
    table_name: str
    """Of the table partition before it was detached."""
    start_at: AwareDatetime
    end_at: AwareDatetime
    bounds: str
    """As ATTACH PARTITION takes them."""

    @property
    def archive(self) -> ArchiveId:
        """The archive that has the rows."""
        return ArchiveId.parse(self.archive_id)

    @property
    def window(self) -> Window:
        """The partition's bounds."""
        return Window(self.start_at, self.end_at)

    @property
    def partition(self) -> str:
        """Schema and name of the partition."""
        return f"{self.schema_name}.{self.table_name}"


@dataclass(frozen=True)
class GuardedTable:
    """A table with a guard, as the catalogue shows it now.

    Attributes:
        oid: Of the table.
        schema_name: Its present schema.
        table_name: Its present name.
        tag: What the guard is for.
        state: Whether it is still a partition; ``detaching`` means that a concurrent detach has not finished.
        closed: Whether both triggers are intact; if not, rows may have changed.
        version: Changes whenever anybody touches the triggers or the function.
    """

    oid: int
    schema_name: str
    table_name: str
    tag: GuardTag
    state: Literal["attached", "detaching", "detached"]
    closed: bool
    version: str

    @property
    def name(self) -> sql.Identifier:
        """The quoted name."""
        return qualified(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


def prepare_guards(connection: Connection) -> None:
    """Create the schema and the guard's function, unless they exist as they should be.

    Raises:
        SourceAccessError: The role lacks a right for that.
    """
    [(present, may_create, may_make_schema)] = fetch_rows(
        connection,
        "SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE'), false), "
        "has_database_privilege(current_database(), 'CREATE') "
        "FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = %s",
        DETACHED_SCHEMA,
    )
    if not (may_create if present else may_make_schema):
        [(role,)] = fetch_rows(connection, "SELECT current_user::text")
        raise SourceAccessError(
            f"role {role} cannot detach partitions: it may not create tables in schema {DETACHED_SCHEMA}",
            expected="USAGE and CREATE on that schema",
            found="no such schema, and no right to create it" if not present else "not both of them",
            hint=f"No row was deleted by this step. Let an administrator run: CREATE SCHEMA IF NOT EXISTS {DETACHED_SCHEMA} "
            f"AUTHORIZATION the-owner-of-the-table; then clear the task.",
        )
    if not present:
        with suppress(errors.UniqueViolation, errors.DuplicateSchema):  # a run of another table was faster
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(DETACHED_SCHEMA)))
    if not _is_made(connection):
        try:
            connection.execute(
                sql.SQL(
                    "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {}"
                ).format(sql.Identifier(DETACHED_SCHEMA, GUARD_FUNCTION), sql.Literal(_BODY))
            )
        except (errors.UniqueViolation, errors.InternalError_):
            if not _is_made(connection):
                raise


def _is_made(connection: Connection) -> bool:
    """Whether the guard's function exists with exactly this text."""
    found = fetch_rows(
        connection,
        "SELECT FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname = %s AND f.proname = %s AND f.prosrc = %s",
        DETACHED_SCHEMA,
        GUARD_FUNCTION,
        _BODY,
    )
    return bool(found)


def guarded_tables(connection: Connection) -> list[GuardedTable]:
    """Every table of the database that has a guard.

    Raises:
        IntegrityError: A guard does not say what it is for.
    """
    rows = fetch_rows(
        connection, _GUARDED, _BODY, ROW_GUARD, TRUNCATE_GUARD, GUARD_FUNCTION, DETACHED_SCHEMA, ROW_GUARD
    )
    return [
        GuardedTable(
            oid=oid,
            schema_name=schema_name,
            table_name=table_name,
            tag=parse_record(
                GuardTag,
                bytes.fromhex(arguments).partition(b"\0")[0],
                where=f"the guard of {schema_name}.{table_name}",
                what="a sound guard",
                hint="No row was deleted by this step. Find out who created that trigger; a partition that was detached can be "
                "attached again.",
            ),
            state=state,
            closed=closed,
            version=version,
        )
        for oid, schema_name, table_name, arguments, state, closed, version in rows
    ]


def guarded_table(connection: Connection, oid: int) -> GuardedTable | None:
    """One of :func:`guarded_tables`."""
    return next((one for one in guarded_tables(connection) if one.oid == oid), None)


def set_guard(connection: Connection, oid: int, name: sql.Identifier, tag: GuardTag) -> None:
    """Put a guard on a table, in place of any other. From the commit on, its rows cannot change.

    Call this in a transaction. It requests SHARE ROW EXCLUSIVE, which blocks only writers, and ACCESS EXCLUSIVE if another guard
    is there.
    """
    present = guarded_table(connection, oid)
    if present is not None and present.closed and present.tag == tag:
        return
    if present is not None:
        _drop(connection, name)
    function = sql.SQL("{}({})").format(
        sql.Identifier(DETACHED_SCHEMA, GUARD_FUNCTION), sql.Literal(json.dumps(tag.model_dump(mode="json")))
    )
    connection.execute(
        sql.SQL("CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}").format(
            sql.Identifier(ROW_GUARD), name, function
        )
    )
    connection.execute(
        sql.SQL("CREATE TRIGGER {} BEFORE TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}").format(
            sql.Identifier(TRUNCATE_GUARD), name, function
        )
    )
    connection.execute(
        sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}, ENABLE ALWAYS TRIGGER {}").format(
            name, sql.Identifier(ROW_GUARD), sql.Identifier(TRUNCATE_GUARD)
        )
    )


def lift_guard(connection: Connection, table: GuardedTable) -> None:
    """Let rows of a table change again.

    The triggers are disabled first, which waits only for writers, and then removed. If a reader is in the way of the removal, they
    stay behind without effect.

    Raises:
        SourceError: Another session's lock was in the way all the time.
    """

    def switch_off() -> None:
        with briefly(connection):
            connection.execute(
                sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}, DISABLE TRIGGER {}").format(
                    table.name, sql.Identifier(ROW_GUARD), sql.Identifier(TRUNCATE_GUARD)
                )
            )

    if not tried(switch_off):
        raise SourceError(
            f"the guard on {table} could not be lifted: another session holds a lock on it",
            hint="No row was deleted by this step. Rows of that partition cannot be changed until the guard is lifted: the task "
            "tries again by itself, and so does the DAG retention_purge each day.",
        )
    try:
        with briefly(connection):
            _drop(connection, table.name)
    except CONTENDED:
        pass  # disabled, so without effect; the next run that looks at guards removes it


def _drop(connection: Connection, name: sql.Identifier) -> None:
    for trigger in (ROW_GUARD, TRUNCATE_GUARD):
        connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(trigger), name))


def bring_back(table: GuardedTable) -> str:
    """The SQL with which an owner of the table attaches a detached partition again: one transaction, for psql."""
    tag = table.tag
    parent, home = qualified(tag.archive.schema_name, tag.archive.table_name), sql.Identifier(tag.schema_name)
    held, back = table.name, qualified(tag.schema_name, table.table_name)
    statements: list[sql.Composable] = [
        sql.SQL("BEGIN"),
        *(
            sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), held)
            for trigger in (ROW_GUARD, TRUNCATE_GUARD)
        ),
    ]
    if table.schema_name != tag.schema_name:
        statements.append(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(held, home))
    statements += [
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} ").format(parent, back) + sql.SQL(tag.bounds),
        sql.SQL("COMMIT"),
    ]
    return "; ".join(statement.as_string() for statement in statements) + ";"
