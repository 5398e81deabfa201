"""What one store tells of all its archives, as small as the map, the totals and the search need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache

from pydantic import AwareDatetime, Field

from strongroom.erasure.clock import OpenCase, StoreCases
from strongroom.ledger.holds import EVERYTHING, Hold
from strongroom.ledger.index import DamagedManifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import decode_table
from strongroom.object_keys.reports import VerificationKey
from strongroom.records import Record, RestoreRecord, Sha256
from strongroom.statistics.proofs import Proofs, make_proofs


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

    def of_successor(self, rows: int) -> Left:
        """What is known of an archive that took these rows over: which of the others were a person's, nobody can tell any more."""
        deleted = rows - (self.rows - self.deleted)
        if deleted < 0:
            return Left(rows=rows, deleted=rows, warm=self.warm)
        return self.model_copy(update={"rows": rows, "deleted": deleted})

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
    supersedes: str | None = Field(
        default=None, description="The archive whose rows it holds, without those of a person who was erased."
    )
    case_id: str | None = Field(default=None, description="For whose case it supersedes that one.")
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
        """Whether each of its parts went through a delete, or those of the archive before."""
        return self.supersedes is not None or (self.left is not None and self.left.rows >= self.record_count)


class LatestReading(Record):
    """The latest verification of an archive."""

    at: AwareDatetime
    result: str
    sound_at: AwareDatetime | None = Field(description="The latest that found it sound.")


class ToldDrill(Record):
    """A drill of an archive, from the key of its record."""

    at: AwareDatetime
    result: str


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
        store: Its name; empty in facts that an earlier version kept.
        archives: The sound ones in the order of their ids.
        superseded: Those that a later archive supersedes, which are counted nowhere and wait to be removed.
        cases: Of persons, that have not ended.
        strays: Keys among the manifests that no manifest can have.
        destroyed: Archive ids with a certificate of destruction.
        restores: The records of those in force.
        reported: The reports of all restores that ended.
        readings: By archive id, the latest verification.
        drills: By archive id, the latest drill, and the latest that was sound.
        copied: By the name of a replica and by archive id, when the copy was last found the same.
        unreadable: Of some tables, what cannot be read and is left out here.
    """

    read_at: AwareDatetime
    store: str = ""
    archives: tuple[ArchiveFacts, ...] = ()
    superseded: tuple[ArchiveFacts, ...] = ()
    cases: tuple[OpenCase, ...] = ()
    damaged: tuple[DamagedManifest, ...] = ()
    strays: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    restores: tuple[RestoreRecord, ...] = ()
    reported: tuple[ReportedRestore, ...] = ()
    readings: dict[str, LatestReading] = Field(default={})
    drills: dict[str, tuple[ToldDrill, ...]] = Field(default={})
    copied: dict[str, dict[str, AwareDatetime]] = Field(default={})
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def proofs(self) -> Proofs:
        """When archives were last found sound, and when rows last came back."""
        restored = [one.proved_at for one in self.reported if one.proved_at is not None]
        return make_proofs(
            {name: one.sound_at for name, one in self.readings.items() if one.sound_at is not None},
            restored,
            {
                name: [VerificationKey(ArchiveId.parse(name), one.at, one.result) for one in told]
                for name, told in self.drills.items()
            },
            self.copied,
        )

    def clocks(self, now: datetime) -> StoreCases:
        """Its requests of persons, as they stand."""
        due = [one.due_at for one in self.cases if one.due_at is not None]
        return StoreCases(
            store=self.store,
            open=len(self.cases),
            overdue=sum(at < now for at in due) + len(self.cases) - len(due),
            next_due_at=min(due, default=None),
            superseded=len(self.superseded),
        )

    def seen(self, sees: Callable[[str], bool]) -> StoreFacts:
        """What somebody may know who sees only some tables (``schema.table``). A hold on everything is everybody's."""
        sees = cache(sees)

        def named(archive_id: str) -> bool:
            return sees(decode_table(archive_id))

        return self.model_copy(
            update={
                "archives": tuple(one for one in self.archives if sees(one.table_name)),
                "superseded": tuple(one for one in self.superseded if sees(one.table_name)),
                "cases": (),
                "damaged": tuple(one for one in self.damaged if named(one.archive_id)),
                "strays": tuple(key for key in self.strays if named(key.split("/")[1])),
                "destroyed": tuple(filter(named, self.destroyed)),
                "holds": tuple(one for one in self.holds if one.what == EVERYTHING or named(one.what)),
                "restores": tuple(one for one in self.restores if sees(one.table)),
                "reported": tuple(one for one in self.reported if sees(one.table)),
                "readings": {name: one for name, one in self.readings.items() if named(name)},
                "drills": {name: told for name, told in self.drills.items() if named(name)},
                "copied": {
                    place: {name: at for name, at in told.items() if named(name)} for place, told in self.copied.items()
                },
                "unreadable": tuple(one for one in self.unreadable if sees(one.table)),
            }
        )

    @property
    def tables(self) -> set[str]:
        """Each ``schema.table`` of which there is or was an archive."""
        lost = (*(one.archive_id for one in self.damaged), *self.destroyed)
        return {*(one.table_name for one in (*self.archives, *self.superseded)), *map(decode_table, lost)}


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
        superseded=tuple({one.archive_id: one for facts in stores for one in facts.superseded}.values()),
        damaged=tuple(damaged.values()),
        strays=tuple(dict.fromkeys(one for facts in stores for one in facts.strays)),
        destroyed=tuple(dict.fromkeys(one for facts in stores for one in facts.destroyed)),
        holds=tuple({one.hold_id: one for facts in stores for one in facts.holds}.values()),
        restores=tuple({one.restore_id: one for facts in stores for one in facts.restores}.values()),
        reported=tuple({(one.key, one.etag): one for facts in stores for one in facts.reported}.values()),
        readings={name: one for facts in stores for name, one in facts.readings.items()},
        drills={name: told for facts in stores for name, told in facts.drills.items()},
        copied={
            place: {name: at for facts in stores for name, at in facts.copied.get(place, {}).items()}
            for place in {place for facts in stores for place in facts.copied}
        },
        unreadable=tuple(dict.fromkeys(one for facts in stores for one in facts.unreadable)),
    )
