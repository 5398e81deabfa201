"""Destroy the archives whose term is over, one at a time: remove them, prove that they are gone, and certify it.

The order makes it safe to break off anywhere. The intent is stored before anything is removed, and holds all that the
certificate will say. Then the parts are removed, then SHA256SUMS, and the manifest last. While there is an intent without
a certificate, the next purge takes the archive up again, and checks its term, holds and locks anew. The purger's identity
removes objects; the archiver's identity writes all records.

A replica is emptied first, and a purge begins only if it can be reached. No certificate is written while it holds anything of the
archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from strongroom.errors import ContendedError, IntegrityError, StoreError
from strongroom.ledger.claims import KeepClaim, claim_keeper, release_claim, running_clock, take_claim
from strongroom.ledger.entries import of_archive, subject_of
from strongroom.ledger.holds import Hold, HoldWatch, covering
from strongroom.ledger.journal import doubt_of_entry, enter_with_proof, record_with_proof
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import manifest_exists, read_manifest
from strongroom.ledger.units import covering_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.records import Record, RunIdentity
from strongroom.retention.archive_versions import locks_on, locks_on_unit, versions_of
from strongroom.retention.certificate import (
    NOBODY,
    Approval,
    Certificate,
    Erasure,
    Issuer,
    Proof,
    PurgeIntent,
    make_certificate,
    read_certificate,
    read_intent,
)
from strongroom.retention.decide import Decision, decide_now
from strongroom.retention.second_copy import ReplicaCopy, SecondCopy, copies_elsewhere
from strongroom.storage.purge_store import LockedError, PurgeStore
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion


class PurgeResult(Record):
    """What became of one archive.

    ``purged``: destroyed, with a certificate. ``refused``: nobody approved it. ``self_approved``: only the person who
    started the run approved it, and `purge.four_eyes` asks for another one. ``locked``: an Object Lock protects it.
    The others are as in :class:`Decision`. Unless it was purged, the archive is still there, or as much of it as `detail` says.
    """

    archive_id: str
    result: Literal["purged", "refused", "self_approved", "locked", "kept", "held", "contended", "unverifiable"]
    detail: str
    removed_versions: int = 0
    removed_bytes: int = 0
    certificate_key: str | None = None


def purge_archive(
    store: Store,
    purge_store: PurgeStore,
    decision: Decision,
    approval: Approval,
    *,
    run: RunIdentity,
    now: datetime,
    claim_ttl: timedelta,
    issuer: Issuer | None = None,
    erasure: Erasure | None = None,
    second: SecondCopy | None = None,
) -> PurgeResult:
    """Destroy one archive that is decided to be purged, and leave a certificate. A repeat returns that certificate.

    Its term, holds, locks, restores and manifest are checked again first; holds and the claim once more before each object.

    Args:
        store: With the archiver's rights: reads everything, writes intent and certificate.
        purge_store: With the purger's rights, on the same bucket and prefix.
        decision: From :func:`strongroom.retention.decide.judge`.
        approval: A person's, or the policy's; not needed for a purge that an earlier run left unfinished.
        run: Which Airflow run this is.
        now: Aware instant.
        claim_ttl: How long the claim on the partition holds if this process dies.
        issuer: Who issues the certificate; None leaves that open.
        erasure: Why the archive goes before the end of its term; None lets only the term decide.
        second: The replica, where the archive is removed first; None if there is none.

    Raises:
        StoreError: The store failed, or something is left; the next try continues.
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
    claim, owner = archive.claim_key, str(run)
    try:
        take_claim(store, claim, owner=owner, now=now, ttl=claim_ttl)
    except ContendedError as error:
        return _stopped(archive, "contended", f"{error.what}, {error.found}")
    keep_claim = claim_keeper(store, [claim], owner=owner, clock=running_clock(now), ttl=claim_ttl)
    purging = _Purging(store, purge_store, archive, run, now, keep_claim, issuer or Issuer(), erasure, second)
    result = purging.purge(decision, approval)
    release_claim(store, claim, owner=owner, now=now)
    return result


def _is_unfinished(store: Store, archive: ArchiveId) -> bool:
    """Whether an earlier purge, which was approved, has already removed the manifest. A record that says so may be forged."""
    return not manifest_exists(store, archive) and store.head(archive.purge_intent_key) is not None


def _refused(archive: ArchiveId, approval: Approval) -> PurgeResult:
    why = f" ({approval.policy})" if approval.policy else ""
    if approval.objection == "not_shown":
        shown = f"it needs a person's approval{why}, and was not among the archives, as they are now, that this run showed for it"
        return _stopped(archive, "refused", shown)
    if approval.objection == "self_approved":
        same = f"{approval.by} approved it and had started the run; `purge.four_eyes` asks for another person"
        return _stopped(archive, "self_approved", f"{same}, {approval.at:%Y-%m-%d %H:%M} UTC{why}")
    refused = f"answered no by {approval.by}" if approval.by != NOBODY else "not answered in time"
    return _stopped(
        archive, "refused", f"the request for approval was {refused}, {approval.at:%Y-%m-%d %H:%M} UTC{why}"
    )


class _Purging:
    """One archive while it is purged, under the claim of its partition."""

    def __init__(
        self,
        store: Store,
        purge_store: PurgeStore,
        archive: ArchiveId,
        run: RunIdentity,
        now: datetime,
        keep_claim: KeepClaim,
        issuer: Issuer,
        erasure: Erasure | None,
        second: SecondCopy | None,
    ) -> None:
        self._second = second
        self._store, self._purge_store, self._archive = store, purge_store, archive
        self._run, self._now, self._keep_claim, self._issuer = run, now, keep_claim, issuer
        self._erasure = erasure
        self._clock = running_clock(now)
        self._holds = HoldWatch(store)
        self._manifest: Manifest | None = None

    def purge(self, decision: Decision, approval: Approval) -> PurgeResult:
        """Check everything again, then remove the archive, prove it and certify it; or say why not."""
        try:
            manifest, intent = read_manifest(self._store, self._archive), read_intent(self._store, self._archive)
        except IntegrityError as error:
            return _stopped(self._archive, "unverifiable", f"{error.what}: found {error.found}")
        if (doubt := _doubt(decision, manifest, intent)) is not None:
            return _stopped(self._archive, "unverifiable", doubt)
        self._manifest = manifest
        if manifest is not None:
            early = {} if self._erasure is None else {str(self._archive): str(self._erasure)}
            [again] = decide_now(self._store, [manifest], now=self._now, watch=self._holds, superseded=early)
            if not again.purge:
                return _as_decided(again)

        versions = versions_of(self._purge_store, self._archive)
        copies = [] if self._second is None else versions_of(self._second.purge_store, self._archive)
        locks = locks_on(self._purge_store, versions, self._second, copies)
        if intent is None and manifest is not None and self._erasure is None:  # one that is superseded goes alone
            locks += locks_on_unit(self._purge_store, self._second, manifest)
        if locks:
            return _stopped(self._archive, "locked", "; ".join(locks))
        if intent is None:
            assert manifest is not None  # noqa: S101 - _doubt() lets nothing else pass
            intent = self._begin(manifest, approval, versions, copies)
        elif doubt := self._enter_again(intent):
            return _stopped(self._archive, "unverifiable", doubt)
        if self._second is not None:
            self._second.tell(self._store, self._archive)
            if (stop := self._remove(self._second.purge_store, copies, "of the replica")) is not None:
                return stop
        if (stop := self._remove(self._purge_store, versions)) is not None:
            return stop
        return self._certify(intent, approval if manifest is not None else intent.approval, versions, copies)

    def _holding(self) -> list[Hold]:
        """Holds in force that keep the archive, and what was sealed together with it as long as its manifest says so."""
        holds = self._holds.in_force()
        return covering(holds, self._archive) if self._manifest is None else covering_unit(holds, self._manifest)

    def _begin(
        self,
        manifest: Manifest,
        approval: Approval,
        versions: Sequence[StoredVersion],
        copies: Sequence[StoredVersion],
    ) -> PurgeIntent:
        """Write the intent."""
        intent = PurgeIntent(
            manifest=manifest,
            manifest_sha256=manifest.sha256,
            approval=approval,
            versions=tuple(versions),
            copies=tuple(copies),
            begun_at=self._clock(),
            begun_by=self._run,
        )
        act = of_archive(
            self._archive,
            "purge intended",
            legal_basis=manifest.legal_basis,
            facts={
                "rows": manifest.record_count,
                "versions": len(versions),
                "retention_until": f"{manifest.retention_until:%Y-%m-%dT%H:%M:%SZ}",
                "approved_by": approval.by,
            },
        )
        record_with_proof(self._store, self._archive.purge_intent_key, intent.to_bytes(), act)
        return intent

    def _enter_again(self, intent: PurgeIntent) -> str | None:
        """Enter that an earlier purge is taken up again; says why the log does not know of that one.

        Between the record and its entry nothing is removed, so an archive whose manifest is gone had its intent entered.
        """
        key = self._archive.purge_intent_key
        subject = subject_of(key, intent.to_bytes())
        act = of_archive(self._archive, "purge intended", legal_basis=intent.manifest.legal_basis)
        if manifest_exists(self._store, self._archive):
            enter_with_proof(self._store, act, subject, proof_key(key))
        return doubt_of_entry(self._store, subject, proof_key(key), ["purge intended"])

    def _remove(
        self, purge_store: PurgeStore, versions: Sequence[StoredVersion], whose: str = ""
    ) -> PurgeResult | None:
        """Remove the versions in their order; None when all are gone, or why it stopped."""
        checked = None
        for number, version in enumerate(versions):
            if version.key != checked:
                if holding := self._holding():
                    return _stopped(
                        self._archive, "held", f"{'; '.join(map(str, holding))}; {_left(number, versions, whose)}"
                    )
                try:
                    self._keep_claim()
                except ContendedError as error:
                    return _stopped(self._archive, "contended", f"{error.what}; {_left(number, versions, whose)}")
                checked = version.key
            try:
                purge_store.remove(version)
            except LockedError as error:
                return _stopped(self._archive, "locked", f"{error.what}; {_left(number, versions, whose)}")
        return None

    def _certify(
        self,
        intent: PurgeIntent,
        approval: Approval,
        versions: Sequence[StoredVersion],
        copies: Sequence[StoredVersion],
    ) -> PurgeResult:
        """Prove that nothing is left, in the replica either, and write the certificate."""
        destroyed_at = self._clock()
        removed = tuple({(one.key, one.version_id): one for one in (*intent.versions, *versions)}.values())
        proof = self._prove(intent.manifest, removed)
        certificate = make_certificate(
            intent,
            approval,
            removed,
            proof,
            issuer=self._issuer,
            erasure=self._erasure,
            store=self._store,
            holds=self._holds.seen,
            run=self._run,
            destroyed_at=destroyed_at,
            replicas=self._replicas({(one.key, one.version_id) for one in (*intent.copies, *copies)}),
        )
        facts = {"rows": certificate.record_count, "versions": len(removed)}
        act = of_archive(self._archive, "purged", legal_basis=certificate.legal_basis, facts=facts)
        record_with_proof(self._store, self._archive.destruction_key, certificate.to_bytes(), act)
        return _purged(self._archive, certificate)

    def _replicas(self, removed: set[tuple[str, str]]) -> tuple[ReplicaCopy, ...]:
        """The second copies: the one that was removed, and those in places that the settings do not name any more."""
        here = (
            []
            if self._second is None
            else [ReplicaCopy(place=str(self._second.store), state="destroyed", versions=len(removed))]
        )
        return (*here, *copies_elsewhere(self._store, self._archive, self._second))

    def _prove(self, manifest: Manifest, removed: Sequence[StoredVersion]) -> Proof:
        """See that nothing is left: both identities list all places where an archive's objects lie.

        Raises:
            StoreError: Something is left.
        """
        listed = (self._archive.archive_prefix, self._archive.manifest_key)
        places = _places(manifest, removed)
        elsewhere = [place for place in places if not place[0].startswith(listed)]
        if left := {*self._still_listed(), *self._still_found(elsewhere)}:
            raise StoreError(
                f"{self._archive} is not gone after its purge",
                expected="no version, no delete marker",
                found=", ".join(sorted(left)[:5]),
                hint="No certificate was written. Check that both connections lead to the same store and that nothing writes "
                "into the archive; the task tries again by itself, and the next purge continues.",
            )
        return Proof(proved_at=self._clock(), listed=listed, looked_at=tuple(places))

    def _still_listed(self) -> list[str]:
        second = () if self._second is None else (self._second.store, self._second.purge_store)
        stores = (self._store, self._purge_store, *second)
        found = ((store, version) for store in stores for version in versions_of(store, self._archive))
        return [f"{store}{version.key} version {version.version_id}" for store, version in found]

    def _still_found(self, elsewhere: Sequence[tuple[str, str]]) -> list[str]:
        """Versions that no listing covers. A sound manifest names none, but an intent may be forged."""
        found = (place for place in elsewhere if self._store.head(*place) is not None)
        return [f"{key} version {version_id}" for key, version_id in found]


def _doubt(decision: Decision, manifest: Manifest | None, intent: PurgeIntent | None) -> str | None:
    """Why this may not be the archive that was judged; None if it is."""
    if manifest is None:
        return None if intent is not None else "its manifest vanished after it was judged, and no purge of it had begun"
    if decision.manifest_sha256 != manifest.sha256:
        return "its manifest is not the one that was judged"
    if intent is not None and intent.manifest != manifest:
        return "its manifest is not the one that an earlier purge began with"
    return None


def _places(manifest: Manifest, removed: Sequence[StoredVersion]) -> list[tuple[str, str]]:
    """Key and version id of each version that must be gone, each once."""
    places = [(version.key, version.version_id) for version in removed if not version.is_marker]
    places += [(part.object_key, part.version_id) for part in manifest.parts if part.version_id is not None]
    return list(dict.fromkeys(places))


def _left(gone: int, versions: Sequence[StoredVersion], whose: str) -> str:
    left = ", ".join(sorted({version.key.rpartition("/")[2] for version in versions[gone:]}))
    which = f"versions {whose}".strip()
    return f"{gone} of {len(versions)} {which} were removed before, left are {left}" if gone else "nothing was removed"


def _purged(archive: ArchiveId, certificate: Certificate) -> PurgeResult:
    return PurgeResult(
        archive_id=str(archive),
        result="purged",
        detail=f"destroyed at {certificate.destroyed_at:%Y-%m-%d %H:%M} UTC, approved {certificate.approved_by}"
        + (f" ({certificate.approval_policy})" if certificate.approval_policy else ""),
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
