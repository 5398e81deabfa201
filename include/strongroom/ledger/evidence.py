"""Evidence that rows left the table: of deletes, and of table partitions that were detached with rows in them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import AwareDatetime, Field

from strongroom.calendar import Window
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys import ArchiveId
from strongroom.records import DeletedPart, Record, Sha256, parse_record
from strongroom.storage.store import Store

_DETACH = "sound evidence of a detach"
_UNSOUND = "No row was deleted by this step. Earlier versions of this object may be sound: list them and put the right one back."


class DetachedPartition(Record):
    """A table partition that was proved as a whole and detached; it waits to be dropped."""

    oid: int
    partition: str = Field(description="Schema and name while it was a partition.")
    held_as: str = Field(description="Schema and name under which it waits.")
    bounds: str
    start_at: AwareDatetime
    end_at: AwareDatetime
    rows: int
    bring_back: str = Field(description="SQL for an owner of the table that makes it a partition again.")

    @property
    def window(self) -> Window:
        """The span of time that its rows are from."""
        return Window(self.start_at, self.end_at)


class LeftPartition(Record):
    """A table partition that overlaps the window and stays; its rows are left to the delete."""

    partition: str
    reason: str


class DetachEvidence(Record):
    """What lies in the store under ``evidence/`` for each archive of a table with ``partition_delete``."""

    archive_id: str
    table: str
    detached: tuple[DetachedPartition, ...]
    left: tuple[LeftPartition, ...]
    note: str = Field(default="", description="Why no partition could be detached, if so.")
    detached_at: AwareDatetime
    drop_after: AwareDatetime
    dag_id: str
    run_id: str

    @property
    def rows(self) -> int:
        """Rows in detached partitions that wait to be dropped."""
        return sum(one.rows for one in self.detached)


def read_detached(store: Store, archive: ArchiveId) -> DetachEvidence | None:
    """The evidence of an archive's detach; None if nothing was detached.

    Raises:
        IntegrityError: It is damaged, so it is unknown where the rows are.
    """
    return read_record(store, archive.detach_evidence_key, DetachEvidence, what=_DETACH, hint=_UNSOUND)


def parse_detached(where: str, body: bytes) -> DetachEvidence:
    """Read the evidence of a detach.

    Raises:
        IntegrityError: It is not sound.
    """
    return parse_record(DetachEvidence, body, where=where, what=_DETACH, hint=_UNSOUND)


def detached_windows(store: Store, archive: ArchiveId) -> list[Window]:
    """The windows that the detached partitions hold rows of, oldest first; adjacent ones are joined."""
    evidence = read_detached(store, archive)
    windows: list[Window] = []
    for one in sorted((each.window for each in evidence.detached), key=_start) if evidence else ():
        if windows and windows[-1].end == one.start:
            windows[-1] = Window(windows[-1].start, one.end)
        else:
            windows.append(one)
    return windows


def _start(window: Window) -> AwareDatetime:
    return window.start


def covers(windows: Iterable[Window], window: Window) -> bool:
    """Whether one of some windows holds all of another."""
    return any(one.covers(window) for one in windows)


class KeptRow(Record):
    """A row of the archive that is still in the table, by its primary key as text."""

    reason: str
    key: tuple[str, ...]


class DeleteEvidence(DeletedPart):
    """What lies in the store under ``evidence/`` for each part whose rows were deleted."""

    object_key: str
    version_id: str | None
    sha256: Sha256
    verified_at: datetime
    kept: tuple[KeptRow, ...]
    warm_table: str | None = Field(default=None, description="Where the deleted rows were moved to, if anywhere.")
    dag_id: str
    run_id: str


def parse_evidence(where: str, body: bytes) -> DeleteEvidence:
    """Read the evidence of one part's delete.

    Raises:
        IntegrityError: It is not sound.
    """
    return parse_record(DeleteEvidence, body, where=where, what="sound evidence of a delete", hint=_UNSOUND)
