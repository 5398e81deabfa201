"""Remove what broken runs left behind, and what has expired: never an archive, never anything under a hold.

Only what is older than a grace age is considered, and nothing of a partition that a run has claimed. Parts count as
leftovers only if no manifest ever made them an archive and there is no evidence of them: then no row was ever deleted
because of them, and their rows are still in the table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import ContendedError, IntegrityError
from strongroom.ledger.claims import parse_claim, release_claim, running_clock, take_claim
from strongroom.ledger.holds import Hold, covering, holds_in_force, on_everything
from strongroom.ledger.journal import Act, Facts, enter, subject_of
from strongroom.ledger.manifests import archive_ids, is_destroyed, read_manifest
from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys.archives import ArchiveId, stored_archive_id, unfinished_purges
from strongroom.object_keys.layout import ARCHIVES, CLAIMS, EVIDENCE, MANIFEST_INDEX, ORDERS, OVERVIEW, RESTORES
from strongroom.records import Claim, Record, RunIdentity
from strongroom.retention.second_copy import SecondCopy, left_behind
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import LockedError, PurgeStore, UnfinishedUpload
from strongroom.storage.staging import OF_QUERIES, OF_RESTORES, QUERY_RESULTS_KEPT, StagingRoot
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key

_COPIED = ("unsealed", "restore_record", "claim", "copy")
"""Kinds of leftovers that a replica may have too."""

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


class Swept(Record):
    """What became of one leftover: ``removed``, or why it stays."""

    kind: str
    name: str
    result: Literal["removed", "held", "contended", "locked", "unverifiable"]
    detail: str
    since: AwareDatetime
    versions: int
    size_bytes: int


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
    return [_judge(store, leftover, holds, now) for leftover in found]


def sweep_store(
    store: Store,
    purge_store: PurgeStore,
    *,
    run: RunIdentity,
    now: datetime,
    grace: timedelta,
    claim_ttl: timedelta,
    second: SecondCopy | None = None,
) -> list[Swept]:
    """Remove what :func:`find_leftovers` finds, in the replica first, and say what became of each leftover. A repeat finds nothing."""

    def remove(leftover: Leftover) -> None:
        if second is not None and leftover.kind in _COPIED:
            second.remove_keys(iter(dict.fromkeys(version.key for version in leftover.versions)))
        for version in leftover.versions if leftover.kind != "copy" else ():
            purge_store.remove(version)
        if leftover.upload is not None:
            purge_store.abort(leftover.upload)

    sweeping = _Sweeping(store, run, now, claim_ttl)
    leftovers = find_leftovers(store, purge_store, now=now, grace=grace, second=second)
    return [sweeping.sweep(leftover, remove) for leftover in leftovers]


def sweep_staging(
    store: Store,
    root: StagingRoot,
    table: TableSettings,
    *,
    run: RunIdentity,
    now: datetime,
    grace: timedelta,
) -> list[Swept]:
    """Remove the staging of one table if its archive is finished or gone, or if nobody touched it for the grace age.

    A restore in progress holds the claims of its partitions, so its folder stays. A restore that broke off and is resumed
    later starts its parts anew, and finds the rows that it has loaded.

    Args:
        store: Where the table's archives lie.
        root: Holds all staging, as this machine sees it.
        table: The one table; what belongs to others as well stays.
        run: Which Airflow run this is.
        now: Aware instant.
        grace: How old a leftover must be.
    """
    sweeping = _Sweeping(store, run, now, table.claim_ttl)
    holds = holds_in_force(store)
    swept = []
    for place in filter(lambda one: one.belongs_to(table), _staging_places(root)):
        since = root.touched_at(*place.names)
        if since <= now - grace or place.is_finished(store):
            with root.of(*place.names) as staging:
                ids = tuple(map(str, place.archives))
                leftover = Leftover(kind="staging", name=str(staging), archive_ids=ids, since=since)
                judged = _judge(store, leftover, holds, now)
                swept.append(sweeping.sweep(judged, lambda _: staging.clear()))
    return swept


def sweep_query_results(root: StagingRoot, *, now: datetime) -> list[Swept]:
    """Remove the results of queries after a day: they are copies of personal data, and nobody can open them any more.

    No hold keeps them. A hold keeps archives, and what a query found can be found again as long as these exist.

    Args:
        root: Holds all staging, as this machine sees it.
        now: Aware instant.
    """
    swept = []
    for name in root.children(OF_QUERIES):
        since = root.touched_at(OF_QUERIES, name)
        if since <= now - QUERY_RESULTS_KEPT:
            with root.of(OF_QUERIES, name) as staging:
                staging.clear()
                swept.append(_swept(Leftover(kind="query_result", name=str(staging), since=since), "removed", ""))
    return swept


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
            doubt = _doubt(store, archive)
            yield _refused(leftover, "unverifiable", doubt) if doubt else leftover


def _doubt(store: Store, archive: ArchiveId) -> str | None:
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


def _judge(store: Store, leftover: Leftover, holds: Sequence[Hold], now: datetime) -> Leftover:
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


class _Sweeping:
    """Removes leftovers of a store, each with the claims of its partitions and after one more look at holds and evidence."""

    def __init__(self, store: Store, run: RunIdentity, now: datetime, claim_ttl: timedelta) -> None:
        self._store, self._owner, self._claim_ttl = store, str(run), claim_ttl
        self._clock = running_clock(now)

    def sweep(self, leftover: Leftover, remove: Callable[[Leftover], None]) -> Swept:
        """Remove one leftover, or say why it stays."""
        if leftover.refusal is not None:
            return _swept(leftover, leftover.refusal, leftover.detail)
        now, taken = self._clock(), []
        try:
            for key in sorted({archive.claim_key for archive in _claimed(leftover)}):
                take_claim(self._store, key, owner=self._owner, now=now, ttl=self._claim_ttl)
                taken.append(key)
            swept = self._sweep_claimed(leftover, remove)
        except ContendedError as error:
            swept = _swept(leftover, "contended", error.what)
        for key in taken:
            release_claim(self._store, key, owner=self._owner, now=now)
        return swept

    def _sweep_claimed(self, leftover: Leftover, remove: Callable[[Leftover], None]) -> Swept:
        if holding := self._holding(leftover):
            return _swept(leftover, "held", holding)
        if leftover.kind == "unsealed" and (doubt := self._forbid_sealing(leftover)):
            return _swept(leftover, "contended", f"it was sealed while this sweep looked at it: {doubt}")
        records = leftover.archives if leftover.kind == "unsealed" else ()
        enter(self._store, _intent(leftover), [subject_of(one.sweep_key, _record_of_sweep(one)) for one in records])
        try:
            remove(leftover)
        except LockedError as error:
            return _swept(leftover, "locked", error.what)
        return _swept(leftover, "removed", leftover.detail)

    def _holding(self, leftover: Leftover) -> str:
        """The holds that have come to cover it, in words; empty if there is none."""
        holds = holds_in_force(self._store)
        holding = on_everything(holds)
        for archive in leftover.archives:
            holding += covering(holds, archive)
        return "; ".join(dict.fromkeys(map(str, holding)))

    def _forbid_sealing(self, leftover: Leftover) -> str | None:
        """Put on record that its parts are swept away; says why they may have been sealed all the same.

        From then on nobody can seal them, however long this process stalls before it removes them: sealing looks for this
        record after it has written one of its own, and this looks for that one after it has written its record.
        """
        for archive in leftover.archives:
            self._store.put_bytes(archive.sweep_key, _record_of_sweep(archive))
            if doubt := _doubt(self._store, archive):
                return doubt
        return None


def _record_of_sweep(archive: ArchiveId) -> bytes:
    return json.dumps({"archive_id": str(archive)}).encode()


def _intent(leftover: Leftover) -> Act:
    size = sum(version.size_bytes for version in leftover.versions)
    facts: Facts = {"what": leftover.kind, "name": leftover.name, "versions": len(leftover.versions), "bytes": size}
    return Act(kind="sweep intended", facts=facts)


def _claimed(leftover: Leftover) -> Sequence[ArchiveId]:
    """The archives whose partitions must be claimed before a leftover is removed."""
    return leftover.archives if leftover.kind in ("unsealed", "upload", "staging", "copy") else ()


def _swept(leftover: Leftover, result: Literal["removed"] | Refusal, detail: str) -> Swept:
    return Swept(
        kind=leftover.kind,
        name=leftover.name,
        result=result,
        detail=detail,
        since=leftover.since,
        versions=len(leftover.versions),
        size_bytes=sum(version.size_bytes for version in leftover.versions),
    )


@dataclass(frozen=True)
class _StagingPlace:
    """Scratch space of one archive or of one restore."""

    names: tuple[str, ...]
    archives: tuple[ArchiveId, ...]

    def belongs_to(self, table: TableSettings) -> bool:
        """Whether it is that of one table alone."""
        ours = (table.schema_name, table.table_name)
        return all((archive.schema_name, archive.table_name) == ours for archive in self.archives)

    def is_finished(self, store: Store) -> bool:
        """Whether nobody needs it, however new it is. A restore may be resumed, so its scratch space is never finished."""
        is_restore = len(self.names) > 1
        return not is_restore and all(_is_finished(store, archive) for archive in self.archives)


def _staging_places(root: StagingRoot) -> Iterator[_StagingPlace]:
    """The scratch space of archives, then of restores. Everything else there is not ours."""
    for name in root.children():
        if (archive := ArchiveId.parse_or_none(name)) is not None:
            yield _StagingPlace((name,), (archive,))
    for name in root.children(OF_RESTORES):
        inner = [ArchiveId.parse_or_none(child) for child in root.children(OF_RESTORES, name)]
        archives = tuple(archive for archive in inner if archive is not None)
        if len(archives) == len(inner):
            yield _StagingPlace((OF_RESTORES, name), archives)


def _is_finished(store: Store, archive: ArchiveId) -> bool:
    """Whether an archive was destroyed, or is sealed and evidence says of each part that its rows were deleted."""
    if is_destroyed(store, archive):
        return True
    try:
        manifest = read_manifest(store, archive)
    except IntegrityError:
        return False
    return manifest is not None and all(store.head(archive.delete_evidence_key(part.number)) for part in manifest.parts)
