"""`airflow strongroom bucket claim`, `check`, `apply` and `lock`: the owner and the configuration of the stores' buckets."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.database.session import read_identity
from strongroom.errors import ConfigurationError
from strongroom.ledger.copies import require_apart
from strongroom.ledger.index import read_manifests
from strongroom.ledger.object_lock import lock_archive, short_locks
from strongroom.ledger.owner import record_owner
from strongroom.settings import Settings, TableSettings
from strongroom.storage.bucket import BucketStore, Finding, apply_rules, check_bucket
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_bucket, connect_replica_bucket, connect_store, store_tables
from strongroom_airflow.database_connections import connect_database

_COLOURS = {"right": "green", "differs": "red", "unknown": "yellow"}


@command
def claim(args: Namespace) -> int:
    """Record the source database as the owner of a new store; create the bucket if the settings say so."""
    settings = read_settings()
    table = settings.table(args.table) if args.table else _only_store_table(settings)
    store = connect_store(table)
    store.prepare()
    if store.replica is not None:
        require_apart(store, store.replica)
        store.replica.prepare()
    with connect_database(table, table.source_conn_id, application_name="strongroom bucket claim") as connection:
        source = read_identity(connection)
    claimed = record_owner(store, source)
    if args.json:
        print_json({"store": str(store), "claimed": claimed, "source": source.model_dump()})
    else:
        done = "belongs from now on to" if claimed else "was not changed: it already belonged to"
        print_out(escape(f"{store} {done} database {source.database}."))
    return 0


def _only_store_table(settings: Settings) -> TableSettings:
    tables = store_tables(settings)
    if len(tables) > 1:
        raise ConfigurationError(
            "the command does not say which store to claim",
            expected="a table of archive.yaml",
            found=f"{len(tables)} stores, of {', '.join(table.table for table in tables)}",
            hint="Nothing was claimed. Name a table whose store is new: `airflow strongroom bucket claim TABLE`.",
        )
    return tables[0]


@command
def check(args: Namespace) -> int:
    """Compare each bucket with the settings; exit code 1 if anything differs."""
    findings = {
        str(store): check_bucket(store, tables) for store, tables in _buckets(args.conn_id, args.replica_conn_id)
    }
    if args.json:
        print_json({name: [each.model_dump() for each in found] for name, found in findings.items()})
    else:
        for name, found in findings.items():
            print_out(_findings_table(name, found))
    return 1 if any(each.result == "differs" for found in findings.values() for each in found) else 0


def _findings_table(bucket: str, findings: Sequence[Finding]) -> Table:
    columns = (Column(name, overflow="fold") for name in ("what", "expected", "found"))
    table = Table(*columns, Column("result", no_wrap=True), title=escape(bucket), title_justify="left", box=SIMPLE)
    for each in findings:
        colour = _COLOURS[each.result]
        table.add_row(*map(escape, (each.what, each.expected, each.found)), f"[{colour}]{each.result}[/]")
    return table


@command
def apply(args: Namespace) -> int:
    """Write the lifecycle rules of each bucket."""
    settings = read_settings()
    if settings.left_out:  # the rules of a bucket are replaced as a whole, so those of a table left out would be lost
        raise settings.tell_left_out(*settings.left_out)
    changed = {str(store): apply_rules(store, tables) for store, tables in _buckets(args.conn_id, args.replica_conn_id)}
    if args.json:
        print_json(changed)
    else:
        for name, rules in changed.items():
            done = f"wrote {', '.join(rules)}" if rules else "its rules were already right"
            print_out(escape(f"{name}: {done}."))
    return 0


@command
def lock(args: Namespace) -> int:
    """Lock each archive of the tables whose settings require it, with the store's own connection."""
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
        print_out("No table requires locks: store.object_lock is off.")
    for name, count in () if args.json else counts.items():
        done = "not locked until the end of their term" if args.dry_run else "locked until the end of their term"
        print_out(escape(f"{name}: {count} objects {done}."))
    return 1 if args.dry_run and any(counts.values()) else 0


def _buckets(conn_id: str | None, replica_conn_id: str | None) -> list[tuple[BucketStore, list[TableSettings]]]:
    """Each bucket and prefix in use, with the tables that use it; replicas come last."""
    users: defaultdict[tuple[str | None, str, str], list[TableSettings]] = defaultdict(list)
    for table in read_settings().tables.values():
        users[table.store.endpoint_url, table.store.bucket, table.store.prefix].append(table)
    stores = [(connect_bucket(tables[0], conn_id), tables) for tables in users.values()]
    replicas = [(connect_replica_bucket(tables[0], replica_conn_id), tables) for tables in users.values()]
    return stores + [(bucket, tables) for bucket, tables in replicas if bucket is not None]
