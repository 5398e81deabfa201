"""Any number of manifests without archives, for tests of code that reads only manifests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from strongroom.calendar import Frequency, Partition, Term, Window
from strongroom.ledger.evidence import DeleteEvidence
from strongroom.ledger.manifest_record import Manifest, ManifestPart, sha256_sums
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Column, SourceIdentity, TableShape, shape_sha256
from strongroom.storage.store import Store
from tests.support.sealing import claim_if_unowned

SEVEN_YEARS = Term.parse("P7Y")


def a_manifest(table: str = "audit", key: str = "2026-05", sequence: int = 1, **changes: Any) -> Manifest:
    """A sound manifest of a month of 2,000 rows in two parts, with defaults for what does not matter."""
    archive = ArchiveId("public", table, key, sequence)
    window = Partition.parse(Frequency.MONTHLY, key).window
    parts = tuple(_part(archive, window, number) for number in range(2))
    shape = _shape(table)
    manifest = Manifest(
        format_version=3,
        archive_id=str(archive),
        table_name=f"public.{table}",
        partition_key=key,
        window_start=window.start,
        window_end=window.end,
        table=shape,
        shape_sha256=shape_sha256(shape),
        source=SourceIdentity(system_identifier="1", database="test", database_oid=1, server_version="18"),
        record_count=2000,
        original_size=1_000_000,
        compressed_size=100_000,
        compression_type="zstd",
        compression_level=3,
        checksum=hashlib.sha256(sha256_sums(parts)).hexdigest(),
        parts=parts,
        created_at=window.end + timedelta(days=95),
        retention_until=SEVEN_YEARS.after(window.end),
        legal_basis="a test",
        storage_class="STANDARD",
        encryption="AES256",
        dag_id="archive__test",
        run_id="manual__test",
        software={},
    )
    return manifest.model_copy(update=changes)


def _part(archive: ArchiveId, window: Window, number: int) -> ManifestPart:
    def sha256(of: str) -> str:
        return hashlib.sha256(f"{archive}{of}".encode()).hexdigest()

    return ManifestPart(
        number=number,
        object_key=archive.part_key(number, "zstd"),
        version_id=None,
        etag="",
        start_at=window.start,
        end_at=window.end,
        record_count=1000,
        original_size=500_000,
        compressed_size=50_000,
        original_sha256=sha256("original"),
        sha256=sha256(str(number)),
        blocks_sha256=sha256("blocks"),
        snapshot="1:1:",
        extracted_at=window.end,
        verified_at=window.end,
        proved_rows=1000,
    )


def _shape(table: str) -> TableShape:
    names = ("id", "at", *(f"c{number}" for number in range(13)))
    return TableShape(
        schema_name="public",
        table_name=table,
        date_column="at",
        date_type="timestamptz",
        primary_key=("id",),
        columns=tuple(Column(name=name, type="text", base_type="text", encoding="json") for name in names),
        well_known_types=True,
    )


def many_manifests(count: int, *, months: int = 100) -> Iterator[Manifest]:
    """Manifests of this many months, from January 2018 on, for as many tables as needed."""
    for number in range(count):
        table, month = divmod(number, months)
        yield a_manifest(f"t{table:03d}", f"{2018 + month // 12}-{month % 12 + 1:02d}")


def put_manifests(store: Store, manifests: Iterator[Manifest]) -> None:
    """Write manifests and an owner into a store, and nothing else."""

    def put(manifest: Manifest) -> None:
        store.put_bytes(ArchiveId.parse(manifest.archive_id).manifest_key, manifest.to_json())

    claim_if_unowned(store)
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(put, manifests))


def put_evidence(store: Store, manifests: Iterator[Manifest]) -> None:
    """Write what their deletes leave: one object for each part, all of whose rows were deleted."""

    def put(manifest: Manifest) -> None:
        archive = ArchiveId.parse(manifest.archive_id)
        for part in manifest.parts:
            key = archive.delete_evidence_key(part.number)
            evidence = DeleteEvidence(
                archive_id=manifest.archive_id,
                number=part.number,
                rows=part.record_count,
                deleted=part.record_count,
                gone=0,
                changed=0,
                batches=1,
                longest_batch_seconds=0.1,
                evidence_key=key,
                deleted_at=manifest.created_at,
                object_key=part.object_key,
                version_id=part.version_id,
                sha256=part.sha256,
                verified_at=part.verified_at,
                kept=(),
                dag_id=manifest.dag_id,
                run_id=manifest.run_id,
            )
            store.put_bytes(key, evidence.to_bytes())

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(put, manifests))
