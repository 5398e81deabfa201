"""The records that a purge leaves behind: its intent, and the certificate that an archive was destroyed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from operator import attrgetter
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.ledger.entries import software
from strongroom.ledger.holds import Hold
from strongroom.ledger.journal import checkpoint_of
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.restore_records import restores_of
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId, certified, unfinished_purges
from strongroom.object_keys.layout import EVIDENCE
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import Record, RunIdentity, Sha256, SourceIdentity, name_both
from strongroom.retention.second_copy import ReplicaCopy
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
        description="Why a yes does not count: this archive was not shown, or the person who started the run gave it.",
    )
    policy: str | None = Field(
        default=None,
        exclude_if=lambda policy: policy is None,
        description="Why a person had to approve, or why nobody had to; None where the purge was not judged by the settings.",
    )


class PurgeIntent(Record):
    """That the purge of an archive begins, with all that its certificate will need once the manifest is gone."""

    manifest: Manifest
    manifest_sha256: Sha256
    approval: Approval
    versions: tuple[StoredVersion, ...] = Field(description="What there was to remove.")
    begun_at: AwareDatetime
    begun_by: RunIdentity
    copies: tuple[StoredVersion, ...] = Field(
        default=(), exclude_if=lambda copies: not copies, description="What there was to remove in the replica."
    )


class Proof(Record):
    """That an archive is gone, as two identities of the store saw it."""

    proved_at: AwareDatetime
    listed: tuple[str, ...] = Field(
        description="Prefixes and keys under which no version and no delete marker is left."
    )
    looked_at: tuple[tuple[str, str], ...] = Field(
        description="Keys and version ids that are gone: the listings do not have them, and a HEAD does not find what lies elsewhere."
    )


METHOD = (
    "Every version and every delete marker of each object was removed by its version id through the store's S3 interface, and two "
    "identities of the store found none left. In the terms of NIST SP 800-88 this is Clear: the store no longer gives the data back."
)
LIMITS = (
    "The media under the store were not examined or overwritten; that is the duty of the store's operator. Replicas of the bucket that are not named here, its "
    "backups, backups of the source database, and files that somebody downloaded were not searched."
)


class Issuer(Record):
    """Who issues certificates, as the settings say."""

    organisation: str | None = None
    environment: str | None = None


class Erasure(Record):
    """Why an archive was destroyed before the end of its term: another one holds its rows without those of a person."""

    case_id: str
    superseded_by: str = Field(description="Id of the archive that holds the other rows.")

    def __str__(self) -> str:
        return f"{self.superseded_by} supersedes it (case {self.case_id})"


class CopyLeft(Record):
    """A place that got a copy of the rows while the archive existed, and was not examined."""

    table: str
    restore_id: str
    by: str
    restored_at: AwareDatetime
    needed_until: AwareDatetime


class Certificate(Record):
    """The certificate of destruction of one archive.

    What version 1 did not say is None in it. Its `begun_at`, `destroyed_at` and the proof's `proved_at` are one reading of the clock;
    since version 2 each is its own.
    """

    certificate_version: Literal[1, 2] = 2
    number: str | None = Field(
        default=None, description="Names the certificate: archive id and the instant of its begin."
    )
    organisation: str | None = None
    environment: str | None = None
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
    source: SourceIdentity | None = Field(default=None, description="The database that the rows came from.")
    store: str | None = Field(default=None, description="Bucket and prefix that the archive lay in.")
    storage_class: str | None = None
    encryption: str | None = None
    method: str | None = None
    limits: str | None = Field(default=None, description="What the method does not reach.")
    tool: str | None = Field(default=None, description="Name and version of what carried it out.")
    requested_by: str | None = Field(
        default=None, description="Who started the run that began the purge; 'the schedule' if nobody did."
    )
    approved_by: str
    approved_at: AwareDatetime
    approval_policy: str | None = Field(
        default=None,
        exclude_if=lambda policy: policy is None,
        description="Why a person had to approve, or why nobody had to, by the settings of the table and those that were in force lately.",
    )
    begun_at: AwareDatetime
    begun_by: RunIdentity
    destroyed_at: AwareDatetime
    destroyed_by: RunIdentity
    removed: tuple[StoredVersion, ...] = Field(description="Every version and delete marker that was removed.")
    proof: Proof
    holds_examined: tuple[str, ...] | None = Field(
        default=None,
        description="Ids of the holds in force in the store when the purge ended. None of them covers the archive.",
    )
    copies_left: tuple[CopyLeft, ...] | None = Field(
        default=None,
        description="Restores that brought rows of the archive back. What is left of them was not examined.",
    )
    replicas: tuple[ReplicaCopy, ...] | None = Field(
        default=None,
        exclude_if=lambda replicas: not replicas,
        description="Second copies of the archive and what became of each; not there if there was none.",
    )
    intent_key: str
    erasure: Erasure | None = Field(
        default=None,
        exclude_if=lambda erasure: erasure is None,
        description="Why it went before the end of its term; not there where the term was over.",
    )
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
    issuer: Issuer,
    erasure: Erasure | None,
    store: Store,
    holds: Iterable[Hold],
    run: RunIdentity,
    destroyed_at: datetime,
    replicas: tuple[ReplicaCopy, ...] = (),
) -> Certificate:
    """Certify the destruction that an intent announced.

    Args:
        intent: Of the purge, maybe of an earlier run.
        approval: That counts.
        removed: Every version that is gone.
        proof: That they are.
        issuer: Organisation and environment.
        erasure: Why the archive went before the end of its term; None where that was over.
        store: That the archive lay in.
        holds: In force there.
        run: That ended the purge.
        destroyed_at: When the last version was removed.
        replicas: The second copies, and what became of each.
    """
    manifest = intent.manifest
    copied = set(Certificate.model_fields) & set(Manifest.model_fields)
    return Certificate(
        **{name: getattr(manifest, name) for name in copied},
        number=f"{manifest.archive_id}/{intent.begun_at:%Y%m%dT%H%M%SZ}",
        **dict(issuer),
        store=str(store),
        method=METHOD,
        limits=LIMITS,
        tool=software(),
        requested_by=intent.begun_by.triggered_by or "the schedule",
        manifest_sha256=intent.manifest_sha256,
        sealed_at=manifest.created_at,
        approved_by=approval.by,
        approved_at=approval.at,
        approval_policy=approval.policy,
        begun_at=intent.begun_at,
        begun_by=intent.begun_by,
        destroyed_at=destroyed_at,
        destroyed_by=run,
        removed=removed,
        proof=proof,
        holds_examined=tuple(hold.hold_id for hold in holds),
        copies_left=tuple(_copies(store, manifest)),
        replicas=replicas,
        intent_key=ArchiveId.parse(manifest.archive_id).purge_intent_key,
        erasure=erasure,
        checkpoint=checkpoint_of(store),
    )


def _copies(store: Store, manifest: Manifest) -> Iterator[CopyLeft]:
    """The restores of an archive that are on record."""
    for record in restores_of(store, ArchiveId.parse(manifest.archive_id)):
        yield CopyLeft(
            table=record.table,
            restore_id=record.restore_id,
            by=name_both(record.who, record.triggered_by),
            restored_at=record.restored_at,
            needed_until=record.until,
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
