"""Sealed archives made without a database, for tests of what happens to archives later."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import zstandard

from strongroom.archive.seal import seal_archive
from strongroom.calendar import Partition
from strongroom.ledger.owner import record_owner
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import SOURCE_IDENTITY
from strongroom.records import ArchivePlan, Column, RunIdentity, SourceIdentity, TableShape, VerifiedPart, shape_sha256
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

SEALED_AT = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
RUN = RunIdentity(dag_id="archive__test", run_id="manual__test")
SOURCE = SourceIdentity(system_identifier="1", database="test", database_oid=1, server_version="18.1")


def claim_if_unowned(store: Store, source: SourceIdentity = SOURCE) -> None:
    """Claim a new store for a database. A store that has an owner keeps it."""
    store.prepare()
    if store.head(SOURCE_IDENTITY) is None:
        record_owner(store, source)


def upload_parts(store: Store, settings: TableSettings, key: str, *, parts: int = 3, sequence: int = 1) -> ArchivePlan:
    """Upload the parts of an archive, ten rows each, up to the state after ``verify``."""
    claim_if_unowned(store)
    archive = ArchiveId(settings.schema_name, settings.table_name, key, sequence)
    plan = _plan(settings, archive, ())
    return plan.model_copy(update={"parts": tuple(_upload(store, plan, number) for number in range(parts))})


def seal_month(store: Store, settings: TableSettings, key: str, *, parts: int = 3, sequence: int = 1) -> ArchiveId:
    """Upload and seal an archive."""
    plan = upload_parts(store, settings, key, parts=parts, sequence=sequence)
    uploaded = [part for part in plan.parts if isinstance(part, VerifiedPart)]
    seal_archive(store, settings, plan, uploaded, run=RUN, now=SEALED_AT)
    return ArchiveId.parse(str(plan.archive_id))


def _plan(settings: TableSettings, archive: ArchiveId, parts: tuple[VerifiedPart, ...]) -> ArchivePlan:
    window = Partition.parse(settings.frequency, archive.partition_key).window
    shape = TableShape(
        schema_name=settings.schema_name,
        table_name=settings.table_name,
        date_column=settings.date_column,
        date_type="timestamptz",
        primary_key=("id",),
        columns=(
            Column(name="id", type="bigint", base_type="bigint", encoding="json"),
            Column(name=settings.date_column, type="date", base_type="date", encoding="json"),
        ),
        well_known_types=True,
    )
    return ArchivePlan(
        outcome="planned",
        table=settings.qualified_name,
        partition_key=archive.partition_key,
        start_at=window.start,
        end_at=window.end,
        archive_id=str(archive),
        shape=shape,
        source=SOURCE,
        parts=parts,
        due_rows=10,
        planned_at=SEALED_AT,
    )


def _upload(store: Store, plan: ArchivePlan, number: int) -> VerifiedPart:
    original = b"".join(b'{"id":%d}\n' % (number * 10 + row) for row in range(10))
    packed = zstandard.compress(original)
    sha256 = hashlib.sha256(packed).hexdigest()
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(packed)
        key = ArchiveId.parse(str(plan.archive_id)).part_key(number, "zstd")
        stored = store.put_file(key, Path(file.name), sha256=sha256, content_type="application/zstd", metadata={})
    return VerifiedPart(
        archive_id=str(plan.archive_id),
        number=number,
        start_at=plan.start_at,
        end_at=plan.end_at,
        expected_rows=10,
        shape_sha256=shape_sha256(plan.shape),
        rows=10,
        original_size_bytes=len(original),
        original_sha256=hashlib.sha256(original).hexdigest(),
        blocks_sha256=hashlib.sha256(b"").hexdigest(),
        snapshot="1:1:",
        extracted_at=SEALED_AT,
        compression_type="zstd",
        compression_level=3,
        compressed_size_bytes=len(packed),
        compressed_sha256=sha256,
        sha256=sha256,
        object_key=key,
        version_id=stored.version_id,
        etag=stored.etag,
        verified_at=SEALED_AT,
        proved_rows=10,
    )
