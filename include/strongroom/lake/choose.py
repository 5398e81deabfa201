"""Which archives of a table belong to its Iceberg table now, from the store's own listings.

A later archive of a partition may hold a row that an earlier one holds, too: it was changed or restored in between. Both are in the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from strongroom.lake.places import ReadPlace, StoredPart
from strongroom.lake.records import LeftOut, Reason
from strongroom.ledger.index import list_archives, read_listed, split_superseded
from strongroom.ledger.manifest_record import Manifest
from strongroom.object_keys.archives import ArchiveId

LEAVES_EARLY = timedelta(days=2)
"""How long before the end of its term an archive leaves the table: longer than the time between two runs, so that no purge takes a part from a reader."""

_FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True)
class Chosen:
    """The archives of a table.

    Attributes:
        manifests: Of those that belong to the Iceberg table, oldest window first.
        left_out: The others, with the reason.
    """

    manifests: tuple[Manifest, ...]
    left_out: tuple[LeftOut, ...]


def choose_archives(store: ReadPlace, schema_name: str, table_name: str, *, now: datetime) -> Chosen:
    """Choose the sealed archives that a reader may see, and whose every part it finds as it was sealed.

    Raises:
        IdentityError: The store is unclaimed, so it may be an emptied bucket.
    """
    listing = list_archives(store, schema_name, table_name)
    manifests, damaged, _ = read_listed(store, listing.etags)
    current, superseded = split_superseded(manifests)
    parts = store.stored_parts(schema_name, table_name)
    left_out = [
        *(_out(one.archive_id, "unverifiable", one.problem) for one in (*listing.damaged, *damaged)),
        *(
            _out(one.archive_id, "superseded", "a later archive holds its rows without a person's")
            for one in superseded
        ),
    ]
    chosen = []
    for manifest in current:
        why = _doubt(manifest, listing.evidence, parts, now)
        if why is None:
            chosen.append(manifest)
        else:
            left_out.append(_out(manifest.archive_id, *why))
    return Chosen(
        tuple(sorted(chosen, key=lambda one: (one.window_start, ArchiveId.parse(one.archive_id)))),
        tuple(sorted(left_out, key=lambda one: ArchiveId.parse(one.archive_id))),
    )


def _doubt(
    manifest: Manifest, evidence: Collection[str], parts: Mapping[str, StoredPart], now: datetime
) -> tuple[Reason, str] | None:
    archive = ArchiveId.parse(manifest.archive_id)
    if manifest.format != "parquet":
        return "json_lines", "its parts are JSON lines; Iceberg reads parquet"
    if archive.condemnation_key in evidence:
        return "condemned", "it lost a part, and its rows that were still in the table are in a later archive"
    if archive.purge_intent_key in evidence:
        return "purging", "its purge has begun"
    if manifest.retention_until <= now + LEAVES_EARLY:
        return "expiring", f"its term is over on {manifest.retention_until:%Y-%m-%d}"
    for part in manifest.parts:
        found = parts.get(part.object_key)
        if found is None:
            return "unreadable", f"part {part.number} is missing"
        if found.versions != 1 or found.size_bytes != part.compressed_size:
            return "unreadable", f"part {part.number} is hidden, or another version covers it"
        if found.storage_class in _FROZEN:
            return "frozen", f"part {part.number} is in {found.storage_class}"
    return None


def _out(archive_id: str, reason: Reason, detail: str) -> LeftOut:
    return LeftOut(archive_id=archive_id, reason=reason, detail=detail)
