"""Step 1, plan: what is due, what stays and why, and which parts the window is cut into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from psycopg.pq import TransactionStatus

from strongroom.calendar import Partition, refuse_if_hot, refuse_if_spent
from strongroom.database.date_index import has_date_index
from strongroom.database.delete_allowed import require_delete_allowed
from strongroom.database.inspect import InspectedTable, inspect_table
from strongroom.database.session import Connection, read_identity
from strongroom.database.units import Place
from strongroom.errors import StagingError, UnarchivableError
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import archive_ids, require_manifest, traces_of
from strongroom.ledger.owner import require_owner
from strongroom.ledger.restore_records import active_restores_of
from strongroom.object_keys.archives import ArchiveId, emptied_and_kept
from strongroom.object_keys.records import evidence_prefix
from strongroom.records import ArchivePlan, Exclusion, PlannedPart, RestoreRecord, SourceIdentity, narrow, shape_sha256
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.bucket import refuse_early_expiry
from strongroom.storage.staging_folder import free_bytes
from strongroom.storage.store import LARGEST_PUT_BYTES, Store
from strongroom.tables.cut import MOST_PARTS, Cut, cut_partition
from strongroom.tables.exclusions import find_exclusions
from strongroom.tables.readable import may_be_too_wide, refuse_unsteady_text, refuse_wide_rows
from strongroom.tables.warm import warm_table

Planned = tuple[ArchivePlan, dict[str, Cut]]
"""A plan; and how the window is cut, by the tables (`schema.table`) of which a new archive is planned."""

_LONGEST_ID_BYTES = 250
"""An archive id names a folder in staging, and with a suffix an object that some stores keep as a file."""


def plan_archive(
    connection: Connection,
    store: Store,
    settings: TableSettings,
    partition: Partition,
    *,
    members: Sequence[TableSettings] = (),
    now: datetime,
    stop_at: datetime | None = None,
) -> ArchivePlan:
    """Decide what one run archives. Writes nothing.

    If an archive of this partition was sealed and its rows are not all deleted, the run resumes it (``resumed``).
    Otherwise every due row that is still in the table goes into a new archive (``planned``), or there is none
    (``nothing_due``). A partition whose rows were restored is left alone until the restore record expires (``restored``).

    Args:
        members: Settings of the tables that are archived together with this one. What is due in all of them is looked up in one
            snapshot, and the outcome is the same for all.
        stop_at: No plan is made after this instant; None means no limit.

    Raises:
        PartitionError: The window is open or inside hot retention.
        ConfigurationError: The archive would be destroyed within 30 days, and the settings do not say so twice.
        OutOfTimeError: The time is over.
        UnarchivableError: The table cannot be archived without loss, no row of it can be deleted, or its warm table cannot
            take the rows.
        SourceAccessError: A right is missing, or the source is a standby or read-only.
        IdentityError: The store belongs to another database, or to none.
        StagingError: Staging cannot hold the parts.
        StoreAccessError: The bucket is missing, keeps no versions, or removes archives before their term.
    """
    refuse_if_hot(partition, settings.hot_retention, now)
    require_time(f"{settings.qualified_name} {partition.key}", stop_at, now)
    store.prepare()
    tables = (settings, *members)
    for one in tables:
        require_delete_allowed(connection, one)
    plan, cuts = foresee_archive(connection, store, settings, partition, members=members, now=now, try_rows=True)
    for of_table in plan.all_tables:
        one = next(each for each in tables if each.qualified_name == of_table.table)
        if of_table.archive_id is not None and of_table.table in cuts:
            _check_room(one, of_table.archive_id, cuts[of_table.table])
    return plan


def foresee_archive(
    connection: Connection,
    store: Store,
    settings: TableSettings,
    partition: Partition,
    *,
    members: Sequence[TableSettings] = (),
    now: datetime,
    try_rows: bool = False,
) -> Planned:
    """Say what :func:`plan_archive` would decide now, as far as reading tells. Works in a transaction that is read only.

    It asks neither whether the window is past hot retention, nor for the time of ``stop_after``, nor whether the server allows
    deletes, nor for room in staging.

    Args:
        members: As for :func:`plan_archive`.
        try_rows: Whether to try rows that may be too wide to be read back. That takes a temporary table.

    Returns:
        The plan; and how the window is cut, for each table of which a new archive is planned.

    Raises:
        As :func:`plan_archive`.
    """
    until = settings.cold_retention.after(partition.window.end)
    doubt = refuse_early_expiry(store, settings, now=now, until=until)
    source = read_identity(connection)
    plannings = []
    for one in (settings, *members):
        table = inspect_table(connection, one)
        warm_table(connection, one, table.shape, partition.window, now)
        notes = [doubt] if doubt else []
        if not try_rows and may_be_too_wide(connection, table):
            notes.append("Rows may be too wide to be read back; only a run can try that, in a temporary table.")
        plannings.append(_Planning(connection, store, one, partition, table, source, now, tuple(notes), try_rows))
    require_owner(store, source)
    return _plan_unit(plannings) if members else plannings[0].plan()


def _plan_unit(plannings: Sequence[_Planning]) -> Planned:
    """Decide for all tables of a unit at once, of which the root is the first."""
    root = plannings[0]
    if any(one.restores for one in plannings):
        return _together([one.make("restored", restores=one.restores) for one in plannings]), {}
    by_place = {one.table.place: one for one in plannings}
    # All are read, also those of members: one whose manifest is damaged or gone stops the run.
    usable = {manifest.archive_id: manifest for one in plannings for manifest in one.earlier_manifests()}
    for manifest in [one for one in usable.values() if one.table_name == root.settings.qualified_name]:
        unit = _sealed_unit(manifest, usable)
        if unit is not None and any(by_place[place].is_unfinished(one) for place, one in unit.items()):
            return _together(
                [
                    one.resume(unit[place]) if place in unit else one.make("nothing_due")
                    for place, one in by_place.items()
                ]
            ), {}
    for one in plannings:
        one.require_archivable()
    alone = root.connection.info.transaction_status is TransactionStatus.IDLE
    with root.connection.transaction():
        # Who only foresees has a transaction already, which sees each table in a snapshot of its own.
        one_view = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        root.connection.execute(one_view if alone else "SET TRANSACTION READ ONLY")
        due = [one.look() for one in plannings]
    made = [one.make_new(*found) for one, found in zip(plannings, due, strict=True)]
    return _together([plan for plan, _ in made]), {key: cut for _, cuts in made for key, cut in cuts.items()}


def _together(plans: Sequence[ArchivePlan]) -> ArchivePlan:
    if (parts := sum(len(one.parts) for one in plans)) > MOST_PARTS:
        raise UnarchivableError(
            f"{plans[0].table} {plans[0].partition_key} and the tables that are archived with it fall into {parts} parts",
            expected=f"at most {MOST_PARTS}",
            hint="No row was deleted. Raise `part_rows` and `part_bytes`, or cut the table into weeks or days (`frequency`).",
        )
    return plans[0].model_copy(update={"members": tuple(plans[1:])})


def _sealed_unit(manifest: Manifest, usable: Mapping[str, Manifest]) -> dict[Place, Manifest] | None:
    """The archives that were sealed together with one of the root, by their tables.

    None if their rows cannot be deleted: some of them were never sealed, are of other columns, were condemned or purged, or are of
    a table that is no member any more. What is still in the tables goes into new archives then.
    """
    every = [manifest, *(usable.get(one.archive_id) for one in manifest.unit)]
    sealed = [one for one in every if one is not None]
    return {(one.table.schema_name, one.table.table_name): one for one in sealed} if len(sealed) == len(every) else None


@dataclass(frozen=True)
class _Planning:
    """The plan of one partition, of which the table and the store are known to be fit."""

    connection: Connection
    store: Store
    settings: TableSettings
    partition: Partition
    table: InspectedTable
    source: SourceIdentity
    now: datetime
    notes: tuple[str, ...]
    try_rows: bool

    @cached_property
    def evidence(self) -> frozenset[str]:
        """Keys of the evidence of all archives of the partition."""
        return frozenset(self.store.keys(evidence_prefix(*self._where)))

    @cached_property
    def earlier(self) -> list[ArchiveId]:
        """Sealed archives of the partition. One by which rows were deleted counts even if only its evidence is left."""
        return sorted({*archive_ids(self.store, *self._where), *emptied_and_kept(self.evidence)})

    @cached_property
    def restores(self) -> tuple[RestoreRecord, ...]:
        """Restores whose rows are needed in the table."""
        return active_restores_of(self.store, self.settings.qualified_name, self.partition, self.now)

    def plan(self) -> Planned:
        """Decide between the outcomes."""
        if self.restores:
            return self.make("restored", restores=self.restores), {}
        for manifest in self.earlier_manifests():
            if self.is_unfinished(manifest):
                return self.resume(manifest), {}
        self.require_archivable()
        with self.connection.transaction():
            # Reading rows runs code of their types' owners, which must change nothing.
            self.connection.execute("SET TRANSACTION READ ONLY")
            found = self.look()
        return self.make_new(*found)

    def resume(self, manifest: Manifest) -> ArchivePlan:
        """Plan to delete the rows of a sealed archive."""
        numbers = range(len(manifest.parts))
        return self.make("resumed", tuple(narrow(manifest.verified_part(each), PlannedPart) for each in numbers))

    @cached_property
    def begun(self) -> list[ArchiveId]:
        """Archives of the partition that left a part or evidence, also those of a broken run and those that were purged."""
        return traces_of(self.store, *self._where, evidence=self.evidence)

    @cached_property
    def archive(self) -> ArchiveId:
        """The next archive of the partition."""
        sequence = max((one.sequence for one in (*self.earlier, *self.begun)), default=0) + 1
        return ArchiveId(*self._where, sequence)

    def require_archivable(self) -> None:
        """Refuse what needs no look at the due rows alone."""
        refuse_if_spent(self.partition, self.settings.cold_retention, self.settings.confirmed, self.now)
        _refuse_long_id(self.settings, str(self.archive))
        if self.try_rows:
            refuse_wide_rows(self.connection, self.table, self.partition.window)

    def look(self) -> tuple[tuple[Exclusion, ...], Cut]:
        """What stays, and what is due. The caller's transaction is read only."""
        refuse_unsteady_text(self.connection, self.table, self.partition.window)
        exclusions = find_exclusions(self.connection, self.table, self.partition.window)
        return exclusions, cut_partition(self.connection, self.table, self.partition, self.settings)

    def make_new(self, exclusions: tuple[Exclusion, ...], cut: Cut) -> Planned:
        """The plan of a new archive, or of none if nothing is due."""
        ordered, why = self._by_range()
        parts = _parts(self.archive, cut, shape_sha256(self.table.shape), ordered=ordered)
        outcome: Literal["planned", "nothing_due"] = "planned" if parts else "nothing_due"
        plan = self.make(
            outcome, parts, exclusions=exclusions, known_archives=tuple(map(str, self.begun)), delete_by=why
        )
        return plan, {self.settings.qualified_name: cut}

    def _by_range(self) -> tuple[bool, str]:
        """Whether the rows are archived and deleted by ranges of their date, and why."""
        wanted, shape = self.settings.delete_by, self.table.shape
        date = shape.date_column
        if shape.dated_through:
            return False, f"key, since rows of {shape.dated_through[-1].parent} date them"
        if wanted == "key":
            return False, "key, as the settings say"
        if has_date_index(self.connection, shape.schema_name, shape.table_name, date):
            return True, f"range, since an index begins with {date}"
        if wanted == "range":
            return True, f"range, as the settings say, though no index begins with {date}"
        return False, f"key, since no index begins with {date}"

    def earlier_manifests(self) -> Iterator[Manifest]:
        """The archives of the partition whose rows may still be deleted, in their order."""
        for archive in self.earlier:
            if archive.condemnation_key not in self.evidence:
                manifest = require_manifest(self.store, archive)
                if self.may_delete(archive, manifest):
                    yield manifest

    def may_delete(self, archive: ArchiveId, manifest: Manifest) -> bool:
        """Whether rows may be deleted by an archive.

        By archives of other columns than the table has now, and by those that were condemned, a delete is refused, so the rows
        that they left go into a new archive. One that supersedes another has nothing to delete. One of a unit needs the others.
        """
        unlike = manifest.shape_sha256 != shape_sha256(self.table.shape) or manifest.supersedes is not None
        alone = bool(manifest.unit) and self.settings.unit is None
        return not unlike and not alone and archive.condemnation_key not in self.evidence

    def is_unfinished(self, manifest: Manifest) -> bool:
        """Whether not all rows of a sealed archive are deleted."""
        archive = ArchiveId.parse(manifest.archive_id)
        return any(archive.delete_evidence_key(part.number) not in self.evidence for part in manifest.parts)

    @property
    def _where(self) -> tuple[str, str, str]:
        return self.settings.schema_name, self.settings.table_name, self.partition.key

    def make(
        self,
        outcome: Literal["planned", "resumed", "nothing_due", "restored"],
        parts: tuple[PlannedPart, ...] = (),
        **rest: Any,
    ) -> ArchivePlan:
        """A plan of the table."""
        return ArchivePlan(
            outcome=outcome,
            table=self.settings.qualified_name,
            partition_key=self.partition.key,
            start_at=self.partition.window.start,
            end_at=self.partition.window.end,
            archive_id=parts[0].archive_id if parts else None,
            shape=self.table.shape,
            source=self.source,
            parts=parts,
            due_rows=sum(part.expected_rows for part in parts),
            earlier_archives=tuple(map(str, self.earlier)),
            planned_at=self.now,
            notes=self.notes,
            **rest,
        )


def _parts(archive: ArchiveId, cut: Cut, digest: str, *, ordered: bool) -> tuple[PlannedPart, ...]:
    return tuple(
        PlannedPart(
            archive_id=str(archive),
            number=number,
            start_at=piece.window.start,
            end_at=piece.window.end,
            share=piece.share,
            shares=piece.shares,
            ordered=ordered and piece.shares == 1,
            expected_rows=piece.rows,
            shape_sha256=digest,
        )
        for number, piece in enumerate(cut.pieces)
    )


def _refuse_long_id(settings: TableSettings, archive_id: str) -> None:
    if len(archive_id) > _LONGEST_ID_BYTES:
        raise UnarchivableError(
            f"{settings.qualified_name} cannot be archived: its names are too long for the name of a folder",
            expected=f"an archive id of at most {_LONGEST_ID_BYTES} characters",
            found=f"{len(archive_id)}; each byte that is not A-Z, a-z, 0-9, _ or - takes three",
            hint="Nothing was read and no row was deleted. Give the schema or the table a shorter name.",
        )


def _check_room(settings: TableSettings, archive_id: str, cut: Cut) -> None:
    """Refuse parts that staging cannot hold.

    A shared folder holds two compressed forms of each of the parts that run side by side, at worst half as large as its lines.
    Beside staging on S3, a machine's own folder holds one part for each step that runs on it.
    """
    folder, name = settings.working_folder
    shared = name == "staging"
    largest_part = max(piece.rows for piece in cut.pieces)
    if not shared and settings.format == "jsonl" and largest_part * cut.line_bytes > LARGEST_PUT_BYTES:
        raise _too_large(settings, archive_id, int(largest_part * cut.line_bytes))
    free = free_bytes(folder, name)
    at_once = min(settings.max_parallel_parts, math.ceil(cut.rows / largest_part)) if shared else 1
    needed = int(largest_part * cut.line_bytes * at_once)
    if needed > free:
        lower = "`part_rows` or `max_parallel_parts`" if shared else "`part_rows`"
        raise StagingError(
            f"{name} at {folder} cannot hold {'the parts' if shared else 'a part'} of {archive_id}",
            expected=f"about {needed:,} bytes free",
            found=f"{free:,} bytes free",
            hint=f"Nothing was read and no row was deleted. Free space, or point `{name}` at a larger disk, or lower {lower}.",
        )


def _too_large(settings: TableSettings, archive_id: str, size_bytes: int) -> StagingError:
    return StagingError(
        f"staging at {settings.staging} cannot take the parts of {archive_id}",
        expected=f"at most {LARGEST_PUT_BYTES:,} bytes of JSON lines in one",
        found=f"about {size_bytes:,}",
        hint="Nothing was read and no row was deleted. Lower `part_rows` or `part_bytes`; where the partition would fall "
        "into too many parts then, cut the table into weeks or days (`frequency`), or take `format: parquet`.",
    )
