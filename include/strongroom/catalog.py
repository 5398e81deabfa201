"""Which archives exist: all manifests of a store, however many, read in parallel.

Manifests are created once and never overwritten, so what was read under a key and ETag stays true as long as the listing
shows both. The index is one object that holds manifests read before; it only saves requests, is never a source of truth,
and :func:`write_index` makes it anew from nothing but manifests. What deletes or loads anything reads the manifest itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import zstandard
from pydantic import ValidationError

from strongroom.codecs import BLOCK_BYTES, decompress
from strongroom.errors import IntegrityError
from strongroom.identity import require_claimed
from strongroom.manifest import Manifest, archive_ids, read_manifest, require_manifest
from strongroom.object_keys import CATALOG_INDEX, ArchiveId, manifest_archive_id, manifest_prefix
from strongroom.records import Record
from strongroom.store import LARGEST_READ_BYTES, Store

_WORTH_AN_INDEX = 100
"""Fewer manifests than this are read faster one by one than by way of the index."""


class DamagedManifest(Record):
    """A manifest that is not what it should be: the archive exists, but nothing can be said of it."""

    archive_id: str
    problem: str


@dataclass(frozen=True)
class Survey:
    """What lies in a store: the sound manifests in the order of their archive ids, and the damaged ones.

    Attributes:
        etags: ETag of each manifest by its key, as they were listed.
        read: How many manifests were read one by one, because the index did not hold them.
    """

    manifests: tuple[Manifest, ...]
    damaged: tuple[DamagedManifest, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    read: int = 0


class _Indexed(Record):
    key: str
    etag: str
    manifest: Manifest


def read_catalog(store: Store, schema_name: str | None = None, table_name: str | None = None) -> Iterator[Manifest]:
    """Manifests of all sealed archives, or of one table's, in the order of their ids; each is read from its own object.

    Raises:
        IdentityError: The store is unclaimed.
        IntegrityError: A manifest is damaged.
    """
    require_claimed(store)
    found = sorted(archive_ids(store, schema_name, table_name))
    with ThreadPoolExecutor(store.connections) as readers:
        yield from readers.map(lambda archive: require_manifest(store, archive), found)


def survey_catalog(
    store: Store, schema_name: str | None = None, table_name: str | None = None, *, indexed: bool = True
) -> Survey:
    """Look at all manifests, or one table's; a damaged one is named and the rest is read.

    Args:
        store: Where they lie.
        schema_name: Of the one table.
        table_name: Of the one table.
        indexed: Whether the index may help; without it each manifest is read from its own object.

    Raises:
        IdentityError: The store is unclaimed: what an emptied bucket lists is not the truth.
    """
    require_claimed(store)
    etags = {
        key: etag
        for key, etag in store.entries(manifest_prefix(schema_name, table_name))
        if manifest_archive_id(key) is not None
    }
    index = _read_index(store) if indexed and len(etags) >= _WORTH_AN_INDEX else {}
    known = {key: index[key, etag] for key, etag in etags.items() if (key, etag) in index}
    missing = [archive for key in etags if key not in known and (archive := manifest_archive_id(key)) is not None]
    with ThreadPoolExecutor(store.connections) as readers:
        read = list(readers.map(lambda archive: _read(store, archive), missing))
    manifests = [*known.values(), *(one for one in read if isinstance(one, Manifest))]
    return Survey(
        manifests=tuple(sorted(manifests, key=lambda manifest: ArchiveId.parse(manifest.archive_id))),
        damaged=tuple(one for one in read if isinstance(one, DamagedManifest)),
        etags=etags,
        read=len(missing),
    )


def each_once(surveys: Iterable[Survey]) -> list[Survey]:
    """The same surveys without what an earlier one has: two addresses or connections may lead to one bucket."""
    seen: set[str] = set()
    kept = []
    for survey in surveys:
        manifests = tuple(one for one in survey.manifests if one.archive_id not in seen)
        damaged = tuple(one for one in survey.damaged if one.archive_id not in seen)
        seen.update(one.archive_id for one in manifests)
        seen.update(one.archive_id for one in damaged)
        kept.append(replace(survey, manifests=manifests, damaged=damaged))
    return kept


def write_index(store: Store, survey: Survey) -> None:
    """Put the index together anew from a survey of the whole store. Whoever writes last wins; any index is as good."""
    lines = (
        _Indexed(key=key, etag=survey.etags[key], manifest=manifest).model_dump_json().encode()
        for manifest in survey.manifests
        if (key := ArchiveId.parse(manifest.archive_id).manifest_key) in survey.etags
    )
    body = zstandard.ZstdCompressor().compress(b"\n".join(lines))
    present = store.read(CATALOG_INDEX)
    store.swap(CATALOG_INDEX, body, etag=present[1] if present else None)


def _read_index(store: Store) -> dict[tuple[str, str], Manifest]:
    """Manifests by key and ETag; empty when there is no index, or none that can be read."""
    present = store.read(CATALOG_INDEX)
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
