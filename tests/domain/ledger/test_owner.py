"""Whose a store is: it is claimed once, by a person, and a store that nobody owns is never taken for a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from strongroom.archive.plan import plan_archive
from strongroom.database.session import read_identity
from strongroom.errors import IdentityError, IntegrityError
from strongroom.ledger.index import read_manifests, survey_manifests
from strongroom.ledger.owner import record_owner, require_owned
from strongroom.object_keys.layout import SOURCE_IDENTITY
from strongroom.retention.decide import judge
from strongroom_local.servers.s3 import ObjectStore
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings

UNCLAIMED = "is unclaimed: no database owns it"


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 3) AS n")
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))


def claim(chain: Chain) -> bool:
    with chain.source() as connection:
        return record_owner(chain.store, read_identity(connection))


def plan(chain: Chain) -> str:
    """What a run of the DAG does first; no test helper claims the store on its way."""
    with chain.source() as connection:
        return plan_archive(connection, chain.store, chain.settings, chain.partition, now=NOW).outcome


def empty(object_store: ObjectStore, bucket: str, prefix: str = "") -> None:
    """Remove every version and delete marker, as whoever owns the bucket can."""
    admin = object_store.client("admin")
    for page in admin.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for kind in ("Versions", "DeleteMarkers"):
            for entry in page.get(kind, ()):
                admin.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])


def test_a_run_never_claims_a_store_and_names_the_command_that_does(chain):
    with pytest.raises(IdentityError, match=UNCLAIMED) as refused:
        plan(chain)

    assert "airflow strongroom bucket claim" in refused.value.hint
    assert list(chain.store.keys("")) == []
    assert (claim(chain), claim(chain)) == (True, False)
    assert plan(chain) == "planned"


LOOKS: dict[str, Callable[[Chain], object]] = {
    "another run": plan,
    "catalog and statistics": lambda chain: survey_manifests(chain.store),
    "catalog of a table": lambda chain: survey_manifests(chain.store, "public", "audit"),
    "warm purge and locks": lambda chain: list(read_manifests(chain.store)),
    "restore of a range": lambda chain: restoring.plan(chain, table="public.audit"),
    "restore of an archive": lambda chain: restoring.plan(chain, archives=("public.audit.2026-05.0001",)),
    "purge": lambda chain: judge(chain.store, now=NOW),
}


def test_an_emptied_bucket_is_an_error_everywhere(chain, object_store, bucket):
    """It showed no archive, and the next run began again with number 0001."""
    assert chain.run().deleted_rows == 3
    empty(object_store, bucket)

    for name, look in LOOKS.items():
        with pytest.raises(IdentityError, match=UNCLAIMED):
            pytest.fail(f"{name}: {look(chain)}")


def test_a_table_of_which_only_evidence_is_left_is_an_error_too(chain, object_store, bucket):
    archive = chain.run().archive_id
    for prefix in ("archives/", "metadata/public.audit/"):
        empty(object_store, bucket, prefix)

    survey = survey_manifests(chain.store)

    assert (survey.manifests, [one.archive_id for one in survey.damaged]) == ((), [archive])
    assert [(one.archive_id, one.reason) for one in judge(chain.store, now=NOW)] == [(archive, "unverifiable")]
    for look in (plan, LOOKS["restore of a range"], LOOKS["restore of an archive"]):
        with pytest.raises(IntegrityError, match=rf"the manifest of {archive} is"):
            look(chain)


def test_a_store_of_another_database_cannot_be_claimed(chain, postgres):
    claim(chain)
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute('CREATE DATABASE "another one"')

    with pytest.raises(IdentityError, match="belongs to another database"):
        claim(replace(chain, conninfo=postgres.conninfo("another one")))


def test_a_store_with_archives_whose_owner_record_is_gone_cannot_be_claimed(chain, object_store, bucket):
    """Whoever put the claim of another database in its place would own archives that are not its own."""
    chain.run()
    object_store.client("admin").delete_object(Bucket=bucket, Key=SOURCE_IDENTITY)

    with pytest.raises(IdentityError, match=r"holds archives, .*found metadata/public.audit/2026-05/") as refused:
        claim(chain)

    assert "`source`" in refused.value.hint
    with pytest.raises(IdentityError, match=UNCLAIMED):
        require_owned(chain.store)
