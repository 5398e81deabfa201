"""Copy one archive to the replica where it is missing, read the copy back, compare it, and put that on record.

The order is that of sealing: parts, SHA256SUMS, the copy of the manifest and its proof, the manifest last. So what lies in the replica
under a manifest is whole. Nothing there is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from strongroom.errors import ContendedError, IntegrityError
from strongroom.ledger.claims import claim_keeper, release_claim, running_clock, take_claim
from strongroom.ledger.copies import ObjectCopy, compare_copy, copy_object, digest_of, place_of
from strongroom.ledger.entries import of_archive
from strongroom.ledger.journal import record
from strongroom.ledger.manifest_record import Manifest, sha256_sums
from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.object_keys.reports import copy_key
from strongroom.replication.records import ArchiveCopy, ArchiveResult, worst
from strongroom.storage.store import Store
from strongroom.storage.versions import is_there

FilledBy = Literal["store", "strongroom"]


def replicate_archive(
    store: Store,
    replica: Store,
    archive: ArchiveId,
    *,
    filled_by: FilledBy,
    owner: str,
    who: str,
    now: datetime,
    claim_ttl: timedelta,
) -> ArchiveCopy:
    """Copy what is missing of an archive if Strongroom fills the replica, compare all of it, and record what was found.

    The partition is claimed while it is copied, so that no purge removes the archive meanwhile.

    Args:
        store: The first copy.
        replica: The second one.
        archive: A sealed archive.
        filled_by: Who fills the replica.
        owner: Names the run in the claim.
        who: Who has it compared, for the record.
        now: Aware UTC instant.
        claim_ttl: How long the claim holds without being renewed.
    """
    copying = _Copying(store, replica, archive, filled_by, who, now)
    if filled_by == "store":
        return copying.compare_and_record(lambda: None)
    try:
        take_claim(store, archive.claim_key, owner=owner, now=now, ttl=claim_ttl)
        keep = claim_keeper(store, [archive.claim_key], owner=owner, clock=running_clock(now), ttl=claim_ttl)
        return copying.compare_and_record(keep)
    except ContendedError as error:
        return copying.found("contended", f"{error.what}, {error.found}")
    finally:
        release_claim(store, archive.claim_key, owner=owner, now=now)


class _Copying:
    """One archive while it is copied and compared."""

    def __init__(
        self, store: Store, replica: Store, archive: ArchiveId, filled_by: FilledBy, who: str, now: datetime
    ) -> None:
        self._store, self._replica, self._archive = store, replica, archive
        self._filled_by, self._who, self._now = filled_by, who, now
        self._copied = 0

    def found(self, result: ArchiveResult, detail: str = "", objects: tuple[ObjectCopy, ...] = ()) -> ArchiveCopy:
        """What became of it."""
        return ArchiveCopy(
            archive_id=str(self._archive),
            replica=str(self._replica),
            filled_by=self._filled_by,
            result=result,
            detail=detail,
            objects=objects,
            copied=self._copied,
            who=self._who,
            compared_at=self._now,
        )

    def compare_and_record(self, keep_claim: Callable[[], object]) -> ArchiveCopy:
        """Copy what is missing, compare all, and record it."""
        if self._leaves():
            return self.found("leaving", "its purge has begun")
        try:
            manifest = read_manifest(self._store, self._archive)
            if manifest is None:
                return self.found("leaving", "it is gone")
            objects = tuple(self._compare(manifest, keep_claim))
        except IntegrityError as error:
            return self.found("unverifiable", f"{error.what}: found {error.found}")
        if self._leaves():  # a store that fills the replica by itself knows no claims
            return self.found("leaving", "its purge has begun")
        one = self.found(worst(objects), "", objects)
        key = copy_key(place_of(self._replica.settings), self._archive, self._now, one.result)
        facts = {
            "result": one.result,
            "replica": one.replica,
            "objects": len(objects),
            "bytes": sum(each.size_bytes for each in objects),
            "copied": one.copied,
        }
        record(self._store, key, one.to_bytes(), of_archive(self._archive, "replicated", who=self._who, facts=facts))
        return one

    def _leaves(self) -> bool:
        """Whether a purge of it has begun or ended, even if a delete marker hides that."""
        keys = (self._archive.purge_intent_key, self._archive.destruction_key)
        return any(is_there(self._store.history(key)) for key in keys)

    def _compare(self, manifest: Manifest, keep_claim: Callable[[], object]) -> Iterator[ObjectCopy]:
        for key, version_id, sha256, size_bytes in self._objects(manifest):
            keep_claim()
            one = compare_copy(self._replica, key, sha256, size_bytes)
            if one.result == "missing" and self._filled_by == "strongroom":
                copy_object(self._store, self._replica, key, version_id=version_id, sha256=sha256)
                self._copied += 1
                one = compare_copy(self._replica, key, sha256, size_bytes)
            if one.version_id is not None and self._replica.settings.object_lock != "off":
                self._lock(key, one.version_id, manifest)
            yield one

    def _objects(self, manifest: Manifest) -> Iterator[tuple[str, str | None, str, int]]:
        """Key, version, SHA-256 and size of each object of the archive, the manifest last."""
        for part in manifest.parts:
            yield part.object_key, part.version_id, part.sha256, part.compressed_size
            locator = self._archive.locator_key(part.number)
            if part.locator_sha256 is not None and (kept := self._store.head(locator)) is not None:
                yield locator, kept.version_id, part.locator_sha256, kept.size_bytes
        for annex in self._store.keys(self._archive.kept_rows_prefix):
            if (present := self._store.head(annex)) is not None:
                yield annex, present.version_id, digest_of(self._store, annex, present.version_id), present.size_bytes
        yield self._archive.sums_key, None, manifest.checksum, len(sha256_sums(manifest.parts))
        for key in (self._archive.seal_key, proof_key(self._archive.seal_key), self._archive.manifest_key):
            if (present := self._store.head(key)) is not None:
                yield key, present.version_id, digest_of(self._store, key, present.version_id), present.size_bytes

    def _lock(self, key: str, version_id: str, manifest: Manifest) -> None:
        """The lock of the first copy; a proof holds for ever and needs none."""
        if not key.endswith(".tlog-proof") and self._filled_by == "strongroom" and manifest.retention_until > self._now:
            mode = self._replica.settings.object_lock
            self._replica.lock(key, version_id, mode=mode, until=manifest.retention_until)
