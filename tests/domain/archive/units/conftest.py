"""A unit of four tables, each test with tables and a bucket of its own."""

from __future__ import annotations

import pytest

from tests.support.database import execute
from tests.support.units import ORDERS, UnitChain, unit_settings


@pytest.fixture
def unit(source, bucket, object_store, tmp_path) -> UnitChain:
    execute(source, ORDERS)
    return UnitChain(source, object_store.client("archiver"), unit_settings(bucket, tmp_path))
