"""Real servers for the tests, in a separate folder and on separate ports, so that they do not disturb a running demo."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.database import a_database
from tests.support.sessions import own_folder

# The caller's shell may export settings of a stack (`eval "$(make -s env)"`), of another database or of another store. The
# tests must not see them. They are removed before the first import of Airflow, which reads the environment. Variables meant
# for the tests stay.
for name in [*os.environ]:
    if name.startswith(("STRONGROOM_", "AIRFLOW_", "_AIRFLOW", "AWS_", "PG")) and name not in (
        "STRONGROOM_FAULTS_EXPECTED",
        "STRONGROOM_FAULTS_TABLE",
        "STRONGROOM_POSTGRES",
        "STRONGROOM_TEST_SERVERS",
    ):
        del os.environ[name]

SHARED = os.environ.get("STRONGROOM_TEST_SERVERS")
"""The folder of servers that another process keeps running: `make mutants` runs the same tests hundreds of times."""

_numbers = itertools.count(1)

_BUCKETS_AHEAD = 3


THOROUGH = Path(__file__).parent / "thorough.txt"
"""The tests that `make test` leaves out, one node id in each line, or a file for all of its tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are listed there."""
    listed = {line for line in THOROUGH.read_text().splitlines() if line and not line.startswith("#")}
    for item in items:
        if item.nodeid in listed or item.nodeid.partition("::")[0] in listed:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for the servers of this test session. Leftovers of killed sessions are removed first."""
    if SHARED is not None:
        yield Path(SHARED)
        return
    with own_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[PostgresServer]:
    """A running PostgreSQL server; the tests share it."""
    server = PostgresServer(session_folder / "postgres")
    try:
        server.start()
        _log_in_cheaply(server)
        yield server
    finally:
        if SHARED is None:
            server.destroy()


def _log_in_cheaply(server: PostgresServer) -> None:
    """Hash passwords once instead of 4096 times. A test connects about fifty times, and each login would cost 3 ms of CPU."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        if connection.info.server_version < 16_00_00:  # the number cannot be changed there
            return
        connection.execute("ALTER SYSTEM SET scram_iterations = 1")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SET scram_iterations = 1")
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(server.superuser), server.password)
        )


@pytest.fixture(scope="session")
def object_store(session_folder: Path) -> Iterator[ObjectStore]:
    """A running S3 server; the tests share it."""
    store = ObjectStore(session_folder / "store")
    try:
        store.start()
        yield store
    finally:
        if SHARED is None:
            store.destroy()


@pytest.fixture
def source(postgres: PostgresServer) -> Iterator[str]:
    """A database of one test's own."""
    with a_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def shared_source(postgres: PostgresServer) -> Iterator[str]:
    """A database for the tests of one module, none of which changes it."""
    with a_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def coming_buckets(object_store: ObjectStore) -> Iterator[Iterator[Future[str]]]:
    """Buckets created ahead of time, because SeaweedFS takes 0.2 seconds for the first object in each."""

    admin = object_store.client("admin")

    def make() -> str:
        name = f"bucket-{os.getpid()}-{next(_numbers)}"
        admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        first = admin.put_object(Bucket=name, Key="first", Body=b"")
        admin.delete_object(Bucket=name, Key="first", VersionId=first["VersionId"])
        return name

    with ThreadPoolExecutor(1) as makers:
        ahead = deque(makers.submit(make) for _ in range(_BUCKETS_AHEAD))

        def give() -> Iterator[Future[str]]:
            while True:
                ahead.append(makers.submit(make))
                yield ahead.popleft()

        yield give()


@pytest.fixture
def bucket(coming_buckets: Iterator[Future[str]]) -> str:
    """The name of a fresh, versioned, empty bucket for one test."""
    return next(coming_buckets).result()


@pytest.fixture(scope="module")
def shared_bucket(coming_buckets: Iterator[Future[str]]) -> str:
    """A bucket for the tests of one module, none of which changes what the others read in it."""
    return next(coming_buckets).result()
