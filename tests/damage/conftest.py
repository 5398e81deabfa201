"""One small archive for each module of damage tests, sealed by the real chain; what a test damages it puts back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from strongroom.audit import ArchiveVerdict
from strongroom.object_keys import ArchiveId
from strongroom.restore import RestoredPart, RestorePlan, release_claims
from strongroom.source import Connection
from strongroom.verification import verify_and_record
from strongroom_local.postgres import PostgresServer
from strongroom_local.s3 import ObjectStore
from tests import restoring
from tests.chain import NOW, Chain, some_settings
from tests.damaging import Vandal

ROWS = """
DROP TABLE IF EXISTS audit;
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
INSERT INTO audit SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '6 hours', 'agent ' || n, n / 7.0
FROM generate_series(1, 30) AS n;
"""


@dataclass
class Damaged:
    """A sealed archive of three parts of ten rows, all of them deleted from the table, and how to look at it."""

    chain: Chain
    vandal: Vandal
    archive: ArchiveId
    plan: RestorePlan

    def part_key(self, number: int) -> str:
        return self.archive.part_key(number, self.chain.settings.compression.type)

    def verify(self) -> ArchiveVerdict:
        return verify_and_record(self.chain.store, self.archive, now=NOW)

    def restore(self, number: int) -> RestoredPart:
        """Try to bring one part back, with nothing kept of earlier tries."""
        self.empty_table()
        part = next(part for part in self.plan.parts if part.number == number)
        try:
            return restoring.load(self.chain, self.plan.model_copy(update={"lanes": ((part,),)}))[0]
        finally:
            restoring.staging_of(self.chain, self.plan, part).clear()

    def rows(self) -> list[int]:
        """Ids in the table."""
        with self._connect() as connection:
            return [row[0] for row in connection.execute("SELECT id FROM audit ORDER BY id").fetchall()]

    def empty_table(self) -> None:
        with self._connect() as connection:
            connection.execute("DELETE FROM audit")

    def _connect(self) -> Connection:
        return psycopg.connect(self.chain.conninfo, autocommit=True)


@pytest.fixture(scope="module")
def sealed(
    postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory, request
) -> Damaged:
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    with psycopg.connect(postgres.conninfo(name), autocommit=True) as connection:
        connection.execute(ROWS)
    object_store.create_bucket(name)
    settings = some_settings(name, tmp_path_factory.mktemp("staging"), part_rows=10)
    chain = Chain(postgres.conninfo(name), object_store.client("archiver"), settings)
    report = chain.run()
    assert (report.parts, report.deleted_rows) == (3, 30)
    plan = restoring.plan(chain)
    release_claims(chain.store, plan, owner=plan.restore_id, now=NOW)
    vandal = Vandal(object_store.client("admin"), chain.store, name)
    return Damaged(chain, vandal, ArchiveId.parse(str(report.archive_id)), plan)


@pytest.fixture
def damaged(sealed: Damaged) -> Iterator[Damaged]:
    """The sealed archive; whatever a test does to the bucket is taken back."""
    sealed.empty_table()
    with sealed.vandal.undone():
        yield sealed
