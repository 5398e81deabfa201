"""Sweep away what broken runs left, and what has run out: never an archive, never anything under a hold.

Only what is older than a grace age is looked at, and nothing of a partition that a run has claimed. Parts are taken for
leftovers only if no manifest ever made them an archive and there is no evidence of them: then no row was ever deleted
because of them, and the rows are still in the table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from strongroom.errors import ContendedError, IntegrityError
from strongroom.ledger.claims import parse_claim, release_claim, running_clock, take_claim
from strongroom.ledger.holds import Hold, covering, holds_in_force, on_everything
from strongroom.ledger.manifests import archive_ids, read_manifest
from strongroom.ledger.restores import read_restore
from strongroom.object_keys import (
    ARCHIVES,
    CATALOG_INDEX,
    CLAIMS,
    EVIDENCE,
    RESTORES,
    ArchiveId,
    stored_archive_id,
    unfinished_purges,
)
from strongroom.records import Claim, Record, RunIdentity
from strongroom.storage.purge_store import LockedError, PurgeStore, UnfinishedUpload
from strongroom.storage.staging import OF_RESTORES, StagingRoot
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion, by_key

Refusal = Literal["held", "contended", "locked", "unverifiable"]


class Leftover(Record):
    """Something that nobody needs any more, or that looks so.

    ``unsealed``: parts without an archive. ``upload``: an unfinished multipart upload. ``restore_record``: its date is
    past. ``claim``: given back, or run out. ``superseded``: earlier versions of a claim or of the index of manifests.
    ``staging``: scratch space of one archive or of one restore.
    """

    kind: Literal["unsealed", "upload", "restore_record", "claim", "superseded", "staging"]
    name: str = Field(description="Object key, archive id, or path.")
    archive_ids: tuple[str, ...] = ()
    since: AwareDatetime
    versions: tuple[StoredVersion, ...] = ()
    upload: UnfinishedUpload | None = None
    refusal: Refusal | None = Field(default=None, description="Why it stays all the same.")
    detail: str = ""


class Swept(Record):
    """What became of one leftover; ``removed``, or why it stays."""

    kind: str
    name: str
    result: Literal["removed", "held", "contended", "locked", "unverifiable"]
    detail: str
    since: AwareDatetime
    versions: int
    size_bytes: int


def find_leftovers(store: Store, purge_store: PurgeStore, *, now: datetime, grace: timedelta) -> list[Leftover]:
    """Say what of a store could be swept away, and what looks so and stays. Removes nothing.

    Args:
        store: With the archiver's rights.
        purge_store: With the purger's rights, on the same bucket and prefix.
        now: Aware instant.
        grace: How old a leftover must be; records of restores are due at their date.

    Raises:
        IntegrityError: A hold cannot be read.
    """
    holds = holds_in_force(store)
    found = (
        *_unsealed(store, now - grace),
        *_uploads(purge_store, now - grace),
        *_restore_records(store, now),
        *_claims(store, now - grace),
        *_superseded(store.versions(CATALOG_INDEX), now - grace),
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
) -> list[Swept]:
    """Remove what :func:`find_leftovers` found, and say of each leftover what became of it. A repeat finds nothing."""

    def remove(leftover: Leftover) -> None:
        for version in leftover.versions:
            purge_store.remove(version)
        if leftover.upload is not None:
            purge_store.abort(leftover.upload)

    clock = running_clock(now)
    leftovers = find_leftovers(store, purge_store, now=now, grace=grace)
    return [_sweep(store, leftover, remove, run, clock(), claim_ttl) for leftover in leftovers]


def sweep_staging(
    store: Store,
    root: StagingRoot,
    *,
    schema_name: str,
    table_name: str,
    run: RunIdentity,
    now: datetime,
    grace: timedelta,
    claim_ttl: timedelta,
) -> list[Swept]:
    """Remove the staging of one table whose archive is finished or gone, or that nobody touched for the grace age.

    A restore that is under way holds the claims of its partitions, and its folder stays. One that broke off and is taken
    up again later begins its parts anew; it finds the rows that it had loaded.

    Args:
        store: Where the table's archives lie.
        root: Holds all staging, as this machine sees it.
    """
    clock = running_clock(now)
    holds = holds_in_force(store)
    swept = []
    for names, archives in _staging_places(root):
        if {(archive.schema_name, archive.table_name) for archive in archives} <= {(schema_name, table_name)}:
            since = root.touched_at(*names)
            restored = len(names) > 1
            if since <= now - grace or (not restored and _is_finished(store, *archives)):
                with root.of(*names) as staging:
                    leftover = Leftover(
                        kind="staging", name=str(staging), archive_ids=tuple(map(str, archives)), since=since
                    )
                    judged = _judge(store, leftover, holds, now)
                    swept.append(_sweep(store, judged, lambda _: staging.clear(), run, clock(), claim_ttl))
    return swept


def _unsealed(store: Store, before: datetime) -> Iterator[Leftover]:
    parts: defaultdict[ArchiveId, list[StoredVersion]] = defaultdict(list)
    for version in store.versions(ARCHIVES):
        if (archive := stored_archive_id(version.key)) is not None:
            parts[archive].append(version)
    # Manifests are listed after the parts, so that an archive that is sealed meanwhile is seen as one.
    known = {*archive_ids(store), *unfinished_purges(store.keys(EVIDENCE))}
    for archive, versions in sorted(parts.items()):
        since = max(version.modified_at for version in versions)
        if archive not in known and since <= before:
            leftover = Leftover(
                kind="unsealed", name=str(archive), archive_ids=(str(archive),), since=since, versions=tuple(versions)
            )
            doubt = _doubt(store, archive)
            yield leftover.model_copy(update={"refusal": "unverifiable", "detail": doubt}) if doubt else leftover


def _doubt(store: Store, archive: ArchiveId) -> str | None:
    """Why parts whose manifest was not listed may be an archive all the same."""
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
            record = read_restore(store, key)
        except IntegrityError as error:
            yield leftover.model_copy(update={"refusal": "unverifiable", "detail": error.what})
            continue
        if record is not None and record.until <= now:
            yield leftover.model_copy(update={"archive_ids": record.archive_ids, "since": record.until})


def _claims(store: Store, before: datetime) -> Iterator[Leftover]:
    for key, versions in by_key(store.versions(CLAIMS)).items():
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
    """Earlier versions of objects that are overwritten all the time and prove nothing."""
    old = [version for version in versions if not version.is_latest and version.modified_at <= before]
    for key, gone in by_key(old).items():
        yield Leftover(kind="superseded", name=key, since=gone[-1].modified_at, versions=gone)


def _judge(store: Store, leftover: Leftover, holds: Sequence[Hold], now: datetime) -> Leftover:
    """Enter why a leftover stays, if a hold or a claim speaks for it."""
    if leftover.refusal is not None:
        return leftover
    if holding := on_everything(holds):
        return leftover.model_copy(update={"refusal": "held", "detail": "; ".join(map(str, holding))})
    for archive in map(ArchiveId.parse, leftover.archive_ids):
        if holding := covering(holds, archive):
            return leftover.model_copy(update={"refusal": "held", "detail": "; ".join(map(str, holding))})
        try:
            claim = _claim_held(store, archive, now) if leftover.kind != "restore_record" else None
        except IntegrityError:
            return leftover.model_copy(update={"refusal": "unverifiable", "detail": "its claim cannot be read"})
        if claim is not None:
            detail = f"{claim.owner} has claimed the partition until {claim.expires_at:%Y-%m-%d %H:%M} UTC"
            return leftover.model_copy(update={"refusal": "contended", "detail": detail})
    return leftover


def _claim_held(store: Store, archive: ArchiveId, now: datetime) -> Claim | None:
    key = archive.claim_key
    present = store.read(key)
    claim = None if present is None else parse_claim(key, present[0])
    return claim if claim is not None and claim.state == "held" and claim.expires_at > now else None


def _sweep(
    store: Store,
    leftover: Leftover,
    remove: Callable[[Leftover], None],
    run: RunIdentity,
    now: datetime,
    claim_ttl: timedelta,
) -> Swept:
    """Remove one leftover, with the claims of its partitions, after one more look."""
    if leftover.refusal is not None:
        return _swept(leftover, leftover.refusal, leftover.detail)
    claimed = leftover.kind in ("unsealed", "upload", "staging")
    archives = [ArchiveId.parse(each) for each in leftover.archive_ids] if claimed else []
    keys = {archive.claim_key for archive in archives}
    taken = []
    try:
        for key in sorted(keys):
            take_claim(store, key, owner=str(run), now=now, ttl=claim_ttl)
            taken.append(key)
        swept = _sweep_claimed(store, leftover, archives, remove)
    except ContendedError as error:
        swept = _swept(leftover, "contended", error.what)
    for key in taken:
        release_claim(store, key, owner=str(run), now=now)
    return swept


def _sweep_claimed(
    store: Store, leftover: Leftover, archives: Sequence[ArchiveId], remove: Callable[[Leftover], None]
) -> Swept:
    holds = holds_in_force(store)
    holding = on_everything(holds)
    for archive in map(ArchiveId.parse, leftover.archive_ids):
        holding += covering(holds, archive)
    if holding:
        return _swept(leftover, "held", "; ".join(dict.fromkeys(map(str, holding))))
    if leftover.kind == "unsealed":
        for archive in archives:
            # From here on nobody can seal it, however long we stand still before the parts go: whoever seals looks for
            # this record after leaving one of the seal, and we look for that one after leaving this.
            store.put_bytes(archive.sweep_key, json.dumps({"archive_id": str(archive)}).encode())
            if doubt := _doubt(store, archive):
                return _swept(leftover, "contended", f"it was sealed while this sweep looked at it: {doubt}")
    try:
        remove(leftover)
    except LockedError as error:
        return _swept(leftover, "locked", error.what)
    return _swept(leftover, "removed", leftover.detail)


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


def _staging_places(root: StagingRoot) -> Iterator[tuple[tuple[str, ...], tuple[ArchiveId, ...]]]:
    """Places of archives, then of restores, each with the archives that it is scratch space of; all others are not ours."""
    for name in root.children():
        if (archive := ArchiveId.parse_or_none(name)) is not None:
            yield (name,), (archive,)
    for name in root.children(OF_RESTORES):
        inner = [ArchiveId.parse_or_none(child) for child in root.children(OF_RESTORES, name)]
        archives = tuple(archive for archive in inner if archive is not None)
        if len(archives) == len(inner):
            yield (OF_RESTORES, name), archives


def _is_finished(store: Store, archive: ArchiveId) -> bool:
    """Whether an archive was destroyed, or is sealed and evidence says of each part that its rows were deleted."""
    if store.head(archive.destruction_key) is not None:
        return True
    try:
        manifest = read_manifest(store, archive)
    except IntegrityError:
        return False
    return manifest is not None and all(store.head(archive.delete_evidence_key(part.number)) for part in manifest.parts)
