"""The archive store and its claims, on a real S3 server."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import boto3
import pytest

from strongroom.errors import ConfigurationError, ContendedError, IntegrityError, StoreAccessError, StoreError
from strongroom.ledger.claims import release_claim, take_claim
from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from strongroom_local.servers.ports import LOOPBACK, choose_ports
from tests.support.chain import NOW
from tests.support.proxies import HoldingProxy, proxied_client, refuse

TTL = timedelta(hours=1)


@pytest.fixture
def store(object_store, bucket) -> Store:
    return Store(object_store.client("archiver"), StoreSettings(bucket=bucket, prefix="team/a"))


def test_a_key_is_written_once_and_a_repeat_finds_it(store):
    first = store.put_bytes("reports/x.json", b"{}")

    assert store.put_bytes("reports/x.json", b"{}") == first
    with pytest.raises(IntegrityError, match="taken by other content"):
        store.put_bytes("reports/x.json", b"{ }")
    assert store.read("reports/x.json")[0] == b"{}"


def test_the_store_refuses_bytes_that_arrive_changed(store, tmp_path):
    path = tmp_path / "part"
    path.write_bytes(b"what is sent")

    with pytest.raises(StoreError, match="failed to write"):
        store.put_file(
            "archives/x", path, sha256=hashlib.sha256(b"what was meant").hexdigest(), content_type="x/y", metadata={}
        )

    assert store.head("archives/x") is None


def test_keys_lie_below_the_prefix_and_are_named_without_it(store, object_store, bucket):
    store.put_bytes("metadata/x.json", b"{}")

    assert list(store.keys("metadata/")) == ["metadata/x.json"]
    listed = object_store.client("admin").list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == ["team/a/metadata/x.json"]


def test_objects_are_encrypted_at_rest(store, object_store, bucket):
    store.put_bytes("reports/x", b"{}")

    head = object_store.client("admin").head_object(Bucket=bucket, Key="team/a/reports/x")
    assert head["ServerSideEncryption"] == "AES256"


@pytest.mark.exhaustive  # the pages of 120 manifests, a hundred each, are walked by the same function
def test_a_listing_knows_no_limit_of_a_thousand(store):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: store.put_bytes(f"reports/{number:05d}", b"{}"), range(1050)))

    assert len(list(store.keys("reports/"))) == 1050


FIRST = {"prepare": Store.prepare, "clock": Store.clock}
"""What is asked of a store first: by `bucket claim`, and by every task of a run."""


@pytest.mark.parametrize("ask", FIRST.values(), ids=FIRST)
def test_a_missing_bucket_is_named_and_a_retry_would_not_find_it(object_store, ask):
    with pytest.raises(StoreAccessError, match="there is no bucket nowhere-at-all") as missing:
        ask(Store(object_store.client("archiver"), StoreSettings(bucket="nowhere-at-all")))

    assert not missing.value.retryable


@pytest.mark.parametrize(("first", "ask"), FIRST.items(), ids=FIRST)
def test_the_bucket_is_made_with_versions_and_locks_where_that_is_allowed(object_store, first, ask):
    """A run asks for the clock long before it prepares anything."""
    admin, name = object_store.client("admin"), f"made-for-{first}"

    ask(Store(admin, StoreSettings(bucket=name, create_bucket=True)))

    assert admin.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    lock = admin.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
    assert lock["ObjectLockEnabled"] == "Enabled"


def test_who_may_not_make_the_bucket_is_told_so(object_store):
    with pytest.raises(StoreAccessError, match="refused to create the bucket of s3://not-allowed/"):
        Store(object_store.client("archiver"), StoreSettings(bucket="not-allowed", create_bucket=True)).clock()


def test_a_store_that_nobody_answers_for_is_an_error_with_a_hint():
    [port] = choose_ports(1)
    settings = StoreSettings(
        bucket="x-y-z", endpoint_url=f"http://127.0.0.1:{port}", connect_timeout_seconds=1, max_attempts=1
    )
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="marked-secret")

    with pytest.raises(StoreError, match="HINT: Nothing was overwritten") as raised:
        Store(make_client(settings, session=session), settings).prepare()

    assert "marked-secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://10.0.0.1:9000", "http://s3.example.org", "http://127.0.0.1.example.org"])
def test_plain_http_to_another_host_is_refused(url):
    with pytest.raises(ConfigurationError, match="not encrypted"):
        make_client(StoreSettings(endpoint_url=url), session=boto3.Session())


def test_an_address_from_the_environment_counts_too_and_its_password_is_not_told(monkeypatch):
    """boto3 takes the endpoint from AWS_ENDPOINT_URL where nobody else names one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:marked-secret@s3.example.org")  # pragma: allowlist secret

    with pytest.raises(ConfigurationError, match=r"endpoint http://s3\.example\.org is not encrypted") as raised:
        make_client(StoreSettings(), session=boto3.Session())

    assert "marked-secret" not in str(raised.value)


def test_a_claim_keeps_another_run_out_until_it_is_given_back(store):
    take_claim(store, "claims/x", owner="one", now=NOW, ttl=TTL)

    with pytest.raises(ContendedError, match="held by one"):
        take_claim(store, "claims/x", owner="two", now=NOW + TTL / 2, ttl=TTL)
    release_claim(store, "claims/x", owner="two", now=NOW)
    with pytest.raises(ContendedError, match="held by one"):
        take_claim(store, "claims/x", owner="two", now=NOW, ttl=TTL)
    release_claim(store, "claims/x", owner="one", now=NOW)
    assert take_claim(store, "claims/x", owner="two", now=NOW, ttl=TTL).owner == "two"


def test_the_claim_of_a_dead_run_is_taken_over_and_not_given_back_by_it(store):
    take_claim(store, "claims/x", owner="dead", now=NOW, ttl=TTL)

    take_claim(store, "claims/x", owner="next", now=NOW + TTL, ttl=TTL)

    release_claim(store, "claims/x", owner="dead", now=NOW + TTL)
    with pytest.raises(ContendedError, match="held by next"):
        take_claim(store, "claims/x", owner="third", now=NOW + TTL, ttl=TTL)


def test_a_run_renews_its_own_claim_before_it_runs_out(store):
    first = take_claim(store, "claims/x", owner="one", now=NOW, ttl=TTL)

    assert take_claim(store, "claims/x", owner="one", now=NOW + TTL / 4, ttl=TTL) == first
    assert take_claim(store, "claims/x", owner="one", now=NOW + TTL * 0.75, ttl=TTL).expires_at == NOW + TTL * 1.75


@pytest.mark.parametrize("round_number", range(10))
def test_of_many_that_reach_for_a_claim_at_once_one_gets_it(object_store, bucket, round_number):
    racers = 6
    start = Barrier(racers)

    def reach(number: int) -> bool:
        own = Store(object_store.client("archiver"), StoreSettings(bucket=bucket))
        start.wait()
        try:
            take_claim(own, "claims/x", owner=f"run {number}", now=NOW, ttl=TTL)
        except ContendedError:
            return False
        return True

    with ThreadPoolExecutor(racers) as threads:
        assert sum(threads.map(reach, range(racers))) == 1


def test_a_server_that_does_not_know_the_encryption_is_named_with_the_setting(object_store, bucket):
    """Ceph 16 answers so to AES256 without TLS. A retry would hear the same."""
    with HoldingProxy() as proxy:
        proxy.forward_to(LOOPBACK, object_store.port)
        proxy.on("PUT", "archives/t/part", refuse(400, "InvalidRequest"))
        store = Store(proxied_client(object_store, proxy), StoreSettings(bucket=bucket))

        with pytest.raises(StoreAccessError) as refused:
            store.put_bytes("archives/t/part", b"rows")

    assert "does not take an object as it was asked to write" in refused.value.what
    assert "`store.sse`" in refused.value.hint
