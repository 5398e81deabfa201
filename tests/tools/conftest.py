"""One store in which everything was done that an auditor may ask about, and copies of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.audited import Copy, copy_bucket, fill_audited_store, purge_one
from tests.support.erasing import an_erased_store
from tests.support.logs import KEY
from tests.support.tools import Verdict, verify_evidence


@dataclass(frozen=True)
class Audited:
    """The store and its copies.

    Attributes:
        bucket: Where it lies.
        good: A copy of it.
        versions: The listing of versions that belongs to the copy.
        earlier: A copy from before the last acts: the purge.
    """

    object_store: ObjectStore
    bucket: str
    good: Copy
    versions: Path
    earlier: Copy

    @property
    def since(self) -> Path:
        """The checkpoint that an auditor kept before the last acts."""
        return self.earlier.folder / "log" / "checkpoint"

    def verify(self, copy: Copy, *arguments: str | Path) -> Verdict:
        """Audit a copy with the log's key and the listing of versions."""
        return verify_evidence(copy.folder, "--key", str(KEY.verifier), "--versions", self.versions, *arguments)


@pytest.fixture(scope="session")
def audited(
    postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Audited]:
    """Made once by each process of the tests. Who changes the bucket puts it back; copies are for everything else."""
    folder, name = tmp_path_factory.mktemp("audited"), f"audited-{os.getpid()}"
    database = name.replace("-", "_")
    object_store.create_bucket(name)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    admin = object_store.client("admin")
    chain = fill_audited_store(postgres.conninfo(database), object_store, name, folder / "staging")
    copy_bucket(admin, name, folder / "earlier")
    purge_one(chain, object_store)
    versions = copy_bucket(admin, name, folder / "good")
    yield Audited(object_store, name, Copy(folder / "good"), versions, Copy(folder / "earlier"))
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture(scope="session")
def erased(
    postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Audited]:
    """A store in which one person was erased, and another one's archive waits to be removed. Its earlier copy is the copy itself."""
    folder = tmp_path_factory.mktemp("erased")
    with an_erased_store(postgres, object_store, folder, "erased") as person:
        bucket = person.chain.settings.store.bucket
        versions = copy_bucket(object_store.client("admin"), bucket, folder / "good")
        yield Audited(object_store, bucket, Copy(folder / "good"), versions, Copy(folder / "good"))


@pytest.fixture
def copy(audited: Audited, tmp_path: Path) -> Copy:
    """A copy of the store to tamper with."""
    return Copy.of(audited.good.folder, tmp_path / "copy")
