"""A certificate of destruction as a page: what it says, how it stands in the log, and when it says not to rely on it."""

from __future__ import annotations

import hashlib
import html
from datetime import datetime, timezone

import pytest

from strongroom.audit.certificate import KeptCertificate, choose_certificate, make_certificate_page, read_kept
from strongroom.errors import ConfigurationError, IntegrityError
from strongroom.object_keys.records import proof_key
from strongroom.retention.certificate import Issuer
from tests.support.chain import some_settings
from tests.support.logs import KEY, with_log
from tests.support.sealing import seal_month
from tests.support.vault import Vault, an_archive, fill_vault

MADE = datetime(2033, 6, 2, tzinfo=timezone.utc)
MAY = an_archive("2026-05")
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    """May was destroyed in a store with a log; the issuer's name is hostile."""
    vault = Vault(object_store, with_log(some_settings(bucket, tmp_path)))
    for month in ("2026-05", "2026-06"):
        seal_month(vault.store, vault.settings, month)
    vault.purge("2026-05", issuer=Issuer(organisation=EVIL, environment="production"))
    return vault


def page_of(kept: KeptCertificate) -> str:
    return make_certificate_page(kept, made_at=MADE)


def text_of(kept: KeptCertificate) -> str:
    """What a reader sees of it."""
    return html.unescape(page_of(kept))


def test_the_page_says_what_the_record_says_and_where_the_log_has_it(vault):
    """Each instant to the second, the people apart, the method with its limits, and all that a stranger needs to check it."""
    kept = read_kept(vault.store, MAY)
    page, one = text_of(kept), kept.certificate

    assert kept.doubt is None
    for words in (
        one.number,
        one.store,
        one.source.database,
        one.method,
        one.legal_basis,
        one.checksum,
        one.manifest_sha256,
    ):
        assert words in page, words
    for instant in (
        one.sealed_at,
        one.retention_until,
        one.approved_at,
        one.begun_at,
        one.destroyed_at,
        one.proof.proved_at,
    ):
        assert f"{instant:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "ada, " in page
    assert "Limits." in page
    assert hashlib.sha256(vault.store.read(MAY.destruction_key)[0]).hexdigest() in page
    assert f"entry {kept.logged.place.index}</b>" in page
    assert str(KEY.verifier) in page
    assert "by nobody: anyone with the log" in page
    assert vault.store.read(proof_key(MAY.destruction_key))[0].decode().strip() in page
    assert one.checkpoint.splitlines()[2] in page


def test_no_name_on_it_can_bring_a_script(vault):
    page = page_of(read_kept(vault.store, MAY))

    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_a_certificate_that_was_changed_says_not_to_rely_on_it(vault):
    """Whoever has only keys of the store can write another record, and not another entry of the log."""
    forged = vault.store.read(MAY.destruction_key)[0].replace(b'"approved_by": "ada"', b'"approved_by": "eve"')
    assert b'"eve"' in forged
    vault.vandal.replace(MAY.destruction_key, forged)

    kept = read_kept(vault.store, MAY)

    assert "which does not name these bytes" in kept.doubt
    assert "Do not rely on this certificate" in page_of(kept)
    assert "proved against" not in page_of(kept)


def test_a_certificate_of_an_archive_that_was_put_back_says_so(vault):
    vault.store.put_bytes(MAY.manifest_key, vault.store.read(MAY.seal_key)[0])

    assert "put the archive's manifest back" in text_of(read_kept(vault.store, MAY))


def test_a_store_without_a_log_and_an_old_certificate_give_a_page_too(object_store, bucket, tmp_path):
    """What version 1 did not record is named as that."""
    vault = fill_vault(object_store, bucket, tmp_path)
    vault.purge("2026-05")
    kept = read_kept(vault.store, MAY)
    unsaid = ("number", "organisation", "environment", "source", "store", "method", "limits", "tool", "requested_by")
    old = kept.certificate.model_copy(
        update={"certificate_version": 1, "holds_examined": None, "copies_left": None, **dict.fromkeys(unsaid)}
    )

    page = page_of(KeptCertificate(old, kept.key, kept.sha256, None, put_back=False))

    assert kept.logged is None
    assert "nothing but this record shows" in page_of(kept)
    assert "not recorded by version 1" in page
    assert "one reading of the clock" in page


def test_an_archive_that_is_there_has_no_certificate(vault):
    with pytest.raises(IntegrityError, match="there is no certificate of destruction"):
        read_kept(vault.store, an_archive("2026-06"))


def test_a_partition_with_no_or_two_destroyed_archives_names_none(vault):
    certificate = vault.certificate("2026-05")

    assert choose_certificate([certificate], "audit 2026-05") is certificate
    for several in ([], [certificate, certificate]):
        with pytest.raises(ConfigurationError, match="audit 2026-05 names"):
            choose_certificate(several, "audit 2026-05")
