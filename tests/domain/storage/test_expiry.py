"""Lifecycle rules of the bucket that would remove archives before their term: found before anything is written."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import boto3
import psycopg
import pytest

from strongroom.errors import StoreAccessError
from strongroom.object_keys.layout import SOURCE_IDENTITY
from strongroom.settings import StoreSettings
from strongroom.storage.bucket import refuse_early_expiry
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from tests.support import glacier
from tests.support.chain import NOW, Chain, some_settings

UNTIL = datetime(2033, 6, 1, tzinfo=timezone.utc)
"""The end of the term of May 2026; between NOW and then lie 2,382 days."""
PREFIX = "team/a/"


@pytest.fixture(scope="module")
def moto():
    """A client of an S3 that knows every kind of rule; SeaweedFS knows some."""
    with glacier.running() as url:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
        client = make_client(StoreSettings(), session=session, endpoint_url=url)
        client.create_bucket(Bucket="expiring", ObjectLockEnabledForBucket=True)
        yield client


def rule(under: str = "", **does: Any) -> dict[str, Any]:
    return {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": under}} | does


OLD, YOUNG = {"Expiration": {"Days": 2400}}, {"Expiration": {"Days": 2300}}
ENDS = {
    "all objects": rule(**YOUNG),
    "the team's": rule("team/", **YOUNG),
    "archives": rule("team/a/archives/", **YOUNG),
    "the table's archives": rule("team/a/archives/public.audit/partition=2026-05/", **YOUNG),
    "manifests": rule("team/a/metadata/public.audit/", **YOUNG),
    "who owns the store": rule("team/a/metadata/source", **YOUNG),
    "evidence": rule("team/a/evidence/", **YOUNG),
    "holds": rule("team/a/holds/", **YOUNG),
    "earlier versions": rule(NoncurrentVersionExpiration={"NoncurrentDays": 30}),
    "a day": rule(Expiration={"Date": datetime(2033, 5, 31, tzinfo=timezone.utc)}),
    "a day long past": rule(Expiration={"Date": datetime(2020, 1, 1, tzinfo=timezone.utc)}),
    "what is large": rule(Expiration={"Days": 1}, Filter={"ObjectSizeGreaterThan": 1000}),
}
STAYS = {
    "another prefix": rule("logs/", **YOUNG),
    "another team": rule("team/b/", **YOUNG),
    "another table": rule("team/a/archives/public.other/", **YOUNG),
    "what Strongroom replaces itself": rule("team/a/index/", NoncurrentVersionExpiration={"NoncurrentDays": 1}),
    "after the term": rule(**OLD),
    "a day after the term": rule(Expiration={"Date": datetime(2034, 1, 1, tzinfo=timezone.utc)}),
    "switched off": rule(Status="Disabled", **YOUNG),
    "markers over nothing": rule(Expiration={"ExpiredObjectDeleteMarker": True}),
    "unfinished uploads": rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}),
    "another storage class": rule(Transitions=[{"Days": 30, "StorageClass": "GLACIER"}]),
    "objects with a tag": rule(Filter={"Tag": {"Key": "scratch", "Value": "yes"}}, **YOUNG),
    "objects with tags": rule(
        Filter={"And": {"Prefix": "team/", "Tags": [{"Key": "a", "Value": "b"}]}}, Expiration={"Days": 1}
    ),
}


def look(client: Any, tmp_path, rules: list[dict[str, Any]]) -> str | None:
    client.put_bucket_lifecycle_configuration(Bucket="expiring", LifecycleConfiguration={"Rules": rules})
    settings = StoreSettings(bucket="expiring", prefix=PREFIX.strip("/"))
    table = some_settings("expiring", tmp_path, store=settings)
    return refuse_early_expiry(Store(client, settings), table, now=NOW, until=UNTIL)


@pytest.mark.parametrize("name", ENDS)
def test_a_rule_that_ends_archives_before_their_term_is_refused_by_name(moto, tmp_path, name):
    with pytest.raises(StoreAccessError, match=r"before their term is over: .*found theirs: ") as refused:
        look(moto, tmp_path, [rule("logs/", **YOUNG) | {"ID": "somebody else's"}, ENDS[name]])

    assert "somebody else's" not in str(refused.value)
    assert refused.value.hint.startswith("Nothing was written and no row was deleted.")


@pytest.mark.parametrize("name", STAYS)
def test_a_rule_that_leaves_archives_alone_is_none_of_our_business(moto, tmp_path, name):
    assert look(moto, tmp_path, [STAYS[name]]) is None


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 3) AS n")
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))


def put_rules(object_store, bucket: str, *rules: dict[str, Any]) -> None:
    admin = object_store.client("admin")
    admin.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})


def test_a_run_on_a_bucket_that_expires_its_objects_uploads_and_deletes_nothing(chain, object_store, bucket):
    """It was accepted, its rows deleted, and the archive gone a month later."""
    put_rules(object_store, bucket, rule(Expiration={"Days": 30}))

    with pytest.raises(StoreAccessError, match="expires objects under all keys"):
        chain.run()

    assert list(chain.store.keys("")) == [SOURCE_IDENTITY]
    with psycopg.connect(chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (3,)


def test_a_rule_that_came_after_the_archive_was_sealed_stops_the_run_that_would_go_on_with_it(
    chain, object_store, bucket
):
    chain.seal(chain.plan())
    put_rules(object_store, bucket, rule(Expiration={"Days": 30}))

    with pytest.raises(StoreAccessError, match="before their term is over"):
        chain.plan()


def test_a_bucket_without_such_rules_needs_no_word(chain, object_store, bucket):
    put_rules(object_store, bucket, rule("logs/", Expiration={"Days": 30}))

    plan = chain.plan()

    assert (plan.outcome, plan.notes) == ("planned", ())


def test_a_store_that_does_not_tell_its_rules_is_taken_and_the_plan_says_so(chain, object_store, bucket):
    """An identity of an older policy, and a server without lifecycle rules: nothing is known to be wrong."""
    chain.plan()

    class Silent(Store):
        def ask_bucket(self, *_: object) -> None:
            """As where the server answers NotImplemented."""

    settings = chain.settings.store
    server = refuse_early_expiry(Silent(chain.client, settings), chain.settings, now=NOW, until=UNTIL)
    chain.store = Store(object_store.client("purger"), settings)  # may look at the bucket, and not at its rules
    plan = chain.plan()

    assert server is not None
    assert "tells no lifecycle rules" in server
    assert plan.outcome == "planned"
    [note] = plan.notes
    assert "AccessDenied" in note
    assert "s3:GetLifecycleConfiguration" in note


def test_the_archivers_policy_has_the_right_to_read_rules(chain, object_store, bucket):
    put_rules(object_store, bucket, rule("logs/", Expiration={"Days": 30}))

    rules = chain.store.rules()

    assert [json.dumps(one["Filter"]) for one in rules or ()] == ['{"Prefix": "logs/"}']
