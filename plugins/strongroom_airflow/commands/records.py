"""`airflow strongroom restores`, `certificates` and `verifications`: the records about archives."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TypeVar

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from strongroom.object_keys.archives import ArchiveId
from strongroom.records import name_both
from strongroom.restore.history import read_restores
from strongroom.retention.certificate import Certificate, read_certificates
from strongroom.statistics.proofs import latest_readings
from strongroom.storage.store import Store
from strongroom_airflow.commands.terminal import command, print_facts, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_store, connect_stores

Found = TypeVar("Found")


@command
def restores(args: Namespace) -> int:
    """List restores: who asked, why, and until when the rows are not archived again."""
    found = _read(args, read_restores)
    found.sort(key=lambda one: one.at, reverse=True)
    if args.json:
        print_json([_as_json(asdict(one)) for one in found])
        return 0
    now = datetime.now(timezone.utc)
    table = _table("restored", "table", "partitions", "outcome", "who", "why", "not archived again")
    for one in found:
        over = " (over)" if one.until <= now else ""
        who = name_both(one.who, one.triggered_by)
        _add(
            table,
            _minute(one.at),
            one.table,
            ", ".join(one.partition_keys),
            one.outcome,
            who,
            one.why,
            f"until {_minute(one.until)}{over}",
        )
    print_out(table if found else "Nothing was ever restored.")
    return 0


@command
def certificates(args: Namespace) -> int:
    """List the archives that were destroyed."""
    found = _read(args, read_certificates)
    found.sort(key=lambda one: one.destroyed_at, reverse=True)
    if args.json:
        print_json([one.model_dump(mode="json") for one in found])
        return 0
    table = _table("archive", "rows", "kept until", "destroyed", "approved", "by")
    for one in found:
        destroyed_by = name_both(str(one.destroyed_by), one.destroyed_by.triggered_by)
        _add(
            table,
            one.archive_id,
            f"{one.record_count:,}",
            f"{one.retention_until:%Y-%m-%d}",
            _minute(one.destroyed_at),
            one.approved_by,
            destroyed_by,
        )
    print_out(table if found else "No archive was ever destroyed.")
    return 0


@command
def verifications(args: Namespace) -> int:
    """List verifications: when, of which archive, the result, by whom."""
    found = _read(args, lambda store, *table: latest_readings(store, *table, most=args.last))
    found.sort(key=lambda one: one.at, reverse=True)
    found = found[: args.last]
    if args.json:
        print_json([_as_json(asdict(one) | {"archive": str(one.archive)}) for one in found])
        return 0
    table = _table("read", "archive", "result", "by")
    for one in found:
        _add(table, _minute(one.at), str(one.archive), one.result, one.who or "")
    print_out(table if found else "No archive was ever verified.")
    return 0


def _of_version_2(one: Certificate) -> Iterator[tuple[str, str]]:
    """What certificates of version 1 do not say."""
    if one.certificate_version == 1:
        return
    yield "requested", str(one.requested_by)
    yield "method", str(one.method)
    yield "limits", str(one.limits)
    yield "holds", f"{len(one.holds_examined or ())} in force in the store, none on the archive"
    copies = [f"{each.table} ({each.restore_id}, {each.restored_at:%Y-%m-%d})" for each in one.copies_left or ()]
    yield "restored to", "; ".join(copies) or "nowhere on record"
    yield "tool", str(one.tool)
    if one.checkpoint is not None:
        yield "log", " ".join(one.checkpoint.split("\n")[:3])


def show_certificate(store: Store, certificate: Certificate, *, put_back: bool, as_json: bool) -> None:
    """Print a certificate of destruction in full."""
    if as_json:
        print_json({"certificate": certificate.model_dump(mode="json"), "put_back": put_back})
        return
    one, removed = certificate, certificate.removed
    print_facts(
        ("archive", f"{one.archive_id}: destroyed"),
        ("certificate", one.number or "version 1, without a number"),
        ("issued by", ", ".join(filter(None, (one.organisation, one.environment))) or "not in the settings"),
        ("table", one.table_name),
        ("window", f"{_minute(one.window_start)} to {_minute(one.window_end)} UTC"),
        ("rows", f"{one.record_count:,}"),
        ("size", f"{one.original_size:,} bytes, {one.compressed_size:,} archived"),
        ("checksum", one.checksum),
        ("manifest", f"SHA-256 {one.manifest_sha256}"),
        ("sealed", f"{_minute(one.sealed_at)} UTC"),
        ("kept until", f"{one.retention_until:%Y-%m-%d}: {one.legal_basis}"),
        ("approved", f"{_minute(one.approved_at)} UTC, {one.approved_by}"),
        *([("policy", one.approval_policy)] if one.approval_policy else []),
        ("begun", f"{_minute(one.begun_at)} UTC by {name_both(str(one.begun_by), one.begun_by.triggered_by)}"),
        (
            "destroyed",
            f"{_minute(one.destroyed_at)} UTC by {name_both(str(one.destroyed_by), one.destroyed_by.triggered_by)}",
        ),
        ("removed", f"{len(removed):,} versions, {sum(each.size_bytes for each in removed):,} bytes"),
        ("proved", f"{_minute(one.proof.proved_at)} UTC: nothing is left under {', '.join(one.proof.listed)}"),
        *_of_version_2(one),
        ("object", f"{store}{ArchiveId.parse(one.archive_id).destruction_key}"),
    )
    if put_back:
        print_out(
            "[red]Somebody has put its manifest back since.[/] The objects there now were never proved. Do not use them."
        )


def _read(args: Namespace, read: Callable[..., Iterable[Found]]) -> list[Found]:
    """The records of all stores, or those of one table; each store once, because two connections may lead to one bucket."""
    settings = read_settings()
    if args.table is None:
        stores = {str(store): store for store in connect_stores(settings)}
        return [one for store in stores.values() for one in read(store)]
    table = settings.table(args.table)
    return list(read(connect_store(table), table.schema_name, table.table_name))


def _table(*names: str) -> Table:
    return Table(*(Column(name, overflow="fold") for name in names), box=SIMPLE)


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(escape, cells))


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"


def _as_json(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}
