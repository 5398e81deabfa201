"""Which archives exist: all manifests of a store, however many, read in parallel.

Manifests are created once and never overwritten, so what was read under a key and ETag stays true as long as the listing
shows both. Versions are listed: a manifest with several of them, or hidden by a delete marker, is damaged. The index is
one object that holds manifests read earlier. It only saves requests and is never a source of truth; :func:`write_index`
makes it anew from manifests alone. Code that deletes or loads anything reads the manifest itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import zstandard
from pydantic import ValidationError

from strongroom.errors import IntegrityError
from strongroom.formats.codecs import BLOCK_BYTES, decompress
from strongroom.ledger.journal import log_of
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import archive_ids, fault_of_versions, manifest_exists, read_manifest, require_manifest
from strongroom.ledger.owner import require_owned
from strongroom.object_keys.archives import ArchiveId, certified, emptied_and_kept, manifest_archive_id, manifest_prefix
from strongroom.object_keys.layout import MANIFEST_INDEX, SOURCE_IDENTITY
from strongroom.object_keys.records import evidence_prefix, proof_key
from strongroom.records import Record
from strongroom.storage.store import LARGEST_READ_BYTES, Store
from strongroom.storage.versions import StoredVersion, by_key, is_there

_WORTH_AN_INDEX = 100
"""Fewer manifests than this are read faster one by one than through the index."""


class DamagedManifest(Record):
    """A manifest that is not sound: the archive exists, but nothing reliable is known of it."""

    archive_id: str
    problem: str


@dataclass(frozen=True)
class Survey:
    """The manifests of a store: the sound ones in the order of their archive ids, and the damaged ones.

    Attributes:
        superseded: Manifests that are left out: a later archive holds their rows without those of a person.
        strays: Keys among the manifests that no manifest can have: somebody else wrote there.
        etags: ETag of each manifest by its key, as listed.
        read: How many manifests were read one by one, because the index did not hold them.
    """

    manifests: tuple[Manifest, ...]
    superseded: tuple[Manifest, ...] = ()
    damaged: tuple[DamagedManifest, ...] = ()
    strays: tuple[str, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    read: int = 0


@dataclass(frozen=True)
class Listing:
    """What listings alone tell of the archives of a store.

    Attributes:
        etags: ETag of the manifest of each archive whose versions are as they should be.
        damaged: The other ones.
        strays: As in :class:`Survey`.
        evidence: ETag of each object of evidence by its key.
    """

    etags: Mapping[ArchiveId, str]
    damaged: tuple[DamagedManifest, ...]
    strays: tuple[str, ...]
    evidence: Mapping[str, str]


class _Indexed(Record):
    key: str
    etag: str
    manifest: Manifest


def read_manifests(store: Store, schema_name: str | None = None, table_name: str | None = None) -> Iterator[Manifest]:
    """Manifests of all sealed archives, or of one table's, in the order of their ids; each is read from its own object.

    Raises:
        IdentityError: The store is unclaimed.
        IntegrityError: A manifest is damaged.
    """
    require_owned(store)
    found = sorted(archive_ids(store, schema_name, table_name))
    with ThreadPoolExecutor(store.connections) as readers:
        yield from readers.map(lambda archive: require_manifest(store, archive), found)


def survey_manifests(
    store: Store,
    schema_name: str | None = None,
    table_name: str | None = None,
    *,
    indexed: bool = True,
    earlier: Survey | None = None,
) -> Survey:
    """Read all manifests, or one table's; damaged ones are named, and the rest is read.

    Args:
        store: Where they lie.
        schema_name: Of the one table.
        table_name: Of the one table.
        indexed: Whether to use the index; without it each manifest is read from its own object.
        earlier: An earlier survey of the same store; what it read is not read again.

    Raises:
        IdentityError: The store is unclaimed, so it may be an emptied bucket.
    """
    listing = list_archives(store, schema_name, table_name)
    known = _by_key_and_etag(earlier) if earlier is not None else {}
    manifests, damaged, read = read_listed(store, listing.etags, known=known, indexed=indexed)
    current, superseded = split_superseded(manifests)
    return Survey(
        manifests=current,
        superseded=superseded,
        damaged=tuple(sorted((*listing.damaged, *damaged), key=lambda one: ArchiveId.parse(one.archive_id))),
        strays=listing.strays,
        etags={archive.manifest_key: etag for archive, etag in listing.etags.items()},
        read=read,
    )


def split_superseded(manifests: Iterable[Manifest]) -> tuple[tuple[Manifest, ...], tuple[Manifest, ...]]:
    """Tell manifests that hold what there is of their rows from those that a later one supersedes; each in its order.

    Args:
        manifests: All of the partitions that they are of.
    """
    every = tuple(manifests)
    earlier = {one.supersedes.archive_id for one in every if one.supersedes is not None}
    return (
        tuple(one for one in every if one.archive_id not in earlier),
        tuple(one for one in every if one.archive_id in earlier),
    )


def list_archives(store: Store, schema_name: str | None = None, table_name: str | None = None) -> Listing:
    """List the archives and their evidence, of the store or of one table; no manifest is read.

    Raises:
        IdentityError: The store is unclaimed, so it may be an emptied bucket.
    """
    require_owned(store)
    listed, strays = _list_manifests(store, schema_name, table_name)
    evidence = by_key(store.versions(evidence_prefix(schema_name, table_name)))
    faults = _faults(store, listed, evidence)
    return Listing(
        etags={archive: str(versions[-1].etag) for archive, versions in listed.items() if archive not in faults},
        damaged=tuple(DamagedManifest(archive_id=str(archive), problem=problem) for archive, problem in faults.items()),
        strays=strays,
        evidence={key: str(versions[-1].etag) for key, versions in evidence.items() if is_there(versions)},
    )


def read_listed(
    store: Store,
    listed: Mapping[ArchiveId, str],
    *,
    known: Mapping[tuple[str, str], Manifest] | None = None,
    indexed: bool = True,
) -> tuple[tuple[Manifest, ...], tuple[DamagedManifest, ...], int]:
    """Read the manifests of listed archives.

    Args:
        store: Where they lie.
        listed: ETags from :func:`list_archives`, of all its archives or of some.
        known: Manifests by key and ETag, which are not read again.
        indexed: Whether to use the index where many are not known.

    Returns:
        The sound manifests in the order of their archive ids, the damaged ones, and how many were read one by one.
    """
    index = dict(known or {})
    if indexed and len(listed) - len(index) >= _WORTH_AN_INDEX:
        index |= read_index(store)
    found = [index[key] for archive, etag in listed.items() if (key := (archive.manifest_key, etag)) in index]
    missing = [archive for archive, etag in listed.items() if (archive.manifest_key, etag) not in index]
    with ThreadPoolExecutor(store.connections) as readers:
        read = list(readers.map(lambda archive: _read(store, archive), missing))
    found += (one for one in read if isinstance(one, Manifest))
    return (
        tuple(sorted(found, key=lambda manifest: ArchiveId.parse(manifest.archive_id))),
        tuple(one for one in read if isinstance(one, DamagedManifest)),
        len(missing),
    )


def stray_keys(store: Store, schema_name: str | None = None, table_name: str | None = None) -> tuple[str, ...]:
    """Keys among the manifests that no manifest can have; reading manifests skips them."""
    return _list_manifests(store, schema_name, table_name)[1]


def _list_manifests(
    store: Store, schema_name: str | None, table_name: str | None
) -> tuple[dict[ArchiveId, Sequence[StoredVersion]], tuple[str, ...]]:
    """The versions of each manifest, oldest first, and the keys that are of none."""
    listed: dict[ArchiveId, Sequence[StoredVersion]] = {}
    strays = []
    for key, versions in by_key(store.versions(manifest_prefix(schema_name, table_name))).items():
        archive = manifest_archive_id(key)
        if archive is not None and is_there(versions):
            listed[archive] = versions
        elif archive is None and key != SOURCE_IDENTITY:
            strays.append(key)
    return listed, tuple(strays)


def _faults(
    store: Store,
    listed: Mapping[ArchiveId, Sequence[StoredVersion]],
    evidence: Mapping[str, Sequence[StoredVersion]],
) -> dict[ArchiveId, str]:
    """What is wrong, by versions and evidence, with manifests that exist and with those that should exist."""
    written = {key for key, versions in evidence.items() if is_there(versions)}
    logged = log_of(store) is not None
    faults = {}
    for archive, versions in listed.items():
        of_copy = fault_of_versions(evidence[archive.seal_key]) if archive.seal_key in evidence else None
        if (fault := fault_of_versions(versions)) is not None:
            faults[archive] = f"expected one version of it, found {fault}"
        elif of_copy is not None:
            faults[archive] = f"expected one version of its copy {archive.seal_key}, found {of_copy}"
        elif logged and (proof := proof_key(archive.seal_key)) not in written:
            faults[archive] = f"the transparency log does not vouch for it: there is no {proof}"
    destroyed = [archive for archive in certified(written) if archive in listed]
    gone = [archive for archive in emptied_and_kept(written) if archive not in listed]
    with ThreadPoolExecutor(store.connections) as lookers:  # again, because a run or a purge may have come in between
        for archive, there in zip(
            destroyed, lookers.map(lambda one: manifest_exists(store, one), destroyed), strict=True
        ):
            if there:
                faults[archive] = f"it was destroyed ({archive.destruction_key}), and somebody has put it back since"
        for archive, lost in zip(gone, lookers.map(lambda one: _is_gone(store, one), gone), strict=True):
            if lost:
                faults[archive] = f"it is gone, and rows were deleted because of it; its copy is {archive.seal_key}"
    return faults


def _is_gone(store: Store, archive: ArchiveId) -> bool:
    return not manifest_exists(store, archive) and store.head(archive.purge_intent_key) is None


def each_once(surveys: Iterable[Survey]) -> list[Survey]:
    """The surveys, each without the archives of those before it: two connections may lead to the same bucket."""
    seen: set[str] = set()
    kept = []
    for survey in surveys:
        manifests = tuple(one for one in survey.manifests if one.archive_id not in seen)
        superseded = tuple(one for one in survey.superseded if one.archive_id not in seen)
        damaged = tuple(one for one in survey.damaged if one.archive_id not in seen)
        seen.update(one.archive_id for one in (*manifests, *superseded))
        seen.update(one.archive_id for one in damaged)
        kept.append(replace(survey, manifests=manifests, superseded=superseded, damaged=damaged))
    return kept


def write_index(store: Store, survey: Survey) -> None:
    """Write the index anew from a survey of the whole store. The last writer wins; any index will do."""
    lines = (
        _Indexed(key=key, etag=etag, manifest=manifest).model_dump_json().encode()
        for (key, etag), manifest in _by_key_and_etag(survey).items()
    )
    body = zstandard.ZstdCompressor().compress(b"\n".join(lines))
    present = store.read(MANIFEST_INDEX)
    store.swap(MANIFEST_INDEX, body, etag=present[1] if present else None)


def _by_key_and_etag(survey: Survey) -> dict[tuple[str, str], Manifest]:
    every = (*survey.manifests, *survey.superseded)
    keys = {ArchiveId.parse(manifest.archive_id).manifest_key: manifest for manifest in every}
    return {(key, survey.etags[key]): manifest for key, manifest in keys.items() if key in survey.etags}


def read_index(store: Store) -> dict[tuple[str, str], Manifest]:
    """Manifests by key and ETag; empty if there is no index, or it cannot be read."""
    present = store.read(MANIFEST_INDEX)
    if present is None:
        return {}
    try:
        unpacked = decompress("zstd", iter([present[0]]), on_chunk=len)
        lines = b"".join(islice(unpacked, LARGEST_READ_BYTES // BLOCK_BYTES)).splitlines()
        entries = [_Indexed.model_validate_json(line) for line in lines]
    except (IntegrityError, ValidationError):
        return {}
    return {(entry.key, entry.etag): entry.manifest for entry in entries}


def _read(store: Store, archive: ArchiveId) -> Manifest | DamagedManifest | None:
    """One manifest; None if it was purged since the listing."""
    try:
        return read_manifest(store, archive, attested=False)
    except IntegrityError as error:
        return DamagedManifest(archive_id=str(archive), problem=f"expected {error.expected}, found {error.found}")
