"""An Airflow of the tests' own: its settings before Airflow is imported, its metadata in the embedded PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from cryptography.fernet import Fernet

from strongroom_local.servers.postgres import PostgresServer
from tests.support.commands import fork_airflow
from tests.support.deployment import Deployment, write_config
from tests.support.repository import REPOSITORY

HOME = tempfile.TemporaryDirectory(prefix="strongroom-airflow-")
DAGS = Path(HOME.name) / "dags"
DAGS.mkdir()

if "airflow" in sys.modules:
    raise RuntimeError(
        "Airflow was imported before its settings were made; no test outside tests/airflow may import it"
    )

os.environ.update(
    AIRFLOW_HOME=HOME.name,
    AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
    AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="240",  # seconds, as in deploy/airflow.env: a busy machine parses slowly
    AIRFLOW__CORE__FERNET_KEY=Fernet.generate_key().decode(),
    AIRFLOW__API_AUTH__JWT_SECRET=Fernet.generate_key().decode(),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME.name}/unused.db",
)


@pytest.fixture(scope="session")
def airflow(metadata: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The `airflow` command in a process of its own, on the metadata database of the tests."""
    return fork_airflow


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    """The variables with which Airflow finds tables, stores and databases; at first the table `audit` alone."""
    return Deployment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def shared_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The same for all tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        yield Deployment(patch, tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="session")
def glacier_url() -> Iterator[str]:
    """The address of an S3 with Glacier and lifecycle rules."""
    from tests.support import glacier  # and with it moto, which few tests need

    with glacier.running() as url:
        yield url


@pytest.fixture(scope="session")
def dags_folder() -> Path:
    """The folder that the tests' Airflow reads DAGs from."""
    return DAGS


@pytest.fixture(scope="session")
def parsing(
    metadata: str, dags_folder: Path, airflow: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: Any
) -> Callable[..., AbstractContextManager[None]]:
    """Puts DAG files of the repository into the tests' Airflow for a while, and their DAGs into its database. By default, the table is `audit`.

    All of the repository's DAGs are parsed at once, and again only after somebody has asked for other tables; or `anew`, as a test
    must ask that runs tasks: Airflow runs none whose asset has the bucket of this test while one of the same name has another test's.
    """
    in_database: list[Mapping[str, Mapping[str, Any]] | None] = []

    @contextmanager
    def linked(names: Iterable[str]) -> Iterator[None]:
        links = [dags_folder / name for name in names]
        for link in links:
            link.symlink_to(REPOSITORY / "dags" / link.name)
        try:
            yield
        finally:
            for link in links:
                link.unlink()

    @contextmanager
    def parse(*names: str, tables: Mapping[str, Mapping[str, Any]] | None = None, anew: bool = False) -> Iterator[None]:
        if anew:
            with psycopg.connect(metadata) as connection:
                connection.execute("DELETE FROM asset_active")
        if anew or in_database != [tables]:
            with (
                pytest.MonkeyPatch.context() as patch,
                linked(path.name for path in (REPOSITORY / "dags").glob("*.py")),
            ):
                patch.setenv("STRONGROOM_CONFIG", str(write_config(tmp_path_factory.mktemp("parsed"), tables)))
                ended = airflow("dags", "reserialize")
            assert ended.returncode == 0, ended.stderr
            in_database[:] = [tables]
        with linked(names):
            yield

    return parse


@pytest.fixture(scope="session")
def metadata(postgres: PostgresServer) -> Iterator[str]:
    """Airflow's metadata database, migrated, for this process and those it starts: its libpq connection string."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE airflow_metadata")
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = (
        f"postgresql+psycopg2://{postgres.superuser}:{quote(postgres.password, safe='')}"
        f"@{postgres.host}:{postgres.port}/airflow_metadata"
    )
    migrated = fork_airflow("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr

    from airflow import settings

    settings.dispose_orm()
    settings.configure_vars()
    settings.configure_orm()
    yield postgres.conninfo("airflow_metadata")
    settings.dispose_orm()
