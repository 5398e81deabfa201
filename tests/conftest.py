"""Real servers for the tests, in a folder and on ports of their own, so that a running demo does not notice them."""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from strongroom_local.postgres import PostgresServer
from strongroom_local.processes import exclusively
from strongroom_local.s3 import ObjectStore
from strongroom_local.stack import Stack

REPOSITORY = Path(__file__).resolve().parent.parent
SESSIONS = REPOSITORY / ".strongroom" / "test"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for the servers of this test session; what sessions that were killed left behind is swept away."""
    SESSIONS.mkdir(parents=True, exist_ok=True)
    with exclusively(SESSIONS):
        sweep_dead_sessions()
        folder = SESSIONS / secrets.token_hex(4)
        folder.mkdir()
        lock = _try_lock(folder)
    assert lock is not None, f"somebody else locked {folder}, which was made a moment ago"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[PostgresServer]:
    """A running PostgreSQL server; the tests share it."""
    server = PostgresServer(session_folder / "postgres")
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def object_store(session_folder: Path) -> Iterator[ObjectStore]:
    """A running S3 server; the tests share it."""
    store = ObjectStore(session_folder / "store")
    try:
        store.start()
        yield store
    finally:
        store.destroy()


@pytest.fixture
def source(postgres: PostgresServer) -> Iterator[str]:
    """A fresh empty database for one test: a connection string of its superuser."""
    database = f"source_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    yield postgres.conninfo(database)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """The name of a fresh, versioned, empty bucket for one test."""
    name = f"bucket-{next(_numbers)}"
    object_store.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def stack(session_folder: Path) -> Iterator[Stack]:
    """The whole stack with Airflow, up and healthy; started when the first test asks for it."""
    running = Stack(session_folder / "stack")
    try:
        running.up()
        yield running
    finally:
        running.destroy()


def sweep_dead_sessions() -> None:
    """Stop the servers and remove the folders of sessions whose pytest was killed; a living session holds its lock."""
    for folder in filter(Path.is_dir, list(SESSIONS.iterdir())):
        lock = _try_lock(folder)
        if lock is None:
            continue
        for state in list(folder.glob("**/stack.json")):
            Stack(state.parent).destroy()
        for state in list(folder.glob("**/postgres.json")):
            PostgresServer(state.parent).destroy()
        for state in list(folder.glob("**/store.json")):
            ObjectStore(state.parent).destroy()
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Take a session's lock for as long as this process lives; None when another process has it."""
    descriptor = os.open(folder / "session.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
