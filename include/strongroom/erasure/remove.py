"""Remove the archives that a case has superseded, once their cooling-off is over.

They go as every archive goes: with an intent, holds and locks examined before each object, a proof that nothing is left, and a
certificate, which names the case and the successor.
"""

from __future__ import annotations

from datetime import datetime

from strongroom.erasure.approve import read_answer
from strongroom.erasure.cases import records_of
from strongroom.erasure.erase import ErasureIntent
from strongroom.erasure.successions import SuccessionRecord, successions_of
from strongroom.errors import IntegrityError
from strongroom.ledger.manifests import is_destroyed, require_manifest
from strongroom.ledger.reread import doubt_about
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.certificate import Approval, Erasure, Issuer
from strongroom.retention.decide import Decision
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.retention.second_copy import SecondCopy
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store

_HINT = "Nothing was removed. Look at the record's earlier versions, and find out who wrote it."


def left_to_remove(store: Store, case_id: str) -> list[SuccessionRecord]:
    """Those whose superseded archive is still there."""
    return [one for one in successions_of(store, case_id) if not is_destroyed(store, ArchiveId.parse(one.supersedes))]


def remove_superseded(
    store: Store,
    purge_store: PurgeStore,
    settings: TableSettings,
    succession: SuccessionRecord,
    *,
    run: RunIdentity,
    now: datetime,
    issuer: Issuer,
    second: SecondCopy | None = None,
) -> PurgeResult:
    """Destroy one archive that was superseded, and certify it. Every byte of its successor is read back before.

    Raises:
        IntegrityError: The successor is not what was proved.
        StoreError: The store failed; the next try continues.
    """
    archive, successor = ArchiveId.parse(succession.supersedes), ArchiveId.parse(succession.archive_id)
    manifest = require_manifest(store, successor)
    if manifest.sha256 != succession.manifest_sha256:
        raise IntegrityError(
            f"{successor} is not the archive that was proved to supersede {archive}",
            expected=succession.manifest_sha256,
            found=manifest.sha256,
            hint=_HINT,
        )
    ends_at = succession.cooled_off_at(settings)
    if ends_at <= now and (doubt := doubt_about(store, successor)):
        raise IntegrityError(
            f"{archive} cannot be destroyed: it may be the only copy of rows that its successor should have",
            expected=f"every object of {successor} to be read back and matched",
            found=doubt,
            hint=f"Nothing was removed. `airflow strongroom verify {successor}` says what is wrong with it; get the object back, "
            "then clear this task.",
        )
    erasure = Erasure(case_id=succession.case_id, superseded_by=str(successor))
    decision = Decision(
        archive_id=str(archive),
        purge=ends_at <= now,
        reason="superseded" if ends_at <= now else "kept",
        detail=f"{erasure}; its cooling-off ends at {ends_at:%Y-%m-%d %H:%M} UTC",
        manifest_sha256=succession.superseded_sha256,
    )
    return purge_archive(
        store,
        purge_store,
        decision,
        _approval(store, succession.case_id, now),
        run=run,
        now=now,
        claim_ttl=settings.claim_ttl,
        issuer=issuer,
        erasure=erasure,
        second=second,
    )


def _approval(store: Store, case_id: str, now: datetime) -> Approval:
    """The yes that the erasure was carried out with; a no if the log vouches for none."""
    for key in reversed(records_of(store, case_id, "intent")):
        intent = read_record(store, key, ErasureIntent, what="a sound intent", hint=_HINT)
        answer = read_answer(store, case_id, intent.found_key) if intent is not None else None
        if answer is not None and answer.approved:
            return Approval(approved=True, by=answer.by, at=answer.at)
    return Approval(approved=False, by="nobody", at=now)
