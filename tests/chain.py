"""The steps of one run in their order, without Airflow, for tests of the domain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from strongroom.checksum import checksum_part
from strongroom.codecs import choose_codec
from strongroom.compress import compress_part
from strongroom.delete import delete_part
from strongroom.extract_to_staging import extract_part
from strongroom.partitions import Partition
from strongroom.plan import plan_archive
from strongroom.records import ArchivePlan, DeletedPart, PlannedPart, RunIdentity, SealedArchive, VerifiedPart
from strongroom.report import RunReport, report_run
from strongroom.seal import seal_archive
from strongroom.settings import StoreSettings, TableSettings
from strongroom.source import Connection, open_source
from strongroom.staging import Staging
from strongroom.store import Store
from strongroom.upload import upload_part
from strongroom.verify import verify_part

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
RUN = RunIdentity(dag_id="archive__test", run_id="manual__test")


@dataclass
class Chain:
    """One table, one partition, real servers.

    Attributes:
        conninfo: The source database.
        client: An S3 client that may write and list, not delete.
        settings: Of the table.
        key: Partition key.
    """

    conninfo: str
    client: Any
    settings: TableSettings
    key: str = "2026-05"
    now: datetime = NOW
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.client, self.settings.store)

    @property
    def partition(self) -> Partition:
        return Partition.parse(self.settings.frequency, self.key)

    def staging(self, archive_id: str) -> Staging:
        return Staging(self.settings.staging, archive_id)

    @contextmanager
    def source(self) -> Iterator[Connection]:
        with open_source(self.conninfo, application_name="test") as connection:
            yield connection

    def plan(self) -> ArchivePlan:
        with self.source() as connection:
            return plan_archive(connection, self.store, self.settings, self.partition, now=self.now)

    def verified(self, plan: ArchivePlan, part: PlannedPart) -> VerifiedPart:
        staging = self.staging(part.archive_id)
        with self.source() as connection:
            extracted = extract_part(connection, staging, self.settings, part, now=self.now)
        compressed = compress_part(staging, extracted, choose_codec(self.settings.compression))
        uploaded = upload_part(staging, self.store, checksum_part(staging, compressed))
        with self.source() as connection:
            return verify_part(
                self.store, staging, connection, plan.shape, uploaded, proof_rows=self.settings.proof_rows, now=self.now
            )

    def seal(self, plan: ArchivePlan) -> SealedArchive:
        parts = [self.verified(plan, part) for part in plan.parts]
        return seal_archive(self.store, self.settings, plan, parts, run=RUN, now=self.now)

    def delete(self, part: VerifiedPart) -> DeletedPart:
        with self.source() as connection:
            return delete_part(
                connection,
                self.store,
                self.staging(part.archive_id),
                self.settings,
                self.partition,
                part,
                run=RUN,
                now=self.now,
            )

    def run(self) -> RunReport:
        """Plan to report."""
        plan = self.plan()
        if plan.archive_id is None:
            return report_run(self.store, None, plan, [], [], now=self.now)
        sealed = self.seal(plan)
        deleted = [self.delete(part) for part in sealed.parts]
        return report_run(self.store, self.staging(plan.archive_id), plan, sealed.parts, deleted, now=self.now)


def some_settings(bucket: str, staging: Path, table: str = "audit", **changes: Any) -> TableSettings:
    """Settings of one table, filled in where it does not matter."""
    given: dict[str, Any] = {
        "table": table,
        "date_column": "at",
        "legal_basis": "a test",
        "staging": str(staging),
        "store": StoreSettings(bucket=bucket),
    }
    return TableSettings.model_validate(given | changes)
