"""What tests of the pages share: DAGs in Airflow's database, rights by DAG, tables with rows and archives, and users."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import psycopg
import pytest

from strongroom.database.session import read_identity
from strongroom.storage.store import Store
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain, some_settings
from tests.support.database import a_database, digest, execute
from tests.support.deployment import Deployment
from tests.support.pages import Visitor
from tests.support.rights_by_dag import refuse, refuse_nothing
from tests.support.sealing import claim_if_unowned

AUTH_MANAGER = "AIRFLOW__CORE__AUTH_MANAGER"
DAGS = (
    "archive_tables.py",
    "restore_archive.py",
    "verify_archives.py",
    "legal_hold.py",
    "retention_purge.py",
    "query_archive.py",
)
TABLES = {"audit": {"date_column": "at"}, "payroll": {"date_column": "at"}}
"""`audit` is everybody's, `payroll` is not: the user ``bob`` may not see it."""

ROWS = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE payroll (LIKE audit INCLUDING ALL);
INSERT INTO audit SELECT n, '2026-05-31 12:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 24) AS n;
INSERT INTO payroll SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 5) AS n;
"""
"""Of `audit`, 11 rows of May 2026 and 13 of June; of `payroll`, five of May."""


@pytest.fixture(scope="module")
def site(parsing) -> Iterator[None]:
    """The DAGs of both tables in the metadata database, and an auth manager with rights by DAG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(AUTH_MANAGER, "tests.support.rights_by_dag.RightsByDag")
        from airflow.api_fastapi.app import create_auth_manager, purge_cached_app

        purge_cached_app()
        create_auth_manager()
        with parsing(*DAGS, tables=TABLES):
            yield
    purge_cached_app()


@pytest.fixture
def database(metadata, site) -> Iterator[psycopg.Connection]:
    """A connection to the metadata database, where all DAGs are unpaused and have no runs, and nothing is refused."""
    refuse_nothing()
    with psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("DELETE FROM dag_run")
        connection.execute("UPDATE dag SET is_paused = false")
        yield connection
        connection.execute("DELETE FROM dag_run")


@contextmanager
def a_web_server() -> Iterator[object]:
    """What a web server knows that has just started."""
    from strongroom_airflow.pages.gathering import Gathering

    fresh = Gathering()
    fresh.ask = partial(fresh.ask, seconds=120)  # a busy machine is not what is tested
    yield fresh
    for threads in (fresh._readers, fresh._askers):
        threads.shutdown(wait=True)


@pytest.fixture(scope="session")
def its_web_server(metadata) -> Iterator[object]:
    """What a web server knows of the world that :func:`archived` gives to many tests."""
    with a_web_server() as server:
        yield server


@pytest.fixture
def gathering(request, monkeypatch, database) -> Iterator[object]:
    """What the web server of this test knows. All tests with :func:`archived` have the same one."""
    import_module("strongroom_airflow.pages.app")
    from strongroom_airflow.pages.gathering import gathering

    with ExitStack() as made:
        if "archived" in request.fixturenames:
            known = request.getfixturevalue("its_web_server")
        else:
            known = made.enter_context(a_web_server())
        for name, module in [*sys.modules.items()]:
            if name.startswith("strongroom_airflow.pages.") and getattr(module, "gathering", None) is gathering:
                monkeypatch.setattr(module, "gathering", known)
        yield known


def a_chain(source: str, object_store: ObjectStore, bucket: str, staging: Path) -> Chain:
    """The tables `audit` and `payroll` with some rows, and a store where nothing is archived yet."""
    execute(source, ROWS)
    made = Chain(source, object_store.client("archiver"), some_settings(bucket, staging))
    with made.source() as connection:
        claim_if_unowned(made.store, read_identity(connection))
    return made


def find(deployment: Deployment, object_store: ObjectStore, chain: Chain) -> Chain:
    """Have Airflow find tables, store and database."""
    deployment.tables(**TABLES)
    deployment.store(object_store, chain.settings.store.bucket)
    deployment.database(chain.conninfo, "source", "restore")
    return chain


@pytest.fixture
def chain(source, object_store, bucket, tmp_path, deployment) -> Chain:
    """For a test that archives or changes something: tables and a store of its own, where nothing is archived yet."""
    return find(deployment, object_store, a_chain(source, object_store, bucket, tmp_path / "staging"))


def everything_in(chain: Chain) -> tuple[object, ...]:
    """Rows, objects and versions, to be compared."""
    listing = chain.client.list_object_versions(Bucket=chain.settings.store.bucket)
    versions = [(one["Key"], one["VersionId"]) for one in listing.get("Versions", ())]
    return digest(chain.conninfo), digest(chain.conninfo, "payroll"), versions, listing.get("DeleteMarkers")


@pytest.fixture(scope="session")
def archived_once(postgres, object_store, coming_buckets, tmp_path_factory) -> Iterator[Chain]:
    """The same tables after May of `audit` was archived and deleted."""
    with a_database(postgres) as source:
        staging = tmp_path_factory.mktemp("archived") / "staging"
        made = a_chain(source, object_store, next(coming_buckets).result(), staging)
        assert made.run().archive_id == "public.audit.2026-05.0001"
        before = everything_in(made)
        yield made
        assert everything_in(made) == before, "a test changed what all tests with `archived` share"


@pytest.fixture
def archived(archived_once, object_store, deployment) -> Chain:
    """For tests that only look: they share tables and a store where May of `audit` is archived, and change nothing in either."""
    return find(deployment, object_store, archived_once)


@pytest.fixture
def store(chain) -> Store:
    return chain.store


@pytest.fixture
def sent(request, gathering) -> Callable[..., Visitor]:
    """Makes a user whose pages show everything as it is now: stores and databases are read before each, unless nothing changes them."""
    changes = "archived" not in request.fixturenames

    class Settled(Visitor):
        def open(self, address: str):
            gathering.facts(seconds=120, fresh=changes)
            return super().open(address)

        def post(self, *words, **headers):
            gathering.facts(seconds=120, fresh=changes)
            return super().post(*words, **headers)

    return Settled


@pytest.fixture
def ada(sent) -> Visitor:
    """Who may do everything."""
    return sent("ada")


@pytest.fixture
def bob(sent) -> Visitor:
    """Who may do everything but see `payroll`."""
    refuse("bob", archive__payroll="everything")
    return sent("bob", "user")


@pytest.fixture
def carol(sent) -> Visitor:
    """Who may look, and start nothing."""
    return sent("carol", "viewer")
