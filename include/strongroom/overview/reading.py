"""Read the facts of one store: from its listing, from what is new in it, and from the object that keeps what was read before.

The facts are kept in one object, so that the next reader reads only what is new. Like the index of manifests that object only
saves requests and is never a source of truth: what it says of an archive counts as long as the listing shows the same ETags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import islice

import zstandard
from pydantic import ValidationError

from strongroom.calendar import Partition
from strongroom.erasure.clock import open_cases
from strongroom.errors import IntegrityError, StrongroomError
from strongroom.formats.codecs import BLOCK_BYTES, decompress
from strongroom.ledger.evidence import parse_detached, parse_evidence
from strongroom.ledger.holds import holds_in_force
from strongroom.ledger.index import Listing, list_archives, read_listed
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys.archives import ArchiveId, certified
from strongroom.object_keys.layout import OVERVIEW, REPORTS, RESTORES
from strongroom.object_keys.records import restored_table
from strongroom.object_keys.reports import (
    VerificationKey,
    is_restore_report,
    parse_copy_key,
    parse_drill_key,
    parse_verification_key,
)
from strongroom.overview.facts import (
    ArchiveFacts,
    LatestReading,
    Left,
    ReportedRestore,
    StoreFacts,
    ToldDrill,
    Unreadable,
)
from strongroom.records import RestoreRecord
from strongroom.statistics.proofs import note_copy, proved_at
from strongroom.storage.store import LARGEST_READ_BYTES, Store


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
    every = (*earlier.archives, *earlier.superseded) if earlier else ()
    known = {(one.archive_id, one.etags): one for one in every}
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
    readings, drills, copied, reported = _read_reports(store, earlier)
    ordered = sorted(facts, key=lambda one: one.archive)
    gone = {one.supersedes for one in ordered}
    return StoreFacts(
        read_at=now,
        store=str(store),
        archives=tuple(one for one in ordered if one.archive_id not in gone),
        superseded=tuple(one for one in ordered if one.archive_id in gone),
        cases=tuple(open_cases(store)),
        damaged=(*listing.damaged, *damaged),
        strays=listing.strays,
        destroyed=tuple(map(str, certified(listing.evidence))),
        holds=tuple(holds_in_force(store)),
        restores=tuple(one for one in restores if isinstance(one, RestoreRecord) and one.until > now),
        reported=reported,
        readings=readings,
        drills={name: told for name, told in drills.items() if not _is_condemned(name, listing)},
        copied=copied,
        unreadable=tuple(one for one in restores if isinstance(one, Unreadable)),
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
    for one in (*facts.archives, *facts.superseded):
        archive = one.archive
        if (f"{archive.schema_name}.{archive.table_name}", archive.partition_key) != (
            one.table_name,
            one.partition_key,
        ):
            return False
    named = {one.archive for one in (*facts.archives, *facts.superseded)}
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
        first = replace(archive, sequence=manifest.rank)
        deletes = f"{first.evidence_prefix}delete-"
        left = _read_left(store, (key for key in listing.evidence if key.startswith(deletes)))
        if left is not None and manifest.supersedes is not None:
            left = left.of_successor(manifest.record_count)
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
        supersedes=manifest.supersedes.archive_id if manifest.supersedes is not None else None,
        case_id=manifest.supersedes.case_id if manifest.supersedes is not None else None,
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


def _is_condemned(archive_id: str, listing: Listing) -> bool:
    """Whether an archive was given up: nobody waits for a drill of it to succeed."""
    return ArchiveId.parse(archive_id).condemnation_key in listing.evidence


def _read_reports(
    store: Store, earlier: StoreFacts | None
) -> tuple[
    dict[str, LatestReading],
    dict[str, tuple[ToldDrill, ...]],
    dict[str, dict[str, datetime]],
    tuple[ReportedRestore, ...],
]:
    """The latest reading of each archive, its latest drills, the comparisons of its copies, and the reports of restores, from one
    listing of all reports.
    """
    latest: dict[str, LatestReading] = {}
    drills: dict[str, tuple[ToldDrill, ...]] = {}
    copied: dict[str, dict[str, datetime]] = {}
    known = {(one.key, one.etag): one for one in earlier.reported} if earlier else {}
    listed = []
    for key, etag in store.entries(REPORTS):
        if is_restore_report(key):
            listed.append((key, etag))
        elif (parsed := parse_verification_key(key)) is not None:
            name = str(parsed.archive)
            latest[name] = _after(latest.get(name), parsed)
        elif (copy := parse_copy_key(key)) is not None:
            note_copy(copied, *copy)
        elif (drill := parse_drill_key(key)) is not None and drill.result != "skipped":
            name = str(drill.archive)
            drills[name] = _with_drill(drills.get(name, ()), ToldDrill(at=drill.at, result=drill.result))

    def read(one: tuple[str, str]) -> ReportedRestore | None:
        key, etag = one
        if one in known:
            return known[one]
        present = store.read(key)
        if present is None:  # gone since the listing
            return None
        return ReportedRestore(key=key, etag=etag, table=restored_table(key), proved_at=proved_at(present[0]))

    with ThreadPoolExecutor(store.connections) as readers:
        return latest, drills, copied, tuple(filter(None, readers.map(read, listed)))


def _with_drill(told: tuple[ToldDrill, ...], one: ToldDrill) -> tuple[ToldDrill, ...]:
    """The latest drill, and the latest that was sound, when one more is known; they come in any order."""
    by_age = sorted((*told, one), key=lambda each: each.at)
    sound = [each for each in by_age if each.result == "sound"]
    return tuple(dict.fromkeys((*sound[-1:], by_age[-1])))


def _after(earlier: LatestReading | None, reading: VerificationKey) -> LatestReading:
    """The latest reading when one more is known; they come in any order."""
    sound = [reading.at] if reading.result == "sound" else []
    if earlier is None:
        return LatestReading(at=reading.at, result=reading.result, sound_at=max(sound, default=None))
    sound += [earlier.sound_at] if earlier.sound_at else []
    at, result = max((earlier.at, earlier.result), (reading.at, reading.result), key=lambda one: one[0])
    return LatestReading(at=at, result=result, sound_at=max(sound, default=None))
