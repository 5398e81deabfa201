"""Destroy archives whose term is over: decide, and then remove, prove and certify, one archive at a time.

The order of a purge is what makes it safe to break off anywhere. Its intent lies in the store before anything is
removed and holds all that the certificate will say; parts go first, then SHA256SUMS, the manifest last. While there is
an intent without a certificate the next purge takes the archive up again, after it has looked at terms, holds and locks
anew. Objects are removed with the purger's identity; everything that is written is written with the archiver's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import ContendedError, IntegrityError, StoreError
from strongroom.ledger.claims import KeepClaim, claim_keeper, release_claim, running_clock, take_claim
from strongroom.ledger.holds import Hold, covering, holds_in_force
from strongroom.ledger.index import DamagedManifest, survey_catalog
from strongroom.ledger.manifests import Manifest, ManifestPart, read_manifest
from strongroom.ledger.restores import read_restore
from strongroom.object_keys import (
    EVIDENCE,
    RESTORES,
    ArchiveId,
    certified,
    evidence_prefix,
    unfinished_purges,
)
from strongroom.records import Record, RunIdentity, Sha256, name_both, parse_record
from strongroom.storage.purge_store import LockedError, PurgeStore
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion

BY_POLICY = "by policy"
"""Who approved a purge that needs no person's approval."""

NOBODY = "nobody"
"""Who refused a purge by not answering in time."""

_READERS = 8
_EARLIER_VERSIONS = (
    "Nothing was removed. It was written once: list its versions, and let an administrator of the bucket remove all but the "
    "right one, the first as a rule, by their version ids."
)

Reason = Literal["expired", "unfinished", "kept", "held", "contended", "left_out", "unverifiable"]


class Decision(Record):
    """What is to become of one archive, and why.

    ``expired``: its term is over. ``unfinished``: a purge removed its manifest already and has yet to certify that.
    ``kept``: its term still runs. ``held``: a legal hold covers it. ``contended``: somebody needs it just now.
    ``left_out``: the settings of its table are wrong, so nobody can say who must approve.
    ``unverifiable``: its manifest is damaged, hidden or gone, or there are several, so nobody can say whether its term is
    over; or it was destroyed before.
    """

    archive_id: str
    purge: bool
    reason: Reason
    detail: str
    retention_until: AwareDatetime | None = None
    legal_basis: str | None = None
    record_count: int | None = None
    compressed_size: int | None = None
    manifest_sha256: Sha256 | None = Field(default=None, description="Of the manifest that was judged.")

    @property
    def archive(self) -> ArchiveId:
        """The archive it speaks of."""
        return ArchiveId.parse(self.archive_id)


class Approval(Record):
    """Who said yes or no to a purge, and when."""

    approved: bool
    by: str = Field(description="A user of Airflow, or 'by policy' where no person is asked, or 'nobody' in time.")
    at: AwareDatetime
    objection: Literal["not_shown", "self_approved"] | None = Field(
        default=None,
        description="Why a yes does not count: this archive was not shown, or whoever started the run gave it.",
    )


class PurgeIntent(Record):
    """That a purge of an archive begins, and all that its certificate will need once the manifest is gone."""

    manifest: Manifest
    manifest_sha256: Sha256
    approval: Approval
    versions: tuple[StoredVersion, ...] = Field(description="What was there to be removed.")
    begun_at: AwareDatetime
    begun_by: RunIdentity


class Proof(Record):
    """That an archive is gone, as two identities of the store saw it."""

    proved_at: AwareDatetime
    listed: tuple[str, ...] = Field(
        description="Prefixes and keys under which no version and no delete marker is left."
    )
    looked_at: tuple[tuple[str, str], ...] = Field(description="Keys and version ids that a HEAD did not find.")


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


class PurgeResult(Record):
    """What became of one archive.

    ``purged``: destroyed, with a certificate. ``refused``: nobody approved it. ``self_approved``: only whoever started the
    run did, and `purge.four_eyes` asks for another person. ``locked``: an Object Lock protects it.
    The others are as in :class:`Decision`; an archive with any of them is still there, or as much of it as `detail` says.
    """

    archive_id: str
    result: Literal["purged", "refused", "self_approved", "locked", "kept", "held", "contended", "unverifiable"]
    detail: str
    removed_versions: int = 0
    removed_bytes: int = 0
    certificate_key: str | None = None


def decide(
    archives: Iterable[Manifest], holds: Sequence[Hold], now: datetime, needed: Mapping[str, str] | None = None
) -> list[Decision]:
    """Say which archives to purge; nothing is removed here.

    Args:
        archives: Manifests of any tables, in any order.
        holds: Legal holds in force; what one covers is kept whatever its age.
        now: Aware instant that terms are measured against.
        needed: Archive ids that somebody needs just now, and what for.

    Returns:
        One decision per archive, by table, oldest window first, each with its reason.
    """
    ordered = sorted(archives, key=lambda archive: (archive.table_name, archive.window_end, archive.archive_id))
    return [_decide_one(archive, holds, now, needed or {}) for archive in ordered]


def _decide_one(archive: Manifest, holds: Sequence[Hold], now: datetime, needed: Mapping[str, str]) -> Decision:
    until = f"{archive.retention_until:%Y-%m-%d %H:%M} UTC"
    holding = covering(holds, ArchiveId.parse(archive.archive_id))
    reason: Reason
    if now < archive.retention_until:
        reason, detail = "kept", f"its term runs until {until}"
    elif holding:
        reason, detail = "held", f"its term ended at {until}, but {'; '.join(map(str, holding))}"
    elif archive.archive_id in needed:
        reason, detail = "contended", f"its term ended at {until}, but {needed[archive.archive_id]}"
    else:
        reason, detail = "expired", f"its term ended at {until} ({archive.legal_basis})"
    return Decision(
        archive_id=archive.archive_id,
        purge=reason == "expired",
        reason=reason,
        detail=detail,
        retention_until=archive.retention_until,
        legal_basis=archive.legal_basis,
        record_count=archive.record_count,
        compressed_size=archive.compressed_size,
        manifest_sha256=_sha256(archive),
    )


def judge(store: Store, *, now: datetime) -> list[Decision]:
    """Decide about every archive of a store, and about every purge that broke off. Changes nothing.

    Returns:
        As :func:`decide`; archives whose manifest is damaged come first, purges without a manifest last.

    Raises:
        IntegrityError: A hold or a restore record cannot be read, so it is unknown what it protects.
    """
    found = survey_catalog(store)
    decisions = decide(found.manifests, holds_in_force(store), now, _restored(store, now))
    present = {each.archive_id for each in found.manifests} | {each.archive_id for each in found.damaged}
    begun = (archive for archive in unfinished_purges(store.keys(EVIDENCE)) if str(archive) not in present)
    return [*map(_unverifiable, found.damaged), *decisions, *map(_unfinished, begun)]


def judge_again(store: Store, archives: Sequence[ArchiveId], *, now: datetime) -> list[Decision]:
    """Decide about some archives from their own manifests, whatever somebody says was decided. Changes nothing.

    Returns:
        As :func:`decide`; archives without a sound manifest are left out.

    Raises:
        IntegrityError: A hold or a restore record cannot be read.
    """

    def read(archive: ArchiveId) -> Manifest | None:
        try:
            return read_manifest(store, archive)
        except IntegrityError:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        manifests = [one for one in readers.map(read, archives) if one is not None]
    return decide(manifests, holds_in_force(store), now, _restored(store, now))


def begun_purges(store: Store, hold: Hold) -> list[ArchiveId]:
    """Archives under a hold of which a purge had begun, and not ended, when this is called: parts may be gone."""
    return [archive for archive in unfinished_purges(store.keys(EVIDENCE)) if hold.covers(archive)]


def _unverifiable(damaged: DamagedManifest) -> Decision:
    return Decision(archive_id=damaged.archive_id, purge=False, reason="unverifiable", detail=damaged.problem)


def _unfinished(archive: ArchiveId) -> Decision:
    detail = "a purge removed its manifest and broke off before its certificate was written"
    return Decision(archive_id=str(archive), purge=True, reason="unfinished", detail=detail)


def _restored(store: Store, now: datetime) -> dict[str, str]:
    """Archives whose rows were restored and are still needed, and by whom."""
    found: dict[str, str] = {}
    for key in store.keys(RESTORES):
        record = read_restore(store, key)
        if record is not None and record.until > now:
            reason = f"restore {record.restore_id} by {name_both(record.who, record.triggered_by)} needs it until {record.until:%Y-%m-%d %H:%M} UTC"
            found |= dict.fromkeys(record.archive_ids, reason)
    return found


def read_certificate(store: Store, archive: ArchiveId) -> Certificate | None:
    """The certificate of an archive's destruction, or None while it was not destroyed.

    Raises:
        IntegrityError: There is something else in its place.
    """
    present = store.read(archive.destruction_key)
    if present is None:
        return None
    return parse_record(
        Certificate,
        present[0],
        where=f"{store}{archive.destruction_key}",
        what="a sound certificate",
        hint=_EARLIER_VERSIONS,
    )


def read_certificates(store: Store, schema_name: str | None = None, table_name: str | None = None) -> list[Certificate]:
    """All certificates of destruction, or one table's, the latest first.

    Raises:
        IntegrityError: One of them is not sound.
    """
    where = EVIDENCE if schema_name is None or table_name is None else evidence_prefix(schema_name, table_name)
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda archive: read_certificate(store, archive), certified(store.keys(where)))
        return sorted(filter(None, found), key=attrgetter("destroyed_at"), reverse=True)


def purge_archive(
    store: Store,
    purge_store: PurgeStore,
    decision: Decision,
    approval: Approval,
    *,
    run: RunIdentity,
    now: datetime,
    claim_ttl: timedelta,
) -> PurgeResult:
    """Destroy one archive for which it was so decided, and leave the certificate. A repeat finds the certificate.

    Term, holds, locks, restores and the manifest are looked at again; holds and the claim once more before each object.

    Args:
        store: With the archiver's rights: reads everything, writes intent and certificate.
        purge_store: With the purger's rights, on the same bucket and prefix.
        decision: From :func:`judge`.
        approval: A person's, or the policy's; not needed for what an earlier purge left unfinished.
        run: Which Airflow run this is.
        now: Aware instant.
        claim_ttl: How long the claim on the partition holds if this process dies.

    Raises:
        StoreError: The store broke off, or something is left; the next try goes on.
        IntegrityError: A hold cannot be read; nothing more was removed.
    """
    archive = decision.archive
    if (certificate := read_certificate(store, archive)) is not None:
        if versions_of(store, archive):
            back = f"it was destroyed before ({archive.destruction_key}), and somebody has put it back since"
            return _stopped(archive, "unverifiable", back)
        return _purged(archive, certificate)
    if not decision.purge:
        return _as_decided(decision)
    if not approval.approved and not _is_unfinished(store, archive):
        return _refused(archive, approval)
    claim = archive.claim_key
    try:
        take_claim(store, claim, owner=str(run), now=now, ttl=claim_ttl)
    except ContendedError as error:
        return _stopped(archive, "contended", f"{error.what}, {error.found}")
    keep_claim = claim_keeper(store, [claim], owner=str(run), clock=running_clock(now), ttl=claim_ttl)
    result = _purge_claimed(store, purge_store, decision, approval, run, now, keep_claim)
    release_claim(store, claim, owner=str(run), now=now)
    return result


def _is_unfinished(store: Store, archive: ArchiveId) -> bool:
    """Whether an earlier purge, which was approved, removed the manifest already. A record that says so may be forged."""
    return store.head(archive.manifest_key) is None and store.head(archive.purge_intent_key) is not None


def _refused(archive: ArchiveId, approval: Approval) -> PurgeResult:
    if approval.objection == "not_shown":
        shown = (
            "it needs a person's approval, and was not among the archives, as they are now, that this run showed for it"
        )
        return _stopped(archive, "refused", shown)
    if approval.objection == "self_approved":
        same = f"{approval.by} approved it and had started the run; `purge.four_eyes` asks for another person"
        return _stopped(archive, "self_approved", f"{same}, {approval.at:%Y-%m-%d %H:%M} UTC")
    refused = f"answered no by {approval.by}" if approval.by != NOBODY else "not answered in time"
    return _stopped(archive, "refused", f"the request for approval was {refused}, {approval.at:%Y-%m-%d %H:%M} UTC")


def _purge_claimed(
    store: Store,
    purge_store: PurgeStore,
    decision: Decision,
    approval: Approval,
    run: RunIdentity,
    now: datetime,
    keep_claim: KeepClaim,
) -> PurgeResult:
    archive = decision.archive
    try:
        manifest, intent = read_manifest(store, archive), _read_intent(store, archive)
    except IntegrityError as error:
        return _stopped(archive, "unverifiable", f"{error.what}: found {error.found}")
    if (doubt := _doubt(decision, manifest, intent)) is not None:
        return _stopped(archive, "unverifiable", doubt)
    if manifest is not None:
        [again] = decide([manifest], holds_in_force(store), now, _restored(store, now))
        if not again.purge:
            return _as_decided(again)

    versions = versions_of(purge_store, archive)
    if locks := _locks(purge_store, versions):
        return _stopped(archive, "locked", "; ".join(locks))
    if intent is None:
        assert manifest is not None  # noqa: S101 - _doubt() lets nothing else pass
        intent = _write_intent(store, archive, manifest, approval, versions, run, now)
    if (stop := _remove(store, purge_store, archive, versions, keep_claim)) is not None:
        return stop

    removed = tuple({(one.key, one.version_id): one for one in (*intent.versions, *versions)}.values())
    proof = _prove(store, purge_store, archive, intent.manifest, removed, now)
    approved = approval if manifest is not None else intent.approval
    certificate = _certificate(archive, intent, approved, removed, proof, run, now)
    store.put_bytes(archive.destruction_key, certificate.to_bytes())
    return _purged(archive, certificate)


def _doubt(decision: Decision, manifest: Manifest | None, intent: PurgeIntent | None) -> str | None:
    """Why it is not certain that this is the archive that was judged; None if it is."""
    if manifest is None:
        return None if intent is not None else "its manifest vanished after it was judged, and no purge of it had begun"
    if decision.manifest_sha256 != _sha256(manifest):
        return "its manifest is not the one that was judged"
    if intent is not None and intent.manifest != manifest:
        return "its manifest is not the one that an earlier purge began with"
    return None


def versions_of(store: Store, archive: ArchiveId) -> list[StoredVersion]:
    """All versions and delete markers of an archive, in the order in which a purge removes them.

    Parts, and whatever else lies in their folder, come before SHA256SUMS, and the manifest last; of one object older
    versions before newer ones, so that no older one comes to light, and delete markers after the versions they hide.
    """
    folder = store.versions(archive.archive_prefix)
    manifest = (version for version in store.versions(archive.manifest_key) if version.key == archive.manifest_key)
    ranks = {archive.sums_key: 1, archive.manifest_key: 2}
    return sorted(
        (*folder, *manifest),
        key=lambda one: (ranks.get(one.key, 0), one.key, one.is_marker, one.modified_at, one.is_latest),
    )


def _locks(purge_store: PurgeStore, versions: Sequence[StoredVersion]) -> list[str]:
    with ThreadPoolExecutor(_READERS) as lookers:
        locks = lookers.map(purge_store.lock_of, versions)
        return [
            f"{version.key} version {version.version_id} is under {lock}"
            for version, lock in zip(versions, locks, strict=True)
            if lock is not None
        ]


def _remove(
    store: Store,
    purge_store: PurgeStore,
    archive: ArchiveId,
    versions: Sequence[StoredVersion],
    keep_claim: KeepClaim,
) -> PurgeResult | None:
    """Remove the versions in their order; None when all are gone, or why it stopped."""
    looked_for = None
    for number, version in enumerate(versions):
        if version.key != looked_for:
            if holding := covering(holds_in_force(store), archive):
                return _stopped(archive, "held", f"{'; '.join(map(str, holding))}; {_left(number, versions)}")
            try:
                keep_claim()
            except ContendedError as error:
                return _stopped(archive, "contended", f"{error.what}; {_left(number, versions)}")
            looked_for = version.key
        try:
            purge_store.remove(version)
        except LockedError as error:
            return _stopped(archive, "locked", f"{error.what}; {_left(number, versions)}")
    return None


def _left(gone: int, versions: Sequence[StoredVersion]) -> str:
    left = ", ".join(sorted({version.key.rpartition("/")[2] for version in versions[gone:]}))
    return f"{gone} of {len(versions)} versions were removed before, left are {left}" if gone else "nothing was removed"


def _prove(
    store: Store,
    purge_store: PurgeStore,
    archive: ArchiveId,
    manifest: Manifest,
    removed: Sequence[StoredVersion],
    now: datetime,
) -> Proof:
    """See that nothing is left, by listing and by asking for each version.

    Raises:
        StoreError: Something is.
    """
    places = [(version.key, version.version_id) for version in removed if not version.is_marker]
    places += [(part.object_key, part.version_id) for part in manifest.parts if part.version_id is not None]
    places = list(dict.fromkeys(places))
    left = {
        f"{version.key} version {version.version_id}"
        for each in (store, purge_store)
        for version in versions_of(each, archive)
    }
    with ThreadPoolExecutor(_READERS) as lookers:
        heads = lookers.map(lambda place: store.head(*place), places)
        left |= {f"{key} version {version_id}" for (key, version_id), head in zip(places, heads, strict=True) if head}
    if left:
        raise StoreError(
            f"{archive} is not gone after its purge",
            expected="no version, no delete marker",
            found=", ".join(sorted(left)[:5]),
            hint="No certificate was written. See that both connections speak to the same store and that nothing "
            "writes into the archive; the task tries again by itself, and the next purge goes on.",
        )
    return Proof(proved_at=now, listed=(archive.archive_prefix, archive.manifest_key), looked_at=tuple(places))


def _read_intent(store: Store, archive: ArchiveId) -> PurgeIntent | None:
    present = store.read(archive.purge_intent_key)
    if present is None:
        return None
    return parse_record(
        PurgeIntent,
        present[0],
        where=f"{store}{archive.purge_intent_key}",
        what="a sound intent",
        hint=_EARLIER_VERSIONS,
    )


def _write_intent(
    store: Store,
    archive: ArchiveId,
    manifest: Manifest,
    approval: Approval,
    versions: Sequence[StoredVersion],
    run: RunIdentity,
    now: datetime,
) -> PurgeIntent:
    intent = PurgeIntent(
        manifest=manifest,
        manifest_sha256=_sha256(manifest),
        approval=approval,
        versions=tuple(versions),
        begun_at=now,
        begun_by=run,
    )
    store.put_bytes(archive.purge_intent_key, intent.to_bytes())
    return intent


def _certificate(
    archive: ArchiveId,
    intent: PurgeIntent,
    approval: Approval,
    removed: tuple[StoredVersion, ...],
    proof: Proof,
    run: RunIdentity,
    now: datetime,
) -> Certificate:
    told = set(Certificate.model_fields) & set(Manifest.model_fields)
    return Certificate(
        **{name: getattr(intent.manifest, name) for name in told},
        manifest_sha256=intent.manifest_sha256,
        sealed_at=intent.manifest.created_at,
        approved_by=approval.by,
        approved_at=approval.at,
        begun_at=intent.begun_at,
        begun_by=intent.begun_by,
        destroyed_at=now,
        destroyed_by=run,
        removed=removed,
        proof=proof,
        intent_key=archive.purge_intent_key,
    )


def _purged(archive: ArchiveId, certificate: Certificate) -> PurgeResult:
    return PurgeResult(
        archive_id=str(archive),
        result="purged",
        detail=f"destroyed at {certificate.destroyed_at:%Y-%m-%d %H:%M} UTC, approved {certificate.approved_by}",
        removed_versions=len(certificate.removed),
        removed_bytes=sum(version.size_bytes for version in certificate.removed),
        certificate_key=archive.destruction_key,
    )


def _as_decided(decision: Decision) -> PurgeResult:
    return PurgeResult.model_validate(
        {"archive_id": decision.archive_id, "result": decision.reason, "detail": decision.detail}
    )


def _stopped(
    archive: ArchiveId,
    result: Literal["refused", "self_approved", "locked", "held", "contended", "unverifiable"],
    detail: str,
) -> PurgeResult:
    return PurgeResult(archive_id=str(archive), result=result, detail=detail)


def _sha256(manifest: Manifest) -> Sha256:
    return hashlib.sha256(manifest.to_json()).hexdigest()
