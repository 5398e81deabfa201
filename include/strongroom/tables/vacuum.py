"""After a delete: the share of dead rows in the table, and a VACUUM if the settings ask for one.

Nothing here may fail a run, because its rows are already archived, proved and deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal

from psycopg import errors, sql
from pydantic import Field

from strongroom.database.session import Connection, qualified, server_said
from strongroom.errors import SourceAccessError, SourceError
from strongroom.records import Record
from strongroom.settings import TableSettings

DEAD_ROWS_PERCENT = """
SELECT (100.0 * sum(n_dead_tup) / nullif(sum(n_dead_tup + n_live_tup), 0))::float8 FROM pg_stat_all_tables
WHERE relid = %(table)s::regclass OR relid IN (SELECT relid FROM pg_partition_tree(%(table)s::regclass))
"""
"""The percentage of dead rows in a table with all its partitions, by the server's own count; NULL if it is empty."""

_MANY_PERCENT = 10

_THROTTLE = {"vacuum_cost_delay": "2ms", "vacuum_cost_limit": "2000"}
"""A manual VACUUM runs at full speed unless it is told to sleep now and then, as autovacuum does."""


class Vacuum(Record):
    """What happened to a table's dead rows after a run.

    ``unneeded``: there are few. ``advised``: there are many, or the server has no count. ``vacuumed``: their space can be used
    again. ``refused``: the role may not vacuum. ``unfinished``: it took too long, or a lock was in the way. ``unknown``: the
    source did not answer.
    """

    result: Literal["unneeded", "advised", "vacuumed", "refused", "unfinished", "unknown"]
    table: str
    dead_rows_percent: float | None = Field(default=None, description="Before it, by the server's own count.")
    detail: str = ""

    def sentence(self) -> str:
        """For the run's summary; empty if there is nothing to say."""
        share = "" if self.dead_rows_percent is None else f"{self.dead_rows_percent:.0f} % of the table are dead rows, "
        return {
            "unneeded": "",
            "advised": f"{share}advised: VACUUM (ANALYZE) {self.table}",
            "vacuumed": f"{share}vacuumed",
        }.get(self.result, f"{share}VACUUM {self.result}: {self.detail}")


def vacuum_after(
    open_source: Callable[[], AbstractContextManager[Connection]],
    settings: TableSettings,
    *,
    stop_at: datetime | None,
    now: datetime,
) -> Vacuum:
    """Count a table's dead rows after a delete, and vacuum it if the settings say so and there is time.

    Args:
        open_source: Opens a session in autocommit mode, of an owner of the table or a role with the right MAINTAIN.
        settings: Of the table.
        stop_at: No VACUUM begins after this instant. None means no limit.
        now: Aware instant.
    """
    table = qualified(settings.schema_name, settings.table_name)
    try:
        with open_source() as connection:
            name = table.as_string(connection)
            row: Any = connection.execute(DEAD_ROWS_PERCENT, {"table": name}).fetchone()
            percent = None if row[0] is None else round(row[0], 1)
            if settings.vacuum_after_delete and (stop_at is None or now < stop_at):
                result, detail = _vacuum(connection, table)
            else:
                many = percent is None or percent >= _MANY_PERCENT
                result, detail = "advised" if many else "unneeded", ""
            return Vacuum.model_validate(
                {"result": result, "table": name, "dead_rows_percent": percent, "detail": detail}
            )
    except (SourceError, SourceAccessError) as error:
        return Vacuum(result="unknown", table=settings.qualified_name, detail=str(error).partition("\n")[0])


def _vacuum(connection: Connection, table: sql.Identifier) -> tuple[str, str]:
    warnings: list[str] = []
    connection.add_notice_handler(
        # Not from a function in an index expression, which ANALYZE runs: that message may quote a row.
        lambda notice: (
            warnings.append(notice.message_primary or "a warning")
            if notice.severity_nonlocalized == "WARNING" and notice.source_file == "vacuum.c"
            else None
        )
    )
    for name, value in _THROTTLE.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    try:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table))
    except (errors.QueryCanceled, errors.LockNotAvailable) as error:
        return "unfinished", server_said(error.diag) or type(error).__name__
    # A role without the right only gets a warning: the server skips the table and reports success.
    return ("refused", "; ".join(warnings)) if warnings else ("vacuumed", "")
