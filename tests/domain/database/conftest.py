"""A fresh schema for each case, on one database and in one bucket."""

from __future__ import annotations

import itertools

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.chain import Chain, some_settings
from tests.support.database import execute

_schemas = (f"case_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def database(postgres):
    """One database for all cases; each case has a schema of its own."""
    execute(postgres.conninfo(), "CREATE DATABASE refusals")
    yield postgres.conninfo("refusals")
    execute(postgres.conninfo(), "DROP DATABASE refusals WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_bucket(object_store):
    object_store.create_bucket("refusals")
    return "refusals"


@pytest.fixture
def case(database, object_store, shared_bucket, tmp_path):
    """Run statements in a fresh schema and make a chain for its table ``odd``."""

    def make(statements, table="odd", **changes) -> Chain:
        schema = next(_schemas)
        execute(database, f"CREATE SCHEMA {schema}; SET search_path = {schema}, public;" + statements)
        table_settings = some_settings(shared_bucket, tmp_path, f"{schema}.{table}", **changes)
        return Chain(database, object_store.client("archiver"), table_settings)

    return make


@pytest.fixture
def role(database):
    """A login without rights, and how to connect as it."""
    name = f"archiver_{next(_schemas)}"
    execute(database, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name, make_conninfo(database, user=name, password="secret")  # pragma: allowlist secret
    execute(database, f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def case_as_role(case, role):
    """Like ``case``, for a role that may read and delete; ``{role}`` and ``{schema}`` stand for the names."""
    name, conninfo = role

    def make(statements, **changes) -> Chain:
        granted = (
            "DO $do$ BEGIN EXECUTE replace($sql$"
            + statements.replace("{role}", name)
            + "$sql$, '{schema}', current_schema()); END $do$"
        )
        chain = case(granted, **changes)
        chain.conninfo = conninfo
        return chain

    return make
