"""Remove what broken runs left behind, and what has expired: never an archive, never anything under a hold.

Each leftover is removed under the claims of its partitions, after one more look at holds and evidence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from strongroom.errors import ContendedError, IntegrityError
from strongroom.ledger.claims import release_claim, running_clock, take_claim
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.holds import covering, holds_in_force, on_everything
from strongroom.ledger.journal import enter
from strongroom.ledger.manifests import is_destroyed, read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Record, RunIdentity
from strongroom.retention.leftovers import Leftover, Refusal, doubt_unsealed, find_leftovers, judge
from strongroom.retention.second_copy import SecondCopy
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import LockedError, PurgeStore
from strongroom.storage.staging import OF_QUERIES, OF_RESTORES, QUERY_RESULTS_KEPT, StagingRoot
from strongroom.storage.store import Store

_COPIED = ("unsealed", "restore_record", "claim", "copy")
"""Kinds of leftovers that a replica may have too."""


class Swept(Record):
    """What became of one leftover: ``removed``, or why it stays."""

    kind: str
    name: str
    result: Literal["removed", "held", "contended", "locked", "unverifiable"]
    detail: str
    since: AwareDatetime
    versions: int
    size_bytes: int


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
                judged = judge(store, leftover, holds, now)
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
            if doubt := doubt_unsealed(self._store, archive):
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
