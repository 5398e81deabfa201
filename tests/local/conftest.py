"""Databases with the sample tables."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from strongroom_local.demo.sample import create_schema
from strongroom_local.servers.postgres import PostgresServer


@pytest.fixture
def twin(postgres: PostgresServer) -> Iterator[str]:
    """A second fresh database, beside `source`."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE sample_twin")
    yield postgres.conninfo("sample_twin")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("DROP DATABASE sample_twin WITH (FORCE)")


@pytest.fixture
def telecom(source: str) -> str:
    """A database with the five tables, still empty."""
    create_schema(source)
    return source
