"""What a saved plan says to archive, if nothing has changed since it was made."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from rich.markup import escape

from strongroom.preview.saved import PlanError, changes, load_preview, require_young
from strongroom.settings import Settings
from strongroom_airflow.commands.plan import look
from strongroom_airflow.commands.terminal import error_console


def keys_of_plan(settings: Settings, path: Path, table: str | None) -> dict[str, list[str]]:
    """The partitions of a saved plan by table, oldest first, as the tables and the store are what they were.

    Args:
        settings: As they are in force now.
        path: Of the file.
        table: Only this table of the plan; None for all.

    Raises:
        PlanError: There is no such plan, it is too old, or something changed, which is printed on standard error.
        IntegrityError: The file is damaged or was edited.
    """
    preview = load_preview(path)
    require_young(preview, datetime.now(timezone.utc))
    wanted = None if table is None else settings.table(table).table
    then = [one for one in preview.tables if wanted in (None, one.name)]
    if not then:
        raise PlanError(
            f"{path} has no plan for {table}",
            found=", ".join(one.name for one in preview.tables),
            hint="Nothing was started. Name one of these tables, or none for all of them.",
        )
    now = list(look(settings, [one.name for one in then], explain=False))
    if found := changes(then, now):
        console = error_console()
        for change in found:
            console.print(f"[yellow]changed:[/] {escape(str(change))}", soft_wrap=True)
        raise PlanError(
            f"{len(found)} {'fact has' if len(found) == 1 else 'facts have'} changed since the plan of "
            f"{preview.made_at:%Y-%m-%d %H:%M} UTC by {preview.made_by}",
            hint="Nothing was started. Look at the changes above, and make a new plan: "
            f"`airflow strongroom plan{f' {table}' if table else ''} --save {path}`.",
        )
    return {one.name: [due.partition_key for due in one.due] for one in then if one.due}
