"""A month of archived rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chain import Chain, some_settings
from tests.support.database import a_database, execute
from tests.support.querying import Queried

TABLE = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric(8, 2), note text
);
CREATE INDEX ON audit (at);
INSERT INTO audit (at, who, cost)
SELECT '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n, n / 10.0 FROM generate_series(0, 743) AS n;
"""


@pytest.fixture
def make(source, object_store, bucket, tmp_path):
    """Archive May of the table `audit` that some statements create, and delete it."""

    def archived(statements: str = TABLE, **changes) -> Chain:
        execute(source, statements)
        chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging", **changes))
        assert chain.run().outcome == "archived"
        return chain

    return archived


@pytest.fixture
def chain(make) -> Chain:
    """For a test that changes the store: 744 hourly rows in three parts of JSON lines: id, at, who, cost, and a note that is NULL."""
    return make(part_rows=300)


@pytest.fixture(scope="session")
def archived_once(postgres, object_store, coming_buckets, tmp_path_factory) -> Iterator[Chain]:
    """The same rows, archived once."""
    with a_database(postgres) as source:
        execute(source, TABLE)
        settings = some_settings(next(coming_buckets).result(), tmp_path_factory.mktemp("archived"), part_rows=300)
        chain = Chain(source, object_store.client("archiver"), settings)
        assert chain.run().outcome == "archived"
        yield chain


@pytest.fixture
def archived(archived_once, tmp_path) -> Queried:
    """For tests that only query: they share these rows."""
    settings = archived_once.settings.model_copy(update={"staging": str(tmp_path / "staging")})
    return Queried(archived_once.conninfo, archived_once.client, settings)
