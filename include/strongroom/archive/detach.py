"""Between seal and delete, detach: partitions of which every row is proved leave the table as a whole, and wait.

A partition is taken in five moves, each of which leaves the promise as it was, since nothing is deleted here:

1. look, without a lock: does it have as many rows as the archive holds of its time;
2. guard it (:mod:`strongroom.tables.guard`): from then on nobody changes its rows, so what follows needs no lock;
3. compare each key and digest of the archive with it, and its number of rows with theirs;
4. detach it, concurrently where the server lets us, else under a lock that is given up after a fifth of a second;
5. put it into a schema of its own, and the evidence into the store.

Whatever stands in the way before the fourth move lifts the guard, and the rows go by key as they always did. A try that broke
off is taken up by the marks that guards are.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime

import psycopg
from psycopg import IsolationLevel, sql

from strongroom.calendar import Partition, refuse_if_hot
from strongroom.database.inspect import InspectedTable, inspect_again
from strongroom.database.session import Connection, qualified, read_identity
from strongroom.errors import IntegrityError, SourceAccessError, StrongroomError
from strongroom.ledger.claims import KeepClaim, running_clock
from strongroom.ledger.evidence import DetachedPartition, DetachEvidence, LeftPartition, parse_detached, read_detached
from strongroom.ledger.holds import HoldWatch
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest, require_object, require_part_of
from strongroom.ledger.owner import require_owner
from strongroom.ledger.restore_records import require_wanted
from strongroom.records import RunIdentity, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.settings.time_budget import require_time
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.archived_keys import restore_keys
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
    _not_settled,
    detach_concurrently,
    read_leaves,
    read_partitioned,
    settle_detached,
)

_CONCURRENT_SINCE = 140000
_IN_THE_WAY = "somebody else's lock was in the way"

_logger = logging.getLogger(__name__)


def detach_partitions(
    connection: Connection,
    store: Store,
    staging: Staging,
    settings: TableSettings,
    partition: Partition,
    parts: Sequence[VerifiedPart],
    *,
    run: RunIdentity,
    keep_claim: KeepClaim,
    now: datetime,
    stop_at: datetime | None = None,
) -> DetachEvidence:
    """Detach the partitions whose rows are just those of an archive, and leave the evidence in the store.

    A repeat after success returns the evidence; after a crash it goes on with what is guarded already.

    Args:
        connection: A session of an owner of the table, in autocommit mode.
        parts: The verification records of all parts.
        run: Which Airflow run this is.
        keep_claim: Called again and again; raises when the partition's claim is no longer ours.
        stop_at: Nothing begins after this instant; None is never.

    Raises:
        ContendedError: Another run has had the claim.
        HeldError: A hold on everything stops all deletion.
        OutOfTimeError: The time is over.
        IntegrityError: Records, manifest, objects or keys do not agree, or a partition that was detached is not what was
            proved any more. No row was deleted.
        NeededError: Rows of the partition were restored and are needed in the table.
        UnarchivableError: The table changed since it was planned.
        SourceAccessError: The role does not own the table.
        IdentityError: The rows that were archived are those of another database.
    """
    refuse_if_hot(partition, settings.hot_retention, now)
    archive = parts[0].archive
    manifest = require_manifest(store, archive)
    _require_all(manifest, parts)
    present = read_detached(store, archive)
    if present is not None:
        return present
    require_wanted(store, settings, partition, archive, now)
    require_owner(store, read_identity(connection))
    for part in parts:
        require_object(store, part)
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    clock, holds = running_clock(now), HoldWatch(store)

    def go() -> None:
        keep_claim()
        holds.look()
        require_time("the detach", stop_at, clock())

    go()
    table = inspect_again(connection, settings, parts[0])
    detaching = _Detaching(connection, store, staging, settings, table, manifest, parts, go)
    detached, left, note = detaching.run(partition)
    at = clock()
    evidence = DetachEvidence(
        archive_id=str(archive),
        table=settings.qualified_name,
        detached=tuple(detached),
        left=tuple(left),
        note=note,
        detached_at=at,
        drop_after=settings.partition_delete.cooling_off.after(at),
        dag_id=run.dag_id,
        run_id=run.run_id,
    )
    key = archive.detach_evidence_key
    kept = store.put_first(key, evidence.to_bytes())
    return parse_detached(f"{store}{key}", kept)


def _require_all(manifest: Manifest, parts: Sequence[VerifiedPart]) -> None:
    for part in parts:
        require_part_of(manifest, part)
    if [part.number for part in parts] != list(range(len(manifest.parts))):
        raise IntegrityError(
            f"the verification records of {manifest.archive_id} are not complete",
            expected=f"{len(manifest.parts)} parts in their order",
            found=", ".join(str(part.number) for part in parts[:5]),
            hint="No row was deleted. Clear 'seal' and the tasks after it.",
        )


class _Detaching:
    """The partitions of one window on their way out of their table."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        staging: Staging,
        settings: TableSettings,
        table: InspectedTable,
        manifest: Manifest,
        parts: Sequence[VerifiedPart],
        go: KeepClaim,
    ) -> None:
        self._connection, self._store, self._staging, self._settings = connection, store, staging, settings
        self._table, self._manifest, self._parts = table, manifest, parts
        self._go = go
        self._parent = qualified(settings.schema_name, settings.table_name)

    def run(self, partition: Partition) -> tuple[list[DetachedPartition], list[LeftPartition], str]:
        """What was detached, what is left to the delete by key and why, and what stands in the way of all of it."""
        mine = [one for one in guarded_tables(self._connection) if one.tag.archive_id == self._manifest.archive_id]
        parent = read_partitioned(self._connection, self._settings, self._table)
        leaves = read_leaves(self._connection, parent.oid, partition.window) if not parent.obstacle else []
        if not leaves and not mine:
            return [], [], parent.obstacle
        if parent.lacking:
            raise SourceAccessError(
                f"the role of {self._settings.partition_delete.conn_id} cannot detach partitions",
                found="no " + ", no ".join(parent.lacking),
                hint="No row was deleted by this step. Let the connection have a role that owns the table and its partitions, or "
                "set `partition_delete: {enabled: false}`; then clear the task.",
            )
        prepare_guards(self._connection)
        for part in self._parts:
            restore_keys(self._store, self._staging, self._connection, self._manifest.table, part)
        detached = [self._take_up(one) for one in mine if one.state != "attached"]
        left = []
        for leaf in leaves:
            self._go()
            taken = leaf.obstacle or self._take(leaf, parent)
            if isinstance(taken, DetachedPartition):
                detached.append(taken)
            else:
                self._lift(leaf.oid)
                left.append(LeftPartition(partition=str(leaf), reason=taken))
        for one in mine:  # also one that is none of the window's partitions any more
            self._lift(one.oid)
        return detached, left, parent.obstacle

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
            return self._take_up(after)  # somebody had the guard in hand meanwhile
        return self._settle(after, comparison.rows)

    @contextlib.contextmanager
    def _lifting(self, leaf: Leaf) -> Iterator[None]:
        """Whatever breaks off between guard and detach lets the rows go; what cannot be lifted now is lifted by a repeat."""
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
            ArchivedRows(self._manifest.table, self._parts, self._staging),
            transaction=self._connection.transaction,
            before_batch=self._go,
        )

    def _detach(self, guarded: GuardedTable, parent: PartitionedTable) -> GuardedTable | None:
        """Let the table go of a guarded partition; None where somebody's lock was in the way until we gave up."""
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
        """Go on with a partition that an earlier try detached: is it what was proved?"""
        if not guarded.closed:

            def work() -> None:
                with briefly(self._connection):
                    set_guard(self._connection, guarded.oid, guarded.name, guarded.tag)

            if not tried(work, between=self._go):
                raise _not_settled(guarded)
        wrong = wrong_columns(self._connection, guarded.oid, self._manifest.table)
        comparison = None if wrong else self._compare(guarded)
        if comparison is None or not comparison.proved:
            raise IntegrityError(
                f"{guarded}, which was detached from {self._settings.qualified_name}, is not what was archived any more",
                expected=f"the rows of {guarded.tag.archive_id} dated inside its bounds",
                found=f"other columns: {wrong}" if wrong else str(comparison),
                hint="No row was deleted. Make it a partition again, then run the partition again: what changed goes into another "
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
