"""One database and one bucket for all tests of detach and drop: `make mutants` runs them for each mutant of what they test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.settings import StoreSettings
from strongroom.tables import locks
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.partitions import (
    HELD,
    ROWS,
    TABLE,
)

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(locks, "PAUSES_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(locks, "STATEMENT_MILLISECONDS", 10_000)  # a busy machine is nobody's lock


@pytest.fixture(scope="session")
def room(postgres, object_store) -> Iterator[tuple[str, str, str, str]]:
    """A database, a bucket, and the names of two roles: the archiver, and the owner of the tables."""
    name = f"detach_{os.getpid()}"
    archiver, owner = f"archiver_{name}", f"owner_{name}"
    execute(postgres.conninfo(), f"CREATE DATABASE {name}")
    for role in (archiver, owner):
        execute(postgres.conninfo(), f"CREATE ROLE {role} LOGIN PASSWORD '{name}'")
    object_store.create_bucket("detach")
    yield postgres.conninfo(name), "detach", archiver, owner
    execute(postgres.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")
    execute(postgres.conninfo(), f"DROP ROLE {owner}, {archiver}")


@pytest.fixture
def source(room) -> str:
    """The database, empty: a connection string of its superuser."""
    conninfo, _, archiver, owner = room
    execute(
        conninfo,
        f"""
        DROP SCHEMA IF EXISTS warm, public, {HELD} CASCADE;
        CREATE SCHEMA public;
        GRANT USAGE ON SCHEMA public TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO {owner};
        CREATE SCHEMA {HELD} AUTHORIZATION {owner};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT, DELETE ON TABLES TO {archiver};
        """,
    )
    return conninfo


@pytest.fixture
def roles(source, room) -> tuple[str, str]:
    """Connection strings of the archiver, who may read and delete, and of the owner, who owns table and schema and no more."""
    _, _, archiver, owner = room
    password = conninfo_to_dict(source)["dbname"]
    return (
        make_conninfo(source, user=archiver, password=password),
        make_conninfo(source, user=owner, password=password, options="-c timezone=UTC"),
    )


@pytest.fixture
def make_chain(room, roles, object_store, tmp_path) -> Callable[..., Chain]:
    def make(ddl: str = TABLE + ROWS, **changes: Any) -> Chain:
        archiver, owner = roles
        execute(owner, ddl)
        bucket, staging = room[1], changes.pop("staging", tmp_path)
        given = {
            "part_rows": 400,
            "delete_batch_rows": 200,
            "partition_delete": {"enabled": True},
            "lock_timeout_seconds": 1,
            "store": StoreSettings(bucket=bucket, prefix=f"{os.getpid()}/{next(_numbers)}"),
        }
        settings = some_settings(bucket, staging, **(given | changes))
        return Chain(archiver, object_store.client("archiver"), settings, owner=owner)

    return make


@pytest.fixture
def chain(make_chain) -> Chain:
    return make_chain()
