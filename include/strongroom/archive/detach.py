"""Between seal and delete, detach: partitions whose rows are all proved leave the table as a whole, and wait to be dropped.

A partition is taken in five moves. None of them deletes a row:

1. look, without a lock: it must have as many rows as the archive holds of its time range;
2. guard it (:mod:`strongroom.tables.guard`): from then on its rows cannot change, so the next moves need no lock;
3. compare it with the archive, block by block and where that does not do row by row, and compare the numbers of rows;
4. detach it: concurrently if the server allows that, otherwise under a lock that is given up after a fifth of a second;
5. move it into a schema of its own, and write the evidence to the store.

If one of the first three moves fails, the guard is lifted and the rows are left to the delete. After a crash, a repeat finds
the partitions that were guarded by their guards.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import IsolationLevel, sql

from strongroom.database.inspect import inspect_again
from strongroom.database.session import Connection, qualified
from strongroom.errors import IntegrityError, SourceAccessError, StrongroomError
from strongroom.formats.blocks import Block
from strongroom.ledger.claims import running_clock
from strongroom.ledger.deletable import DeletingStep, require_deletable, require_sealed
from strongroom.ledger.entries import subject_of
from strongroom.ledger.evidence import DetachedPartition, DetachEvidence, LeftPartition, parse_detached, read_detached
from strongroom.ledger.holds import HoldWatch
from strongroom.ledger.journal import enter
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import manifest_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import VerifiedPart
from strongroom.settings.time_budget import require_time
from strongroom.tables.archived_rows import ArchivedKeys, blocks_read_back, read_blocks
from strongroom.tables.compare import ArchivedRows, Comparison, compare_with_archive, count_rows, wrong_columns
from strongroom.tables.guard import (
    GuardedTable,
    GuardTag,
    bring_back,
    guarded_table,
    guarded_tables,
    lift_guard,
    prepare_guards,
    set_guard,
)
from strongroom.tables.locks import briefly, tried
from strongroom.tables.partitions import (
    Leaf,
    PartitionedTable,
    detach_concurrently,
    not_settled,
    read_leaves,
    read_partitioned,
    settle_detached,
)

_CONCURRENT_SINCE = 140000
_IN_THE_WAY = "somebody else's lock was in the way"

_logger = logging.getLogger(__name__)


def detach_partitions(connection: Connection, parts: Sequence[VerifiedPart], step: DeletingStep) -> DetachEvidence:
    """Detach the partitions that hold exactly the rows of an archive, and leave the evidence in the store.

    A repeat after success returns the evidence; after a crash a repeat continues with the partitions that are guarded.

    Args:
        connection: A session of an owner of the table, in autocommit mode.
        parts: The verification records of all parts.

    Raises:
        PartitionError: The partition is inside hot retention.
        ContendedError: The run lost its claim.
        HeldError: A hold on everything stops all deletion.
        OutOfTimeError: The time is over.
        PausedError: An operator's pause was too long.
        IntegrityError: Records, manifest, objects or keys do not agree, or a detached partition no longer holds what was
            proved. No row was deleted.
        NeededError: Rows of the partition were restored and are needed in the table.
        UnarchivableError: The table changed since it was planned.
        SourceAccessError: The role does not own the table.
        IdentityError: The rows that were archived are those of another database.
    """
    sealed = require_sealed(parts, step)
    manifest, archive = sealed.manifest, parts[0].archive
    _require_all(manifest, parts)
    present = read_detached(step.store, archive) if archive.detach_evidence_key in sealed.evidence else None
    if present is not None:
        return present
    require_deletable(connection, sealed, parts, step)
    enter(step.store, step.act(archive, "detach intended"), [manifest_of(sealed)])
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    with ArchivedKeys(step.store, manifest.table, step.staging.folder) as keys:
        detaching = _Detaching(connection, manifest, parts, step, keys)
        detached, left, note = detaching.run()
    return _keep_evidence(
        step,
        DetachEvidence(
            archive_id=manifest.archive_id,
            table=step.settings.qualified_name,
            detached=tuple(detached),
            left=tuple(left),
            note=note,
            detached_at=(at := detaching.clock()),
            drop_after=step.settings.partition_delete.cooling_off.after(at),
            dag_id=step.run.dag_id,
            run_id=step.run.run_id,
        ),
    )


def _keep_evidence(step: DeletingStep, evidence: DetachEvidence) -> DetachEvidence:
    """Write the evidence; if another try wrote evidence first, that one counts."""
    archive = ArchiveId.parse(evidence.archive_id)
    key = archive.detach_evidence_key
    kept = step.store.put_first(key, evidence.to_bytes())
    counted = parse_detached(f"{step.store}{key}", kept)
    facts = {"rows": counted.rows, "partitions": len(counted.detached)}
    enter(step.store, step.act(archive, "detached", **facts), [subject_of(key, kept)])
    return counted


def _require_all(manifest: Manifest, parts: Sequence[VerifiedPart]) -> None:
    if [part.number for part in parts] != list(range(len(manifest.parts))):
        raise IntegrityError(
            f"the verification records of {manifest.archive_id} are not complete",
            expected=f"{len(manifest.parts)} parts in order",
            found=", ".join(str(part.number) for part in parts[:5]),
            hint="No row was deleted. Clear 'seal' and the tasks after it.",
        )


class _Detaching:
    """The partitions of one window while they leave their table."""

    def __init__(
        self,
        connection: Connection,
        manifest: Manifest,
        parts: Sequence[VerifiedPart],
        step: DeletingStep,
        keys: ArchivedKeys,
    ) -> None:
        self._connection, self._manifest, self._parts, self._step = connection, manifest, parts, step
        self._settings = step.settings
        self._parent = qualified(self._settings.schema_name, self._settings.table_name)
        self._holds = HoldWatch(step.store)
        self._keys = keys
        self._found: dict[int, list[Block]] = {}
        self.clock = running_clock(step.now)

    def run(self) -> tuple[list[DetachedPartition], list[LeftPartition], str]:
        """What was detached, what is left to the delete and why, and what rules detaching out altogether."""
        self._go()
        table = inspect_again(self._connection, self._settings, self._parts[0])
        mine = [one for one in guarded_tables(self._connection) if one.tag.archive_id == self._manifest.archive_id]
        parent = read_partitioned(self._connection, self._settings, table)
        window = self._step.partition.window
        leaves = read_leaves(self._connection, parent.oid, window) if not parent.obstacle else []
        if not leaves and not mine:
            return [], [], parent.obstacle
        self._require_rights(parent)
        prepare_guards(self._connection)
        detached = [self._take_up(one) for one in mine if one.state != "attached"]
        taken, left = self._take_all(leaves, parent)
        for one in mine:  # one that is no longer a partition of the window, too
            self._lift(one.oid)
        return detached + taken, left, parent.obstacle

    def _look_after(self) -> None:
        self._step.keep_claim()
        require_time("the detach", self._step.stop_at, self.clock())

    def _go(self) -> None:
        """Raise if the run must not go on: the claim is lost, all deletion is on hold, or the time is over."""
        self._step.keep_claim()
        self._holds.look()
        require_time("the detach", self._step.stop_at, self.clock())

    def _require_rights(self, parent: PartitionedTable) -> None:
        if parent.lacking:
            raise SourceAccessError(
                f"the role of {self._settings.partition_delete.conn_id} cannot detach partitions",
                found="no " + ", no ".join(parent.lacking),
                hint="No row was deleted by this step. Give the connection a role that owns the table and its partitions, or "
                "set `partition_delete: {enabled: false}`; then clear the task.",
            )

    def _take_all(
        self, leaves: Sequence[Leaf], parent: PartitionedTable
    ) -> tuple[list[DetachedPartition], list[LeftPartition]]:
        detached, left = [], []
        for leaf in leaves:
            self._step.steering.wait(self._look_after)  # here alone: a partition that is guarded takes no writes
            self._go()
            taken = leaf.obstacle or self._take(leaf, parent)
            if isinstance(taken, DetachedPartition):
                detached.append(taken)
                self._step.steering.tell(done_rows=sum(one.rows for one in detached))
            else:
                self._lift(leaf.oid)
                left.append(LeftPartition(partition=str(leaf), reason=taken))
        return detached, left

    def _take(self, leaf: Leaf, parent: PartitionedTable) -> DetachedPartition | str:
        """Take a partition, or say why it stays."""
        rows = count_rows(self._connection, leaf.name)
        inside = [part for part in self._parts if part.window.overlaps(leaf.window)]
        exactly = all(leaf.window.covers(part.window) for part in inside)
        archived = sum(part.rows for part in inside)
        if rows == 0:
            return "it has no rows"
        if rows > archived or (exactly and rows != archived):
            return f"it is not what was archived: {rows} rows there, {archived} in the archive"
        with self._lifting(leaf):
            guarded = self._guard(leaf)
            if guarded is None:
                return _IN_THE_WAY
            comparison = self._compare(guarded)
            if not comparison.proved:
                return f"it is not what was archived: {comparison}"
            self._go()
            after = self._detach(guarded, parent)
        if after is None:
            return _IN_THE_WAY
        if after.version != guarded.version or not after.closed:
            return self._take_up(after)  # another session has opened or replaced the guard meanwhile
        return self._settle(after, comparison.rows)

    @contextlib.contextmanager
    def _lifting(self, leaf: Leaf) -> Iterator[None]:
        """Lift the guard when anything fails between guard and detach; if that fails too, a repeat lifts it."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg.Error, StrongroomError):
                self._lift(leaf.oid)
            raise

    def _lift(self, oid: int) -> None:
        guarded = guarded_table(self._connection, oid)
        if guarded is not None and guarded.state == "attached":
            lift_guard(self._connection, guarded)

    def _guard(self, leaf: Leaf) -> GuardedTable | None:
        tag = GuardTag(
            archive_id=self._manifest.archive_id,
            schema_name=leaf.schema_name,
            table_name=leaf.table_name,
            start_at=leaf.window.start,
            end_at=leaf.window.end,
            bounds=leaf.bounds,
        )

        def work() -> None:
            with briefly(self._connection):
                set_guard(self._connection, leaf.oid, leaf.name, tag)

        return guarded_table(self._connection, leaf.oid) if tried(work, between=self._go) else None

    def _compare(self, guarded: GuardedTable) -> Comparison:
        return compare_with_archive(
            self._connection,
            guarded.name,
            guarded.tag.window,
            ArchivedRows(self._manifest.table, self._parts, self._keys, self._blocks),
            transaction=self._connection.transaction,
            before_batch=self._go,
        )

    def _blocks(self, part: VerifiedPart) -> Sequence[Block]:
        if part.number not in self._found:
            step, shape = self._step, self._manifest.table
            found = read_blocks(step.staging, part)
            if found is None:
                found = blocks_read_back(step.store, step.staging.folder, shape, part)
            self._found[part.number] = found
        return self._found[part.number]

    def _detach(self, guarded: GuardedTable, parent: PartitionedTable) -> GuardedTable | None:
        """Detach a guarded partition; None if another session's lock was in the way until we gave up."""
        if not parent.has_default and self._connection.info.server_version >= _CONCURRENT_SINCE:
            detach_concurrently(self._connection, self._settings, self._parent, guarded.name)
        after = guarded_table(self._connection, guarded.oid)
        if after is not None and after.state != "attached":
            return after

        def work() -> None:
            with briefly(self._connection):
                statement = sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(self._parent, guarded.name)
                self._connection.execute(statement)

        return guarded_table(self._connection, guarded.oid) if tried(work, between=self._go) else None

    def _take_up(self, guarded: GuardedTable) -> DetachedPartition:
        """Finish a partition that an earlier try detached, if it still holds what was proved."""
        if not guarded.closed:

            def work() -> None:
                with briefly(self._connection):
                    set_guard(self._connection, guarded.oid, guarded.name, guarded.tag)

            if not tried(work, between=self._go):
                raise not_settled(guarded)
        wrong = wrong_columns(self._connection, guarded.oid, self._manifest.table)
        comparison = None if wrong else self._compare(guarded)
        if comparison is None or not comparison.proved:
            raise IntegrityError(
                f"{guarded}, which was detached from {self._settings.qualified_name}, is no longer what was archived",
                expected=f"the rows of {guarded.tag.archive_id} dated inside its bounds",
                found=f"other columns: {wrong}" if wrong else str(comparison),
                hint="No row was deleted. Make it a partition again, then run the partition again: rows that changed go into another "
                f"archive. {bring_back(guarded)}",
            )
        return self._settle(guarded, comparison.rows)

    def _settle(self, guarded: GuardedTable, rows: int) -> DetachedPartition:
        settled = settle_detached(self._connection, self._settings, guarded)
        return DetachedPartition(
            oid=settled.oid,
            partition=settled.tag.partition,
            held_as=str(settled),
            bounds=settled.tag.bounds,
            start_at=settled.tag.start_at,
            end_at=settled.tag.end_at,
            rows=rows,
            bring_back=bring_back(settled),
        )
