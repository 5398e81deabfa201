"""The identities of a store are really tried, with a probe that does not stay: each broken set-up is named in one line."""

from __future__ import annotations

import secrets
from datetime import timedelta

import boto3
import pytest

from strongroom.checks.deployment import check_deployment
from strongroom.database.session import open_source, read_identity
from strongroom.ledger.entries import Act
from strongroom.ledger.journal import enter
from strongroom.ledger.log import Log
from strongroom.ledger.owner import record_owner
from strongroom.object_keys.records import refusal_prefix, witness_prefix
from strongroom.settings import Settings, StoreSettings
from strongroom.settings.sections import Iceberg
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from strongroom.tlog.notes import COSIGNATURE, SIGNATURE, SignerKey
from strongroom_local.servers.s3 import ICEBERG_BUCKET
from tests.support import glacier
from tests.support.chain import some_settings
from tests.support.checking import Deployed, faults, now, warnings
from tests.support.database import AUDIT, execute
from tests.support.logs import AUTHOR, KEY, with_log


@pytest.fixture(scope="module")
def source(shared_source):
    execute(shared_source, AUDIT)
    return shared_source


@pytest.fixture(scope="module")
def deployed(source, object_store) -> Deployed:
    databases = dict.fromkeys(("strongroom_source", "strongroom_restore", "strongroom_drill"), source)
    return Deployed(object_store, databases)


@pytest.fixture(scope="module")
def claimed(source, object_store, shared_bucket):
    """A bucket that belongs to the source, with a log."""
    settings = with_log(some_settings(shared_bucket, "/unused"))
    store = Store(object_store.client("archiver"), settings.store, author=AUTHOR)
    with open_source(source, application_name="test") as connection:
        record_owner(store, read_identity(connection))
    return shared_bucket


@pytest.fixture
def settings(claimed, tmp_path):
    return with_log(some_settings(claimed, tmp_path / "staging"))


def check(deployed, settings, *, at=now, elsewhere=None):
    """The results of stores and staging: the source's one role of the tests may do anything."""
    results = check_deployment(Settings(tables={"audit": settings}), deployed, at, elsewhere=elsewhere)
    return [one for one in results if not one.area.startswith("database")]


def kept(object_store, bucket):
    """Every version and delete marker in a bucket."""
    answer = object_store.client("admin").list_object_versions(Bucket=bucket)
    return sorted(
        (one["Key"], one["VersionId"]) for kind in ("Versions", "DeleteMarkers") for one in answer.get(kind, ())
    )


def test_sound_identities_pass_and_nothing_of_the_check_stays(deployed, settings, object_store):
    before = kept(object_store, settings.store.bucket)

    results = check(deployed, settings)

    assert (faults(results), warnings(results)) == ([], [])
    tried = {one.what for one in results}
    assert "the archiver's removing a version is refused" in tried
    assert "the purger's removing evidence is refused" in tried
    assert "the purger removes the probe for good" in tried
    assert "an access key that was never given out is refused" in tried
    assert "the server refuses an upload that is not what its SHA-256 says" in tried
    assert kept(object_store, settings.store.bucket) == before


IDENTITIES = {
    "the archiver may do anything": (
        {"strongroom_store": "admin"},
        [
            "the archiver's writing outside its folders must be refused",
            "the archiver's hiding an object behind a delete marker must be refused",
            "the archiver's removing a version must be refused",
        ],
    ),
    "the archiver only reads": (
        {"strongroom_store": "auditor"},
        ["the bucket is there, lets the archiver in and keeps versions"],
    ),
    "the purger may do anything": (
        {"strongroom_purge": "admin"},
        [
            "the purger's writing must be refused",
            "the purger's hiding an object behind a delete marker must be refused",
            "the purger's removing evidence must be refused",
            "the purger's removing holds must be refused",
            "the purger's removing reports must be refused",
        ],
    ),
    "the purger cannot remove": ({"strongroom_purge": "auditor"}, ["the purger removes the probe for good"]),
    "the purger has the archiver's keys": (
        {"strongroom_purge": "archiver"},
        ["the purger's writing must be refused", "the purger removes the probe for good"],
    ),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_each_wrong_identity_is_named_and_nothing_stays_that_somebody_can_remove(
    deployed, settings, object_store, case
):
    identities, lines = IDENTITIES[case]
    before = kept(object_store, settings.store.bucket)

    results = check(deployed.change(identities=identities), settings)

    assert [fault.partition(":")[0] for fault in faults(results)] == lines
    assert all("deploy/s3/fill" in one.hint or "rights" in one.hint for one in results if one.verdict == "failed")
    left = {key for key, _ in set(kept(object_store, settings.store.bucket)) - set(before)}
    assert all(key.startswith("claims/strongroom-check/") for key in left)
    if left:
        assert any("still there" in line for line in warnings(results))


def test_what_is_wrong_with_a_bucket_is_named(deployed, settings, object_store):
    bare = f"bare-{secrets.token_hex(4)}"
    object_store.create_bucket(bare, versioned=False)

    def line(**store):
        changed = settings.model_copy(update={"store": settings.store.model_copy(update={"log_keys": (), **store})})
        [fault] = faults(check(deployed, changed))
        return fault

    assert f"there is no bucket {bare}-not" in line(bucket=f"{bare}-not")
    assert f"there is no bucket {bare}-not" in line(bucket=f"{bare}-not", create_bucket=True)
    assert f"the bucket {bare} keeps no versions" in line(bucket=bare)
    assert "there is no bucket" in line(bucket=f"{bare}-not")


def test_a_bucket_without_object_lock_is_named_where_the_settings_want_it(deployed, settings, object_store):
    plain = f"plain-{secrets.token_hex(4)}"
    admin = object_store.client("admin")
    admin.create_bucket(Bucket=plain)
    admin.put_bucket_versioning(Bucket=plain, VersioningConfiguration={"Status": "Enabled"})
    store = StoreSettings(bucket=plain, object_lock="governance")

    [fault] = faults(check(deployed, settings.model_copy(update={"store": store})))

    assert f"the bucket {plain} has no Object Lock" in fault


def test_a_lifecycle_rule_that_would_eat_archives_is_named(deployed, settings, object_store, bucket):
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "archives/"}, "Expiration": {"Days": 30}}
    admin = object_store.client("admin")
    admin.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    changed = settings.model_copy(update={"store": StoreSettings(bucket=bucket)})

    eaten, unclaimed = faults(check(deployed, changed))

    assert "no lifecycle rule removes archives of public.audit before" in eaten
    assert "tidy: expires objects under archives/" in eaten
    assert "is unclaimed: no database owns it" in unclaimed


def test_a_store_of_another_database_is_named(deployed, settings, postgres):
    another = deployed.change(databases={"strongroom_source": postgres.conninfo("postgres")})

    [fault] = faults(check(another, settings))

    assert "belongs to another database" in fault


def test_an_endpoint_that_does_not_answer_is_named(deployed, settings):
    away = Strange(deployed.object_store, deployed.databases, endpoint_url="http://127.0.0.1:1")

    [fault] = faults(check(away, settings))

    assert "the bucket is there, lets the archiver in and keeps versions" in fault
    assert "failed to look at" in fault


def test_keys_that_the_store_does_not_know_are_named(deployed, settings):
    unknown = Strange(deployed.object_store, deployed.databases, endpoint_url=deployed.object_store.endpoint_url)

    [fault] = faults(check(unknown, settings))

    assert "the store refused to look at" in fault


def test_a_wrong_clock_is_named(deployed, settings):
    [fault] = faults(check(deployed, settings, at=lambda: now() + timedelta(hours=1)))

    assert "the clocks of the store and of this machine agree" in fault
    assert " seconds apart (expected at most 300; " in fault


def test_a_missing_connection_is_named(deployed, settings):
    gone = Deployed(deployed.object_store, deployed.databases, {"strongroom_store": "archiver"})

    [fault] = faults(check(gone, settings))

    assert "the connection strongroom_purge can be used: Airflow has no connection strongroom_purge" in fault


def test_what_is_wrong_with_the_log_is_named(deployed, settings, bucket, source):
    store = Store(deployed.object_store.client("archiver"), StoreSettings(bucket=bucket))
    with open_source(source, application_name="test") as connection:
        record_owner(store, read_identity(connection))
    unlogged = settings.model_copy(update={"store": settings.store.model_copy(update={"bucket": bucket})})

    [wrong_key] = faults(check(deployed.change(key=SignerKey.generate("strongroom.test/log", SIGNATURE)), settings))
    [no_log] = faults(check(deployed, unlogged))
    [silent] = warnings(check(deployed, settings.model_copy(update={"store": store.settings})))

    assert "the key in strongroom_log is not one that the settings trust" in wrong_key
    assert "has no transparency log" in no_log
    assert "nobody outside can prove that records are complete" in silent


def test_a_witness_that_never_looked_is_a_warning(deployed, settings):
    witness = str(SignerKey.generate("witness.test/a", COSIGNATURE).verifier)
    watched = settings.model_copy(update={"store": settings.store.model_copy(update={"witness_keys": (witness,)})})

    [line] = warnings(check(deployed, watched))

    assert line == "the witness witness.test/a has cosigned the log within 2 days: it never has"


def test_a_witness_is_late_only_if_the_log_has_grown_since_it_looked(deployed, settings, object_store):
    """It cosigns each head once, so of a quiet log its newest cosignature may be old. A refusal is a fault."""
    signer = SignerKey.generate("witness.test/b", COSIGNATURE)
    watched = settings.model_copy(
        update={"store": settings.store.model_copy(update={"witness_keys": (str(signer.verifier),)})}
    )
    store = Store(object_store.client("archiver"), watched.store, author=AUTHOR)
    head, key_id = Log(store, KEY.name, [KEY.verifier]).head(), signer.verifier.key_id.hex()
    note = head.note.cosigned(signer, now() - timedelta(days=7))
    store.put_bytes(f"{witness_prefix(key_id)}{head.checkpoint.size}", note.to_bytes())

    quiet = check(deployed, watched)
    enter(store, Act(kind="purge reported"))
    late = check(deployed, watched)
    store.put_bytes(f"{refusal_prefix(key_id)}{now():%Y%m%dT%H%M%SZ}", b"a head")
    refused = check(deployed, watched)

    assert (faults(quiet), warnings(quiet)) == ([], [])
    [line] = warnings(late)
    assert line.startswith("the witness witness.test/b has cosigned the log within 2 days: last on ")
    [fault] = faults(refused)
    assert "it refused a head on " in fault


def test_staging_on_s3_is_tried_with_its_own_keys(deployed, settings, claimed, tmp_path):
    on_s3 = some_settings(claimed, f"s3://{claimed}/scratch", store=settings.store, scratch=str(tmp_path / "scratch"))

    sound = check(deployed, on_s3)
    open_ = check(deployed.change(identities={"strongroom_staging": "admin"}), on_s3)
    closed = check(deployed.change(identities={"strongroom_staging": "archiver"}), on_s3)

    assert faults(sound) == []
    assert [fault.partition(":")[0] for fault in faults(open_)] == [
        "the stager's reading an archive must be refused",
        "the stager's removing evidence must be refused",
    ]
    assert [fault.partition(":")[0] for fault in faults(closed)] == [
        "the stager writes, reads and removes in staging",
        "the stager's reading an archive must be refused",
    ]


def test_who_publishes_iceberg_tables_is_tried_too(deployed, settings, object_store):
    object_store.create_bucket(ICEBERG_BUCKET, versioned=False)
    published = settings.model_copy(update={"format": "parquet", "iceberg": Iceberg(bucket=ICEBERG_BUCKET)})

    sound = check(deployed, published)
    broken = check(deployed.change(identities={"strongroom_iceberg": "admin"}), published)
    closed = check(deployed.change(identities={"strongroom_iceberg": "stager"}), published)

    assert faults(sound) == []
    assert "strongroom_iceberg may read archives" in {one.what for one in sound}
    assert [fault.partition(":")[0] for fault in faults(broken)] == [
        "writing into the archive store with strongroom_iceberg must be refused",
        "removing evidence with strongroom_iceberg must be refused",
    ]
    assert [fault.partition(":")[0] for fault in faults(closed)] == [
        "strongroom_iceberg writes, reads and removes in the bucket of Iceberg tables",
        "strongroom_iceberg may read archives",
    ]


def test_a_replica_is_tried_too(deployed, settings, bucket):
    copied = some_settings(
        settings.store.bucket,
        settings.staging,
        store=settings.store,
        replica={"filled_by": "strongroom", "bucket": bucket},
    )

    sound = check(deployed, copied)
    broken = check(deployed.change(identities={"strongroom_replica_purge": "auditor"}), copied)

    assert faults(sound) == []
    assert f"replica s3://{bucket}/" in {one.area for one in sound}
    assert [fault.partition(":")[0] for fault in faults(broken)] == ["the purger removes the probe for good"]


def test_a_server_that_asks_nobody_who_he_is_and_compares_nothing_is_named(deployed, settings):
    bucket = f"open-{secrets.token_hex(4)}"
    with glacier.running() as url:
        glacier.make_bucket(url, bucket)
        simulated = Strange(deployed.object_store, deployed.databases, endpoint_url=url)
        store = StoreSettings(bucket=bucket)
        results = check(simulated, settings.model_copy(update={"store": store}))

    [stranger] = [one for one in results if one.what.startswith("an access key that was never given out")]
    assert (stranger.verdict, stranger.found) == ("failed", "it was allowed")
    assert "switch its access control on" in stranger.hint
    assert "the server refuses an upload that is not what its SHA-256 says: it took one" in warnings(results)


class Strange(Deployed):
    """A deployment whose keys no store knows, at the address that it is given."""

    def _client(self, conn_id):  # noqa: ARG002 - no key is known
        session = boto3.Session("SRUNKNOWN", "unknown")
        return make_client(StoreSettings(max_attempts=1), session=session, endpoint_url=self.endpoint_url)
