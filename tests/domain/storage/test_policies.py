"""The S3 policies that deploy/ gives, on a real server: each identity does its own work and nothing else."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from strongroom.errors import StoreAccessError
from strongroom.ledger.claims import take_claim
from strongroom.settings import StoreSettings
from strongroom.storage.bucket import BucketStore, apply_rules, check_bucket
from strongroom.storage.store import Store
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.s3 import ICEBERG_BUCKET, TASK_LOG_BUCKET
from tests.support.chain import NOW, some_settings

POLICIES = REPOSITORY / "deploy" / "s3"


WRITTEN = ("archives", "claims", "evidence", "holds", "index", "metadata", "reports", "restores")


REMOVED = ("archives/t/a", "claims/t/a", "index/a", "metadata/t/k/a", "restores/t/a")


KEPT = ("evidence/t/a", "holds/a", "reports/t/a", "metadata/source.json")


def is_allowed(call: Any, **arguments: Any) -> bool:
    """Whether the server lets a call pass."""
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("prefix", ["", "team/a/"])
def test_the_stager_works_in_staging_and_sees_nothing_else(object_store, bucket, prefix):
    """Whoever has its keys comes to no archive, even where staging lies in the same bucket."""
    stager, admin = object_store.client("stager"), object_store.client("admin")
    inside, outside = f"{prefix}staging/t/a", [f"{prefix}{key}" for key in (*REMOVED, *KEPT, "staging")]
    versions = {key: admin.put_object(Bucket=bucket, Key=key, Body=b"1")["VersionId"] for key in outside}

    written = stager.put_object(Bucket=bucket, Key=inside, Body=b"1")["VersionId"]

    assert stager.get_object(Bucket=bucket, Key=inside)["Body"].read() == b"1"
    stager.delete_object(Bucket=bucket, Key=inside, VersionId=written)
    for key, version in versions.items():
        place = {"Bucket": bucket, "Key": key}
        assert not is_allowed(stager.get_object, **place)
        assert not is_allowed(stager.put_object, **place, Body=b"2")
        assert not is_allowed(stager.delete_object, **place)
        assert not is_allowed(stager.delete_object, **place, VersionId=version)
    for other in ("archiver", "purger", "keeper"):
        assert not is_allowed(object_store.client(other).put_object, Bucket=bucket, Key=inside, Body=b"1")


def test_the_logger_writes_and_reads_task_logs_and_comes_to_no_archive(object_store, bucket):
    """Airflow's remote logs go to a bucket of their own, and their keys open no other. Nobody but an administrator removes one."""
    logger, admin = object_store.client("logger"), object_store.client("admin")
    object_store.create_bucket(TASK_LOG_BUCKET)
    place = {"Bucket": TASK_LOG_BUCKET, "Key": f"airflow/dag_id={bucket}/attempt=1.log"}
    versions = {
        key: admin.put_object(Bucket=bucket, Key=key, Body=b"1")["VersionId"]
        for key in (*REMOVED, *KEPT, "airflow/dag_id=a/attempt=1.log")
    }

    written = logger.put_object(**place, Body=b"1")["VersionId"]
    logger.put_object(**place, Body=b"12")  # a later part of the same log

    assert logger.get_object(**place)["Body"].read() == b"12"
    assert is_allowed(logger.list_objects_v2, Bucket=TASK_LOG_BUCKET)
    assert not is_allowed(logger.delete_object, **place)
    assert not is_allowed(logger.delete_object, **place, VersionId=written)
    assert not is_allowed(logger.list_objects_v2, Bucket=bucket)
    for key, version in versions.items():
        assert not is_allowed(logger.get_object, Bucket=bucket, Key=key)
        assert not is_allowed(logger.put_object, Bucket=bucket, Key=key, Body=b"2")
        assert not is_allowed(logger.delete_object, Bucket=bucket, Key=key, VersionId=version)
    for other in ("archiver", "purger", "keeper", "stager", "witness"):
        assert not is_allowed(object_store.client(other).put_object, **place, Body=b"forged")


@pytest.mark.parametrize("prefix", ["", "team/a/"])
def test_the_identity_of_iceberg_tables_reads_archives_and_changes_none(object_store, bucket, prefix):
    """It writes and clears a bucket of its own. In that of the archives it can neither overwrite nor remove anything."""
    iceberg, admin = object_store.client("iceberg"), object_store.client("admin")
    told = [f"{prefix}{folder}/x" for folder in ("archives", "evidence", "index", "log", "metadata")]
    closed = [f"{prefix}{folder}/x" for folder in ("claims", "holds", "reports", "restores", "staging", "subjects")]
    versions = {key: admin.put_object(Bucket=bucket, Key=key, Body=b"1")["VersionId"] for key in (*told, *closed)}
    own = f"{ICEBERG_BUCKET}-{bucket}"
    object_store.create_bucket(own, versioned=False)

    iceberg.put_object(Bucket=own, Key=f"{prefix}t/metadata/a", Body=b"1")
    iceberg.put_object(Bucket=own, Key=f"{prefix}t/metadata/a", Body=b"2")
    iceberg.delete_object(Bucket=own, Key=f"{prefix}t/metadata/a")

    assert is_allowed(iceberg.list_object_versions, Bucket=bucket)
    assert {key for key in versions if is_allowed(iceberg.get_object, Bucket=bucket, Key=key)} == set(told)
    for key, version in versions.items():
        place = {"Bucket": bucket, "Key": key}
        assert not is_allowed(iceberg.put_object, **place, Body=b"2")
        assert not is_allowed(iceberg.delete_object, **place)
        assert not is_allowed(iceberg.delete_object, **place, VersionId=version)
        assert not is_allowed(iceberg.copy_object, **place, CopySource={"Bucket": bucket, "Key": told[0]})
    other = {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}
    assert not is_allowed(iceberg.put_bucket_versioning, **other)


@pytest.mark.parametrize("prefix", ["", "team/a/"])
def test_the_reader_reads_what_is_told_of_archives_and_no_rows_and_changes_nothing(object_store, bucket, prefix):
    """Figures and pages are made with its keys, on hosts that need see no row."""
    reader, admin = object_store.client("reader"), object_store.client("admin")
    told = [
        f"{prefix}{folder}/x" for folder in ("claims", "evidence", "holds", "index", "metadata", "reports", "restores")
    ]
    closed = [f"{prefix}{folder}/x" for folder in ("archives", "staging", "logs")]
    versions = {key: admin.put_object(Bucket=bucket, Key=key, Body=b"1")["VersionId"] for key in (*told, *closed)}

    readable = {key for key in versions if is_allowed(reader.get_object, Bucket=bucket, Key=key)}

    assert readable == set(told)
    assert is_allowed(reader.list_objects_v2, Bucket=bucket)
    for key, version in versions.items():
        place = {"Bucket": bucket, "Key": key}
        assert not is_allowed(reader.put_object, **place, Body=b"2")
        assert not is_allowed(reader.delete_object, **place)
        assert not is_allowed(reader.delete_object, **place, VersionId=version)


@pytest.mark.parametrize("prefix", ["", "team/a/"])
def test_each_identity_writes_and_removes_only_where_its_work_lies(object_store, bucket, prefix):
    """Evidence, holds and reports are out of the purger's reach; nobody but the archiver writes, and only in its folders."""
    admin = object_store.client("admin")
    keys = [*(f"{folder}/x" for folder in WRITTEN), "elsewhere", "logs/x", "archives"]
    wrote = {
        identity: {
            key
            for key in keys
            if is_allowed(object_store.client(identity).put_object, Bucket=bucket, Key=f"{prefix}{key}", Body=b"1")
        }
        for identity in ("archiver", "purger", "keeper")
    }
    removed: dict[str, set[str]] = {"archiver": set(), "purger": set(), "keeper": set()}
    for identity, gone in removed.items():
        for key in (*REMOVED, *KEPT):
            version = admin.put_object(Bucket=bucket, Key=f"{prefix}{key}", Body=b"1")["VersionId"]
            place = {"Bucket": bucket, "Key": f"{prefix}{key}"}
            client = object_store.client(identity)
            assert not is_allowed(client.delete_object, **place)
            if is_allowed(client.delete_object, **place, VersionId=version):
                gone.add(key)

    assert wrote == {"archiver": {f"{folder}/x" for folder in WRITTEN}, "purger": set(), "keeper": set()}
    assert removed == {"archiver": set(), "purger": set(REMOVED), "keeper": set()}


def test_the_archiver_cannot_undo_what_it_wrote(object_store, bucket):
    """It may put a new version over an object, as everybody may who writes; what was verified stays under its version id."""
    archiver = object_store.client("archiver")
    store = Store(archiver, StoreSettings(bucket=bucket))
    first = store.put_bytes("archives/t/part", b"rows")
    place = {"Bucket": bucket, "Key": "archives/t/part"}

    archiver.put_object(**place, Body=b"forged")

    assert b"".join(store.chunks("archives/t/part", first.version_id)) == b"rows"
    for refused, arguments in (
        (archiver.delete_object, {**place, "VersionId": first.version_id}),
        (archiver.put_bucket_versioning, {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}),
        (archiver.put_bucket_lifecycle_configuration, {"Bucket": bucket, "LifecycleConfiguration": {"Rules": []}}),
        (archiver.delete_bucket, {"Bucket": bucket}),
        (archiver.put_bucket_policy, {"Bucket": bucket, "Policy": "{}"}),
        (archiver.put_bucket_acl, {"Bucket": bucket, "ACL": "public-read"}),
        (archiver.put_object_acl, {**place, "ACL": "public-read"}),
        (archiver.put_object_legal_hold, {**place, "LegalHold": {"Status": "OFF"}}),
        (archiver.put_object_tagging, {**place, "Tagging": {"TagSet": []}}),
    ):
        assert not is_allowed(refused, **arguments), refused


def test_the_purger_lifts_no_lock_and_changes_no_setting(object_store, bucket):
    purger = object_store.client("purger")
    version = object_store.client("archiver").put_object(Bucket=bucket, Key="archives/t/a", Body=b"1")["VersionId"]
    place = {"Bucket": bucket, "Key": "archives/t/a", "VersionId": version}
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": NOW}

    for refused, arguments in (
        (purger.put_object_retention, {**place, "Retention": retention, "BypassGovernanceRetention": True}),
        (purger.put_object_legal_hold, {**place, "LegalHold": {"Status": "OFF"}}),
        (purger.put_bucket_versioning, {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}),
        (purger.put_bucket_lifecycle_configuration, {"Bucket": bucket, "LifecycleConfiguration": {"Rules": []}}),
        (purger.delete_bucket, {"Bucket": bucket}),
    ):
        assert not is_allowed(refused, **arguments), refused


def test_the_keeper_sets_the_bucket_up_and_sees_no_object(object_store, bucket, tmp_path):
    """`bucket check` and `bucket apply` need no more than its policy."""
    keeper = object_store.client("keeper")
    settings = some_settings(bucket, tmp_path)
    object_store.client("archiver").put_object(Bucket=bucket, Key="archives/t/a", Body=b"1")
    store = BucketStore(keeper, settings.store)

    written = apply_rules(store, [settings])
    found = {each.what: each.result for each in check_bucket(store, [settings])}
    keeper.create_bucket(Bucket="kept-by-the-keeper", ObjectLockEnabledForBucket=True)

    assert written
    assert found["versioning"] == found["Object Lock"] == "right"
    assert not is_allowed(keeper.get_object, Bucket=bucket, Key="archives/t/a")


@pytest.mark.parametrize("identity", ["purger", "keeper"])
def test_whoever_is_not_the_archiver_cannot_take_a_claim(object_store, bucket, identity):
    store = Store(object_store.client(identity), StoreSettings(bucket=bucket))

    with pytest.raises(StoreAccessError, match="refused to"):
        take_claim(store, "claims/public.audit/2026-05.json", owner="one", now=NOW, ttl=timedelta(hours=1))


def test_a_policy_is_filled_in_for_one_bucket_and_prefix():
    """`deploy/s3/fill` leaves no placeholder, and nothing outside the bucket and its prefix."""
    for policy in sorted(path.name for path in POLICIES.glob("*.json")):
        for prefix, below in ((), ""), (("team/a/",), "team/a/"):
            filled = fill(policy, "telecom-archive", *prefix)
            document = json.loads(filled.stdout)
            resources = [
                resource
                for statement in document["Statement"]
                for resource in (
                    [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
                )
            ]
            bucket = "arn:aws:s3:::telecom-archive"
            assert resources
            assert all(one == bucket or one.startswith(f"{bucket}/{below}") for one in resources), resources
            assert "BUCKET" not in filled.stdout.replace("Bucket", "")
            assert "PREFIX" not in filled.stdout


@pytest.mark.parametrize("words", [("a|b",), ("ok-bucket", "a&b"), ("ok-bucket", "a|b"), ("",), ("ok-bucket", "a\nb")])
def test_a_policy_is_not_filled_in_with_what_the_script_would_misread(words):
    refused = fill("archiver.json", *words)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ")


def fill(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([POLICIES / "fill", *words], capture_output=True, text=True, check=False)
