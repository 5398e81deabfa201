"""A sealed archive, and what damages it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.damaging import Damaged, seal_three_parts


@pytest.fixture(scope="module")
def sealed(
    postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory, request
) -> Damaged:
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    return seal_three_parts(postgres, object_store, tmp_path_factory.mktemp("staging"), name)


@pytest.fixture
def damaged(sealed: Damaged) -> Iterator[Damaged]:
    """The sealed archive. Whatever a test does to the bucket is undone."""
    sealed.empty_table()
    with sealed.vandal.undone():
        yield sealed
