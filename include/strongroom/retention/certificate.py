"""The records that a purge leaves behind: its intent, and the certificate that an archive was destroyed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from operator import attrgetter
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.ledger.holds import Hold
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys import EVIDENCE, ArchiveId, certified, evidence_prefix, unfinished_purges
from strongroom.records import Record, RunIdentity, Sha256
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion

BY_POLICY = "by policy"
"""Who approved a purge that needs no person's approval."""

NOBODY = "nobody"
"""Who refused a purge that nobody answered in time."""

_READERS = 8
_EARLIER_VERSIONS = (
    "Nothing was removed. It was written once: list its versions, and let an administrator of the bucket remove, by version "
    "id, all but the right one, which is usually the first."
)


class Approval(Record):
    """Who said yes or no to a purge, and when."""

    approved: bool
    by: str = Field(
        description="A user of Airflow; 'by policy' if no person is asked; 'nobody' if nobody answered in time."
    )
    at: AwareDatetime
    objection: Literal["not_shown", "self_approved"] | None = Field(
        default=None,
        description="Why a yes does not count: this archive was not shown, or whoever started the run gave it.",
    )


class PurgeIntent(Record):
    """That the purge of an archive begins, with all that its certificate will need once the manifest is gone."""

    manifest: Manifest
    manifest_sha256: Sha256
    approval: Approval
    versions: tuple[StoredVersion, ...] = Field(description="What there was to remove.")
    begun_at: AwareDatetime
    begun_by: RunIdentity


class Proof(Record):
    """That an archive is gone, as two identities of the store saw it."""

    proved_at: AwareDatetime
    listed: tuple[str, ...] = Field(
        description="Prefixes and keys under which no version and no delete marker is left."
    )
    looked_at: tuple[tuple[str, str], ...] = Field(
        description="Keys and version ids that are gone: the listings do not have them, and a HEAD does not find what lies elsewhere."
    )


class Certificate(Record):
    """The certificate of destruction of one archive."""

    certificate_version: Literal[1] = 1
    archive_id: str
    table_name: str
    partition_key: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    record_count: int
    original_size: int
    compressed_size: int
    checksum: Sha256
    manifest_sha256: Sha256
    parts: tuple[ManifestPart, ...]
    sealed_at: AwareDatetime
    retention_until: AwareDatetime
    legal_basis: str
    approved_by: str
    approved_at: AwareDatetime
    begun_at: AwareDatetime
    begun_by: RunIdentity
    destroyed_at: AwareDatetime
    destroyed_by: RunIdentity
    removed: tuple[StoredVersion, ...] = Field(description="Every version and delete marker that was removed.")
    proof: Proof
    intent_key: str
    checkpoint: str | None = Field(
        default=None,
        exclude_if=lambda checkpoint: checkpoint is None,
        description="Signed head of the store's transparency log before the certificate was entered in it; not there without a log.",
    )


def make_certificate(
    intent: PurgeIntent,
    approval: Approval,
    removed: tuple[StoredVersion, ...],
    proof: Proof,
    *,
    run: RunIdentity,
    checkpoint: str | None,
    now: datetime,
) -> Certificate:
    """Certify the destruction that an intent announced."""
    manifest = intent.manifest
    copied = set(Certificate.model_fields) & set(Manifest.model_fields)
    return Certificate(
        **{name: getattr(manifest, name) for name in copied},
        manifest_sha256=intent.manifest_sha256,
        sealed_at=manifest.created_at,
        approved_by=approval.by,
        approved_at=approval.at,
        begun_at=intent.begun_at,
        begun_by=intent.begun_by,
        destroyed_at=now,
        destroyed_by=run,
        removed=removed,
        proof=proof,
        intent_key=ArchiveId.parse(manifest.archive_id).purge_intent_key,
        checkpoint=checkpoint,
    )


def read_intent(store: Store, archive: ArchiveId) -> PurgeIntent | None:
    """The intent to purge an archive; None if no purge of it has begun.

    Raises:
        IntegrityError: Something else is stored in its place.
    """
    return read_record(store, archive.purge_intent_key, PurgeIntent, what="a sound intent", hint=_EARLIER_VERSIONS)


def read_certificate(store: Store, archive: ArchiveId) -> Certificate | None:
    """The certificate of an archive's destruction; None if it was not destroyed, or if a delete marker hides it.

    To ask only whether an archive was destroyed, use :func:`strongroom.ledger.manifests.is_destroyed`.

    Raises:
        IntegrityError: Something else is stored in its place.
    """
    return read_record(store, archive.destruction_key, Certificate, what="a sound certificate", hint=_EARLIER_VERSIONS)


def read_certificates(store: Store, schema_name: str | None = None, table_name: str | None = None) -> list[Certificate]:
    """All certificates of destruction, or those of one table, latest first.

    Raises:
        IntegrityError: One of them is damaged.
    """
    where = EVIDENCE if schema_name is None or table_name is None else evidence_prefix(schema_name, table_name)
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda archive: read_certificate(store, archive), certified(store.keys(where)))
        return sorted(filter(None, found), key=attrgetter("destroyed_at"), reverse=True)


def begun_purges(store: Store, hold: Hold) -> list[ArchiveId]:
    """Archives under a hold whose purge had begun and not ended at this moment: some of their parts may be gone."""
    return [archive for archive in unfinished_purges(store.keys(EVIDENCE)) if hold.covers(archive)]
