"""The retention purge, where somebody has changed, hidden, removed or put back what it relies on."""

from __future__ import annotations

import pytest

from strongroom.errors import IntegrityError, StoreError
from strongroom.ledger.manifests import require_manifest
from strongroom.retention.certificate import PurgeIntent
from strongroom.retention.decide import Decision
from tests.support.damaging import Vandal
from tests.support.vault import LATER, NEXT_RUN, SEALED, TTL, Interrupting, Vault, an_archive, fill_vault


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


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


def test_what_a_forged_intent_names_elsewhere_must_be_gone_too(vault):
    """No listing of the archive's own places covers it, and the certificate would say that it was destroyed."""
    archive, other = an_archive("2026-05"), an_archive("2026-06")
    decision = vault.decisions()["2026-05"]

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.carry_out(decision, purge_store=Interrupting(vault, 5, die))
    intent = PurgeIntent.model_validate_json(vault.vandal.read(archive.purge_intent_key))
    forged = intent.manifest.model_copy(update={"parts": require_manifest(vault.store, other).parts})
    vault.vandal.replace(archive.purge_intent_key, intent.model_copy(update={"manifest": forged}).to_bytes())

    with pytest.raises(StoreError, match="is not gone after its purge"):
        vault.purge("2026-05")

    assert vault.certificates() == []
    assert len(vault.left_of("2026-06")) == 5
