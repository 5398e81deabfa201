"""What can be done from the pages: each action starts runs of a DAG, so Airflow's rights, logs and retries apply.

An action is described before it is done: what will happen, to how many rows, and what it costs to undo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

from strongroom.calendar import hot_until
from strongroom.ledger.holds import Hold, covered
from strongroom.ledger.restore_records import split_table
from strongroom.overview.chart import Cell
from strongroom.overview.facts import ArchiveFacts
from strongroom.overview.states import State
from strongroom.settings import TableSettings
from strongroom_airflow.pages.addresses import ACT, page
from strongroom_airflow.pages.rights import Rights
from strongroom_airflow.trigger import trigger_conf, trigger_partition

VERIFY, RESTORE, HOLD, QUERY_DAG = "verify_archives", "restore_archive", "legal_hold", "query_archive"
"""DAG ids."""

Deed = Literal["archive", "verify", "restore", "hold", "release"]
"""What can be done."""


@dataclass(frozen=True)
class Choice:
    """A link to the page that asks before anything is started."""

    words: str
    address: str


@dataclass(frozen=True)
class Asked:
    """One partition that an action is asked for, with all that is known of it."""

    cell: Cell
    settings: TableSettings | None
    archives: Sequence[ArchiveFacts]

    @property
    def name(self) -> str:
        """Table and partition, as people say it."""
        return f"{self.cell.table} {self.cell.partition.key}"

    @property
    def dag_id(self) -> str | None:
        """The DAG that archives the table; None if it is not configured."""
        return f"archive__{self.settings.run_slug}" if self.settings else None


@dataclass(frozen=True)
class Start:
    """One run to start.

    Attributes:
        what: What it will do, for the screen.
        dag_id: Of which DAG.
        partition_key: Of an archive run; then there is no conf.
        conf: Parameters of any other run; the form's own fields are added.
        cells: The partitions that it works on.
    """

    what: str
    dag_id: str
    cells: tuple[Cell, ...]
    partition_key: str | None = None
    conf: Mapping[str, Any] | None = None

    def begin(self, fields: Mapping[str, Any], user: BaseUser) -> str:
        """Start the run for a user; returns its id. Raises as :mod:`strongroom_airflow.trigger` says."""
        if self.partition_key is not None:
            return trigger_partition(self.dag_id, self.partition_key, user)
        return trigger_conf(self.dag_id, {**(self.conf or {}), **fields}, user)


@dataclass(frozen=True)
class Proposal:
    """An action as the confirmation page shows it.

    Attributes:
        title: What is asked.
        effects: What will happen, one sentence each.
        undo: What it costs to undo.
        starts: The runs that would be started.
        refused: What cannot be done, and why.
        fields: Names of the fields that the form asks for.
    """

    title: str
    effects: tuple[str, ...]
    undo: str
    starts: tuple[Start, ...]
    refused: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("why",)


def archive_choice(where: str, *, again: bool) -> Choice:
    """The choice to archive a partition."""
    return Choice("Archive what is left" if again else "Archive now", page(ACT, do="archive", cell=where))


def propose(deed: Deed, asked: Sequence[Asked], hold: Hold | None, *, now: datetime, rights: Rights) -> Proposal:
    """Say what an action would do to some partitions. The user's rights decide what is refused."""
    if deed == "archive":
        return _archive(asked, now, rights)
    if deed == "verify":
        return _verify(asked, rights)
    if deed == "restore":
        return _restore(asked, rights)
    return _hold(asked, rights) if deed == "hold" else _release(asked, hold, rights)


def _archive(asked: Sequence[Asked], now: datetime, rights: Rights) -> Proposal:
    starts, refused, rows, uncounted = [], [], 0, 0
    for one in asked:
        if one.settings is None or one.dag_id is None:
            refused.append(f"{one.name}: the table is not configured.")
        elif not rights.may_trigger(one.dag_id):
            refused.append(f"{one.name}: you may not trigger {one.dag_id}.")
        elif (due_at := hot_until(one.cell.partition.window, one.settings.hot_retention)) > now:
            refused.append(f"{one.name}: it is inside hot retention until {due_at:%Y-%m-%d %H:%M} UTC.")
        elif State.RUNNING in one.cell.states:
            refused.append(f"{one.name}: a run works on it already.")
        else:
            rows += one.cell.waiting or 0
            uncounted += one.cell.waiting is None
            what = f"{one.name}: " + (
                "rows not counted" if one.cell.waiting is None else f"{one.cell.waiting:,} rows wait"
            )
            starts.append(Start(what, one.dag_id, (one.cell,), partition_key=one.cell.partition.key))
    return Proposal(
        title=f"Archive {_many(len(starts), 'partition')}?",
        effects=(
            f"{rows:,} rows that wait in the table are copied to the store, read back and compared"
            + (f"; of {_many(uncounted, 'partition')} the rows are not counted." if uncounted else "."),
            "Each row that still equals its archived form is then deleted from the table. Rows that changed, or that others refer to, stay.",
        ),
        undo="Undoing it is a restore: it loads the rows again and compares each. No row is lost at any moment.",
        starts=tuple(starts),
        refused=tuple(refused),
        fields=(),
    )


def _verify(asked: Sequence[Asked], rights: Rights) -> Proposal:
    refused = [f"{one.name}: there is no archive." for one in asked if not one.archives]
    if not rights.may_trigger(VERIFY):
        refused.append(f"You may not trigger {VERIFY}.")
    archives = [each for one in asked for each in one.archives]
    starts = []
    if archives and rights.may_trigger(VERIFY):
        what = f"{_many(len(archives), 'archive')} of {_many(len(asked), 'partition')}"
        conf = {"archives": [one.archive_id for one in archives]}
        starts.append(Start(what, VERIFY, tuple(one.cell for one in asked), conf=conf))
    return Proposal(
        title=f"Verify {_many(len(archives), 'archive')}?",
        effects=(
            f"{_many(sum(one.parts for one in archives), 'object')} with {sum(one.record_count for one in archives):,} rows are read from the "
            f"store, {sum(one.compressed_size for one in archives):,} bytes, and all their checksums are compared.",
            "Nothing is changed. The result is kept in the store.",
        ),
        undo="There is nothing to undo. The store may charge for reading.",
        starts=tuple(starts),
        refused=tuple(refused),
    )


def _restore(asked: Sequence[Asked], rights: Rights) -> Proposal:
    refused = [f"{one.name}: there is no archive." for one in asked if not one.archives]
    by_table: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        if one.archives:
            by_table[one.cell.table].append(one)
    if not rights.may_trigger(RESTORE):
        refused.append(f"You may not trigger {RESTORE}.")
        by_table.clear()
    starts, rows = [], 0
    for table, several in by_table.items():
        archives = [each for one in several for each in one.archives]
        rows += sum(each.record_count for each in archives)
        what = f"{table}: {_many(len(archives), 'archive')}, {sum(each.record_count for each in archives):,} rows"
        conf = {"archives": [each.archive_id for each in archives]}
        starts.append(Start(what, RESTORE, tuple(one.cell for one in several), conf=conf))
    return Proposal(
        title=f"Restore {rows:,} rows?",
        effects=(
            f"The archives are read and all checksums are compared; then their {rows:,} rows are loaded into the table they came from.",
            "Rows that are missing are inserted. Rows that exist are compared and never overwritten.",
            "For the days that you choose, the partitions are not archived again. The archives stay as they are.",
        ),
        undo="Undoing it: when the days are over, the next run archives and deletes the rows again, which writes a further archive.",
        starts=tuple(starts),
        refused=tuple(refused),
        fields=("why", "keep_days", "dry_run"),
    )


def _hold(asked: Sequence[Asked], rights: Rights) -> Proposal:
    allowed = rights.may_trigger(HOLD)
    rows = sum(one.cell.rows for one in asked)
    return Proposal(
        title=f"Place a legal hold on {_many(len(asked), 'partition')}?",
        effects=(
            f"No archive of them is destroyed, whatever its age, until the hold is released: {rows:,} archived rows now.",
            "Rows in the table are still archived and deleted from it; they are safe in the archive.",
        ),
        undo="Releasing the hold undoes it; both stay on record.",
        starts=tuple(
            Start(
                one.name,
                HOLD,
                (one.cell,),
                conf={"action": "place", "what": covered(*split_table(one.cell.table), one.cell.partition.key)},
            )
            for one in asked
            if allowed
        ),
        refused=() if allowed else (f"You may not trigger {HOLD}.",),
        fields=("why", "reference", "who"),
    )


def _release(asked: Sequence[Asked], hold: Hold | None, rights: Rights) -> Proposal:
    refused = []
    if hold is None:
        refused.append("There is no such hold in force.")
    if not rights.may_trigger(HOLD):
        refused.append(f"You may not trigger {HOLD}.")
    starts = []
    if hold is not None and not refused:
        conf = {"action": "release", "hold_id": hold.hold_id}
        starts.append(
            Start(f"{hold.subject}: {hold.reference}, {hold.why}", HOLD, tuple(one.cell for one in asked), conf=conf)
        )
    return Proposal(
        title="Release the legal hold?",
        effects=(
            "Archives that it covered are destroyed by the next purge if their term is over and no other hold covers them.",
        ),
        undo="An archive that was destroyed cannot be brought back. The release stays on record; the hold can be placed again.",
        starts=tuple(starts),
        refused=tuple(refused),
        fields=("why", "who"),
    )


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
