"""An archive store with sealed months, for tests of purges, on a real S3 server with versions and Object Lock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strongroom.ledger.holds import Hold, covered, place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.certificate import Approval, Certificate
from strongroom.retention.decide import Decision, judge
from strongroom.retention.purge import PurgeResult, purge_archive
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import some_settings
from tests.support.damaging import Vandal
from tests.support.logs import AUTHOR
from tests.support.sealing import seal_month

MONTHS = ("2026-04", "2026-05", "2026-06")
SEALED = datetime(2026, 11, 23, tzinfo=timezone.utc)
LATER = datetime(2033, 6, 1, tzinfo=timezone.utc)
"""Seven years after May 2026: April and May have expired, June has not."""
RUN = RunIdentity(dag_id="retention_purge", run_id="scheduled__2033-06-01")
NEXT_RUN = RunIdentity(dag_id="retention_purge", run_id="scheduled__2033-06-02")
YES = Approval(approved=True, by="ada", at=LATER)
TTL = timedelta(hours=1)


class Vault:
    """An archive store, its purges, and an auditor's view of it."""

    def __init__(self, object_store: ObjectStore, settings: TableSettings) -> None:
        self.settings = settings
        self.bucket = settings.store.bucket
        self.archiver, self.purger, self.admin = map(object_store.client, ("archiver", "purger", "admin"))
        self.store = Store(self.archiver, settings.store, author=AUTHOR)
        self.purge_store = PurgeStore(self.purger, settings.store)
        self.vandal = Vandal(self.admin, self.store, self.bucket)

    def decisions(self, now: datetime = LATER) -> dict[str, Decision]:
        return {decision.archive_id[-12:-5]: decision for decision in judge(self.store, now=now)}

    def purge(
        self, month: str, *, now: datetime = LATER, run: RunIdentity = RUN, approval: Approval = YES, **other: Any
    ) -> PurgeResult:
        """Decide about one month's archive, and purge it."""
        return self.carry_out(self.decisions(now)[month], now=now, run=run, approval=approval, **other)

    def carry_out(self, decision: Decision, **other: Any) -> PurgeResult:
        given: dict[str, Any] = {"now": LATER, "run": RUN, "approval": YES, "purge_store": self.purge_store} | other
        purge_store, approval = given.pop("purge_store"), given.pop("approval")
        return purge_archive(self.store, purge_store, decision, approval, claim_ttl=TTL, **given)

    def left_of(self, month: str) -> list[str]:
        """The keys of all versions and delete markers of an archive's objects, as the administrator lists them."""
        archive = an_archive(month)
        pages = self.admin.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        entries = [entry for page in pages for kind in ("Versions", "DeleteMarkers") for entry in page.get(kind, ())]
        keys = [entry["Key"] for entry in entries]
        return [key for key in keys if key.startswith(archive.archive_prefix) or key == archive.manifest_key]

    def certificates(self) -> list[str]:
        return [key for key in self.store.keys("evidence/") if key.endswith("/destruction.json")]

    def certificate(self, month: str) -> Certificate:
        return Certificate.model_validate_json(self.store.read(an_archive(month).destruction_key)[0])

    def hold(self, month: str | None = None, now: datetime = SEALED) -> Hold:
        what = covered("public", "audit", month)
        return place_hold(self.store, what, why="fraud case", who="ada", reference="EFCC/2026/17", now=now)


class Interrupting(PurgeStore):
    """The purger's store, with a callback after a number of removals."""

    def __init__(self, vault: Vault, after: int, happens: Any) -> None:
        super().__init__(vault.purger, vault.settings.store)
        self.countdown, self.happens = after, happens

    def remove(self, version: StoredVersion) -> None:
        super().remove(version)
        self.countdown -= 1
        if self.countdown == 0:
            self.happens()


def an_archive(month: str) -> ArchiveId:
    return ArchiveId("public", "audit", month, 1)


def fill_vault(object_store: ObjectStore, bucket: str, folder: Path) -> Vault:
    """A vault with three sealed months."""
    vault = Vault(object_store, some_settings(bucket, folder))
    for month in MONTHS:
        seal_month(vault.store, vault.settings, month)
    return vault
