"""`airflow strongroom plan`: say what would be archived and deleted, and how, without doing any of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from airflow.utils.platform import getuser
from rich.box import SIMPLE
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from strongroom.database.session import Connection
from strongroom.preview.look import look_at_table
from strongroom.preview.records import PartitionPreview, Preview, Statement, TablePreview
from strongroom.preview.saved import save_preview
from strongroom.settings import Settings, TableSettings
from strongroom.tables.unit_graph import unit_graph
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_store
from strongroom_airflow.database_connections import connect_database

_COLOURS = {"planned": "green", "resumed": "green", "refused": "red"}


@command
def plan(args: Namespace) -> int:
    """Say what runs would do with one table or all; exit code 1 if a run would be refused."""
    settings = read_settings()
    names = settings.roots if args.table is None else [settings.root_of(settings.table(args.table)).table]
    preview = Preview(
        made_at=datetime.now(timezone.utc), made_by=getuser(), tables=tuple(look(settings, names, explain=True))
    )
    if args.save is not None:
        save_preview(preview, Path(args.save))
    if args.json:
        print_json(preview.model_dump(mode="json"))
    else:
        _show(preview, in_full=args.table is not None, sql=args.sql)
        if args.save is not None:
            words = f"Saved in {args.save}. `airflow strongroom archive --plan {args.save}` does it, unless something changes."
            print_out(escape(words))
    return 1 if _problems(preview.tables) else 0


def look(settings: Settings, names: Iterable[str], *, explain: bool) -> Iterator[TablePreview]:
    """What runs would do with these tables now."""
    now = datetime.now(timezone.utc)
    for name in names:
        table = settings.table(name)
        yield look_at_table(
            name,
            table,
            connect_store(table),
            partial(_connect, table, table.source_conn_id),
            partial(_connect, table, table.partition_delete.conn_id),
            now=now,
            members=settings.members_of(table),
            explain=explain,
        )


def _connect(table: TableSettings, conn_id: str) -> AbstractContextManager[Connection]:
    return connect_database(table, conn_id, application_name=f"strongroom plan {table.table}")


def _problems(tables: Sequence[TablePreview]) -> bool:
    return any(table.problem or any(one.problem for one in table.partitions) for table in tables)


def _show(preview: Preview, *, in_full: bool, sql: bool) -> None:
    for table in preview.tables:
        _show_table(table, in_full=in_full)
        if sql:
            for one in table.due:
                _show_statements(one)
                break  # the statements of the other partitions differ only in their dates
    if len(preview.tables) > 1:
        print_out(f"[bold]In all[/]: {_sum(one for table in preview.tables for one in table.due)}")
    print_out("Nothing was started or written.")


def _show_table(table: TablePreview, *, in_full: bool) -> None:
    head = f"[bold]{escape(table.table)}[/]"
    if table.problem is not None:
        print_out(f"{head}: [red]nothing can be planned.[/] {escape(table.problem)}")
        return
    print_out(f"{head}: {_sum(table.due) if table.due else 'nothing is due'}")
    if in_full and table.partitions:
        print_out(_partitions_table(table.partitions))
    elif table.due:
        print_out(f"  {escape(_ways(table.due))}")
    if not in_full and (units := [one.plan for one in table.due if one.plan is not None and one.plan.members]):
        for line in unit_graph(*units):
            print_out(f"  {escape(line)}")
    for line in _remarks(table, in_full=in_full):
        print_out(f"  {escape(line)}")
    if in_full and table.due:
        for line in table.locks:
            print_out(f"  [dim]lock[/] {escape(line)}")


def _sum(partitions: Iterable[PartitionPreview]) -> str:
    """How much some partitions are, in one line."""
    due = list(partitions)
    if not due:
        return "nothing is due"
    named = sorted(one.partition_key for one in due)
    keys = named[0] if len(due) == 1 else f"{named[0]} to {named[-1]}"
    partitions_ = f"{len(due)} {'partition' if len(due) == 1 else 'partitions'} ({keys})"
    members = [member for one in due if one.plan is not None for member in one.plan.members]
    parts = sum(len(plan.parts) for plan in (*members, *(one.plan for one in due if one.plan is not None)))
    rows = f"{sum(one.rows for one in due):,} rows"
    if members:
        rows += f" and {sum(one.due_rows for one in members):,} of their members"
    facts = [partitions_, rows, f"{parts} {'part' if parts == 1 else 'parts'}"]
    facts += [words for words in (_bytes(due), _time(due), _cost(due)) if words]
    return ", ".join(facts)


def _bytes(due: Sequence[PartitionPreview]) -> str:
    """How many; of a unit, those of its root, since nothing is measured of its members."""
    words = _measured(due)
    return f"{words} without members" if words and any(one.plan and one.plan.members for one in due) else words


def _measured(due: Sequence[PartitionPreview]) -> str:
    estimates = [one.estimate for one in due]
    if all(one.archived_bytes is not None for one in estimates):
        return f"about {decimal(sum(one.archived_bytes or 0 for one in estimates))} in the store"
    if all(one.original_bytes is not None for one in estimates):
        return f"{decimal(sum(one.original_bytes or 0 for one in estimates))} before compression (a guess)"
    return ""


def _time(due: Sequence[PartitionPreview]) -> str:
    seconds = [one.estimate.seconds for one in due]
    if any(one is None for one in seconds):
        return "time unknown before the first run"
    return f"about {_duration(sum(one or 0.0 for one in seconds))}"


def _cost(due: Sequence[PartitionPreview]) -> str:
    before = [one.estimate.usd_per_month_before for one in due]
    after = [one.estimate.usd_per_month_after for one in due]
    if any(one is None for one in (*before, *after)):
        return ""
    return f"{_usd(sum(one or 0.0 for one in before))} a month in the table, {_usd(sum(one or 0.0 for one in after))} in the store"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.01 else "under $0.01"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _ways(due: Sequence[PartitionPreview]) -> str:
    return "; ".join(f"delete {way}" for way in dict.fromkeys(one.delete for one in due))


def _partitions_table(partitions: Sequence[PartitionPreview]) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("rows", "parts", "about"))
    table = Table(Column("partition", no_wrap=True), "plan", *numbers, Column("delete", overflow="fold"), box=SIMPLE)
    for one in partitions:
        parts = "" if one.plan is None else str(len(one.plan.parts))
        colour = _COLOURS.get(one.outcome, "yellow")
        about = _measured([one]).removeprefix("about ").removesuffix(" in the store") if one.runs else ""
        table.add_row(
            one.partition_key, f"[{colour}]{one.outcome}[/]", f"{one.rows:,}", parts, about, escape(one.delete)
        )
    return table


def _remarks(table: TablePreview, *, in_full: bool) -> Iterator[str]:
    """What stays, what is refused, and what stops it."""
    for one in table.partitions:
        if one.problem is not None:
            yield f"{one.partition_key} would be refused: {one.problem}"
        yield from (f"{one.partition_key} is stopped by {what}" for what in one.stopped_by)
        if one.plan is None:
            continue
        if one.outcome == "resumed":
            yield f"{one.partition_key} is sealed as {one.plan.archive_id}; the run deletes what is left of its rows"
        for restore in one.plan.restores:
            yield f"{one.partition_key} is left alone, because its rows were restored: {restore}"
        if in_full and one.plan.members and one.plan.archive_id is not None:
            yield from unit_graph(one.plan)
        for exclusion in one.plan.exclusions:
            if exclusion.reason not in ("no_date", "no_parent"):
                yield f"{one.partition_key}: {exclusion.rows:,} rows stay: {exclusion.detail}"
        yield from (f"{one.partition_key}: {note}" for note in one.plan.notes)
        yield from (
            f"{one.partition_key}: {leaf.name} is not detached: {leaf.stays_because}"
            for leaf in one.partitions
            if leaf.stays_because
        )
    if table.undated_rows:
        yield f"{table.undated_rows:,} rows without a usable date stay: they belong to no partition"
    if table.suppressed:
        yield f"{table.suppressed:,} values of erased persons are on record: a part with a row of one is refused"
    yield from (f"{hold}: archives under it outlive their term" for hold in table.holds)


def _show_statements(one: PartitionPreview) -> None:
    for statement in one.statements:
        _show_statement(one.partition_key, statement)


def _show_statement(partition_key: str, statement: Statement) -> None:
    print_out(f"\n[bold]{escape(statement.what)}[/] [dim]({partition_key}, part 0)[/]")
    print_out(escape(f"{statement.sql};"))
    for line in statement.plan:
        print_out(f"  [dim]{escape(line)}[/]")
