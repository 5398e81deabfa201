"""How the checks reach what they try. Who calls them knows where the keys are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from strongroom.database.session import Connection
from strongroom.settings import TableSettings
from strongroom.storage.store import Store
from strongroom.storage.tried_store import TriedStore
from strongroom.tlog.notes import SignerKey


class Doors(Protocol):
    """Opens what a table's settings name, by connection id. Each method raises a StrongroomError that says why it cannot."""

    def database(self, settings: TableSettings, conn_id: str) -> AbstractContextManager[Connection]:
        """A session on a database."""

    def store(self, settings: TableSettings) -> Store:
        """The archive store with the archiver's keys."""

    def purger(self, settings: TableSettings) -> TriedStore:
        """The archive store with the purger's keys."""

    def replica(self, settings: TableSettings) -> Store:
        """The replica with the keys that fill it; the settings have one."""

    def replica_purger(self, settings: TableSettings) -> TriedStore:
        """The replica with the keys that purge it; the settings have one."""

    def stager(self, settings: TableSettings) -> TriedStore:
        """Staging on S3, with its keys; the settings have it there."""

    def publisher(self, settings: TableSettings, *, own: bool) -> TriedStore:
        """The bucket of the Iceberg tables, or the archive store, both with the keys that publish them; the settings have such a bucket."""

    def signing_key(self, settings: TableSettings) -> SignerKey:
        """The key that signs the transparency log."""

    def subject_key(self, settings: TableSettings) -> object:
        """The key for records of persons."""
