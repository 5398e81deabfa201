"""Tables whose May is archived."""

from __future__ import annotations

import pytest

from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.restoring import TEN_ROWS

AUDIT = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text COLLATE "C", cost numeric,
    tax numeric GENERATED ALWAYS AS (cost * 0.075) STORED, badge integer UNIQUE
);
INSERT INTO audit (at, who, cost, badge)
SELECT '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0, n
FROM generate_series(1, 800) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """A table of 800 hourly rows, 744 of them in May."""
    execute(source, AUDIT)
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=300))


@pytest.fixture
def archived(chain) -> Chain:
    """The same with May in an archive of three parts, and gone from the table."""
    assert chain.run().deleted_rows == 744
    return chain


@pytest.fixture
def make(source, object_store, bucket, tmp_path):
    """Archive May of the table `audit` that some statements create, and delete it."""

    def archived(statements=TEN_ROWS, **changes) -> Chain:
        execute(source, statements)
        chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))
        assert chain.run().outcome == "archived"
        return chain

    return archived
