"""The second copy of an archive, as a purge and the sweep see it: what lies there, and removing it before the first copy.

The second copy goes first. Whatever breaks off, the first copy still says what is left to do, and its manifest goes last of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from strongroom.ledger.copies import copy_intent, place_of, places_of
from strongroom.ledger.entries import subject_of
from strongroom.ledger.journal import doubt_of_entry
from strongroom.ledger.manifests import manifest_exists
from strongroom.object_keys.archives import (
    ArchiveId,
    certified,
    manifest_archive_id,
    manifest_prefix,
    stored_archive_id,
)
from strongroom.object_keys.layout import ARCHIVES, EVIDENCE
from strongroom.object_keys.records import proof_key
from strongroom.records import Record
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion


@dataclass(frozen=True)
class SecondCopy:
    """A replica, with the two identities that look at it.

    Attributes:
        store: With rights to read, and to write if Strongroom fills it.
        purge_store: With rights to remove versions.
        filled_by_us: Whether Strongroom fills it, and not the store itself.
    """

    store: Store
    purge_store: PurgeStore
    filled_by_us: bool

    def tell(self, store: Store, archive: ArchiveId) -> None:
        """Put the intent of a purge there. A store that fills it by itself does that."""
        if self.filled_by_us:
            copy_intent(store, self.store, archive)

    def remove_keys(self, keys: Iterator[str]) -> None:
        """Remove every version of some objects."""
        for key in keys:
            for version in self.purge_store.history(key):
                self.purge_store.remove(version)


class ReplicaCopy(Record):
    """A second copy of a destroyed archive, and what became of it.

    ``destroyed``: every version was removed, and two identities found none left. ``not_examined``: an earlier comparison found a copy
    there, and the settings do not name that place any more; somebody must remove it by hand.
    """

    place: str
    state: str
    versions: int = 0


def copies_elsewhere(store: Store, archive: ArchiveId, second: SecondCopy | None) -> list[ReplicaCopy]:
    """Places that once had a copy of an archive, and that the settings do not name any more."""
    known = places_of(store, archive)
    if second is not None:
        known -= {place_of(second.store.settings)}
    return [ReplicaCopy(place=place, state="not_examined") for place in sorted(known)]


def left_behind(store: Store, second: SecondCopy) -> Iterator[tuple[ArchiveId, Sequence[StoredVersion]]]:
    """Copies of archives that were destroyed: the replica got them late, or somebody put them back.

    Only what the log says was purged counts, because anybody with the archiver's keys can write a certificate.
    """
    purged = set(certified(store.keys(EVIDENCE)))
    found: dict[ArchiveId, list[StoredVersion]] = {}
    for prefix, archive_of in ((ARCHIVES, stored_archive_id), (manifest_prefix(), manifest_archive_id)):
        for version in second.purge_store.versions(prefix):
            archive = archive_of(version.key)
            if archive is not None and archive in purged:
                found.setdefault(archive, []).append(version)
    for archive, versions in sorted(found.items()):
        present = store.read(archive.destruction_key)
        if present is not None and not manifest_exists(store, archive):
            subject = subject_of(archive.destruction_key, present[0])
            if doubt_of_entry(store, subject, proof_key(archive.destruction_key), ["purged"]) is None:
                yield archive, versions
