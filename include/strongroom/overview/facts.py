"""What one store tells of all its archives, as small as the map, the totals and the search need it.

The facts are kept in one object, so that the next reader reads only what is new. Like the index of manifests that object only
saves requests and is never a source of truth: what it says of an archive counts as long as the listing shows the same ETags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from itertools import islice

import zstandard
from pydantic import AwareDatetime, Field, ValidationError

from strongroom.calendar import Partition
from strongroom.errors import IntegrityError, StrongroomError
from strongroom.formats.codecs import BLOCK_BYTES, decompress
from strongroom.ledger.evidence import parse_detached, parse_evidence
from strongroom.ledger.holds import EVERYTHING, Hold, holds_in_force
from strongroom.ledger.index import DamagedManifest, Listing, list_archives, read_listed
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys import (
    OVERVIEW,
    REPORTS,
    RESTORES,
    ArchiveId,
    VerificationKey,
    certified,
    decode_table,
    is_restore_report,
    parse_verification_key,
    restored_table,
)
from strongroom.records import Record, RestoreRecord, Sha256
from strongroom.statistics.proofs import Proofs, proved_at
from strongroom.storage.store import LARGEST_READ_BYTES, Store


class Left(Record):
    """What became of an archive's rows in the table, by the evidence of its deletes. The counts add up to ``rows``."""

    rows: int = Field(description="Of the parts whose rows were deleted or left; a part without evidence is not in it.")
    deleted: int = 0
    gone: int = 0
    changed: int = 0
    referenced: int = 0
    kept_by_trigger: int = 0
    detached: int = Field(default=0, description="In partitions that were detached.")
    warm: bool = Field(default=False, description="Whether the deleted rows were moved to a warm table.")

    @property
    def stayed(self) -> int:
        """Rows that are archived, and are in the table as well."""
        return self.changed + self.referenced + self.kept_by_trigger

    def plus(self, other: Left) -> Left:
        """The sum of two parts."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in Left.model_fields if name != "warm"}
        return Left(**sums, warm=self.warm or other.warm)


class ArchiveFacts(Record):
    """One sound archive. Sizes are in bytes."""

    archive_id: str
    table_name: str = Field(description="schema.table")
    partition_key: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    parts: int
    record_count: int
    original_size: int
    compressed_size: int
    created_at: AwareDatetime
    retention_until: AwareDatetime
    storage_class: str
    dag_id: str
    run_id: str
    sums: tuple[Sha256, ...] = Field(description="Of the parts' objects and of SHA256SUMS.")
    left: Left | None = Field(description="None if the delete has not begun.")
    detached_waiting: int = Field(description="Rows in detached partitions that were not dropped yet.")
    problem: str | None = Field(default=None, description="Why its evidence cannot be read.")
    etags: tuple[str, ...] = Field(description="Of the manifest and of the evidence that this was read from.")

    @property
    def archive(self) -> ArchiveId:
        """Its name, taken apart."""
        return ArchiveId.parse(self.archive_id)

    @property
    def emptied(self) -> bool:
        """Whether each of its parts went through a delete."""
        return self.left is not None and self.left.rows >= self.record_count


class LatestReading(Record):
    """The latest verification of an archive."""

    at: AwareDatetime
    result: str
    sound_at: AwareDatetime | None = Field(description="The latest that found it sound.")


class ReportedRestore(Record):
    """The report of one restore."""

    key: str
    etag: str
    table: str = Field(description="schema.table that the rows came back to.")
    proved_at: AwareDatetime | None = Field(description="None if not each row came back as it was archived.")


class Unreadable(Record):
    """Something about a table (``schema.table``) that cannot be read."""

    table: str
    problem: str


class StoreFacts(Record):
    """What one store tells.

    Attributes:
        read_at: When the store was listed.
        archives: The sound ones in the order of their ids.
        strays: Keys among the manifests that no manifest can have.
        destroyed: Archive ids with a certificate of destruction.
        restores: The records of those in force.
        reported: The reports of all restores that ended.
        readings: By archive id, the latest verification.
        unreadable: Of some tables, what cannot be read and is left out here.
    """

    read_at: AwareDatetime
    archives: tuple[ArchiveFacts, ...] = ()
    damaged: tuple[DamagedManifest, ...] = ()
    strays: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    restores: tuple[RestoreRecord, ...] = ()
    reported: tuple[ReportedRestore, ...] = ()
    readings: dict[str, LatestReading] = Field(default={})
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def proofs(self) -> Proofs:
        """When archives were last found sound, and when rows last came back."""
        restored = [one.proved_at for one in self.reported if one.proved_at is not None]
        return Proofs(
            verified={name: one.sound_at for name, one in self.readings.items() if one.sound_at is not None},
            last_restored_at=max(restored, default=None),
        )

    def seen(self, sees: Callable[[str], bool]) -> StoreFacts:
        """What somebody may know who sees only some tables (``schema.table``). A hold on everything is everybody's."""
        sees = cache(sees)

        def named(archive_id: str) -> bool:
            return sees(decode_table(archive_id))

        return self.model_copy(
            update={
                "archives": tuple(one for one in self.archives if sees(one.table_name)),
                "damaged": tuple(one for one in self.damaged if named(one.archive_id)),
                "strays": tuple(key for key in self.strays if named(key.split("/")[1])),
                "destroyed": tuple(filter(named, self.destroyed)),
                "holds": tuple(one for one in self.holds if one.what == EVERYTHING or named(one.what)),
                "restores": tuple(one for one in self.restores if sees(one.table)),
                "reported": tuple(one for one in self.reported if sees(one.table)),
                "readings": {name: one for name, one in self.readings.items() if named(name)},
                "unreadable": tuple(one for one in self.unreadable if sees(one.table)),
            }
        )

    @property
    def tables(self) -> set[str]:
        """Each ``schema.table`` of which there is or was an archive."""
        lost = (*(one.archive_id for one in self.damaged), *self.destroyed)
        return {*(one.table_name for one in self.archives), *map(decode_table, lost)}


def read_facts(store: Store, *, now: datetime, earlier: StoreFacts | None = None) -> StoreFacts:
    """Read a store. Of an archive that ``earlier`` knows, nothing is read again unless its ETags have changed.

    Args:
        store: Which one.
        now: Aware UTC instant; restores that are over by then are left out.
        earlier: From an earlier reading of the same store, or from :func:`read_kept_facts`.

    Raises:
        IdentityError: The store is unclaimed.
        IntegrityError: A hold cannot be read.
    """
    listing = list_archives(store)
    evidence = _by_archive(listing.evidence)
    known = {(one.archive_id, one.etags): one for one in earlier.archives} if earlier else {}
    facts: list[ArchiveFacts] = []
    unknown: dict[ArchiveId, str] = {}
    for archive, etag in listing.etags.items():
        same = known.get((str(archive), _etags(etag, evidence.get(str(archive), {}))))
        if same is not None:
            facts.append(same)
        else:
            unknown[archive] = etag
    manifests, damaged, _ = read_listed(store, unknown)
    with ThreadPoolExecutor(store.connections) as readers:
        facts += readers.map(
            lambda one: _read_archive(store, one, listing, evidence.get(one.archive_id, {})), manifests
        )
        restores = list(readers.map(lambda key: _read_restore(store, key), store.keys(RESTORES)))
    readings, reported = _read_reports(store, earlier)
    return StoreFacts(
        read_at=now,
        archives=tuple(sorted(facts, key=lambda one: one.archive)),
        damaged=(*listing.damaged, *damaged),
        strays=listing.strays,
        destroyed=tuple(map(str, certified(listing.evidence))),
        holds=tuple(holds_in_force(store)),
        restores=tuple(one for one in restores if isinstance(one, RestoreRecord) and one.until > now),
        reported=reported,
        readings=readings,
        unreadable=tuple(one for one in restores if isinstance(one, Unreadable)),
    )


def merged(stores: Iterable[StoreFacts]) -> StoreFacts | None:
    """The facts of several stores as one, as old as the oldest of them; None if there is none.

    Two connections may lead to one store: each archive is told once.
    """
    stores = list(stores)
    if len(stores) < 2:
        return stores[0] if stores else None
    archives: dict[str, ArchiveFacts] = {}
    damaged: dict[str, DamagedManifest] = {}
    for facts in stores:
        seen = {*archives, *damaged}
        archives |= {one.archive_id: one for one in facts.archives if one.archive_id not in seen}
        damaged |= {one.archive_id: one for one in facts.damaged if one.archive_id not in seen}
    return StoreFacts(
        read_at=min(facts.read_at for facts in stores),
        archives=tuple(sorted(archives.values(), key=lambda one: one.archive)),
        damaged=tuple(damaged.values()),
        strays=tuple(dict.fromkeys(one for facts in stores for one in facts.strays)),
        destroyed=tuple(dict.fromkeys(one for facts in stores for one in facts.destroyed)),
        holds=tuple({one.hold_id: one for facts in stores for one in facts.holds}.values()),
        restores=tuple({one.restore_id: one for facts in stores for one in facts.restores}.values()),
        reported=tuple({(one.key, one.etag): one for facts in stores for one in facts.reported}.values()),
        readings={name: one for facts in stores for name, one in facts.readings.items()},
        unreadable=tuple(dict.fromkeys(one for facts in stores for one in facts.unreadable)),
    )


def keep_facts(store: Store, facts: StoreFacts) -> None:
    """Keep the facts in the store for the next reader. The last writer wins; any facts will do."""
    body = zstandard.ZstdCompressor().compress(facts.model_dump_json().encode())
    present = store.read(OVERVIEW)
    store.swap(OVERVIEW, body, etag=present[1] if present else None)


def read_kept_facts(store: Store) -> StoreFacts | None:
    """The facts as they were kept last; None if there are none, or they cannot be read."""
    present = store.read(OVERVIEW)
    if present is None:
        return None
    try:
        unpacked = decompress("zstd", iter([present[0]]), on_chunk=len)
        facts = StoreFacts.model_validate_json(b"".join(islice(unpacked, LARGEST_READ_BYTES // BLOCK_BYTES)))
        return facts if _is_named_well(facts) else None
    except (StrongroomError, ValidationError):
        return None


def _is_named_well(facts: StoreFacts) -> bool:
    """Whether each name in the facts is one that a run writes; the map takes them apart.

    Raises:
        ArchiveIdError: One is no archive id.
        PartitionError: A key names no partition.
    """
    for one in facts.archives:
        archive = one.archive
        if (f"{archive.schema_name}.{archive.table_name}", archive.partition_key) != (
            one.table_name,
            one.partition_key,
        ):
            return False
    named = {one.archive for one in facts.archives}
    named |= {ArchiveId.parse(name) for name in (*facts.destroyed, *(one.archive_id for one in facts.damaged))}
    for key in {archive.partition_key for archive in named} | {
        key for one in facts.restores for key in one.partition_keys
    }:
        Partition.named(key)
    return True


def _by_archive(evidence: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """ETags of evidence by archive id and key: of deletes, and of detached and dropped partitions."""
    found: dict[str, dict[str, str]] = {}
    for key, etag in evidence.items():
        folder, _, name = key.rpartition("/")
        if name.startswith(("delete-", "detach.json", "dropped-")):
            found.setdefault(folder.rpartition("/")[2], {})[key] = etag
    return found


def _etags(manifest: str, evidence: Mapping[str, str]) -> tuple[str, ...]:
    return (manifest, *(etag for _, etag in sorted(evidence.items())))


def _read_archive(store: Store, manifest: Manifest, listing: Listing, evidence: Mapping[str, str]) -> ArchiveFacts:
    archive = ArchiveId.parse(manifest.archive_id)
    left, waiting, problem = None, 0, None
    try:
        left = _read_left(store, (key for key in evidence if key.startswith(f"{archive.evidence_prefix}delete-")))
        if archive.detach_evidence_key in evidence:
            waiting = _waiting(store, archive, evidence)
    except IntegrityError as error:
        problem = error.what
    return ArchiveFacts(
        archive_id=manifest.archive_id,
        table_name=manifest.table_name,
        partition_key=manifest.partition_key,
        window_start=manifest.window_start,
        window_end=manifest.window_end,
        parts=len(manifest.parts),
        record_count=manifest.record_count,
        original_size=manifest.original_size,
        compressed_size=manifest.compressed_size,
        created_at=manifest.created_at,
        retention_until=manifest.retention_until,
        storage_class=manifest.storage_class,
        dag_id=manifest.dag_id,
        run_id=manifest.run_id,
        sums=(*(part.sha256 for part in manifest.parts), manifest.checksum),
        left=left,
        detached_waiting=waiting,
        problem=problem,
        etags=_etags(listing.etags[archive], evidence),
    )


def _read_left(store: Store, keys: Iterable[str]) -> Left | None:
    total = None
    for key in keys:
        present = store.read(key)
        if present is None:  # gone since the listing
            continue
        one = parse_evidence(f"{store}{key}", present[0])
        left = Left(
            rows=one.rows,
            deleted=one.deleted,
            gone=one.gone,
            changed=one.changed,
            referenced=one.referenced,
            kept_by_trigger=one.kept_by_trigger,
            detached=one.detached,
            warm=one.warm_table is not None,
        )
        total = left if total is None else total.plus(left)
    return total


def _waiting(store: Store, archive: ArchiveId, evidence: Mapping[str, str]) -> int:
    present = store.read(archive.detach_evidence_key)
    if present is None:
        return 0
    detached = parse_detached(f"{store}{archive.detach_evidence_key}", present[0]).detached
    names = {key.removeprefix(archive.drop_evidence_prefix) for key in evidence}
    return sum(one.rows for one in detached if not any(name.startswith(f"{one.oid}-") for name in names))


def _read_restore(store: Store, key: str) -> RestoreRecord | Unreadable | None:
    try:
        return read_restore_record(store, key)
    except IntegrityError as error:
        return Unreadable(table=restored_table(key), problem=f"{error.what}: it is unknown what it protects")


def _read_reports(
    store: Store, earlier: StoreFacts | None
) -> tuple[dict[str, LatestReading], tuple[ReportedRestore, ...]]:
    """The latest reading of each archive, and the reports of restores, from one listing of all reports."""
    latest: dict[str, LatestReading] = {}
    known = {(one.key, one.etag): one for one in earlier.reported} if earlier else {}
    listed = []
    for key, etag in store.entries(REPORTS):
        if is_restore_report(key):
            listed.append((key, etag))
        elif (parsed := parse_verification_key(key)) is not None:
            name = str(parsed.archive)
            latest[name] = _after(latest.get(name), parsed)

    def read(one: tuple[str, str]) -> ReportedRestore | None:
        key, etag = one
        if one in known:
            return known[one]
        present = store.read(key)
        if present is None:  # gone since the listing
            return None
        return ReportedRestore(key=key, etag=etag, table=restored_table(key), proved_at=proved_at(present[0]))

    with ThreadPoolExecutor(store.connections) as readers:
        return latest, tuple(filter(None, readers.map(read, listed)))


def _after(earlier: LatestReading | None, reading: VerificationKey) -> LatestReading:
    """The latest reading when one more is known; they come in any order."""
    sound = [reading.at] if reading.result == "sound" else []
    if earlier is None:
        return LatestReading(at=reading.at, result=reading.result, sound_at=max(sound, default=None))
    sound += [earlier.sound_at] if earlier.sound_at else []
    at, result = max((earlier.at, earlier.result), (reading.at, reading.result), key=lambda one: one[0])
    return LatestReading(at=at, result=result, sound_at=max(sound, default=None))
