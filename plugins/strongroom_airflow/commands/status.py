"""`airflow strongroom status`: how far archive runs have come, how fast they are, and why they wait."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import datetime, timezone

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.commands.under_way import RunUnderWay, StepUnderWay, TableUnderWay, look_under_way
from strongroom_airflow.steps import ARCHIVE_STEPS


@command
def status(args: Namespace) -> int:
    """Print what is known of the runs that have not ended, of one table or of all."""
    settings = read_settings()
    names = settings.roots if args.table is None else [settings.root_of(settings.table(args.table)).table]
    now = datetime.now(timezone.utc)
    tables = [look_under_way(one, settings.members_of(one), now) for one in map(settings.table, names)]
    if args.json:
        print_json(json.loads(json.dumps([one.as_json() for one in tables], default=_as_text)))
        return 0
    for one in tables:
        _show(one, now)
    return 0


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _show(table: TableUnderWay, now: datetime) -> None:
    for run in table.runs:
        _show_run(table, run, now)
    if not table.runs:
        orders = [str(order) for order in (table.orders.pause, table.orders.throttle) if order is not None]
        print_out(f"[bold]{escape(table.table)}[/]: no run is under way{escape(''.join(f'; {one}' for one in orders))}")
    for words in table.unknown:
        print_out(f"  [yellow]{escape(words)}[/]")


def _show_run(table: TableUnderWay, run: RunUnderWay, now: datetime) -> None:
    since = f" for {_duration((now - run.since).total_seconds())}" if run.since else ""
    print_out(
        f"[bold]{escape(f'{table.table} {run.partition_key}')}[/]: {escape(run.state)}{since}, {escape(run.page)}"
    )
    if run.archive_id is not None:
        print_out(f"  {escape(run.archive_id)}: {run.rows:,} rows in {_parts(run.parts or 0)}; done: {_done(run)}")
    for words in run.why:
        print_out(f"  [yellow]{escape(words)}[/]")
    if run.steps:
        print_out(_steps_table(run, now))


def _parts(number: int) -> str:
    return f"{number} {'part' if number == 1 else 'parts'}"


def _done(run: RunUnderWay) -> str:
    found = [step for step in ARCHIVE_STEPS if step in run.done]
    several = (run.parts or 0) > 1
    words = [f"{step} {run.done[step]}" if several and run.done[step] > 1 else step for step in found]
    return ", ".join(words) or "nothing yet"


def _steps_table(run: RunUnderWay, now: datetime) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("part", "rows", "rows/s", "left", "reported"))
    several = any(one.table for one in run.steps)
    of_table = [Column("table", overflow="fold")] if several else []
    table = Table(Column("step", no_wrap=True), *of_table, *numbers, Column("state", overflow="fold"), box=SIMPLE)
    for one in run.steps:
        table.add_row(
            one.step,
            *([one.table or ""] if several else []),
            "" if one.part is None else str(one.part),
            _rows(one),
            "" if one.rows_per_second is None else f"{one.rows_per_second:,.0f}",
            "" if one.seconds_left is None else _duration(one.seconds_left),
            "" if one.told_at is None else f"{_duration((now - one.told_at).total_seconds())} ago",
            escape("; ".join(one.why) or one.state),
        )
    return table


def _rows(one: StepUnderWay) -> str:
    if one.rows is None or one.done_rows is None:
        return ""
    return f"{one.done_rows:,} of {one.rows:,}"


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
