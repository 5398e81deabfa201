"""A month of archived rows."""

from __future__ import annotations

import pytest

from tests.support.chain import Chain, some_settings
from tests.support.database import execute

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
    """744 hourly rows in three parts of JSON lines: id, at, who, cost, and a note that is NULL."""
    return make(part_rows=300)
