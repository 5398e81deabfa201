"""`airflow strongroom bucket claim`, `check`, `apply` and `lock`: whose they are, and how the buckets of the archive stores are set up."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from datetime import datetime, timezone

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.database.session import read_identity
from strongroom.errors import ConfigurationError
from strongroom.ledger.index import read_manifests
from strongroom.ledger.object_lock import lock_archive, short_locks
from strongroom.ledger.owner import record_owner
from strongroom.settings import Settings, TableSettings
from strongroom.storage.bucket import BucketStore, apply_rules, check_bucket
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_bucket, connect_source, connect_store, store_users

_COLOURS = {"right": "green", "differs": "red", "unknown": "yellow"}


@command
def claim(args: Namespace) -> int:
    """Enter the source database as the owner of a new store; make the bucket where the settings say so."""
    settings = read_settings()
    table = settings.table(args.table) if args.table else _only_user(settings)
    store = connect_store(table)
    store.prepare()
    with connect_source(table, application_name="strongroom bucket claim") as connection:
        source = read_identity(connection)
    claimed = record_owner(store, source)
    if args.json:
        print_json({"store": str(store), "claimed": claimed, "source": source.model_dump()})
    else:
        done = "belongs from now on to" if claimed else "belonged before, and nothing was changed, to"
        print_out(escape(f"{store} {done} database {source.database}."))
    return 0


def _only_user(settings: Settings) -> TableSettings:
    users = store_users(settings)
    if len(users) > 1:
        raise ConfigurationError(
            "it is not said which store is to be claimed",
            expected="a table of archive.yaml",
            found=f"{len(users)} stores, of {', '.join(table.table for table in users)}",
            hint="Nothing was claimed. Name a table whose store is new: `airflow strongroom bucket claim TABLE`.",
        )
    return users[0]


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
    settings = read_settings()
    if settings.left_out:  # rules are written as a whole, and those of its archives would be gone
        raise settings.tell_left_out(*settings.left_out)
    changed = {str(store): apply_rules(store, tables) for store, tables in _buckets(args.conn_id)}
    if args.json:
        print_json(changed)
    else:
        for name, rules in changed.items():
            done = f"wrote {', '.join(rules)}" if rules else "its rules are as they should be"
            print_out(escape(f"{name}: {done}."))
    return 0


@command
def lock(args: Namespace) -> int:
    """Lock each archive of the tables whose settings ask for it, with the store's own connection."""
    now = datetime.now(timezone.utc)
    counts: dict[str, int] = {}
    for table in read_settings().tables.values():
        mode = table.store.object_lock
        if mode == "off":
            continue
        store = connect_store(table)
        archives = read_manifests(store, table.schema_name, table.table_name)
        counts[table.qualified_name] = (
            sum(1 for _ in short_locks(store, archives, now=now))
            if args.dry_run
            else sum(lock_archive(store, archive, mode=mode, now=now) for archive in archives)
        )
    if args.json:
        print_json(counts)
    elif not counts:
        print_out("No table asks for locks: store.object_lock is off.")
    for name, count in () if args.json else counts.items():
        done = "not locked until the end of their term" if args.dry_run else "locked until the end of their term"
        print_out(escape(f"{name}: {count} objects {done}."))
    return 1 if args.dry_run and any(counts.values()) else 0


def _buckets(conn_id: str | None) -> list[tuple[BucketStore, list[TableSettings]]]:
    """Each bucket and prefix that a configured table uses, with those tables."""
    users: defaultdict[tuple[str | None, str, str], list[TableSettings]] = defaultdict(list)
    for table in read_settings().tables.values():
        users[table.store.endpoint_url, table.store.bucket, table.store.prefix].append(table)
    return [(connect_bucket(tables[0], conn_id), tables) for tables in users.values()]
