"""Archived calls, and a case about one of the callers."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.support.chain import Chain
from tests.support.database import execute
from tests.support.erasing import CALLS, Person, person_settings


@pytest.fixture
def make(source, object_store, bucket, tmp_path) -> Callable[..., Person]:
    """Makes a chain whose rows are archived and deleted, and the desk for a case."""

    def make(*, part_rows: int = 1000, **changes) -> Person:
        execute(source, CALLS)
        settings = person_settings(bucket, tmp_path / "staging", part_rows=part_rows, **changes)
        chain = Chain(source, object_store.client("archiver"), settings)
        with psycopg.connect(source) as connection:
            before = connection.execute("SELECT * FROM audit ORDER BY id").fetchall()
        chain.run()
        return Person(chain, object_store.client("purger"), before=before)

    return make
