"""`airflow strongroom iceberg`: what the Iceberg tables hold, and making them hold what they should."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.errors import ConfigurationError
from strongroom.lake.records import TableState
from strongroom.ledger.claims import shared_clock
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.iceberg.lakes import iceberg_tables, opened_lake


@command
def status(args: Namespace) -> int:
    """Show each table; exit code 1 if one is not what it should be."""
    states = _each(args, "look_at_table")
    _show(states, args, "to add", "to remove")
    return 0 if all(state.is_current for state in states) else 1


@command
def reconcile(args: Namespace) -> int:
    """Reconcile each table."""
    _show(_each(args, "reconcile_table"), args, "added", "removed")
    return 0


def _each(args: Namespace, work: str) -> list[TableState]:
    settings = read_settings()
    tables = [settings.table(args.table)] if args.table else iceberg_tables(settings)
    if not tables:
        raise ConfigurationError(
            "no table has an Iceberg table",
            expected="`iceberg.bucket` in the settings",
            hint="Nothing was read or changed. docs/howto/iceberg.md says how to set it up.",
        )
    states = []
    for table in tables:
        with opened_lake(table) as lake:
            from strongroom.lake import reconcile as module  # what it needs is known to be installed only now

            now = shared_clock(lake.archives, datetime.now(timezone.utc))()
            function: Callable[..., TableState] = getattr(module, work)
            states.append(function(lake, now=now))
    return states


def _show(states: Sequence[TableState], args: Namespace, added: str, removed: str) -> None:
    if args.json:
        print_json([state.model_dump(mode="json") for state in states])
        return
    numbers = [
        Column(name, justify="right", no_wrap=True)
        for name in ("archives", "rows", added, removed, "stale", "left out")
    ]
    shown = Table(Column("table", overflow="fold"), *numbers, box=SIMPLE)
    for state in states:
        counts = (state.archives, state.rows, len(state.added), len(state.removed), state.stale, len(state.left_out))
        shown.add_row(escape(state.name), *(f"{count:,}" for count in counts))
    print_out(shown)
    for state in states:
        where = (
            "has no Iceberg table, since no archive belongs to it"
            if state.metadata_location is None
            else state.metadata_location
        )
        print_out(escape(f"{state.table}: {where}"))
        for one in state.left_out:
            print_out(escape(f"  left out: {one.archive_id}, {one.reason}: {one.detail}"))
