"""Archives that were sealed together, one for each table of the same objects: all of them or none let rows leave their tables.

Each of their manifests names them all, with their counts and sums (:attr:`Manifest.unit`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strongroom.errors import ChildrenLeftError, IntegrityError
from strongroom.ledger.holds import Hold
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import Attested, read_attested
from strongroom.object_keys.archives import ArchiveId
from strongroom.storage.store import Store


def ids_of_unit(manifest: Manifest) -> list[str]:
    """Its own id first, then those of the archives that were sealed together with it."""
    return [*dict.fromkeys((manifest.archive_id, *(one.archive_id for one in manifest.unit)))]


def depth(manifest: Manifest) -> int:
    """How many foreign keys lead from its rows to those of the root."""
    return len(manifest.table.dated_through)


def require_unit(store: Store, manifest: Manifest) -> list[Attested]:
    """The other archives of a unit, each of which is sealed and says of the unit what this one says.

    Raises:
        IntegrityError: One is missing, damaged or of another unit.
    """
    others = []
    for entry in manifest.unit:
        if entry.archive_id == manifest.archive_id:
            continue
        found = read_attested(store, ArchiveId.parse(entry.archive_id))
        if found is None or found.manifest.unit != manifest.unit:
            raise IntegrityError(
                f"{manifest.archive_id} was sealed together with {entry.archive_id}, which is not there as it should be",
                expected=f"{entry.record_count} rows, SHA256SUMS {entry.checksum}",
                found="no manifest" if found is None else "an archive of another unit",
                hint="No row of any of their tables was deleted by this step. If a run was stopped while it sealed them, clear its "
                "'seal' and the tasks after it, or run the partition again: what is still in the tables goes into new archives.",
            )
        others.append(found)
    return others


def covering_unit(holds: Iterable[Hold], manifest: Manifest) -> list[Hold]:
    """Those of some holds in force that cover an archive or any that was sealed together with it: objects are kept whole."""
    every = [*map(ArchiveId.parse, ids_of_unit(manifest))]
    return [hold for hold in holds if any(map(hold.covers, every))]


def children_left(manifest: Manifest, others: Sequence[Attested]) -> list[str]:
    """Archives of a unit whose rows must be deleted before those of one, and are not yet."""
    left = []
    for other in others:
        archive = ArchiveId.parse(other.manifest.archive_id)
        done = all(archive.delete_evidence_key(part.number) in other.evidence for part in other.manifest.parts)
        if depth(other.manifest) > depth(manifest) and not done:
            left.append(other.manifest.archive_id)
    return left


def require_children_gone(manifest: Manifest, others: Sequence[Attested]) -> None:
    """Check that all rows were dealt with that refer to those of an archive.

    Raises:
        ChildrenLeftError: They were not.
    """
    if left := children_left(manifest, others):
        raise ChildrenLeftError(
            f"rows that refer to those of {manifest.archive_id} have not been deleted yet",
            expected="children before their parents",
            found=f"no evidence of the deletes of {', '.join(left)}",
            hint="No row of this table was deleted by this try. Find out why the delete of those failed, fix it and clear it; then "
            "clear this task.",
        )
