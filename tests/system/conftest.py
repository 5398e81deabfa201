"""One stack for the demo and the end-to-end tests: the repository's tables, plus tables to rehearse failures on."""

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
from tests.system.demonstration import Demonstration, run_demo
from tests.system.helpers import Airflow
from tests.system.rehearsals import GLACIER_BUCKET, glacier_client, rehearsal_settings, table_of
from tests.system.sample_rows import Sample, load_sample


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
def configuration(session_folder: Path) -> Path:
    """The archive.yaml that the stack's processes read. The demo finds the repository's in it."""
    path = session_folder / "archive.yaml"
    path.write_text(DEFAULT_FILE.read_text())
    return path


@pytest.fixture(scope="session")
def source_only(session_folder: Path, configuration: Path) -> Iterator[Stack]:
    """The stack before Airflow's first start, with PostgreSQL running."""
    running = Stack(session_folder / "stack")
    try:
        running.start_source()  # as when `make sample` comes before the first `make up`
        yield running
    finally:
        running.destroy()


@pytest.fixture(scope="session")
def sample(source_only: Stack) -> Sample:
    """The sample tables, filled before anything is archived."""
    return load_sample(source_only.source_conninfo())


@pytest.fixture(scope="session")
def demonstration(source_only: Stack, sample: Sample) -> Demonstration:
    """A demo that found an empty stack with sample data, started Airflow and left it running."""
    return run_demo(source_only, "--keep")


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest, configuration: Path, source_only: Stack, proxy: HoldingProxy, glacier_url: str
) -> Stack:
    """The session's stack, with the rehearsal tables' DAGs in it and the proxy in front of its S3 server.

    The demo starts it, if a test that was selected needs the demo.
    """
    if any("demonstration" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("demonstration")
    configuration.write_text(_with_rehearsals(proxy.endpoint_url, glacier_url))
    os.environ[FILE_VARIABLE] = str(configuration)
    source_only.up()
    del os.environ[FILE_VARIABLE]  # other stacks that a test starts must not inherit it
    proxy.forward_to(LOOPBACK, source_only.object_store.port)
    logged = source_only.archive_store("a test")
    settings = StoreSettings(bucket=GLACIER_BUCKET, log_keys=logged.settings.log_keys)
    frozen = Store(glacier_client(glacier_url), settings, author=logged.author)
    with open_source(source_only.source_conninfo(), application_name="test") as connection:
        claim_if_unowned(frozen, read_identity(connection))
    return source_only


def _with_rehearsals(proxy_url: str, glacier_url: str) -> str:
    """The repository's archive.yaml with the rehearsals' tables."""
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    document["tables"] |= rehearsal_settings(proxy_url)
    document["tables"] |= {
        "purge_asked": {"date_column": "at", "purge": {"require_approval": True}},
        "purge_unasked": {"date_column": "at", "warm": True},
        table_of("frozen"): {
            "date_column": "at",
            "frequency": "daily",
            "store": {"endpoint_url": glacier_url, "bucket": GLACIER_BUCKET},
        },
    }
    return yaml.safe_dump(document)


@pytest.fixture(scope="session")
def airflow(stack: Stack) -> Airflow:
    """The stack's Airflow, logged in."""
    return Airflow(stack)
