"""Drop detached partitions whose cooling-off is over, if every one of their rows is found in a sound archive again.

The archive is read back from the store, and the table is compared with it (:mod:`strongroom.tables.compare`). A lock lets readers
continue and keeps everybody else out until the table is gone, so what was compared is what is dropped. Only the DROP
itself, at the very end, takes the lock that readers would wait for.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from typing import Literal

from psycopg import IsolationLevel, errors, sql
from pydantic import AwareDatetime

from strongroom.calendar import Partition
from strongroom.database.session import Connection, read_identity
from strongroom.errors import ContendedError, HeldError, IntegrityError, SourceError
from strongroom.formats.blocks import Block
from strongroom.ledger import journal
from strongroom.ledger.claims import claim_keeper, release_claim, running_clock, take_claim
from strongroom.ledger.entries import Act, Kind, of_archive
from strongroom.ledger.evidence import DetachedPartition, DetachEvidence, read_detached
from strongroom.ledger.holds import HoldWatch, covering, holds_in_force
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.owner import require_owner
from strongroom.ledger.reread import doubt_about
from strongroom.ledger.restore_records import active_restores_of
from strongroom.records import Record, RunIdentity, Sha256, TableShape, VerifiedPart
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import ArchivedKeys, blocks_read_back
from strongroom.tables.compare import ArchivedRows, compare_with_archive, needs_keys, wrong_columns
from strongroom.tables.guard import GuardedTable, bring_back, guarded_table, guarded_tables, lift_guard
from strongroom.tables.locks import CONTENDED, briefly, tried
from strongroom.tables.partitions import settle_detached

DetachedOutcome = Literal["dropped", "kept", "held", "contended", "unfinished", "lifted", "unverifiable"]


class DropEvidence(Record):
    """What lies in the store under ``evidence/`` for each detached partition that was dropped.

    It is written before the transaction that drops the table commits. If the commit fails, the table is still there, and
    the next try leaves a later record.
    """

    archive_id: str
    table: str
    partition: str
    held_as: str
    oid: int
    rows: int
    record_count: int
    checksum: Sha256
    detached_at: AwareDatetime
    cooled_off_at: AwareDatetime
    dropped_at: AwareDatetime
    dropped_by: RunIdentity


class DetachedResult(Record):
    """What became of one detached partition.

    ``dropped``: it is gone, with evidence. ``kept``: its cooling-off still runs. ``held``: a legal hold covers its archive.
    ``contended``: a run or a restore needs the partition, or another session's lock was in the way. ``unfinished``: the run
    that detached it broke off. ``lifted``: it is a partition of the table, and its rows can be changed again.
    ``unverifiable``: some of its rows are in no sound archive, so it stays.
    """

    table: str
    archive_id: str
    partition: str
    result: DetachedOutcome
    detail: str
    rows: int
    evidence_key: str | None = None


def purge_detached(
    connection: Connection,
    store: Store,
    settings: TableSettings,
    *,
    run: RunIdentity,
    now: datetime,
) -> list[DetachedResult]:
    """Drop the detached partitions of a table that have waited long enough and still hold what was proved.

    A repeat finds none of them. Guards that runs left on partitions when they broke off are lifted.

    Args:
        connection: A session of an owner of the table, in autocommit mode.
        store: With the archiver's rights.
        settings: Of the table.
        run: Which Airflow run this is.
        now: Aware instant.

    Raises:
        IdentityError: The archives are those of another database.
        IntegrityError: A hold cannot be read.
    """
    ours = (settings.schema_name, settings.table_name)
    guarded = [
        one for one in guarded_tables(connection) if (one.tag.archive.schema_name, one.tag.archive.table_name) == ours
    ]
    if guarded:
        require_owner(store, read_identity(connection))
    return [_Dropping(connection, store, settings, one, run, now).judge() for one in guarded]


def _in_the_way() -> ContendedError:
    """Another session held a lock on the table for too long; the transaction must be rolled back."""
    return ContendedError(
        "another session's lock on it was in the way", hint="Nothing was dropped; the next purge tries again."
    )


class _Dropping:
    """One guarded table while it is checked and dropped."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        settings: TableSettings,
        guarded: GuardedTable,
        run: RunIdentity,
        now: datetime,
    ) -> None:
        self._connection, self._store, self._settings = connection, store, settings
        self._guarded, self._archive = guarded, guarded.tag.archive
        self._run, self._now = run, now
        self._clock = running_clock(now)
        self._holds = HoldWatch(store)

    def judge(self) -> DetachedResult:
        """Drop it, or say why it stays."""
        ttl = self._settings.claim_ttl
        key = self._archive.claim_key
        # Not the run's name alone: its other tasks claim partitions too, to destroy archives.
        owner = f"{self._run} detached"
        try:
            take_claim(self._store, key, owner=owner, now=self._now, ttl=ttl)
        except ContendedError as error:
            return self._result("contended", error.what)
        self._keep_claim = claim_keeper(self._store, [key], owner=owner, clock=self._clock, ttl=ttl)
        try:
            return self._judge()
        except (ContendedError, HeldError) as error:
            return self._result("contended" if isinstance(error, ContendedError) else "held", error.what)
        finally:
            release_claim(self._store, key, owner=owner, now=self._clock())

    def _judge(self) -> DetachedResult:
        if self._guarded.state == "attached":
            return self._free()
        evidence = read_detached(self._store, self._archive)
        known = {one.oid: one for one in evidence.detached} if evidence else {}
        if evidence is None or self._guarded.oid not in known:
            return self._result(
                "unfinished",
                f"the run that detached it broke off before the evidence was written: run {self._archive.partition_key} again",
            )
        if self._now < evidence.drop_after:
            return self._result("kept", f"its cooling-off runs until {evidence.drop_after:%Y-%m-%d %H:%M} UTC")
        if reason := self._wanted():
            return reason
        return self._drop(evidence, known[self._guarded.oid])

    def _free(self) -> DetachedResult:
        try:
            lift_guard(self._connection, self._guarded)
        except SourceError as error:
            return self._result("contended", error.what)
        return self._result("lifted", "it is a partition of the table, and its rows may change again")

    def _wanted(self) -> DetachedResult | None:
        """Why nothing may be removed now, whatever the table holds."""
        if holding := "; ".join(map(str, covering(holds_in_force(self._store), self._archive))):
            return self._result("held", holding)
        partition = Partition.named(self._archive.partition_key)
        restores = active_restores_of(self._store, self._settings.qualified_name, partition, self._clock())
        if restores:
            return self._result("contended", f"its rows were restored: {'; '.join(map(str, restores))}")
        if self._store.head(self._archive.condemnation_key) is not None:
            return self._result("unverifiable", f"{self._archive} was condemned")
        return None

    def _drop(self, evidence: DetachEvidence, record: DetachedPartition) -> DetachedResult:
        self._guarded = settle_detached(self._connection, self._settings, self._guarded)
        if self._guarded.state != "detached":
            return self._result("contended", "transactions that had it in use have not ended yet")
        try:
            manifest = require_manifest(self._store, self._archive)
            if doubt := doubt_about(self._store, self._archive):
                return self._result("unverifiable", doubt)
            folder, _ = self._settings.working_folder
            parts = [
                part
                for part in map(manifest.verified_part, range(len(manifest.parts)))
                if part.window.overlaps(self._guarded.tag.window)
            ]
            with ArchivedKeys(self._store, manifest.table, folder) as keys:
                blocks = {part: self._read_back(manifest.table, part, keys) for part in parts}
                return self._drop_proved(
                    evidence, record, manifest, ArchivedRows(manifest.table, parts, keys, blocks.__getitem__)
                )
        except IntegrityError as error:
            return self._result("unverifiable", error.what)

    def _read_back(self, shape: TableShape, part: VerifiedPart, keys: ArchivedKeys) -> list[Block]:
        """The blocks of a part, read back before the table is locked; and its keys if they are needed in any case."""
        self._keep_claim()
        folder, _ = self._settings.working_folder
        blocks = blocks_read_back(self._store, folder, shape, part)
        if needs_keys(part, blocks, self._guarded.tag.window):
            keys.of(part)
        return blocks

    def _drop_proved(
        self,
        evidence: DetachEvidence,
        record: DetachedPartition,
        manifest: Manifest,
        archived: ArchivedRows,
    ) -> DetachedResult:
        """Compare and drop, in one transaction with the evidence."""
        connection, name = self._connection, self._guarded.name
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        with connection.transaction():
            try:
                # Nobody needs this table, so waiting for the lock disturbs nobody.
                connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE").format(name))
            except CONTENDED:
                raise _in_the_way() from None
            if doubt := self._changed(record, manifest) or self._differs(record, archived):
                return self._result("unverifiable", doubt)
            if reason := self._wanted():
                return reason
            self._keep_claim()
            key = self._leave_evidence(evidence, record, manifest)
            try:
                dropped = tried(self._drop_table, between=self._go)
            except errors.DependentObjectsStillExist:
                return self._result("contended", "something else in the database depends on it")
            if not dropped:
                raise _in_the_way()
        journal.enter(self._store, self._act("dropped", record))
        return self._result("dropped", f"{record.rows} rows, each in {self._archive}", rows=record.rows, key=key)

    def _changed(self, record: DetachedPartition, manifest: Manifest) -> str | None:
        """Why the locked table is not the closed one that was detached; None if it is."""
        found = guarded_table(self._connection, record.oid)
        if found is None or str(found) != str(self._guarded) or found.tag != self._guarded.tag:
            return "it is not the table that was detached"
        if found.state != "detached" or not found.closed:
            return f"its guard was opened; make it a partition again: {bring_back(found)}"
        if wrong := wrong_columns(self._connection, record.oid, manifest.table):
            return f"its columns are not those that were archived: {wrong}"
        return None

    def _differs(self, record: DetachedPartition, archived: ArchivedRows) -> str | None:
        """How the rows of the locked table differ from the archive; None if each of them is in it."""
        comparison = compare_with_archive(
            self._connection,
            self._guarded.name,
            self._guarded.tag.window,
            archived,
            transaction=nullcontext,
            before_batch=self._go,
        )
        if comparison.proved and comparison.rows == record.rows:
            return None
        back = f"make it a partition again: {bring_back(self._guarded)}"
        return f"it is not what was archived: {comparison}, {record.rows} detached; {back}"

    def _drop_table(self) -> None:
        with briefly(self._connection):
            self._connection.execute(sql.SQL("DROP TABLE {}").format(self._guarded.name))

    def _go(self) -> None:
        self._keep_claim()
        self._holds.look()

    def _leave_evidence(self, evidence: DetachEvidence, record: DetachedPartition, manifest: Manifest) -> str:
        at = self._clock()
        key = self._archive.drop_evidence_key(record.oid, at)
        dropped = DropEvidence(
            archive_id=str(self._archive),
            table=self._settings.qualified_name,
            partition=record.partition,
            held_as=str(self._guarded),
            oid=record.oid,
            rows=record.rows,
            record_count=manifest.record_count,
            checksum=manifest.checksum,
            detached_at=evidence.detached_at,
            cooled_off_at=evidence.drop_after,
            dropped_at=at,
            dropped_by=self._run,
        )
        journal.record(self._store, key, dropped.to_bytes(), self._act("drop intended", record))
        return key

    def _act(self, kind: Kind, record: DetachedPartition) -> Act:
        facts = {"partition": record.partition, "rows": record.rows}
        return of_archive(self._archive, kind, settings_sha256=self._settings.sha256, facts=facts)

    def _result(self, result: DetachedOutcome, detail: str, *, rows: int = 0, key: str | None = None) -> DetachedResult:
        return DetachedResult(
            table=self._settings.qualified_name,
            archive_id=str(self._archive),
            partition=str(self._guarded),
            result=result,
            detail=detail,
            rows=rows,
            evidence_key=key,
        )
