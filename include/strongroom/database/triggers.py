"""Triggers that a DELETE of a table fires, and the name of our own guard among them."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.database.session import Session, fetch_rows
from strongroom.settings import TableSettings

SOMEBODYS_TRIGGER = "(NOT g.tgisinternal OR (g.tgparentid <> 0 AND g.tgconstraint = 0))"
"""A condition on a row of pg_trigger: it is not one of the server's own triggers for a constraint. PostgreSQL 13 and 14 also call
a trigger internal that a partition inherits from its table."""


@dataclass(frozen=True)
class DeleteTrigger:
    """A trigger that a DELETE fires.

    Attributes:
        name: Of the trigger.
        table: Its table or table partition, with the schema.
        function: The function it calls, with schema and arguments, as the server writes it.
        function_name: The name of that function alone.
        guard: Whether it is our own guard (:mod:`strongroom.tables.guard`), which refuses the DELETE and does nothing else.
        may_keep: Whether it can keep a row silently: it fires for each row, before the row is deleted.
    """

    name: str
    table: str
    function: str
    function_name: str
    guard: bool
    may_keep: bool

    def is_in(self, context: str) -> bool:
        """Whether its function was running, by the CONTEXT of an error. CONTEXT may quote rows, so it is never shown."""
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


def delete_triggers(connection: Session, settings: TableSettings) -> list[DeleteTrigger]:
    """Triggers of a table and its table partitions that a DELETE fires.

    In ``pg_trigger.tgtype`` bit 3 means DELETE; bits 0 and 1 mean for each row, and before.
    """
    rows = fetch_rows(
        connection, _DELETE_TRIGGERS, GUARD_FUNCTION, DETACHED_SCHEMA, settings.schema_name, settings.table_name
    )
    return [DeleteTrigger(*row) for row in rows]


DETACHED_SCHEMA = "strongroom_detached"
"""The schema in which detached partitions wait. It also holds the guard's function."""


GUARD_FUNCTION = "refuse_changes"
"""The name of the guard's function in that schema."""
