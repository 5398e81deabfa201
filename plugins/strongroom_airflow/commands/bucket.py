"""`airflow strongroom bucket check` and `apply`: how the buckets of the archive stores are set up."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.bucket import BucketStore, apply_rules, check_bucket
from strongroom.settings import TableSettings, load_settings
from strongroom_airflow.commands.terminal import command, print_json, print_out
from strongroom_airflow.connections import connect_bucket

_COLOURS = {"right": "green", "differs": "red", "unknown": "yellow"}


@command
def check(args: Namespace) -> int:
    """Compare each bucket with what its archives need; exit code 1 if anything differs."""
    findings = {str(store): check_bucket(store, tables) for store, tables in _buckets(args.conn_id)}
    if args.json:
        print_json({name: [each.model_dump() for each in found] for name, found in findings.items()})
    else:
        for name, found in findings.items():
            table = Table(
                Column("what", overflow="fold"),
                Column("expected", overflow="fold"),
                Column("found", overflow="fold"),
                Column("result", no_wrap=True),
                title=escape(name),
                title_justify="left",
                box=SIMPLE,
            )
            for each in found:
                colour = _COLOURS[each.result]
                table.add_row(*map(escape, (each.what, each.expected, each.found)), f"[{colour}]{each.result}[/]")
            print_out(table)
    return 1 if any(each.result == "differs" for found in findings.values() for each in found) else 0


@command
def apply(args: Namespace) -> int:
    """Write the lifecycle rules of each bucket."""
    changed = {str(store): apply_rules(store, tables) for store, tables in _buckets(args.conn_id)}
    if args.json:
        print_json(changed)
    else:
        for name, rules in changed.items():
            done = f"wrote {', '.join(rules)}" if rules else "its rules are as they should be"
            print_out(escape(f"{name}: {done}."))
    return 0


def _buckets(conn_id: str | None) -> list[tuple[BucketStore, list[TableSettings]]]:
    """Each bucket and prefix that a configured table uses, with those tables."""
    users: defaultdict[tuple[str | None, str, str], list[TableSettings]] = defaultdict(list)
    for table in load_settings().tables.values():
        users[table.store.endpoint_url, table.store.bucket, table.store.prefix].append(table)
    return [(connect_bucket(tables[0], conn_id), tables) for tables in users.values()]
