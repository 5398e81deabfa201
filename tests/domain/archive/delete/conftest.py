"""One database and one bucket for all tests of delete: `make mutants` runs them for each mutant of what they test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.records import VerifiedPart
from strongroom.settings import StoreSettings
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.deleting import (
    TABLE,
)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def room(postgres, object_store) -> Iterator[tuple[str, str]]:
    """A database and a bucket for all tests of this folder."""
    name = f"guard_{os.getpid()}"
    execute(postgres.conninfo(), f"CREATE DATABASE {name}")
    object_store.create_bucket("guard")
    yield postgres.conninfo(name), "guard"
    execute(postgres.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def chain(room, object_store, tmp_path) -> Chain:
    """The table above, and a prefix of its own in the store."""
    source, bucket = room
    execute(source, "DROP SCHEMA IF EXISTS warm, public CASCADE; CREATE SCHEMA public")
    execute(source, TABLE)
    store = StoreSettings(bucket=bucket, prefix=f"{os.getpid()}/{next(_numbers)}")
    changes: dict[str, Any] = {"delete_batch_rows": 4, "store": store}
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))


@pytest.fixture
def part(chain) -> VerifiedPart:
    """The one part of a sealed archive of all ten rows."""
    [part] = chain.seal(chain.plan()).parts
    return part
