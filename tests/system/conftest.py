"""The stack of the end-to-end tests: the repository's tables, plus tables to rehearse failures on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from strongroom.database.session import open_source, read_identity
from strongroom.settings import DEFAULT_FILE, FILE_VARIABLE, StoreSettings
from strongroom.storage.store import Store
from strongroom_local.servers.ports import LOOPBACK
from strongroom_local.servers.stack import Stack
from tests.support import glacier
from tests.support.proxies import HoldingProxy
from tests.support.sealing import claim_if_unowned
from tests.system.e2e.helpers import Airflow
from tests.system.e2e.rehearsals import GLACIER_BUCKET, glacier_client, rehearsal_settings, table_of


@pytest.fixture(scope="session")
def proxy() -> Iterator[HoldingProxy]:
    """A proxy in front of the stack's S3 server. Some of the rehearsal tables use it."""
    with HoldingProxy() as running:
        yield running


@pytest.fixture(scope="session")
def glacier_url() -> Iterator[str]:
    """An S3 with Glacier and an empty bucket: the store of one of the rehearsal tables."""
    with glacier.running() as url:
        glacier_client(url).create_bucket(Bucket=GLACIER_BUCKET, ObjectLockEnabledForBucket=True)
        yield url


@pytest.fixture(scope="session")
def stack(configuration: Path, stack: Stack, proxy: HoldingProxy, glacier_url: str) -> Stack:
    """The session's stack, with the rehearsal tables' DAGs in it and the proxy in front of its S3 server."""
    del os.environ[FILE_VARIABLE]  # other stacks that a test starts must not inherit it
    proxy.forward_to(LOOPBACK, stack.object_store.port)
    frozen = Store(glacier_client(glacier_url), StoreSettings(bucket=GLACIER_BUCKET))
    with open_source(stack.source_conninfo(), application_name="test") as connection:
        claim_if_unowned(frozen, read_identity(connection))
    return stack


@pytest.fixture(scope="session")
def configuration(session_folder: Path, proxy: HoldingProxy, glacier_url: str) -> Iterator[Path]:
    """An archive.yaml with the repository's tables and the rehearsals. The stack starts with it."""
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    document["tables"] |= rehearsal_settings(proxy.endpoint_url)
    document["tables"] |= {
        "purge_asked": {"date_column": "at", "purge": {"require_approval": True}},
        "purge_unasked": {"date_column": "at", "warm": True},
        table_of("frozen"): {
            "date_column": "at",
            "frequency": "daily",
            "store": {"endpoint_url": glacier_url, "bucket": GLACIER_BUCKET},
        },
    }
    path = session_folder / "archive.yaml"
    path.write_text(yaml.safe_dump(document))
    os.environ[FILE_VARIABLE] = str(path)
    yield path
    os.environ.pop(FILE_VARIABLE, None)


@pytest.fixture(scope="session")
def airflow(stack: Stack) -> Airflow:
    """The stack's Airflow, logged in."""
    return Airflow(stack)
