"""Find the archives that may have matching rows, and name those in the range that exist no more or cannot be trusted.

Nothing in the range is left out silently: an archive is either located, or named with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.calendar import Partition
from strongroom.errors import IntegrityError, QueryError
from strongroom.ledger.index import DamagedManifest, survey_manifests
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.manifests import archive_ids, is_destroyed, require_readable
from strongroom.ledger.owner import require_owned
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.archives import ArchiveId, certified, unfinished_purges
from strongroom.object_keys.records import evidence_prefix
from strongroom.query.records import NotSearched, QueryRequest
from strongroom.storage.store import Store
from strongroom.storage.versions import by_key, is_there

_PURGED = "it was destroyed, since its term was over or another archive supersedes it"
_PURGING = "a purge of it has begun"


@dataclass(frozen=True)
class Located:
    """The archives of a table in a range.

    Attributes:
        manifests: Of those that exist, oldest window and lowest sequence first, as they were listed:
            :func:`trusted_manifest` reads each again before it is searched.
        not_searched: Those that do not exist any more, or whose manifest is not sound.
    """

    manifests: tuple[Manifest, ...]
    not_searched: tuple[NotSearched, ...]


def locate_archives(store: Store, request: QueryRequest) -> Located:
    """Find the archives that a request names, or those of its table whose window overlaps its range.

    Raises:
        QueryError: There are none, or one is of another table.
        ArchiveIdError: What it names is no id of an archive.
        IdentityError: The store is unclaimed.
    """
    located = _named(store, request) if request.archives else _in_range(store, request)
    if not located.manifests and not located.not_searched:
        raise QueryError(
            f"no archive of {request.table} is in the range {_minute(request.since)} to {_minute(request.before)}",
            hint="Nothing was read. `airflow strongroom list` prints the archives that exist. Rows that are still in the table "
            "are not searched.",
        )
    return located


def trusted_manifest(store: Store, archive: ArchiveId) -> Manifest | NotSearched:
    """Read a manifest, or the replica's, and require that it equals its copy; or say why the archive cannot be searched."""
    try:
        return require_readable(store, archive)
    except IntegrityError as error:
        if is_destroyed(store, archive):
            return NotSearched(archive_id=str(archive), reason="purged", detail=_PURGED)
        return NotSearched(archive_id=str(archive), reason="unverifiable", detail=error.what)


def parts_in_range(manifest: Manifest, request: QueryRequest) -> Iterator[ManifestPart]:
    """The parts of an archive that may have rows in the range of a request."""
    return (part for part in manifest.parts if _touches(part.start_at, part.end_at, request))


def cuts_undated_rows(request: QueryRequest, manifest: Manifest) -> str | None:
    """Why a time range cannot be decided in an archive, if so: rows of another table date its rows, so only all or none are in it."""
    window, dating = manifest.window, manifest.table.dated_through
    later = request.since is not None and request.since > window.start
    earlier = request.before is not None and request.before < window.end
    if not dating or not (later or earlier):
        return None
    return f"rows of {dating[-1].parent} date its rows, so the time range must hold all of {manifest.partition_key} or nothing of it"


def _touches(start: datetime, end: datetime, request: QueryRequest) -> bool:
    late = request.since is not None and end <= request.since
    early = request.before is not None and start >= request.before
    return not late and not early


def _named(store: Store, request: QueryRequest) -> Located:
    require_owned(store)
    archives = sorted({ArchiveId.parse(text) for text in request.archives})
    table = split_table(request.table)
    for archive in archives:
        if (archive.schema_name, archive.table_name) != table:
            raise QueryError(
                f"{archive} is not an archive of {request.table}",
                hint="Nothing was read. One query searches the archives of one table.",
            )
    found = [trusted_manifest(store, archive) for archive in archives]
    _require_current(store, found)
    return Located(
        _oldest_first([one for one in found if isinstance(one, Manifest)]),
        tuple(one for one in found if isinstance(one, NotSearched)),
    )


def _require_current(store: Store, found: Sequence[Manifest | NotSearched]) -> None:
    """Require that no later archive holds the rows without those of a person who was erased.

    Raises:
        QueryError: One does.
    """
    for partition in {
        ArchiveId.parse(one.archive_id).partition_key: ArchiveId.parse(one.archive_id) for one in found
    }.values():
        beside = archive_ids(store, partition.schema_name, partition.table_name, partition.partition_key)
        for other in (trusted_manifest(store, archive) for archive in beside):
            earlier = other.supersedes if isinstance(other, Manifest) else None
            if earlier is not None and earlier.archive_id in {one.archive_id for one in found}:
                raise QueryError(
                    f"{earlier.archive_id} is superseded: rows of a person who was erased are still in it until it is removed",
                    hint=f"Nothing was read. Search {other.archive_id}, which holds its other rows.",
                )


def _in_range(store: Store, request: QueryRequest) -> Located:
    table = split_table(request.table)
    # Evidence is listed before the manifests: an archive that is purged in between is named twice rather than not at all.
    evidence = by_key(store.versions(evidence_prefix(*table)))
    written = [key for key, versions in evidence.items() if is_there(versions)]
    survey = survey_manifests(store, *table)
    copies, damaged = _read_damaged(store, survey.damaged)
    sound = (*survey.manifests, *copies)
    replaced = {one.supersedes.archive_id for one in sound if one.supersedes is not None}
    listed = {*(one.archive_id for one in survey.manifests), *(one.archive_id for one in survey.damaged)}
    gone = [(one, _PURGED) for one in certified(written)] + [(one, _PURGING) for one in unfinished_purges(written)]
    purged = [
        NotSearched(archive_id=str(archive), reason="purged", detail=detail)
        for archive, detail in sorted(gone)
        if str(archive) not in listed and str(archive) not in replaced
    ]
    current = [one for one in sound if one.archive_id not in replaced]
    return Located(
        _oldest_first([one for one in current if _touches(one.window_start, one.window_end, request)]),
        tuple(one for one in [*purged, *damaged] if _partition_touches(one.archive_id, request)),
    )


def _read_damaged(store: Store, damaged: Sequence[DamagedManifest]) -> tuple[list[Manifest], list[NotSearched]]:
    """The replica's manifests where those of the store are not sound, and what cannot be searched."""
    copies, lost = [], []
    for one in damaged:
        found = None if store.replica is None else trusted_manifest(store, ArchiveId.parse(one.archive_id))
        if isinstance(found, Manifest):
            copies.append(found)
        else:
            lost.append(NotSearched(archive_id=one.archive_id, reason="unverifiable", detail=one.problem))
    return copies, lost


def _partition_touches(archive_id: str, request: QueryRequest) -> bool:
    window = Partition.named(ArchiveId.parse(archive_id).partition_key).window
    return _touches(window.start, window.end, request)


def _oldest_first(manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
    def age(manifest: Manifest) -> tuple[datetime, str, int]:
        return manifest.window_start, manifest.partition_key, manifest.rank

    return tuple(sorted(manifests, key=age))


def _minute(instant: datetime | None) -> str:
    return "…" if instant is None else f"{instant:%Y-%m-%d %H:%M} UTC"
