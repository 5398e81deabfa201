"""`airflow strongroom catalog`, also called `list`: all sealed archives, or some of them, with their total."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from rich.box import SIMPLE
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from strongroom.calendar import Term
from strongroom.ledger.index import DamagedManifest, Survey, each_once, survey_manifests, write_index
from strongroom.ledger.manifest_record import Manifest
from strongroom.overview.reading import keep_facts, read_facts
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_store, connect_stores


@command
def catalog(args: Namespace) -> int:
    """List what matches; exit code 1 if a manifest is damaged, because then the list may be incomplete."""
    older, younger = (Term.parse(text) if text else None for text in (args.older_than, args.younger_than))
    now = datetime.now(timezone.utc)
    surveys = _survey(args)
    manifests = [
        manifest
        for survey in surveys
        for manifest in survey.manifests
        if _is_named(manifest, args)
        and (older is None or older.after(manifest.window_end) <= now)
        and (younger is None or younger.after(manifest.window_end) > now)
    ]
    damaged = [one for survey in surveys for one in survey.damaged]
    every = [one for survey in surveys for one in (*survey.manifests, *survey.superseded)]
    left_out = {one.archive_id for survey in surveys for one in survey.superseded if _is_named(one, args)}
    superseding = [one for one in every if one.supersedes is not None and one.supersedes.archive_id in left_out]
    strays = list(dict.fromkeys(key for survey in surveys for key in survey.strays))
    if args.json:
        print_json([summary(manifest) for manifest in manifests] + [one.model_dump() for one in damaged])
    else:
        _show(manifests, damaged, strays)
        for one in superseding:
            print_out(f"{_superseded(one)}.")
    return 1 if damaged else 0


def _is_named(manifest: Manifest, args: Namespace) -> bool:
    prefix, partition = args.prefix or "", args.partition or ""
    return manifest.archive_id.startswith(prefix) and manifest.partition_key.startswith(partition)


def _superseded(successor: Manifest) -> str:
    """What is said of an archive that is left out of the list."""
    told = successor.supersedes
    assert told is not None  # noqa: S101 - the caller asked
    return (
        f"{told.archive_id} is superseded by {successor.archive_id} and not counted; it is removed when the cooling-off of case "
        f"{told.case_id} is over"
    )


def _survey(args: Namespace) -> list[Survey]:
    settings = read_settings()
    if args.rebuild_index:
        for store in connect_stores(settings):
            write_index(store, survey_manifests(store, indexed=False))
            keep_facts(store, read_facts(store, now=datetime.now(timezone.utc)))
    if args.table is None:
        return each_once(survey_manifests(store) for store in connect_stores(settings))
    table = settings.table(args.table)
    return [survey_manifests(connect_store(table), table.schema_name, table.table_name)]


def _show(manifests: Sequence[Manifest], damaged: Sequence[DamagedManifest], strays: Sequence[str]) -> None:
    if manifests:
        numbers = (Column(name, justify="right", no_wrap=True) for name in ("rows", "bytes", "ratio"))
        table = Table(Column("archive", overflow="fold"), *numbers, Column("kept until", no_wrap=True), box=SIMPLE)
        for manifest in manifests:
            table.add_row(
                manifest.archive_id,
                f"{manifest.record_count:,}",
                decimal(manifest.compressed_size),
                f"{ratio(manifest):.1f}x",
                f"{manifest.retention_until:%Y-%m-%d}",
            )
        print_out(table, _total(manifests))
    else:
        print_out("There is no such archive yet.")
    for one in damaged:
        print_out(f"[red]{one.archive_id} has a damaged manifest:[/] {escape(one.problem)}")
    for key in strays:
        print_out(f"[yellow]{escape(key)} is not a manifest and was ignored:[/] somebody else wrote it.")


def _total(manifests: Sequence[Manifest]) -> str:
    rows, size_bytes = (sum(getattr(one, name) for one in manifests) for name in ("record_count", "compressed_size"))
    count = len(manifests)
    return f"{count:,} {'archive' if count == 1 else 'archives'}, {rows:,} rows, {decimal(size_bytes)}"


def summary(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON shows it: without its columns, with the number of its parts."""
    return manifest.model_dump(mode="json", exclude={"table", "parts"}) | {
        "parts": len(manifest.parts),
        "ratio": round(ratio(manifest), 2),
    }


def ratio(manifest: Manifest) -> float:
    """Original over compressed size."""
    return manifest.original_size / max(1, manifest.compressed_size)
