"""`airflow strongroom list`, `show` and `verify`: what lies in the archive stores of the configured tables."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from strongroom.audit import ArchiveVerdict, read_deletions, verify_archive
from strongroom.catalog import read_catalog
from strongroom.errors import IntegrityError
from strongroom.manifest import Manifest, read_manifest
from strongroom.object_keys import ArchiveId
from strongroom.settings import TableSettings, load_settings
from strongroom.store import Store
from strongroom_airflow.commands.terminal import command, print_json, print_out
from strongroom_airflow.connections import connect_store

_COLOURS = {"sound": "green", "corrupted": "red", "missing": "red"}


@command
def list_archives(args: Namespace) -> int:
    """List sealed archives, of one table or of all configured ones."""
    tables = load_settings().tables.values() if args.table is None else [load_settings().table(args.table)]
    manifests = [manifest for table in tables for manifest in _archives_of(table)]
    if args.json:
        print_json([_summary(manifest) for manifest in manifests])
        return 0
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("rows", "bytes", "ratio"))
    table = Table(Column("archive", overflow="fold"), *numbers, Column("kept until", no_wrap=True), box=SIMPLE)
    for manifest in manifests:
        table.add_row(
            manifest.archive_id,
            f"{manifest.record_count:,}",
            decimal(manifest.compressed_size),
            f"{_ratio(manifest):.1f}x",
            f"{manifest.retention_until:%Y-%m-%d}",
        )
    print_out(table if manifests else "There is no archive yet.")
    return 0


@command
def show_archive(args: Namespace) -> int:
    """Show one archive: its manifest, its parts, what became of its rows in the table."""
    store, archive = find_archive(args.archive_id)
    manifest = read_manifest(store, archive)
    assert manifest is not None  # noqa: S101 - find_archive() has just read it
    deletions = read_deletions(store, manifest)
    if args.json:
        deleted = [evidence.model_dump(mode="json") if evidence else None for evidence in deletions]
        print_json({"manifest": manifest.model_dump(mode="json"), "deletions": deleted})
        return 0
    facts = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for name, value in (
        ("archive", manifest.archive_id),
        ("table", manifest.table_name),
        ("window", f"{manifest.window_start:%Y-%m-%d %H:%M} to {manifest.window_end:%Y-%m-%d %H:%M} UTC"),
        ("rows", f"{manifest.record_count:,}"),
        ("size", f"{manifest.original_size:,} bytes, {manifest.compressed_size:,} archived ({_ratio(manifest):.1f}x)"),
        ("compression", f"{manifest.compression_type} level {manifest.compression_level}"),
        ("checksum", manifest.checksum),
        ("sealed", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by {manifest.dag_id} {manifest.run_id}"),
        ("kept until", f"{manifest.retention_until:%Y-%m-%d}: {manifest.legal_basis}"),
        ("source", f"{manifest.source.database}, system {manifest.source.system_identifier}"),
        ("manifest", f"{store}{archive.manifest_key}"),
    ):
        facts.add_row(f"[bold]{name}[/]", escape(value))
    parts = Table(
        "part",
        "rows",
        "from",
        Column("sha256", overflow="fold"),
        Column("version", overflow="fold"),
        "deleted",
        "stayed",
    )
    for part, evidence in zip(manifest.parts, deletions, strict=True):
        parts.add_row(
            str(part.number),
            f"{part.record_count:,}",
            f"{part.start_at:%Y-%m-%d %H:%M}",
            part.sha256,
            part.version_id or "",
            f"{evidence.deleted + evidence.gone:,}" if evidence else "not yet",
            f"{evidence.changed + evidence.referenced:,}" if evidence else "",
        )
    print_out(facts, parts)
    return 0


@command
def verify(args: Namespace) -> int:
    """Download one archive and compare each object with the manifest; exit code 1 if one is not sound."""
    store, archive = find_archive(args.archive_id)
    verdict = verify_archive(store, archive)
    if args.json:
        print_json(verdict.model_dump(mode="json") | {"sound": verdict.sound})
    else:
        print_out(_verdict_table(verdict), _conclusion(verdict))
    return 0 if verdict.sound else 1


def _verdict_table(verdict: ArchiveVerdict) -> Table:
    table = Table("object", "rows", "result", "what is wrong")
    for one in verdict.objects:
        name = one.object_key.rpartition("/")[2]
        table.add_row(name, f"{one.rows:,}", f"[{_COLOURS[one.result]}]{one.result}[/]", escape(one.detail))
    return table


def _conclusion(verdict: ArchiveVerdict) -> str:
    if verdict.sound:
        return f"{verdict.archive_id} is sound: {verdict.record_count:,} rows were read back and match the manifest."
    bad = sum(one.result != "sound" for one in verdict.objects)
    return (
        f"{verdict.archive_id} is NOT sound: {bad} of {len(verdict.objects)} objects.\n"
        "HINT: Delete nothing. Earlier versions of a damaged object may still be in the bucket: "
        "`aws s3api list-object-versions` shows them."
    )


def _archives_of(table: TableSettings) -> Iterator[Manifest]:
    return read_catalog(connect_store(table), table.schema_name, table.table_name)


def find_archive(text: str) -> tuple[Store, ArchiveId]:
    """The store in which an archive lies: its table's own first, then the others."""
    archive = ArchiveId.parse(text)
    tables = sorted(
        load_settings().tables.values(),
        key=lambda table: (table.schema_name, table.table_name) != (archive.schema_name, archive.table_name),
    )
    looked: list[str] = []
    for table in tables:
        store = connect_store(table)
        if str(store) in looked:
            continue
        looked.append(str(store))
        if read_manifest(store, archive) is not None:
            return store, archive
    raise IntegrityError(
        f"there is no archive {archive}",
        found=f"none in {', '.join(looked)}",
        hint="Nothing was changed. `airflow strongroom list` prints the archives that exist.",
    )


def _summary(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json", exclude={"table", "parts"}) | {
        "parts": len(manifest.parts),
        "ratio": round(_ratio(manifest), 2),
    }


def _ratio(manifest: Manifest) -> float:
    return manifest.original_size / max(1, manifest.compressed_size)
