"""`airflow strongroom log key`, `show`, `adopt` and `rotate`: the transparency logs of the stores."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone
from typing import Any

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.table import Column, Table

from strongroom.ledger.adopt import Adoption, Missing, adopt, missing_from_log
from strongroom.ledger.entries import Entry, parse_entry
from strongroom.ledger.journal import change_key, log_of
from strongroom.ledger.log import Head, Log
from strongroom.ledger.witnesses import cosignatures
from strongroom.storage.store import Store
from strongroom.tlog.notes import COSIGNATURE, SIGNATURE, SignerKey
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_store, connect_stores, signing_key


@command
def key(args: Namespace) -> int:
    """Print a new key. Its private line is shown this once."""
    made = SignerKey.generate(args.name, COSIGNATURE if args.witness else SIGNATURE)
    if args.json:
        print_json({"private": made.secret, "public": str(made.verifier)})
        return 0
    where = ("the witness's own file", "store.witness_keys") if args.witness else ("", "store.log_keys")
    place = where[0] or "the password of the Airflow connection strongroom_log (type generic)"
    print_out(escape(f"The private key, for {place}. It is not shown again:\n  {made.secret}"))
    print_out(escape(f"The public key, for `{where[1]}` in archive.yaml, and for auditors:\n  {made.verifier}"))
    return 0


@command
def show(args: Namespace) -> int:
    """Show each log's head and latest entries."""
    told = []
    for store, log in _logs(args.table):
        head = log.head()
        size = head.checkpoint.size
        first = max(0, size - args.last)
        lines = log.entries(first, size)
        entries = [parse_entry(f"entry {first + index} of {store}", line) for index, line in enumerate(lines)]
        if args.json:
            told.append(_as_json(store, head, first, entries))
        else:
            print_out(escape(_head_in_words(store, log, head)))
            print_out(_table_of(first, entries))
    if args.json:
        print_json(told)
    elif not any(log_of(store) for store in _stores(args.table)):
        print_out("No store has a transparency log. `airflow strongroom log key NAME` begins.")
    return 0


@command
def adopt_missing(args: Namespace) -> int:
    """Enter what the logs do not have."""
    who, complete, told = args.who or getuser(), True, []
    for store in _stores(args.table):
        missing = missing_from_log(store)
        if args.dry_run or not missing:
            complete &= not missing
            told.append({"store": str(store), "missing": _missing_as_json(missing)})
            if not args.json:
                print_out(escape(_missing_in_words(store, missing)))
            continue
        adoption = adopt(store, missing, who=who, why=args.why, now=datetime.now(timezone.utc))
        complete &= not adoption.refused
        told.append({"store": str(store), "adopted": adoption.model_dump(mode="json")})
        if not args.json:
            print_out(escape(_adoption_in_words(store, adoption)))
    if args.json:
        print_json(told)
    return 0 if complete else 1


@command
def rotate(args: Namespace) -> int:
    """Let the connection's key replace an earlier one."""
    earlier = signing_key(args.from_conn_id)
    told = []
    for store in _stores(args.table):
        if log_of(store) is None:
            continue
        head = change_key(store, earlier)
        told.append({"store": str(store), "size": head.checkpoint.size})
        if not args.json:
            print_out(
                escape(
                    f"The log of {store} has a new key from entry {head.checkpoint.size - 1} on. Both keys signed its head, "
                    "which is kept in log/rotations. Give the new public key to auditors and witnesses, and leave the earlier one in "
                    "`store.log_keys`: it signed the proofs so far."
                )
            )
    if args.json:
        print_json(told)
    return 0


def _stores(table: str | None) -> list[Store]:
    settings = read_settings()
    return [connect_store(settings.table(table))] if table else connect_stores(settings)


def _logs(table: str | None) -> list[tuple[Store, Log]]:
    return [(store, log) for store in _stores(table) if (log := log_of(store)) is not None]


def _as_json(store: Store, head: Head, first: int, entries: list[Entry]) -> dict[str, Any]:
    return {
        "store": str(store),
        "origin": head.checkpoint.origin,
        "size": head.checkpoint.size,
        "root": head.checkpoint.root.hex(),
        "checkpoint": head.note.to_bytes().decode(),
        "witnessed": [
            {"witness": one.witness.name, "size": one.checkpoint.size, "at": one.at.isoformat()}
            for one in cosignatures(store)
        ],
        "entries": [{"index": first + at, **entry.model_dump(mode="json")} for at, entry in enumerate(entries)],
    }


def _head_in_words(store: Store, log: Log, head: Head) -> str:
    signers = ", ".join(key.name for key in head.note.require_signature(str(store), log.trusted))
    witnessed = [
        f"{one.witness.name} at {one.checkpoint.size} entries, {one.at:%Y-%m-%d %H:%M} UTC"
        for one in cosignatures(store)
    ]
    return (
        f"The log of {store} has {head.checkpoint.size} entries, root {head.checkpoint.root.hex()}.\n"
        f"Signed by {signers}; {f'witnessed by {chr(59).join(witnessed)}' if witnessed else 'not witnessed'}."
    )


def _table_of(first: int, entries: list[Entry]) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in ("entry", "when (UTC)", "what", "of", "by", "facts")))
    for at, entry in enumerate(entries):
        act = entry.act
        whose = act.archive_id or " ".join(filter(None, (act.table, act.partition_key)))
        by = entry.person or " ".join(filter(None, (entry.dag_id, entry.run_id)))
        facts = ", ".join(
            f"{name} {value}" for name, value in act.facts.items() if value and not name.endswith("sha256")
        )
        row = (str(first + at), f"{entry.at:%Y-%m-%d %H:%M:%S}", act.kind, whose, by, facts)
        table.add_row(*map(escape, row))
    return table


def _missing_as_json(missing: Missing) -> dict[str, list[str]]:
    return {
        "archives": [str(archive) for archive in missing.archives],
        "releases": [hold.hold_id for hold, _ in missing.releases],
        "records": list(missing.records),
    }


def _missing_in_words(store: Store, missing: Missing) -> str:
    if not missing:
        return f"The log of {store} has everything."
    lines = [f"The log of {store} does not have:"]
    lines += [f"  the archive {archive}" for archive in missing.archives]
    lines += [f"  the release of {hold}" for hold, _ in missing.releases]
    lines += [f"  the record {key}" for key in missing.records]
    return "\n".join(lines)


def _adoption_in_words(store: Store, adoption: Adoption) -> str:
    lines = [
        f"Entered in the log of {store}: {len(adoption.archives)} archives, {len(adoption.releases)} releases of holds, "
        f"{len(adoption.records)} records."
    ]
    lines += [f"Refused {one.archive_id}: {one.reason}" for one in adoption.refused]
    return "\n".join(lines)
