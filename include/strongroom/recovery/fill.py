"""Fill an empty bucket from the replica. What was purged or superseded is not copied, so nothing that was destroyed comes back.

The order makes it safe to break off: parts, everything else, manifests, the log, and its checkpoint last. While there is no checkpoint,
a repeat continues; nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from strongroom.errors import IntegrityError
from strongroom.ledger.copies import compare_copy, copy_object, digest_of
from strongroom.ledger.entries import Act, Facts, subject_of
from strongroom.ledger.journal import doubt_of_entry, record
from strongroom.ledger.log import CHECKPOINT
from strongroom.ledger.manifest_record import Manifest, sha256_sums
from strongroom.ledger.manifests import archive_ids, require_manifest
from strongroom.object_keys.archives import ArchiveId, certified
from strongroom.object_keys.layout import EVIDENCE, LOG
from strongroom.object_keys.records import proof_key
from strongroom.object_keys.reports import recovery_key
from strongroom.records import Record
from strongroom.recovery.check import GONE, entries_of, gone_of, require_kit
from strongroom.recovery.kit import KitStore, RecoveryError
from strongroom.replication.rest import REST
from strongroom.storage.store import Store

_WORKERS = 8


class NotCopied(Record):
    """An archive that lies in the replica and was not copied, or not whole.

    ``purged``: it was destroyed. ``superseded``: another archive holds its rows without those of a person. ``damaged``: its manifest
    is not sound, or the log does not vouch for it. ``incomplete``: an object of it is gone or damaged; the others were copied.
    """

    archive_id: str
    reason: Literal["purged", "superseded", "damaged", "incomplete"]
    detail: str = ""


class Filled(Record):
    """What was copied from a replica into an empty bucket."""

    store: str
    replica: str
    archives: tuple[str, ...]
    objects: int
    not_copied: tuple[NotCopied, ...]
    who: str
    filled_at: AwareDatetime


def fill_store(store: Store, replica: Store, kit: KitStore, *, who: str, now: datetime) -> Filled:
    """Fill an empty store from its replica, and enter that in the log. A repeat continues what broke off.

    Args:
        store: Empty, or filled in part by an earlier try. Its author can sign.
        replica: Checked against the kit first.
        kit: Of this store.
        who: The person who recovers.
        now: Aware UTC instant.

    Raises:
        RecoveryError: The store has a log already, so it is not empty.
        IdentityError, IntegrityError: The replica is not that of the kit.
    """
    require_kit(replica, kit)
    if any(store.versions(CHECKPOINT)):
        raise RecoveryError(
            f"{store} is not empty: it has a transparency log",
            expected="a bucket without one",
            found=CHECKPOINT,
            hint="Nothing was copied. `airflow strongroom recover KIT` checks what is there. Where single objects are lost, restores read the "
            "second copy; docs/howto/recover.md says how to put them back.",
        )
    filling = _Filling(store, replica)
    filled = filling.fill(who, now)
    facts: Facts = {"archives": len(filled.archives), "objects": filled.objects, "replica": str(replica)}
    record(store, recovery_key(now), filled.to_bytes(), Act(kind="recovered", who=who, facts=facts))
    return filled


class _Filling:
    """One store while it is filled."""

    def __init__(self, store: Store, replica: Store) -> None:
        self._store, self._replica = store, replica
        self._not_copied: list[NotCopied] = []
        self._objects = 0

    def fill(self, who: str, now: datetime) -> Filled:
        """Copy everything in its order."""
        manifests = self._current()
        for manifest in manifests:
            self._copy_parts(manifest)
        for prefix in REST:
            if prefix != LOG:
                self._copy_keys(self._replica.keys(prefix))
        self._copy_keys(ArchiveId.parse(manifest.archive_id).manifest_key for manifest in manifests)
        self._copy_keys(key for key in self._replica.keys(LOG) if key != CHECKPOINT)
        self._copy_keys([CHECKPOINT])
        return Filled(
            store=str(self._store),
            replica=str(self._replica),
            archives=tuple(manifest.archive_id for manifest in manifests),
            objects=self._objects,
            not_copied=tuple(self._not_copied),
            who=who,
            filled_at=now,
        )

    def _current(self) -> list[Manifest]:
        """The manifests of the archives that are to come back."""
        gone, found = self._gone(), []
        for archive in archive_ids(self._replica):
            if str(archive) in gone:
                self._leave(archive, "purged", "the log says that it was destroyed")
                continue
            try:
                found.append(require_manifest(self._replica, archive))
            except IntegrityError as error:
                self._leave(archive, "damaged", f"{error.what}: found {error.found}")
        later = {one.supersedes.archive_id: one.archive_id for one in found if one.supersedes is not None}
        for manifest in found:
            if manifest.archive_id in later:
                self._leave(ArchiveId.parse(manifest.archive_id), "superseded", f"by {later[manifest.archive_id]}")
        return [manifest for manifest in found if manifest.archive_id not in later]

    def _gone(self) -> set[str]:
        """Archives that were destroyed, by the log in the replica, or by a certificate that the log vouches for."""
        gone = gone_of(entries_of(self._replica))
        for archive in certified(self._replica.keys(EVIDENCE)):
            present = self._replica.read(archive.destruction_key)
            if present is not None:
                subject = subject_of(archive.destruction_key, present[0])
                if doubt_of_entry(self._replica, subject, proof_key(archive.destruction_key), GONE) is None:
                    gone.add(str(archive))
        return gone

    def _copy_parts(self, manifest: Manifest) -> None:
        """Copy what is sound of an archive's parts, locators and SHA256SUMS."""
        archive = ArchiveId.parse(manifest.archive_id)
        bad = []
        for key, sha256, size_bytes in _objects_of(archive, manifest, self._replica):
            one = compare_copy(self._replica, key, sha256, size_bytes)
            if one.version_id is None:
                bad.append(f"{key.rpartition('/')[2]} {one.result}")
                continue
            copy_object(self._replica, self._store, key, version_id=one.version_id, sha256=sha256)
            self._objects += 1
        if bad:
            self._leave(archive, "incomplete", ", ".join(bad))

    def _copy_keys(self, keys: Iterator[str] | list[str]) -> None:
        def copy(key: str) -> None:
            if self._store.head(key) is None:
                copy_object(self._replica, self._store, key)
            elif digest_of(self._store, key) != digest_of(self._replica, key):
                raise IntegrityError(
                    f"{self._store}{key} is taken by other content",
                    expected=f"nothing, or what {self._replica} has",
                    hint="Nothing was overwritten. The bucket is not empty: fill another one, or remove what is there.",
                )

        with ThreadPoolExecutor(_WORKERS) as copiers:
            self._objects += sum(1 for _ in copiers.map(copy, keys))

    def _leave(
        self, archive: ArchiveId, reason: Literal["purged", "superseded", "damaged", "incomplete"], detail: str
    ) -> None:
        self._not_copied.append(NotCopied(archive_id=str(archive), reason=reason, detail=detail))


def _objects_of(archive: ArchiveId, manifest: Manifest, replica: Store) -> Iterator[tuple[str, str, int]]:
    for part in manifest.parts:
        yield part.object_key, part.sha256, part.compressed_size
        locator = archive.locator_key(part.number)
        if part.locator_sha256 is not None and (kept := replica.head(locator)) is not None:
            yield locator, part.locator_sha256, kept.size_bytes
    for annex in replica.keys(archive.kept_rows_prefix):
        if (kept := replica.head(annex)) is not None:
            yield annex, digest_of(replica, annex, kept.version_id), kept.size_bytes
    yield archive.sums_key, manifest.checksum, len(sha256_sums(manifest.parts))
