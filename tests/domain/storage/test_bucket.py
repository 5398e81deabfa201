"""What SeaweedFS lacks, lifecycle transitions and Glacier, against moto as an HTTP server; and the rest against SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from strongroom.errors import FrozenError, StoreAccessError
from strongroom.ledger.manifests import require_manifest
from strongroom.restore.thaw import GlacierStore, ask_back
from strongroom.settings import StoreSettings, TableSettings, Transitions
from strongroom.storage.bucket import BucketStore, Finding, apply_rules, check_bucket
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from tests.support import glacier
from tests.support.chain import some_settings
from tests.support.sealing import seal_month

BUCKET = "archive"
OTHERS = {
    "ID": "logs of somebody",
    "Status": "Enabled",
    "Filter": {"Prefix": "logs/"},
    "Expiration": {"Days": 30},
}


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """The address of an S3 with transitions and Glacier."""
    with glacier.running() as url:
        yield url


@pytest.fixture
def client(moto_url) -> Iterator[Any]:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    client = make_client(StoreSettings(bucket=BUCKET), session=session, endpoint_url=moto_url)
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    yield client
    glacier.reset(moto_url)


def a_table(tmp_path, table: str = "audit", **transitions: str) -> TableSettings:
    return some_settings(BUCKET, tmp_path, table=table, transitions=Transitions(**transitions))


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_missing_bucket_is_made_at_the_first_question_on_this_server_too(client):
    store = Store(client, StoreSettings(bucket="made", create_bucket=True))

    store.clock()
    store.prepare()

    assert client.get_bucket_versioning(Bucket="made")["Status"] == "Enabled"
    with pytest.raises(StoreAccessError, match="there is no bucket missing"):
        Store(client, StoreSettings(bucket="missing")).clock()


def test_rules_are_written_for_each_table_and_those_of_others_stay(client, tmp_path):
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [OTHERS]})
    store = BucketStore(client, StoreSettings(bucket=BUCKET))
    tables = [a_table(tmp_path, glacier="P180D", deep_archive="P1Y"), a_table(tmp_path, "plain")]

    written, again = apply_rules(store, tables), apply_rules(store, tables)

    assert (written, again) == (["strongroom-public.audit", "strongroom-unfinished-uploads"], [])
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    assert rules["logs of somebody"]["Expiration"] == {"Days": 30}
    assert rules["strongroom-public.audit"]["Filter"] == {"Prefix": "archives/public.audit/"}
    assert [(each["Days"], each["StorageClass"]) for each in rules["strongroom-public.audit"]["Transitions"]] == [
        (180, "GLACIER"),
        (365, "DEEP_ARCHIVE"),
    ]
    assert rules["strongroom-unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_a_rule_that_is_not_asked_for_any_more_goes_and_another_prefix_keeps_its_own(client, tmp_path):
    settings = StoreSettings(bucket=BUCKET, prefix="second")
    apply_rules(BucketStore(client, settings), [a_table(tmp_path, glacier="P180D")])
    store = BucketStore(client, StoreSettings(bucket=BUCKET))
    apply_rules(store, [a_table(tmp_path, glacier="P180D")])

    changed = apply_rules(store, [a_table(tmp_path)])

    rules = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert changed == ["strongroom-public.audit"]
    assert sorted(rule["ID"] for rule in rules) == [
        "strongroom-second/public.audit",
        "strongroom-second/unfinished-uploads",
        "strongroom-unfinished-uploads",
    ]


def test_a_bucket_is_compared_with_what_its_archives_need(client, tmp_path):
    store, tables = BucketStore(client, StoreSettings(bucket=BUCKET)), [a_table(tmp_path, glacier="P180D")]
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    client.put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": [OTHERS, OTHERS | {"ID": "all", "Filter": {"Prefix": "arch"}}]}
    )
    before = by_name(check_bucket(store, tables))
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [OTHERS]})
    client.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(names, True))
    apply_rules(store, tables)

    after = by_name(check_bucket(store, tables))

    assert {what for what, finding in before.items() if finding.result == "differs"} == {
        "versioning",
        "encryption",
        "public access",
        "rule strongroom-unfinished-uploads",
        "rule strongroom-public.audit",
        "rule all",
    }
    assert {finding.result for finding in after.values()} == {"right"}
    assert after["rule strongroom-public.audit"].found == "GLACIER after 180 days under archives/public.audit/"


def test_seaweedfs_is_checked_as_far_as_it_speaks_of_itself(object_store, bucket, tmp_path):
    settings = some_settings(bucket, tmp_path)
    store = BucketStore(object_store.client("admin"), settings.store)

    findings = by_name(check_bucket(store, [settings]))

    assert (findings["versioning"].result, findings["Object Lock"].result) == ("right", "right")
    assert findings["public access"].result in ("unknown", "differs")


def test_parts_in_a_glacier_class_are_asked_for_once_and_can_be_read_when_they_are_back(client, tmp_path):
    settings = a_table(tmp_path)
    store = GlacierStore(client, settings.store)
    archive = seal_month(Store(client, settings.store), settings, "2026-05", parts=2)
    parts = [require_manifest(store, archive).verified_part(number) for number in (0, 1)]
    frozen = parts[0]
    glacier.freeze(BUCKET, frozen.object_key)

    with pytest.raises(FrozenError, match="GLACIER"):
        list(store.chunks(frozen.object_key, frozen.version_id))

    first, second = (ask_back(store, [frozen, parts[1]], days=7, tier="Bulk") for _ in range(2))
    glacier.bring_back(BUCKET, frozen.object_key)
    third = ask_back(store, [frozen, parts[1]], days=7, tier="Bulk")

    assert [state.state for state in first] == ["asked", "readable"]
    assert [state.state for state in second] == ["waiting", "readable"]
    assert [state.state for state in third] == ["readable", "readable"]
    assert b"".join(store.chunks(frozen.object_key, frozen.version_id))
