"""The steps of one run in order, without Airflow, for tests of the domain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from strongroom.archive.checksum import checksum_part
from strongroom.archive.compress import compress_part
from strongroom.archive.delete import delete_part
from strongroom.archive.detach import detach_partitions
from strongroom.archive.extract_to_staging import extract_part
from strongroom.archive.plan import plan_archive
from strongroom.archive.report import RunReport, report_run
from strongroom.archive.seal import seal_archive
from strongroom.archive.upload import upload_part
from strongroom.archive.verify import verify_part
from strongroom.calendar import Partition
from strongroom.database.session import Connection, open_source, read_identity
from strongroom.errors import StrongroomError
from strongroom.formats.blocks import Block
from strongroom.formats.codecs import choose_codec
from strongroom.formats.persons import Persons
from strongroom.ledger.claims import KeepClaim, running_clock
from strongroom.ledger.deletable import DeletingStep
from strongroom.ledger.evidence import DetachEvidence
from strongroom.ledger.orders import Steering
from strongroom.ledger.suppressed import persons_of
from strongroom.records import (
    ArchivePlan,
    ChecksummedPart,
    CompressedPart,
    DeletedPart,
    ExtractedPart,
    PlannedPart,
    RunIdentity,
    SealedArchive,
    UploadedPart,
    VerifiedPart,
)
from strongroom.retention.drop_detached import DetachedResult, purge_detached
from strongroom.settings import StoreSettings, TableSettings
from strongroom.storage.author import Author
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging import Staging, StagingRoot
from strongroom.storage.staging_folder import FolderRoot
from strongroom.storage.staging_s3 import S3Root
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import restore_blocks
from strongroom.tables.steering import Steered, StepProgress
from tests.support.logs import AUTHOR, SUBJECT_KEY
from tests.support.sealing import claim_if_unowned

_machines = itertools.count(1)

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
RUN = RunIdentity(dag_id="archive__test", run_id="manual__test")


@dataclass
class Chain:
    """One table, one partition, real servers.

    Attributes:
        conninfo: The source database.
        client: An S3 client that may write and list, not delete.
        settings: The table's settings.
        key: The partition key.
        identity: The identity of the Airflow run.
        keep_claim: Called in each batch of a delete.
        steered: Whether extraction and delete obey orders, and tell how far they have come.
        stop_at: When extraction and delete must stop.
        staging_client: An S3 client that may write and remove, if staging is on S3.
        owner: Connection string of the table's owner; that of the source by default.
        author: Who signs the store's log, if it has one.
    """

    conninfo: str
    client: Any
    settings: TableSettings
    key: str = "2026-05"
    now: datetime = NOW
    identity: RunIdentity = RUN
    keep_claim: KeepClaim = lambda: None
    steered: bool = False
    stop_at: datetime | None = None
    staging_client: Any = None
    owner: str | None = None
    author: Author = AUTHOR
    store: Store = field(init=False)
    _claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.client, self.settings.store, author=self.author)

    @property
    def partition(self) -> Partition:
        return Partition.parse(self.settings.frequency, self.key)

    @property
    def application_name(self) -> str:
        """The application name of this run's database sessions."""
        return f"test {self.settings.table}"

    def staging(self, *names: str) -> Staging:
        """The staging of these names. If it is on S3, each call acts as another machine."""
        return self.staging_root().of(*names)

    def staging_root(self) -> StagingRoot:
        where = self.settings.staging_store
        if where is None:
            return FolderRoot(self.settings.staging)
        machine = Path(self.settings.scratch) / f"machine-{next(_machines)}"
        return S3Root(PurgeStore(self.staging_client, where), machine)

    @contextmanager
    def source(self) -> Iterator[Connection]:
        with open_source(self.conninfo, application_name=self.application_name) as connection:
            yield connection

    def plan(self) -> ArchivePlan:
        with self.source() as connection:
            if not self._claimed:  # once, as an operator does when setting up a store
                claim_if_unowned(self.store, read_identity(connection))
                self._claimed = True
            return plan_archive(
                connection, self.store, self.settings, self.partition, now=self.now, stop_at=self.stop_at
            )

    def extract(self, part: PlannedPart) -> ExtractedPart:
        with (
            self.source() as connection,
            self.staging(part.archive_id) as staging,
            self.steering(staging, "extract_to_staging", part, part.expected_rows) as steering,
        ):
            return extract_part(
                connection,
                staging,
                self.settings,
                part,
                now=self.now,
                stop_at=self.stop_at,
                keep_claim=self.keep_claim,
                steering=steering,
            )

    def compress(self, part: ExtractedPart) -> CompressedPart:
        with self.staging(part.archive_id) as staging:
            return compress_part(staging, part, choose_codec(self.settings.compression))

    def checksum(self, part: CompressedPart) -> ChecksummedPart:
        with self.staging(part.archive_id) as staging:
            return checksum_part(staging, part)

    def upload(self, part: ChecksummedPart) -> UploadedPart:
        with self.staging(part.archive_id) as staging:
            return upload_part(staging, self.store, part)

    def verify(self, plan: ArchivePlan, part: UploadedPart) -> VerifiedPart:
        proof_rows = self.settings.proof_rows
        with self.source() as connection, self.staging(part.archive_id) as staging:
            return verify_part(
                self.store,
                staging,
                connection,
                plan.shape,
                part,
                proof_rows=proof_rows,
                now=self.now,
                persons=self.persons,
            )

    def verified(self, plan: ArchivePlan, part: PlannedPart) -> VerifiedPart:
        """Run the steps from extract to verify."""
        return self.verify(plan, self.upload(self.checksum(self.compress(self.extract(part)))))

    def seal(self, plan: ArchivePlan) -> SealedArchive:
        """Run the steps from extract to seal."""
        return self.seal_parts(plan, [self.verified(plan, part) for part in plan.parts])

    def seal_parts(self, plan: ArchivePlan, parts: Sequence[VerifiedPart]) -> SealedArchive:
        return seal_archive(
            self.store, self.settings, plan, parts, run=self.identity, now=self.now, persons=self.persons
        )

    @property
    def persons(self) -> Persons | None:
        """What the steps know of persons, as of now."""
        return persons_of(self.store, SUBJECT_KEY, self.settings) if self.settings.subjects.columns else None

    @contextmanager
    def owning(self) -> Iterator[Connection]:
        name, lock_seconds = f"{self.application_name} owner", self.settings.lock_timeout_seconds
        with open_source(
            self.owner or self.conninfo, application_name=name, lock_timeout_seconds=lock_seconds
        ) as connection:
            yield connection

    def steering(self, staging: Staging, step: str, part: PlannedPart, rows: int) -> AbstractContextManager[Steering]:
        """What a step of a part is steered by."""
        if not self.steered:
            return nullcontext(Steering())
        progress = StepProgress(
            step=step,
            archive_id=part.archive_id,
            number=part.number,
            run=str(self.identity),
            host="test",
            rows=rows,
            began_at=self.now,
            told_at=self.now,
        )
        return Steered(self.store, staging, self.settings, progress, clock=running_clock(self.now))

    def deleting_step(self, staging: Staging, steering: Steering | None = None) -> DeletingStep:
        """What delete and detach need."""
        return DeletingStep(
            self.store,
            staging,
            self.settings,
            self.partition,
            run=self.identity,
            keep_claim=self.keep_claim,
            now=self.now,
            stop_at=self.stop_at,
            steering=steering or Steering(),
        )

    def detach(self, parts: Sequence[VerifiedPart]) -> DetachEvidence:
        with (
            self.owning() as connection,
            self.staging(parts[0].archive_id) as staging,
            self.steering(staging, "detach", parts[0], sum(part.rows for part in parts)) as steering,
        ):
            return detach_partitions(connection, parts, self.deleting_step(staging, steering))

    def drop_detached(self, *, now: datetime | None = None) -> list[DetachedResult]:
        with self.owning() as connection:
            return purge_detached(connection, self.store, self.settings, run=self.identity, now=now or self.now)

    def delete(self, part: VerifiedPart) -> DeletedPart:
        with (
            self.source() as connection,
            self.staging(part.archive_id) as staging,
            self.steering(staging, "delete", part, part.rows) as steering,
        ):
            return delete_part(connection, part, self.deleting_step(staging, steering))

    def restored_blocks(self, part: VerifiedPart) -> list[Block]:
        with self.staging(part.archive_id) as staging:
            return restore_blocks(self.store, staging, self.plan().shape, part)

    def run(self) -> RunReport:
        """Run all steps from plan to report."""
        plan = self.plan()
        if plan.archive_id is None:
            return report_run(self.store, None, plan, [], [], now=self.now)
        sealed = self.seal(plan)
        if self.settings.partition_delete.enabled:
            self.detach(sealed.parts)
        deleted = [self.delete(part) for part in sealed.parts]
        with self.staging(plan.archive_id) as staging:
            return report_run(self.store, staging, plan, sealed.parts, deleted, now=self.now)


def some_settings(bucket: str, staging: str | Path, table: str = "audit", **changes: Any) -> TableSettings:
    """Settings of one table, with defaults for what does not matter."""
    given: dict[str, Any] = {
        "table": table,
        "date_column": "at",
        "legal_basis": "a test",
        "staging": str(staging),
        "store": StoreSettings(bucket=bucket),
        "confirmed": changes.get("cold_retention"),
    }
    return TableSettings.model_validate(given | changes)


def grants_of(error: StrongroomError) -> list[str]:
    """The statements to paste from an error about missing rights."""
    return [line.strip() for line in error.hint.splitlines() if line.strip().startswith("GRANT ")]
