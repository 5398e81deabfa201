"""Two months of parquet archives, sealed once for all tests that only read them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.chain import Chain, some_settings
from tests.support.database import a_database, execute
from tests.support.lakes import Lakeside, a_lakeside, archive
from tests.support.logs import with_log

TABLE = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, kind smallint, seconds integer, cost numeric(8, 2), who text,
    day date, flagged boolean, score double precision, detail jsonb
);
CREATE INDEX ON audit (at);
INSERT INTO audit (at, kind, seconds, cost, who, day, flagged, score, detail)
SELECT '2026-05-01 00:00+00'::timestamptz + n * interval '6 hours', n % 7, n, n / 10.0, 'agent ' || n, '2026-05-01'::date + n, n % 2 = 0, n / 3.0,
       jsonb_build_object('cell', n)
FROM generate_series(0, 243) AS n;
"""

_numbers = itertools.count(1)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """For a test that changes archives: four rows a day in May and June, none archived yet."""
    execute(source, TABLE)
    settings = with_log(some_settings(bucket, tmp_path / "staging", format="parquet", part_rows=100))
    return Chain(source, object_store.client("archiver"), settings)


@pytest.fixture
def lakeside(chain, object_store, tmp_path) -> Lakeside:
    return a_lakeside(object_store, chain.settings, tmp_path)


@pytest.fixture(scope="module")
def archived(postgres, object_store, shared_bucket, tmp_path_factory) -> Iterator[Chain]:
    """The same rows, archived; for tests that do not change archives."""
    with a_database(postgres) as source:
        execute(source, TABLE)
        settings = some_settings(shared_bucket, tmp_path_factory.mktemp("staging"), format="parquet", part_rows=200)
        chain = Chain(source, object_store.client("archiver"), settings)
        archive(chain, "2026-05", "2026-06")
        yield chain


@pytest.fixture
def another(archived, object_store, tmp_path) -> Callable[[], Lakeside]:
    """Makes lakesides over these archives, each with a catalogue and a prefix of its own."""

    def make() -> Lakeside:
        number = next(_numbers)
        made = a_lakeside(object_store, archived.settings, tmp_path)
        made.prefix, made.uri = f"tables-{number}", f"sqlite:///{tmp_path}/catalogue-{number}.db"
        return made

    return make
