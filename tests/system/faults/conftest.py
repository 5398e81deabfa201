"""Scenes for scenarios, and the table that the fault matrix prints at the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from strongroom.formats import blocks
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.system.faults import reporting
from tests.system.faults.scenario import Scene
from tests.system.faults.steps import BLOCK_ROWS

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def scene(postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: Any) -> Iterator[Scene]:
    """A database and a bucket for all scenarios of a module. Each scenario has its own table and prefix."""
    name = f"faults_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    bucket = name.replace("_", "-")
    object_store.create_bucket(bucket)
    yield Scene(postgres, object_store, postgres.conninfo(name), bucket, tmp_path_factory.mktemp(name))
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that run in this process cut blocks as small as those in processes of their own."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", BLOCK_ROWS)


def pytest_configure(config: pytest.Config) -> None:
    """Make each run that includes some of these tests print the table at its end."""
    if not config.pluginmanager.is_registered(reporting):
        config.pluginmanager.register(reporting)
