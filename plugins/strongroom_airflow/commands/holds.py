"""`airflow strongroom hold add`, `list` and `release`: legal holds, which stop every purge and sweep of what they cover.

A hold on everything (`--all`) stops all deletion, in the source database too.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.table import Column, Table

from strongroom.calendar import Partition
from strongroom.errors import ConfigurationError
from strongroom.ledger.holds import (
    EVERYTHING,
    Hold,
    HoldError,
    covered,
    holds_in_force,
    on_everything,
    parse_coverage,
    place_hold,
    read_holds,
    release_hold,
)
from strongroom.ledger.manifests import archive_ids
from strongroom.object_keys import manifest_prefix
from strongroom.retention.certificate import begun_purges
from strongroom.storage.store import Store
from strongroom_airflow.commands.terminal import command, print_error, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_store, connect_stores


@command
def add(args: Namespace) -> int:
    """Place a hold in each store that holds, or would hold, what it covers."""
    what, stores = _find_all(args) if args.all else _find(args)
    now, who = datetime.now(timezone.utc), args.who or getuser()
    holds = [place_hold(store, what, why=args.why, who=who, reference=args.reference, now=now) for store in stores]
    begun = [archive for store, hold in zip(stores, holds, strict=True) for archive in begun_purges(store, hold)]
    if args.json:
        placed = [hold.model_dump(mode="json") for hold in holds]
        print_json({"placed": placed, "purges_that_had_begun": [str(archive) for archive in begun]})
        return _warn_of_left_out(args)
    for store, hold in zip(stores, holds, strict=True):
        number = sum(hold.covers(archive) for archive in archive_ids(store))
        print_out(escape(f"Placed {hold} in {store}. It is in force and covers {number} archives."))
    if args.all:
        print_out("Runs that delete rows stop within seconds. Everything they have deleted is proved.")
    for archive in begun:
        print_out(
            escape(
                f"A purge of {archive} is under way and stops at the next object. "
                f"`airflow strongroom verify {archive}` shows what is left."
            )
        )
    return _warn_of_left_out(args)


@command
def list_holds(args: Namespace) -> int:
    """List the holds in force in all stores; with `--all` also those that were released."""
    holds = [hold for store in connect_stores(read_settings()) for hold in read_holds(store)]
    shown = [hold for hold in holds if args.all or hold.released_at is None]
    if args.json:
        print_json([hold.model_dump(mode="json") for hold in shown])
        return 0
    names = ("hold", "covers", "why", "who", "reference", "state")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for hold in shown:
        facts = (hold.hold_id, hold.subject, hold.why, hold.who, hold.reference, _state(hold))
        table.add_row(*map(escape, facts))
    print_out(table if shown else "No hold is in force.")
    return 0


@command
def release(args: Namespace) -> int:
    """Release a hold. It stays in the store as evidence, marked as released."""
    now, who = datetime.now(timezone.utc), args.who or getuser()
    if args.all == (args.hold_id is not None):
        raise HoldError(
            "the command does not say which hold to release",
            expected="either the id of a hold, or --all for every hold on everything",
            hint="Nothing was released. `airflow strongroom hold list` prints the holds and their ids.",
        )
    released = [
        release_hold(store, hold.hold_id, who=who, reason=args.reason, now=now)
        for store in connect_stores(read_settings())
        for hold in (on_everything(holds_in_force(store)) if args.all else read_holds(store))
        if args.all or hold.hold_id == args.hold_id
    ]
    if not released:
        raise HoldError(
            "no hold on everything is in force" if args.all else f"there is no hold {args.hold_id}",
            hint="Nothing was released. `airflow strongroom hold list` prints the holds and their ids.",
        )
    if args.json:
        shown = [hold.model_dump(mode="json") for hold in released]
        print_json(shown if args.all else shown[0])
        return 0
    for hold in released:
        print_out(escape(f"{hold.subject}: {_state(hold)}. The next purge destroys archives whose term is over."))
    if any(hold.what == EVERYTHING for hold in released):
        print_out("Clear the tasks that the hold stopped.")
    return 0


def _warn_of_left_out(args: Namespace) -> int:
    """Warn that a hold on everything may be missing in stores that only tables with wrong settings use.

    Returns:
        The exit code: 1 if there are such tables.
    """
    left_out = read_settings().left_out if args.all else {}
    if left_out:
        print_error(
            HoldError(
                f"the hold was not placed in the store of {', '.join(left_out)}, which may have a store of its own",
                hint="The hold is in force in the stores above, and no archive of a table that is left out is purged. Correct "
                "the settings, then place the hold again.",
            )
        )
    return 1 if left_out else 0


def _find_all(args: Namespace) -> tuple[str, list[Store]]:
    """What a hold on everything covers, and all stores."""
    if args.what is not None or args.partition is not None:
        raise HoldError(
            "a hold covers either everything or what is named",
            expected="either --all, or a table or an archive",
            found=f"--all and {args.what or args.partition}",
            hint="No hold was placed. Leave one of the two out.",
        )
    return EVERYTHING, connect_stores(read_settings())


def _find(args: Namespace) -> tuple[str, list[Store]]:
    """What a hold covers, and the stores that it belongs in."""
    name, partition_key = args.what, args.partition
    if name is None:
        raise HoldError(
            "the command does not say what to hold",
            expected="a table in archive.yaml, an archive id, the beginning of one, or --all",
            hint="No hold was placed. `airflow strongroom list` prints the ids of the archives.",
        )
    settings = read_settings()
    try:
        table = settings.table(name)
    except ConfigurationError:
        schema_name, table_name, what = parse_coverage(name)
        if partition_key is not None:
            raise HoldError(
                f"{name} is no table in archive.yaml, so --partition cannot be used with it",
                expected="an archive id or the beginning of one, such as public.audit_events.2026-07",
                hint="No hold was placed. Write the partition after the table.",
            ) from None
        configured = [
            one for one in settings.tables.values() if (one.schema_name, one.table_name) == (schema_name, table_name)
        ]
        if configured:
            return what, [connect_store(configured[0])]
        stores = connect_stores(settings)
        found = [store for store in stores if any(store.keys(manifest_prefix(schema_name, table_name)))]
        if not found:
            raise HoldError(
                f"{name} is unknown: it is no table in archive.yaml, and no store holds an archive of it",
                hint="No hold was placed. `airflow strongroom list` prints the archives that exist.",
            ) from None
        return what, found
    if partition_key is not None:
        Partition.parse(table.frequency, partition_key)
    return covered(table.schema_name, table.table_name, partition_key), [connect_store(table)]


def _state(hold: Hold) -> str:
    if hold.released_at is None:
        return f"in force since {hold.placed_at:%Y-%m-%d %H:%M} UTC"
    return f"released at {hold.released_at:%Y-%m-%d %H:%M} UTC by {hold.released_by}: {hold.release_reason}"
