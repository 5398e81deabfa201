"""Evidence that rows left the table: of deletes, and of table partitions that were detached with rows in them.

Evidence is kept for ever, so it names no row. The keys of rows that a delete left in the table are in an annex, which lies beside the
archive's parts and goes with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.calendar import Window
from strongroom.ledger.stored_records import read_record
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import DeletedPart, Record, Sha256, make_salt, parse_record
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


class KeptRows(Record):
    """An annex: the rows of one part that are still in the table. Its salt keeps anybody from guessing them from its sum."""

    archive_id: str
    number: int
    salt: str
    kept: tuple[KeptRow, ...]


class Annex(Record):
    """Which object has the keys of the rows that stayed."""

    key: str
    sha256: Sha256
    listed: int = Field(description="How many keys it has.")


class DeleteEvidence(DeletedPart):
    """What lies in the store under ``evidence/`` for each part whose rows were deleted."""

    object_key: str
    version_id: str | None
    sha256: Sha256
    verified_at: datetime
    kept: tuple[KeptRow, ...] = Field(
        default=(), exclude_if=lambda kept: not kept, description="Only in evidence from before there were annexes."
    )
    annex: Annex | None = Field(
        default=None, exclude_if=lambda annex: annex is None, description="Not there where no row stayed."
    )
    warm_table: str | None = Field(default=None, description="Where the deleted rows were moved to, if anywhere.")
    dag_id: str
    run_id: str


def keep_annex(store: Store, archive: ArchiveId, number: int, kept: Sequence[KeptRow]) -> Annex | None:
    """Write the keys of the rows that stayed, if there are any. A repeat finds what an earlier try wrote.

    An earlier try that was about other rows died before its evidence. Its annex stays beside this one until the archive goes.
    """
    if not kept:
        return None
    ours = KeptRows(archive_id=str(archive), number=number, salt=make_salt(), kept=tuple(kept))
    attempt = 1
    while not _lists_the_same(body := store.put_first(archive.kept_rows_key(number, attempt), ours.to_bytes()), ours):
        attempt += 1  # each attempt has a key of its own, so one of them is free
    key = archive.kept_rows_key(number, attempt)
    return Annex(key=key, sha256=hashlib.sha256(body).hexdigest(), listed=len(kept))


def _lists_the_same(body: bytes, ours: KeptRows) -> bool:
    try:
        theirs = KeptRows.model_validate_json(body)
    except ValidationError:
        return False
    return theirs.model_copy(update={"salt": ours.salt}) == ours


def parse_evidence(where: str, body: bytes) -> DeleteEvidence:
    """Read the evidence of one part's delete.

    Raises:
        IntegrityError: It is not sound.
    """
    return parse_record(DeleteEvidence, body, where=where, what="sound evidence of a delete", hint=_UNSOUND)
