"""A query end to end on real servers."""

from __future__ import annotations

import pytest

from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.querying import found, when

TABLE = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric(8, 2), note text
);
CREATE INDEX ON audit (at);
INSERT INTO audit (at, who, cost)
SELECT '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n, n / 10.0 FROM generate_series(0, 743) AS n;
"""


@pytest.fixture(params=["jsonl", "parquet"])
def chain(source, object_store, bucket, tmp_path, request) -> Chain:
    execute(source, TABLE)
    settings = some_settings(bucket, tmp_path, part_rows=300, format=request.param)
    chain = Chain(source, object_store.client("archiver"), settings)
    assert chain.run().deleted_rows == 744
    return chain


def test_rows_are_found_exactly_to_the_digit(chain):
    assert found(chain, when("cost", "=", "66.4"), columns=["cost", "who"]) == [("66.40", "agent 664")]
