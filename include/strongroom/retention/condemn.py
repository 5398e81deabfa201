"""Give up an archive that has lost a part for good, so that its partition is not stuck behind it.

Condemning removes and changes nothing of the archive; it leaves one record as evidence. From then on ``plan`` no longer
waits for the archive's delete, so those of its rows that are still in the table go into the next archive, and ``delete``
deletes nothing because of it. Its sound parts can still be restored, and it is purged when its term is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from strongroom.errors import StrongroomError
from strongroom.ledger.claims import release_claim, take_claim
from strongroom.ledger.entries import of_archive
from strongroom.ledger.holds import holds_in_force
from strongroom.ledger.journal import record
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.reread import ArchiveVerdict, read_deletions, verify_archive
from strongroom.ledger.stored_records import read_record
from strongroom.ledger.units import covering_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record
from strongroom.storage.store import Store


class CondemnError(StrongroomError):
    """An archive must not be condemned, or the request is incomplete."""

    code = "SR-403"


class Condemnation(Record):
    """Who gave up an archive, why, and what was left of it."""

    archive_id: str
    why: str
    who: str
    condemned_at: AwareDatetime
    verdict: ArchiveVerdict
    lost_rows: int = Field(ge=0, description="Rows of unsound parts that were deleted, according to the evidence.")


def condemn_archive(
    store: Store, archive: ArchiveId, *, why: str, who: str, now: datetime, claim_ttl: timedelta
) -> Condemnation:
    """Read an archive again, and record that it is given up if a part of it is missing or corrupted.

    A repeat returns the existing record.

    Args:
        store: Where it lies.
        archive: Which one.
        why: The reason, in words.
        who: The person who says so.
        now: Aware instant.
        claim_ttl: How long the claim on the partition holds if this process dies.

    Raises:
        CondemnError: All its parts are there and sound, a legal hold covers it, or a text is empty.
        ContendedError: A run is working on its partition.
        IntegrityError: Its manifest is not sound, so it is unknown what the archive should be.
    """
    if not why.strip() or not who.strip():
        raise CondemnError(
            f"the condemnation of {archive} does not say who or why",
            hint="Nothing was changed. Give both: an auditor will ask.",
        )
    claim = archive.claim_key
    owner = f"condemn {archive} by {who}"
    take_claim(store, claim, owner=owner, now=now, ttl=claim_ttl)
    try:
        return _condemn(store, archive, why, who, now)
    finally:
        release_claim(store, claim, owner=owner, now=now)


def read_condemnation(store: Store, archive: ArchiveId) -> Condemnation | None:
    """The record that an archive was given up; None if it was not."""
    return read_record(
        store,
        archive.condemnation_key,
        Condemnation,
        what="a sound condemnation",
        hint="Nothing was changed. Look at its earlier versions and put the right one back.",
    )


def _condemn(store: Store, archive: ArchiveId, why: str, who: str, now: datetime) -> Condemnation:
    if (present := read_condemnation(store, archive)) is not None:
        return present
    manifest = require_manifest(store, archive)
    if holding := covering_unit(holds_in_force(store), manifest):
        raise CondemnError(
            f"{archive} is under {'; '.join(map(str, holding))}",
            hint="Nothing was changed. Tell the person who placed the hold that a part is gone. Release the hold first, or get the "
            "part back.",
        )
    verdict = verify_archive(store, archive)
    judged = list(zip(verdict.objects, read_deletions(store, manifest), strict=False))  # SHA256SUMS comes last
    bad = [(part, deletion) for part, deletion in judged if part.result in ("missing", "corrupted")]
    if not bad:
        raise CondemnError(
            f"{archive} was not condemned: each part of it is there and sound",
            expected="a part that is missing or corrupted",
            found=verdict.result,
            hint="Nothing was changed. `airflow strongroom verify` says what is wrong with it, if anything.",
        )
    dropped = any(key.startswith(archive.drop_evidence_prefix) for key in store.keys(archive.evidence_prefix))
    condemnation = Condemnation(
        archive_id=str(archive),
        why=why,
        who=who,
        condemned_at=now,
        verdict=verdict,
        lost_rows=sum(
            deletion.deleted + deletion.gone + (deletion.detached if dropped else 0)
            for _, deletion in bad
            if deletion is not None
        ),
    )
    act = of_archive(archive, "condemned", who=who, facts={"lost_rows": condemnation.lost_rows})
    record(store, archive.condemnation_key, condemnation.to_bytes(), act)
    return condemnation
