"""A vault with a replica in a second bucket of the same server, with the same identities and keys of its own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strongroom.ledger.manifests import archive_ids
from strongroom.object_keys.archives import ArchiveId
from strongroom.replication.archive import FilledBy, replicate_archive
from strongroom.replication.records import ArchiveCopy, RestCopy
from strongroom.replication.rest import replicate_rest
from strongroom.retention.second_copy import SecondCopy
from strongroom.settings import Replica, TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.store import Store
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import some_settings
from tests.support.damaging import Vandal
from tests.support.logs import AUTHOR, with_log
from tests.support.sealing import seal_month
from tests.support.vault import MONTHS, Vault, an_archive

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
DAY = timedelta(days=1)


class TwoCopies(Vault):
    """A vault, its replica, and an administrator who damages either."""

    def __init__(self, object_store: ObjectStore, bucket: str, replica: str, folder: Path) -> None:
        settings = with_log(some_settings(bucket, folder))
        settings = settings.model_copy(update={"replica": Replica(filled_by="strongroom", bucket=replica)})
        super().__init__(object_store, settings)
        assert settings.replica_store is not None
        self.replica = Store(self.archiver, settings.replica_store)
        self.store = Store(self.archiver, settings.store, author=AUTHOR, connect_replica=lambda: self.replica)
        self.vandal = Vandal(self.admin, self.store, bucket)
        self.replica_vandal = Vandal(self.admin, self.replica, replica)
        self.second = SecondCopy(self.replica, PurgeStore(self.purger, settings.replica_store), filled_by_us=True)

    @classmethod
    def of(cls, object_store: ObjectStore, store: Store, replica: Store, settings: TableSettings) -> TwoCopies:
        """Two copies of a store that is there already."""
        made = cls.__new__(cls)
        made.settings, made.store, made.replica = settings, store, replica
        made.archiver, made.purger, made.admin = map(object_store.client, ("archiver", "purger", "admin"))
        return made

    def sealed(self) -> list[ArchiveId]:
        return sorted(archive_ids(self.store))

    def copy_all(self, now: datetime = NOW + DAY) -> None:
        """Every archive of the store, and all the rest."""
        for archive in self.sealed():
            self.copy_one(archive, now=now)
        replicate_rest(self.store, self.replica, filled_by="strongroom", compare_days=90, who="ada", now=now)

    def copy(
        self, *months: str, filled_by: FilledBy = "strongroom", now: datetime = NOW, compare_days: int = 90
    ) -> tuple[list[ArchiveCopy], RestCopy]:
        """One run over some months, or all."""
        archives = [self.copy_one(an_archive(month), filled_by=filled_by, now=now) for month in months or MONTHS]
        rest = replicate_rest(
            self.store, self.replica, filled_by=filled_by, compare_days=compare_days, who="ada", now=now
        )
        return archives, rest

    def copy_one(
        self, archive: ArchiveId, *, filled_by: FilledBy = "strongroom", now: datetime = NOW, owner: str = "a run"
    ) -> ArchiveCopy:
        return replicate_archive(
            self.store,
            self.replica,
            archive,
            filled_by=filled_by,
            owner=owner,
            who="ada",
            now=now,
            claim_ttl=timedelta(hours=1),
        )

    def carry_out(self, decision: Any, **other: Any) -> Any:
        return super().carry_out(decision, **({"second": self.second} | other))

    def copies_of(self, month: str) -> list[str]:
        """Keys of all versions and markers of an archive in the replica, as the administrator lists them."""
        archive = an_archive(month)
        pages = self.admin.get_paginator("list_object_versions").paginate(Bucket=self.replica.settings.bucket)
        keys = [one["Key"] for page in pages for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, ())]
        return [key for key in keys if key.startswith(archive.archive_prefix) or key == archive.manifest_key]


def fill_two_copies(object_store: ObjectStore, bucket: str, replica: str, folder: Path) -> TwoCopies:
    """Three sealed months, none copied yet."""
    vault = TwoCopies(object_store, bucket, replica, folder)
    for month in MONTHS:
        seal_month(vault.store, vault.settings, month)
    return vault
