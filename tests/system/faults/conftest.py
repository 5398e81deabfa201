"""Places for scenarios, and the table that the fault matrix prints at its end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.system.faults.matrix import MATRIX, write_table
from tests.system.faults.scenario import Scene

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def scene(postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: Any) -> Iterator[Scene]:
    """A database and a bucket for all scenarios of a module; each has a table and a prefix of its own in them."""
    name = f"faults_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    bucket = name.replace("_", "-")
    object_store.create_bucket(bucket)
    yield Scene(postgres, object_store, postgres.conninfo(name), bucket, tmp_path_factory.mktemp(name))
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print the table; write it into the docs when that is asked for and everything passed."""
    if not MATRIX:
        return
    terminalreporter.section("fault matrix")
    for line in MATRIX.lines():
        terminalreporter.write_line(line)
    target = os.environ.get("STRONGROOM_FAULTS_TABLE")
    if target and exitstatus == 0:
        write_table(Path(target), MATRIX)
