"""The retention purge on a real S3 server with versions, Object Lock and three identities."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from urllib3 import HTTPResponse

from strongroom.errors import IntegrityError, StoreAccessError, StoreError
from strongroom.ledger.claims import take_claim
from strongroom.ledger.holds import covered, place_hold, release_hold
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.restores import read_restore
from strongroom.object_keys import ArchiveId, claim_key
from strongroom.records import Claim, RestoreRecord, RunIdentity
from strongroom.retention.purge import (
    BY_POLICY,
    NOBODY,
    Approval,
    Certificate,
    Decision,
    PurgeResult,
    begun_purges,
    judge,
    purge_archive,
)
from strongroom.settings import TableSettings
from strongroom.storage.purge_store import PurgeStore, UnfinishedUpload
from strongroom.storage.store import Store
from strongroom.storage.versions import StoredVersion
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.sealing import seal_month

MONTHS = ("2026-04", "2026-05", "2026-06")
SEALED = datetime(2026, 11, 23, tzinfo=timezone.utc)
LATER = datetime(2033, 6, 1, tzinfo=timezone.utc)
"""Seven years after May 2026: April's and May's terms are over, June's is not."""
RUN = RunIdentity(dag_id="retention_purge", run_id="scheduled__2033-06-01")
NEXT_RUN = RunIdentity(dag_id="retention_purge", run_id="scheduled__2033-06-02")
YES = Approval(approved=True, by="ada", at=LATER)
TTL = timedelta(hours=1)


class Vault:
    """An archive store with three sealed months, and what an auditor sees of it."""

    def __init__(self, object_store: ObjectStore, settings: TableSettings) -> None:
        self.settings = settings
        self.bucket = settings.store.bucket
        self.store = Store(object_store.client("archiver"), settings.store)
        self.purge_store = PurgeStore(object_store.client("purger"), settings.store)
        self.archiver, self.admin = object_store.client("archiver"), object_store.client("admin")
        self.vandal = Vandal(self.admin, self.store, self.bucket)

    def decisions(self, now: datetime = LATER) -> dict[str, Decision]:
        return {decision.archive_id[-12:-5]: decision for decision in judge(self.store, now=now)}

    def purge(
        self, month: str, *, now: datetime = LATER, run: RunIdentity = RUN, approval: Approval = YES, **other: Any
    ) -> PurgeResult:
        """Decide, and do it."""
        return self.carry_out(self.decisions(now)[month], now=now, run=run, approval=approval, **other)

    def carry_out(self, decision: Decision, **other: Any) -> PurgeResult:
        given: dict[str, Any] = {"now": LATER, "run": RUN, "approval": YES, "purge_store": self.purge_store} | other
        purge_store, approval = given.pop("purge_store"), given.pop("approval")
        return purge_archive(self.store, purge_store, decision, approval, claim_ttl=TTL, **given)

    def left_of(self, month: str) -> list[str]:
        """File names of all versions and delete markers of an archive's objects, as the administrator lists them."""
        archive = an_archive(month)
        pages = self.admin.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        entries = [entry for page in pages for kind in ("Versions", "DeleteMarkers") for entry in page.get(kind, ())]
        keys = [entry["Key"] for entry in entries]
        return [key for key in keys if key.startswith(archive.archive_prefix) or key == archive.manifest_key]

    def certificates(self) -> list[str]:
        return [key for key in self.store.keys("evidence/") if key.endswith("/destruction.json")]

    def certificate(self, month: str) -> Certificate:
        return Certificate.model_validate_json(self.store.read(an_archive(month).destruction_key)[0])

    def hold(self, month: str | None = None, now: datetime = SEALED):
        what = covered("public", "audit", month)
        return place_hold(self.store, what, why="fraud case", who="ada", reference="EFCC/2026/17", now=now)


class Interrupting(PurgeStore):
    """A purger to whom something happens after some removals."""

    def __init__(self, vault: Vault, after: int, happens: Any) -> None:
        super().__init__(vault.purge_store.client, vault.purge_store.settings)
        self.countdown, self.happens = after, happens

    def remove(self, version: StoredVersion) -> None:
        super().remove(version)
        self.countdown -= 1
        if self.countdown == 0:
            self.happens()


def an_archive(month: str) -> ArchiveId:
    return ArchiveId("public", "audit", month, 1)


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    vault = Vault(object_store, some_settings(bucket, tmp_path))
    for month in MONTHS:
        seal_month(vault.store, vault.settings, month)
    return vault


def test_a_clock_set_ahead_seven_years_destroys_exactly_the_expired_archives(vault):
    """All versions and markers go, the held and the younger archive stay whole, each destroyed one has a certificate."""
    part = an_archive("2026-05").part_key(0, "zstd")
    vault.admin.put_object(Bucket=vault.bucket, Key=part, Body=b"an administrator's slip")
    vault.admin.delete_object(Bucket=vault.bucket, Key=part)
    manifest = require_manifest(vault.store, an_archive("2026-05"))
    seal_month(vault.store, vault.settings, "2026-03")
    vault.hold("2026-04")
    untouched = {month: vault.left_of(month) for month in ("2026-04", "2026-06")}

    results = {month: vault.purge(month).result for month in ("2026-03", *MONTHS)}

    assert results == {"2026-03": "purged", "2026-04": "held", "2026-05": "purged", "2026-06": "kept"}
    left = {month: vault.left_of(month) for month in results}
    assert left == {"2026-03": [], "2026-05": [], **untouched}
    assert vault.certificates() == [an_archive(month).destruction_key for month in ("2026-03", "2026-05")]
    certificate = vault.certificate("2026-05")
    assert certificate.parts == manifest.parts
    assert (certificate.retention_until, certificate.legal_basis) == (LATER, "a test")
    assert (certificate.approved_by, certificate.destroyed_by, certificate.destroyed_at) == ("ada", RUN, LATER)
    assert sum(version.key == part for version in certificate.removed) == 3
    assert {key for key, _ in certificate.proof.looked_at} >= {part.object_key for part in manifest.parts}


def test_at_2555_days_nothing_is_removed(vault):
    """Seven years from the end of a month are 2,556 or 2,557 days; 2,555 would destroy evidence too early."""
    for month in MONTHS:
        now = require_manifest(vault.store, an_archive(month)).window_end + timedelta(days=2555)
        before = vault.left_of(month)

        result = vault.purge(month, now=now)

        assert (result.result, vault.left_of(month)) == ("kept", before), month
    assert vault.certificates() == []
    assert vault.purge("2026-05", now=LATER - timedelta(days=2)).detail == "its term runs until 2033-06-01 00:00 UTC"
    assert vault.decisions(LATER - timedelta(microseconds=1))["2026-05"].reason == "kept"


def test_a_purge_that_was_done_is_found_done(vault):
    decision = vault.decisions()["2026-05"]
    first = vault.carry_out(decision)

    assert vault.carry_out(decision, run=NEXT_RUN, now=LATER + TTL) == first
    assert "2026-05" not in vault.decisions()


def test_the_number_of_a_purged_archive_is_never_given_again(source, object_store, bucket, tmp_path):
    """Its evidence is still there; an archive of the same name would inherit it, and the delete of its rows too."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("INSERT INTO audit VALUES (1, '2026-05-11')")
        vault = Vault(object_store, some_settings(bucket, tmp_path))
        chain = Chain(source, vault.store.client, vault.settings)
        assert chain.run().archive_id == "public.audit.2026-05.0001"
        assert vault.purge("2026-05").result == "purged"
        connection.execute("INSERT INTO audit VALUES (2, '2026-05-12')")
    chain.now = LATER

    report = chain.run()

    assert (report.archive_id, report.deleted_rows) == ("public.audit.2026-05.0002", 1)


@pytest.mark.parametrize("removed", [1, 4, 5])
def test_a_hold_placed_meanwhile_stops_the_purge_and_says_what_is_left(vault, removed):
    """After the last removal, the manifest's, there is nothing left to hold, and the certificate says so."""
    interrupting = Interrupting(vault, removed, lambda: vault.hold(now=LATER))

    result = vault.purge("2026-05", purge_store=interrupting)

    if removed == 5:
        assert (result.result, vault.left_of("2026-05")) == ("purged", [])
        return
    assert result.result == "held"
    assert f"{removed} of 5 versions were removed before, left are " in result.detail
    assert "public.audit.2026-05.0001.json" in result.detail
    assert len(vault.left_of("2026-05")) == 5 - removed
    assert vault.certificates() == []


def test_a_hold_between_decision_and_purge_wins(vault):
    decision = vault.decisions()["2026-05"]
    hold = vault.hold("2026-05", now=LATER)

    result = vault.carry_out(decision)

    assert (result.result, len(vault.left_of("2026-05"))) == ("held", 5)
    assert hold.hold_id in result.detail
    assert list(vault.store.keys(an_archive("2026-05").purge_intent_key)) == []


def test_a_released_hold_lets_the_next_purge_finish_what_it_had_stopped(vault):
    placed = []
    vault.purge("2026-05", purge_store=Interrupting(vault, 2, lambda: placed.append(vault.hold(now=LATER))))
    release_hold(vault.store, placed[0].hold_id, who="bob", reason="case closed", now=LATER)

    later = Approval(approved=True, by="bob", at=LATER + 2 * TTL)
    result = vault.purge("2026-05", run=NEXT_RUN, now=LATER + 2 * TTL, approval=later)

    assert (result.result, vault.left_of("2026-05")) == ("purged", [])
    certificate = vault.certificate("2026-05")
    assert (certificate.begun_by, certificate.destroyed_by, certificate.approved_by) == (RUN, NEXT_RUN, "bob")
    assert len(certificate.removed) == 5


KILLED = """
import json, os, signal, sys
from datetime import datetime, timedelta
import boto3
from strongroom.retention.purge import Approval, judge, purge_archive
from strongroom.storage.purge_store import PurgeStore, UnfinishedUpload
from strongroom.records import RunIdentity
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store

given = json.loads(sys.stdin.read())
settings = StoreSettings(bucket=given["bucket"])

def client(keys):
    return boto3.client("s3", endpoint_url=given["url"], region_name="us-east-1",
                        aws_access_key_id=keys[0], aws_secret_access_key=keys[1])

class Dying(PurgeStore):
    left = given["after"]

    def remove(self, version):
        super().remove(version)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

now = datetime.fromisoformat(given["now"])
store = Store(client(given["archiver"]), settings)
[decision] = [one for one in judge(store, now=now) if one.archive_id == given["archive_id"]]
purge_archive(store, Dying(client(given["purger"]), settings), decision,
              Approval(approved=True, by="ada", at=now), run=RunIdentity(dag_id="retention_purge", run_id="killed"),
              now=now, claim_ttl=timedelta(hours=1))
"""


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_purge_that_was_killed_between_two_removals_is_finished_by_the_next(vault, object_store, after):
    """After the fifth the manifest is gone too: the intent alone tells the next purge what the certificate must say."""
    manifest = require_manifest(vault.store, an_archive("2026-05"))
    given = {
        "bucket": vault.bucket,
        "url": object_store.endpoint_url,
        "archiver": object_store.keys("archiver"),
        "purger": object_store.keys("purger"),
        "archive_id": str(an_archive("2026-05")),
        "now": LATER.isoformat(),
        "after": after,
    }
    killed = subprocess.run([sys.executable, "-c", KILLED], input=json.dumps(given), text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(vault.left_of("2026-05")) == 5 - after
    assert vault.certificates() == []

    contended = vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL / 2)
    result = vault.purge("2026-05", run=NEXT_RUN, now=LATER + TTL)

    assert contended.result == "contended"
    assert (result.result, vault.left_of("2026-05")) == ("purged", [])
    certificate = vault.certificate("2026-05")
    assert (certificate.parts, certificate.begun_by.run_id) == (manifest.parts, "killed")
    assert len(certificate.removed) == 5


@pytest.mark.parametrize(("by", "said"), [("bob", "answered no by bob"), (NOBODY, "not answered in time")])
def test_without_approval_nothing_is_removed(vault, by, said):
    result = vault.purge("2026-05", approval=Approval(approved=False, by=by, at=LATER))

    assert (result.result, len(vault.left_of("2026-05"))) == ("refused", 5)
    assert said in result.detail


def test_a_purge_by_policy_says_so_in_its_certificate(vault):
    vault.purge("2026-05", approval=Approval(approved=True, by=BY_POLICY, at=LATER))

    assert vault.certificate("2026-05").approved_by == "by policy"


@pytest.mark.parametrize("which", ["first part", "manifest"])
def test_an_object_lock_is_a_result_and_is_never_forced(vault, which):
    """Nothing of the archive is removed while one version of it is locked, not even a part that is not."""
    archive = an_archive("2026-05")
    key = archive.part_key(0, "zstd") if which == "first part" else archive.manifest_key
    vault.admin.put_object_legal_hold(Bucket=vault.bucket, Key=key, LegalHold={"Status": "ON"})

    result = vault.purge("2026-05")

    assert (result.result, len(vault.left_of("2026-05"))) == ("locked", 5)
    assert "an Object Lock legal hold" in result.detail
    vault.admin.put_object_legal_hold(Bucket=vault.bucket, Key=key, LegalHold={"Status": "OFF"})
    assert vault.purge("2026-05").result == "purged"


def test_a_lock_set_during_the_purge_stops_it(vault):
    def lock() -> None:
        until = datetime.now(timezone.utc) + timedelta(days=1)
        vault.admin.put_object_retention(
            Bucket=vault.bucket,
            Key=an_archive("2026-05").sums_key,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
        )

    result = vault.purge("2026-05", purge_store=Interrupting(vault, 1, lock))

    assert (result.result, len(vault.left_of("2026-05"))) == ("locked", 2)
    assert "GOVERNANCE mode until" in result.detail
    assert "3 of 5 versions were removed before, left are SHA256SUMS, public.audit.2026-05.0001.json" in result.detail


def test_a_damaged_manifest_is_unverifiable_and_keeps_everything(vault):
    key = an_archive("2026-05").manifest_key
    vault.admin.put_object(Bucket=vault.bucket, Key=key, Body=b"{}")

    decision = vault.decisions()["2026-05"]
    result = vault.carry_out(decision)

    assert (decision.purge, decision.reason, result.result) == (False, "unverifiable", "unverifiable")
    assert len(vault.left_of("2026-05")) == 6


def test_a_manifest_that_is_not_the_one_that_was_judged_stops_the_purge(vault):
    """Somebody put another sound manifest in its place after the decision was shown and approved."""
    decision = vault.decisions()["2026-05"]
    archive = an_archive("2026-05")
    other = require_manifest(vault.store, archive).model_copy(update={"legal_basis": "another law"})
    for key in (archive.manifest_key, archive.seal_key):
        vault.vandal.replace(key, other.to_json())

    result = vault.carry_out(decision)

    assert (result.result, result.detail) == ("unverifiable", "its manifest is not the one that was judged")
    assert vault.certificates() == []


def test_a_term_that_was_shortened_by_hand_destroys_nothing(vault):
    """The decision believes the manifest; the purge compares it with the copy that was written before it."""
    archive = an_archive("2026-06")
    early = require_manifest(vault.store, archive).model_copy(update={"retention_until": SEALED})
    vault.vandal.replace(archive.manifest_key, early.to_json())

    result = vault.purge("2026-06")

    assert result.result == "unverifiable"
    assert "differs in retention_until from its copy" in result.detail
    assert len(vault.left_of("2026-06")) == 5


@pytest.mark.parametrize("condition", [{}, {"IfMatch": True}], ids=["T2", "T17"])
def test_a_term_that_was_shortened_with_the_archivers_keys_destroys_nothing(vault, condition):
    """In the manifest and its copy alike; the first versions, which nobody but an administrator can remove, stay."""
    archive = an_archive("2026-06")
    early = require_manifest(vault.store, archive).model_copy(update={"retention_until": SEALED})
    for key in (archive.manifest_key, archive.seal_key):
        given = {"IfMatch": vault.archiver.head_object(Bucket=vault.bucket, Key=key)["ETag"]} if condition else {}
        vault.archiver.put_object(Bucket=vault.bucket, Key=key, Body=early.to_json(), **given)

    decision = vault.decisions()["2026-06"]
    result = vault.carry_out(decision)

    assert (decision.purge, decision.reason, result.result) == (False, "unverifiable", "unverifiable")
    assert "found 2 versions, of which the first is" in decision.detail
    assert len(vault.left_of("2026-06")) == 6


@pytest.mark.parametrize("key", ["manifest_key", "seal_key"])
def test_a_second_version_that_came_after_the_decision_stops_the_purge(vault, key):
    decision = vault.decisions()["2026-05"]
    key = getattr(an_archive("2026-05"), key)
    vault.archiver.put_object(Bucket=vault.bucket, Key=key, Body=vault.vandal.read(key))

    result = vault.carry_out(decision)

    assert result.result == "unverifiable"
    assert f"{key} is not a sound manifest: found 2 versions" in result.detail


def test_an_archive_is_purged_again_when_an_administrator_has_removed_the_forged_versions(vault):
    archive = an_archive("2026-05")
    for key in (archive.manifest_key, archive.seal_key):
        vault.archiver.put_object(Bucket=vault.bucket, Key=key, Body=b"{}")
    assert vault.purge("2026-05").result == "unverifiable"

    for key in (archive.manifest_key, archive.seal_key):
        forged = vault.store.history(key)[1].version_id
        vault.admin.delete_object(Bucket=vault.bucket, Key=key, VersionId=forged)

    assert vault.purge("2026-05").result == "purged"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (Vandal.hide, "found a delete marker that hides it"),
        (Vandal.remove, "it is gone, and rows were deleted because of it"),
    ],
    ids=["hidden", "removed"],
)
def test_an_archive_whose_manifest_was_taken_away_is_decided_to_be_unverifiable(vault, harm, says):
    archive = an_archive("2026-05")
    vault.store.put_bytes(archive.delete_evidence_key(0), b"{}")
    harm(vault.vandal, archive.manifest_key)

    decision = vault.decisions()["2026-05"]

    assert (decision.purge, decision.reason) == (False, "unverifiable")
    assert says in decision.detail


def test_an_archive_that_came_back_after_its_destruction_is_not_called_purged(vault):
    archive = an_archive("2026-05")
    manifest = require_manifest(vault.store, archive)
    vault.purge("2026-05")
    vault.store.put_bytes(archive.manifest_key, manifest.to_json())

    decision = vault.decisions()["2026-05"]
    result = vault.carry_out(decision)

    assert (decision.purge, decision.reason, result.result) == (False, "unverifiable", "unverifiable")
    for said in (decision.detail, result.detail):
        assert archive.destruction_key in said
        assert "somebody has put it back" in said


def test_parts_that_came_back_after_their_destruction_are_not_called_purged(vault):
    """A repeat of the purge finds the certificate, and what lies there in spite of it."""
    decision = vault.decisions()["2026-05"]
    vault.purge("2026-05")
    vault.store.put_bytes(an_archive("2026-05").part_key(0, "zstd"), b"rows")

    assert vault.carry_out(decision).result == "unverifiable"


def test_a_certificate_behind_a_delete_marker_still_forbids_the_archives_return(vault):
    archive = an_archive("2026-05")
    manifest = require_manifest(vault.store, archive)
    vault.purge("2026-05")
    vault.vandal.hide(archive.destruction_key)
    vault.store.put_bytes(archive.manifest_key, manifest.to_json())

    assert vault.decisions()["2026-05"].reason == "unverifiable"
    with pytest.raises(IntegrityError, match=r"was destroyed, and somebody has put it back.*destruction.json"):
        require_manifest(vault.store, archive)
    assert vault.purge("2026-05").result == "unverifiable"


def test_a_claim_of_another_run_is_respected(vault):
    take_claim(vault.store, claim_key("public", "audit", "2026-05"), owner="restore", now=LATER, ttl=TTL)

    result = vault.purge("2026-05")

    assert (result.result, len(vault.left_of("2026-05"))) == ("contended", 5)
    assert "held by restore" in result.detail


def test_an_archive_whose_rows_were_restored_stays_until_they_are_not_needed(vault):
    record = RestoreRecord(
        restore_id="case-17",
        archive_ids=(str(an_archive("2026-05")),),
        table="review.audit",
        partition_keys=("2026-05",),
        who="ada",
        why="a court asks",
        restored_at=LATER - TTL,
        until=LATER + TTL,
    )
    vault.store.put_bytes("restores/review.audit/case-17.json", record.model_dump_json().encode())

    assert vault.decisions()["2026-05"].reason == "contended"
    assert vault.purge("2026-05").detail.endswith("restore case-17 by ada needs it until 2033-06-01 01:00 UTC")
    assert vault.purge("2026-05", now=LATER + TTL).result == "purged"


def test_while_a_hold_cannot_be_read_nothing_of_the_store_is_removed(vault):
    decision = vault.decisions()["2026-05"]
    vault.store.put_bytes("holds/20330601T000000Z-00000000.json", b"{")

    with pytest.raises(IntegrityError, match="is not a sound legal hold"):
        vault.carry_out(decision)

    assert len(vault.left_of("2026-05")) == 5


def test_the_archivers_own_identity_cannot_purge(vault):
    archivers = PurgeStore(vault.store.client, vault.store.settings)

    with pytest.raises(StoreAccessError, match="refused to remove"):
        vault.purge("2026-05", purge_store=archivers)

    assert len(vault.left_of("2026-05")) == 5


def test_what_is_left_after_all_is_an_error_and_no_certificate(vault):
    """Somebody writes into the archive while it is being destroyed."""
    part = an_archive("2026-05").part_key(0, "zstd")

    def write() -> None:
        vault.admin.put_object(Bucket=vault.bucket, Key=part, Body=b"again")

    with pytest.raises(StoreError, match="is not gone after its purge"):
        vault.purge("2026-05", purge_store=Interrupting(vault, 5, write))

    assert vault.certificates() == []
    assert vault.purge("2026-05").result == "purged"


def test_a_manifest_that_vanished_after_it_was_judged_stops_the_purge(vault):
    decision = vault.decisions()["2026-05"]
    vault.vandal.remove(an_archive("2026-05").manifest_key)

    result = vault.carry_out(decision)

    assert (result.result, result.detail) == (
        "unverifiable",
        "its manifest vanished after it was judged, and no purge of it had begun",
    )
    assert len(vault.left_of("2026-05")) == 4


def test_a_manifest_that_is_not_the_one_a_purge_had_begun_with_stops_the_next(vault):
    """Somebody changed it and its copy in between; the certificate would speak of something else."""
    archive = an_archive("2026-05")

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.purge("2026-05", purge_store=Interrupting(vault, 1, die))
    other = require_manifest(vault.store, archive).model_copy(update={"legal_basis": "another law"})
    for key in (archive.manifest_key, archive.seal_key):
        vault.vandal.replace(key, other.to_json())

    result = vault.purge("2026-05", run=NEXT_RUN, now=LATER + 2 * TTL)

    assert (result.result, result.detail) == (
        "unverifiable",
        "its manifest is not the one that an earlier purge began with",
    )
    assert vault.certificates() == []


def test_an_intent_that_cannot_be_read_stops_the_purge(vault):
    vault.store.put_bytes(an_archive("2026-05").purge_intent_key, b"{}")

    result = vault.purge("2026-05")

    assert result.result == "unverifiable"
    assert "purge-intent.json is not a sound intent: found manifest: Field required" in result.detail
    assert len(vault.left_of("2026-05")) == 5


def test_a_certificate_that_cannot_be_read_is_named(vault):
    vault.purge("2026-05")
    key = an_archive("2026-05").destruction_key
    vault.admin.put_object(Bucket=vault.bucket, Key=key, Body=b"{}")
    decision = Decision(archive_id=str(an_archive("2026-05")), purge=True, reason="expired", detail="")

    with pytest.raises(IntegrityError, match="is not a sound certificate"):
        vault.carry_out(decision)


def test_what_is_gone_already_needs_no_removal_and_has_no_lock(vault):
    [version, *_] = vault.store.versions(an_archive("2026-05").archive_prefix)
    vault.purge_store.remove(version)

    vault.purge_store.remove(version)

    assert vault.purge_store.lock_of(version) is None


def test_a_restore_record_that_is_gone_since_it_was_listed_needs_nothing(vault):
    assert read_restore(vault.store, "restores/public.audit/gone.json") is None


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion", "NoSuchUpload"])
def test_a_store_that_says_of_what_is_gone_that_it_is_gone_is_content(vault, object_store, code):
    """SeaweedFS says nothing of it, as S3 of versions; S3 says so of uploads, and other servers of both."""
    client = object_store.client("purger")
    body = f"<Error><Code>{code}</Code></Error>".encode()
    for operation in ("DeleteObject", "AbortMultipartUpload"):
        client.meta.events.register(
            f"before-send.s3.{operation}",
            lambda request, **_: AWSResponse(
                request.url, 404, HeadersDict(), HTTPResponse(io.BytesIO(body), preload_content=False)
            ),
        )
    purge_store = PurgeStore(client, vault.settings.store)
    [version, *_] = vault.store.versions(an_archive("2026-05").archive_prefix)

    purge_store.remove(version)
    purge_store.abort(UnfinishedUpload(key=version.key, upload_id="gone", initiated_at=LATER))


def test_a_hold_tells_which_purges_under_it_had_begun(vault):
    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.purge("2026-05", purge_store=Interrupting(vault, 1, die))

    assert begun_purges(vault.store, vault.hold("2026-05")) == [an_archive("2026-05")]
    assert begun_purges(vault.store, vault.hold("2026-04")) == []


def test_a_claim_that_another_took_meanwhile_stops_the_purge_and_says_what_is_left(vault):
    key = claim_key("public", "audit", "2026-05")

    def take() -> None:
        claim = Claim(owner="restore", state="held", taken_at=LATER, expires_at=LATER + TTL)
        vault.admin.put_object(Bucket=vault.bucket, Key=key, Body=claim.model_dump_json().encode())

    result = vault.purge("2026-05", purge_store=Interrupting(vault, 1, take))

    assert result.result == "contended"
    assert result.detail.endswith(
        "1 of 5 versions were removed before, left are SHA256SUMS, part-00001.jsonl.zst, part-00002.jsonl.zst, "
        f"{an_archive('2026-05')}.json"
    )
    assert len(vault.left_of("2026-05")) == 4
