"""The retention purge on a real S3 server: what goes, what stays, and who may let it go."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import psycopg
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from urllib3 import HTTPResponse

from strongroom.errors import IntegrityError, StoreAccessError
from strongroom.ledger.claims import take_claim
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.restore_records import read_restore_record
from strongroom.object_keys.records import claim_key
from strongroom.records import RestoreRecord
from strongroom.retention.certificate import BY_POLICY, NOBODY, Approval, Certificate, Issuer
from strongroom.storage.purge_store import PurgeStore, UnfinishedUpload
from tests.support.chain import Chain, some_settings
from tests.support.sealing import seal_month
from tests.support.vault import LATER, MONTHS, NEXT_RUN, RUN, TTL, Vault, an_archive, fill_vault

MAY = an_archive("2026-05")
OF_VERSION_1 = (
    *("certificate_version", "archive_id", "table_name", "partition_key", "window_start", "window_end", "record_count"),
    *("original_size", "compressed_size", "checksum", "manifest_sha256", "parts", "sealed_at", "retention_until"),
    *("legal_basis", "approved_by", "approved_at", "begun_at", "begun_by", "destroyed_at", "destroyed_by", "removed"),
    *("proof", "intent_key"),
)


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


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
    assert (certificate.approved_by, certificate.destroyed_by) == ("ada", RUN)
    assert LATER <= certificate.begun_at < certificate.destroyed_at < certificate.proof.proved_at < LATER + TTL
    assert sum(version.key == part for version in certificate.removed) == 3
    assert {key for key, _ in certificate.proof.looked_at} >= {part.object_key for part in manifest.parts}


def test_a_certificate_says_what_its_reader_will_ask(vault):
    """As the forms of NIST SP 800-88 and ISO 15489 want it: number, issuer, source, place, method and its limits, people apart, holds, copies."""
    elsewhere = vault.hold("2026-06")
    record = RestoreRecord(
        restore_id="r1",
        archive_ids=(str(an_archive("2026-05")),),
        table="public.audit_2026",
        partition_keys=("2026-05",),
        who="eve",
        why="a case",
        restored_at=LATER - timedelta(days=900),
        until=LATER - timedelta(days=870),
    )
    vault.store.put_bytes("restores/public.audit_2026/r1.json", record.to_bytes())
    run = RUN.model_copy(update={"triggered_by": "grace"})

    vault.purge("2026-05", run=run, issuer=Issuer(organisation="Example Ltd", environment="production"))

    found = vault.certificate("2026-05")
    assert found.certificate_version == 2
    assert found.number.startswith("public.audit.2026-05.0001/20330601T")
    assert (found.organisation, found.environment) == ("Example Ltd", "production")
    assert found.source.database == "test"
    assert (found.store, found.storage_class, found.encryption) == (str(vault.store), "STANDARD", "AES256")
    assert "Clear" in found.method
    assert "backups" in found.limits
    assert found.tool.startswith("strongroom ")
    assert (found.requested_by, found.approved_by, found.destroyed_by) == ("grace", "ada", run)
    assert found.holds_examined == (elsewhere.hold_id,)
    assert [(one.table, one.by) for one in found.copies_left] == [("public.audit_2026", "eve")]
    assert found.checkpoint is None


def test_a_certificate_of_version_1_is_still_read(vault):
    vault.purge("2026-05")
    said = json.loads(vault.store.read(MAY.destruction_key)[0])
    first = Certificate.model_validate({name: said[name] for name in OF_VERSION_1} | {"certificate_version": 1})
    vault.vandal.replace(MAY.destruction_key, first.model_dump_json(include=set(OF_VERSION_1)).encode())

    assert vault.certificate("2026-05") == first
    assert first.number is None


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
        chain = Chain(source, vault.archiver, vault.settings)
        assert chain.run().archive_id == "public.audit.2026-05.0001"
        assert vault.purge("2026-05").result == "purged"
        connection.execute("INSERT INTO audit VALUES (2, '2026-05-12')")
    chain.now = LATER
    # What is archived so late is destroyed at once, and the settings must say so twice.
    chain.settings = chain.settings.model_copy(update={"confirmed": chain.settings.cold_retention})

    report = chain.run()

    assert (report.archive_id, report.deleted_rows) == ("public.audit.2026-05.0002", 1)


def test_a_hold_between_decision_and_purge_wins(vault):
    decision = vault.decisions()["2026-05"]
    hold = vault.hold("2026-05", now=LATER)

    result = vault.carry_out(decision)

    assert (result.result, len(vault.left_of("2026-05"))) == ("held", 5)
    assert hold.hold_id in result.detail
    assert list(vault.store.keys(an_archive("2026-05").purge_intent_key)) == []


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
    archivers = PurgeStore(vault.archiver, vault.settings.store)

    with pytest.raises(StoreAccessError, match="refused to remove"):
        vault.purge("2026-05", purge_store=archivers)

    assert len(vault.left_of("2026-05")) == 5


def test_what_is_gone_already_needs_no_removal_and_has_no_lock(vault):
    [version, *_] = vault.store.versions(an_archive("2026-05").archive_prefix)
    vault.purge_store.remove(version)

    vault.purge_store.remove(version)

    assert vault.purge_store.lock_of(version) is None


def test_a_restore_record_that_is_gone_since_it_was_listed_needs_nothing(vault):
    assert read_restore_record(vault.store, "restores/public.audit/gone.json") is None


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
