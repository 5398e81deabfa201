"""`airflow strongroom show` and `verify`: one archive in detail, and whether archives are still sound."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.index import each_once, survey_manifests
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.reread import ArchiveVerdict, read_deletions
from strongroom.records import name_both
from strongroom.retention.certificate import read_certificate
from strongroom.statistics.proofs import (
    SampleError,
    parse_sample,
    verify_and_record,
    verify_archives,
)
from strongroom.statistics.rereading import UNSOUND, find_sample
from strongroom_airflow.commands.catalog import ratio
from strongroom_airflow.commands.records import show_certificate
from strongroom_airflow.commands.terminal import (
    command,
    error_console,
    print_facts,
    print_json,
    print_out,
    progress_bar,
    read_settings,
)
from strongroom_airflow.connections import connect_stores, find_archive

_HINT = f"HINT: {UNSOUND}"
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_COLOURS = {"sound": "green", "hidden": "yellow", "corrupted": "red", "missing": "red"}


@command
def show_archive(args: Namespace) -> int:
    """Show one archive: its manifest, its parts, what happened to its rows; for a destroyed archive, its certificate."""
    _, store, archive = find_archive(read_settings(), args.archive_id)
    if (certificate := read_certificate(store, archive)) is not None:
        put_back = store.head(archive.manifest_key) is not None
        show_certificate(store, certificate, put_back=put_back, as_json=args.json)
        return 1 if put_back else 0
    manifest = require_manifest(store, archive)
    deletions = read_deletions(store, manifest)
    if args.json:
        deleted = [evidence.model_dump(mode="json") if evidence else None for evidence in deletions]
        print_json({"manifest": manifest.model_dump(mode="json"), "deletions": deleted})
        return 0
    print_facts(*_facts(manifest, f"{store}{archive.manifest_key}"))
    print_out(_parts_table(manifest, deletions))
    return 0


def _facts(manifest: Manifest, where: str) -> list[tuple[str, str]]:
    run = f"{manifest.dag_id} {manifest.run_id}"
    return [
        ("archive", manifest.archive_id),
        ("table", manifest.table_name),
        ("window", f"{manifest.window_start:%Y-%m-%d %H:%M} to {manifest.window_end:%Y-%m-%d %H:%M} UTC"),
        ("rows", f"{manifest.record_count:,}"),
        ("size", f"{manifest.original_size:,} bytes, {manifest.compressed_size:,} archived ({ratio(manifest):.1f}x)"),
        ("format", manifest.format),
        ("compression", f"{manifest.compression_type} level {manifest.compression_level}"),
        ("checksum", manifest.checksum),
        ("sealed", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by {name_both(run, manifest.triggered_by)}"),
        ("kept until", f"{manifest.retention_until:%Y-%m-%d}: {manifest.legal_basis}"),
        ("source", f"{manifest.source.database}, system {manifest.source.system_identifier}"),
        ("manifest", where),
    ]


def _parts_table(manifest: Manifest, deletions: Sequence[DeleteEvidence | None]) -> Table:
    long = (Column(name, overflow="fold") for name in ("sha256", "version"))
    table = Table("part", "rows", "from", *long, "deleted", "stayed")
    for part, evidence in zip(manifest.parts, deletions, strict=True):
        table.add_row(
            str(part.number),
            f"{part.record_count:,}",
            f"{part.start_at:%Y-%m-%d %H:%M}",
            part.sha256,
            part.version_id or "",
            _deleted(evidence) if evidence else "not yet",
            f"{evidence.changed + evidence.referenced + evidence.kept_by_trigger:,}" if evidence else "",
        )
    return table


def _deleted(evidence: DeleteEvidence) -> str:
    detached = f", {evidence.detached:,} detached" if evidence.detached else ""
    return f"{evidence.deleted + evidence.gone:,}{detached}"


@command
def verify(args: Namespace) -> int:
    """Download archives and compare each object with its manifest; exit code 1 if one is not sound."""
    if [args.archive_id is not None, args.all, args.sample is not None].count(True) != 1:
        raise SampleError(
            "verify needs exactly one of an archive id, --all and --sample",
            hint="Nothing was read. `airflow strongroom verify --sample 1/10` reads the tenth that was verified least recently.",
        )
    if args.archive_id is None:
        return _verify_many(args)
    _, store, archive = find_archive(read_settings(), args.archive_id)
    verdict = verify_and_record(store, archive, who=args.who or getuser(), now=_now())
    if args.json:
        print_json(_as_json(verdict))
    elif verdict.problem is not None:
        print_out(_unsound_line(verdict))
    else:
        print_out(_verdict_table(verdict), _conclusion(verdict))
    return 0 if verdict.sound else 1


def _verify_many(args: Namespace) -> int:
    share = Fraction(1) if args.all else parse_sample(args.sample)
    stores = connect_stores(read_settings())
    surveys = each_once(survey_manifests(store) for store in stores)
    chosen = [(store, find_sample(store, survey, share)) for store, survey in zip(stores, surveys, strict=True)]
    count = sum(len(archives) for _, archives in chosen)
    verdicts: list[ArchiveVerdict] = []
    console = error_console()
    with progress_bar(*_COLUMNS, console=console, shown=console.is_terminal and not args.json) as progress:
        task = progress.add_task("verifying", total=count)
        for store, archives in chosen:
            for verdict in verify_archives(store, archives, who=args.who or getuser(), now=_now):
                verdicts.append(verdict)
                progress.advance(task)
                if not verdict.sound and not args.json:
                    print_out(_unsound_line(verdict))
    unsound = sum(not verdict.sound for verdict in verdicts)
    if args.json:
        print_json([_as_json(verdict) for verdict in verdicts])
    else:
        results = Counter(verdict.result for verdict in verdicts)
        print_out(
            ", ".join(f"{number:,} {result}" for result, number in sorted(results.items()))
            or "There is no archive yet."
        )
        if unsound:
            print_out(_HINT)
    return 1 if unsound else 0


def _as_json(verdict: ArchiveVerdict) -> dict[str, Any]:
    return verdict.model_dump(mode="json") | {"result": verdict.result, "sound": verdict.sound}


def _unsound_line(verdict: ArchiveVerdict) -> str:
    bad = [f"{one.object_key.rpartition('/')[2]} {one.result}" for one in verdict.objects if one.result != "sound"]
    return f"[red]{verdict.result}[/] {verdict.archive_id}: {escape(verdict.problem or ', '.join(bad))}"


def _now() -> datetime:
    return datetime.now(timezone.utc)


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
    return f"{verdict.archive_id} is NOT sound: {bad} of {len(verdict.objects)} objects.\n{_HINT}"
