"""`airflow strongroom hold add`, `list` and `release`: legal holds, which stop every purge and sweep of what they cover.

A hold on everything (`--all`) stops all deletion, in the source database too.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.table import Column, Table

from strongroom.ledger.holds import EVERYTHING, Hold, HoldError, place_hold, read_holds
from strongroom.ledger.manifests import archive_ids
from strongroom.retention.certificate import begun_purges
from strongroom.storage.store import Store
from strongroom_airflow.commands.terminal import command, print_error, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.holds.stores import find_what_to_hold, left_out_of_hold, release_everywhere


@command
def add(args: Namespace) -> int:
    """Place a hold in each store that holds, or would hold, what it covers."""
    what, stores = _find(args)
    now, who = datetime.now(timezone.utc), args.who or getuser()
    holds = [place_hold(store, what, why=args.why, who=who, reference=args.reference, now=now) for store in stores]
    begun = [archive for store, hold in zip(stores, holds, strict=True) for archive in begun_purges(store, hold)]
    if args.json:
        placed = [hold.model_dump(mode="json") for hold in holds]
        print_json({"placed": placed, "purges_that_had_begun": [str(archive) for archive in begun]})
        return _warn_of_left_out(what)
    for store, hold in zip(stores, holds, strict=True):
        number = sum(hold.covers(archive) for archive in archive_ids(store))
        archives = "1 archive" if number == 1 else f"{number} archives"
        print_out(escape(f"Placed {hold} in {store}. It is in force and covers {archives}."))
    if what == EVERYTHING:
        print_out("Runs that delete rows stop within seconds. Everything they have deleted is proved.")
    for archive in begun:
        print_out(
            escape(
                f"A purge of {archive} is under way and stops at the next object. "
                f"`airflow strongroom verify {archive}` shows what is left."
            )
        )
    return _warn_of_left_out(what)


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
    released = release_everywhere(
        read_settings(), None if args.all else args.hold_id, who=who, reason=args.reason, now=now
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


def _warn_of_left_out(what: str) -> int:
    """Warn that a hold on everything may be missing in stores that only tables with wrong settings use.

    Returns:
        The exit code: 1 if there are such tables.
    """
    fault = left_out_of_hold(read_settings()) if what == EVERYTHING else None
    if fault is not None:
        print_error(fault)
    return 0 if fault is None else 1


def _find(args: Namespace) -> tuple[str, list[Store]]:
    """What a hold covers, and the stores that it belongs in."""
    if args.all and (args.what is not None or args.partition is not None):
        raise HoldError(
            "a hold covers either everything or what is named",
            expected="either --all, or a table or an archive",
            found=f"--all and {args.what or args.partition}",
            hint="No hold was placed. Leave one of the two out.",
        )
    if args.what is None and not args.all:
        raise HoldError(
            "the command does not say what to hold",
            expected="a table in archive.yaml, an archive id, the beginning of one, or --all",
            hint="No hold was placed. `airflow strongroom list` prints the ids of the archives.",
        )
    return find_what_to_hold(read_settings(), EVERYTHING if args.all else args.what, args.partition)


def _state(hold: Hold) -> str:
    if hold.released_at is None:
        return f"in force since {hold.placed_at:%Y-%m-%d %H:%M} UTC"
    return f"released at {hold.released_at:%Y-%m-%d %H:%M} UTC by {hold.released_by}: {hold.release_reason}"
