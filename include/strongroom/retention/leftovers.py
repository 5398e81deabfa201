"""What broken runs left behind, and what has expired: found and judged, before anything is removed.

Only what is older than a grace age is considered, and nothing of a partition that a run has claimed. Parts count as
leftovers only if no manifest ever made them an archive and there is no evidence of them: then no row was ever deleted
because of them, and their rows are still in the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import IntegrityError
from strongroom.ledger.claims import parse_claim
from strongroom.ledger.holds import Hold, covering, holds_in_force, on_everything
from strongroom.ledger.manifests import archive_ids
from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys.archives import ArchiveId, stored_archive_id, unfinished_purges
from strongroom.object_keys.layout import ARCHIVES, CLAIMS, EVIDENCE, MANIFEST_INDEX, ORDERS, OVERVIEW, RESTORES
from strongroom.records import Claim, Record
from strongroom.retention.second_copy import SecondCopy, left_behind
from strongroom.storage.purge_store import PurgeStore, UnfinishedUpload
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key

Refusal = Literal["held", "contended", "locked", "unverifiable"]


class Leftover(Record):
    """Something that nobody seems to need any more.

    ``unsealed``: parts without an archive. ``upload``: an unfinished multipart upload. ``restore_record``: its date is
    past. ``claim``: released or expired. ``superseded``: earlier versions of a claim, of the index of manifests or of the
    overview. ``staging``: scratch space of one archive or of one restore. ``query_result``: rows that a query
    showed. ``copy``: what the replica has of an archive that was destroyed.
    """

    kind: Literal["unsealed", "upload", "restore_record", "claim", "superseded", "staging", "query_result", "copy"]
    name: str = Field(description="Object key, archive id, or path.")
    archive_ids: tuple[str, ...] = ()
    since: AwareDatetime
    versions: tuple[StoredVersion, ...] = ()
    upload: UnfinishedUpload | None = None
    refusal: Refusal | None = Field(default=None, description="Why it stays nevertheless.")
    detail: str = ""

    @property
    def archives(self) -> list[ArchiveId]:
        """The archives that it belongs to."""
        return list(map(ArchiveId.parse, self.archive_ids))


def find_leftovers(
    store: Store, purge_store: PurgeStore, *, now: datetime, grace: timedelta, second: SecondCopy | None = None
) -> list[Leftover]:
    """Find the leftovers of a store, those that stay included. Removes nothing.

    Args:
        store: With the archiver's rights.
        purge_store: With the purger's rights, on the same bucket and prefix.
        now: Aware instant.
        grace: How old a leftover must be. Records of restores are due on their date, copies of destroyed archives at once.
        second: The replica; None if there is none.

    Raises:
        IntegrityError: A hold cannot be read.
    """
    holds = holds_in_force(store)
    found = (
        *_unsealed(store, now - grace),
        *_uploads(purge_store, now - grace),
        *_restore_records(store, now),
        *_claims(store, now - grace),
        *_superseded(store.versions(MANIFEST_INDEX), now - grace),
        *_superseded(store.versions(OVERVIEW), now - grace),
        *(_copies(store, second) if second is not None else ()),
    )
    return [judge(store, leftover, holds, now) for leftover in found]


def _unsealed(store: Store, before: datetime) -> Iterator[Leftover]:
    parts: defaultdict[ArchiveId, list[StoredVersion]] = defaultdict(list)
    for version in store.versions(ARCHIVES):
        if (archive := stored_archive_id(version.key)) is not None:
            parts[archive].append(version)
    # Manifests are listed after the parts, so that an archive that is sealed meanwhile counts as one.
    known = {*archive_ids(store), *unfinished_purges(store.keys(EVIDENCE))}
    for archive, versions in sorted(parts.items()):
        since = max(version.modified_at for version in versions)
        if archive not in known and since <= before:
            leftover = Leftover(
                kind="unsealed", name=str(archive), archive_ids=(str(archive),), since=since, versions=tuple(versions)
            )
            doubt = doubt_unsealed(store, archive)
            yield _refused(leftover, "unverifiable", doubt) if doubt else leftover


def doubt_unsealed(store: Store, archive: ArchiveId) -> str | None:
    """Why parts whose manifest was not listed may be an archive nevertheless."""
    if store.history(archive.manifest_key):
        return "there is a manifest of it"
    if any(key != archive.sweep_key for key in store.keys(archive.evidence_prefix)):
        return "there is evidence of it, so it was an archive once, and its manifest is gone"
    return None


def _uploads(purge_store: PurgeStore, before: datetime) -> Iterator[Leftover]:
    for upload in purge_store.unfinished_uploads(ARCHIVES):
        if upload.initiated_at <= before:
            archive = stored_archive_id(upload.key)
            yield Leftover(
                kind="upload",
                name=upload.key,
                archive_ids=(str(archive),) if archive else (),
                since=upload.initiated_at,
                upload=upload,
            )


def _restore_records(store: Store, now: datetime) -> Iterator[Leftover]:
    for key, versions in by_key(store.versions(RESTORES)).items():
        leftover = Leftover(kind="restore_record", name=key, since=versions[-1].modified_at, versions=versions)
        try:
            record = read_restore_record(store, key)
        except IntegrityError as error:
            yield _refused(leftover, "unverifiable", error.what)
            continue
        if record is not None and record.until <= now:
            yield leftover.model_copy(update={"archive_ids": record.archive_ids, "since": record.until})


def _copies(store: Store, second: SecondCopy) -> Iterator[Leftover]:
    for archive, versions in left_behind(store, second):
        since = max(version.modified_at for version in versions)
        name = f"{archive} in {second.store}"
        yield Leftover(kind="copy", name=name, archive_ids=(str(archive),), since=since, versions=tuple(versions))


def _claims(store: Store, before: datetime) -> Iterator[Leftover]:
    for key, versions in by_key(store.versions(CLAIMS)).items():
        if key.startswith(ORDERS):
            yield from _superseded(versions, before)
            continue
        since = versions[-1].modified_at
        present = store.read(key) if since <= before else None
        try:
            claim = None if present is None else parse_claim(key, present[0])
        except IntegrityError:
            yield Leftover(
                kind="claim", name=key, since=since, refusal="unverifiable", detail="it is not a sound claim"
            )
            continue
        if claim is not None and claim.expires_at <= before:
            yield Leftover(kind="claim", name=key, since=claim.expires_at, versions=versions)
        else:
            yield from _superseded(versions, before)


def _superseded(versions: Iterable[StoredVersion], before: datetime) -> Iterator[Leftover]:
    """Earlier versions of objects that are overwritten again and again and prove nothing."""
    old = [version for version in versions if not version.is_latest and version.modified_at <= before]
    for key, gone in by_key(old).items():
        yield Leftover(kind="superseded", name=key, since=gone[-1].modified_at, versions=gone)


def judge(store: Store, leftover: Leftover, holds: Sequence[Hold], now: datetime) -> Leftover:
    """Note in a leftover why it stays, if a hold covers it or a run has claimed its partition."""
    if leftover.refusal is not None:
        return leftover
    if holding := on_everything(holds):
        return _refused(leftover, "held", "; ".join(map(str, holding)))
    for archive in leftover.archives:
        if holding := covering(holds, archive):
            return _refused(leftover, "held", "; ".join(map(str, holding)))
        try:
            claim = _claim_held(store, archive, now) if leftover.kind != "restore_record" else None
        except IntegrityError:
            return _refused(leftover, "unverifiable", "its claim cannot be read")
        if claim is not None:
            until = f"{claim.expires_at:%Y-%m-%d %H:%M} UTC"
            return _refused(leftover, "contended", f"{claim.owner} has claimed the partition until {until}")
    return leftover


def _refused(leftover: Leftover, refusal: Refusal, detail: str) -> Leftover:
    return leftover.model_copy(update={"refusal": refusal, "detail": detail})


def _claim_held(store: Store, archive: ArchiveId, now: datetime) -> Claim | None:
    key = archive.claim_key
    present = store.read(key)
    claim = None if present is None else parse_claim(key, present[0])
    return claim if claim is not None and claim.state == "held" and claim.expires_at > now else None
