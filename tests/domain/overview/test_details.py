"""Everything about one archive, as the store has it now."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.overview.details import read_details
from strongroom.storage.store import Store
from tests.support.chain import Chain, some_settings
from tests.support.logs import with_log
from tests.support.sealing import seal_month
from tests.support.vault import LATER, Vault, an_archive, fill_vault

MAY = ArchiveId("public", "audit", "2026-05", 1)


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    return fill_vault(object_store, bucket, tmp_path)


def test_each_object_is_there_with_its_version_and_sum(vault):
    """The parts come first, then SHA256SUMS and the manifest."""
    details = read_details(vault.store, an_archive("2026-05"))

    parts, (sums, manifest) = details.objects[:-2], details.objects[-2:]
    assert [one.now for one in details.objects] == ["there"] * len(details.objects)
    assert [(one.key, one.version_id, one.sha256, one.rows) for one in parts] == [
        (part.object_key, part.version_id, part.sha256, part.record_count) for part in details.manifest.parts
    ]
    assert (sums.sha256, manifest.sha256) == (details.manifest.checksum, details.manifest.sha256)
    assert all(one.seen.encryption == "AES256" for one in details.objects)


def test_a_part_that_is_gone_or_hidden_is_named(vault):
    """The others are shown as they are."""
    first, second, third = (part.object_key for part in read_details(vault.store, MAY).manifest.parts)
    vault.vandal.remove(first)
    vault.vandal.hide(second)

    now = {one.key: one.now for one in read_details(vault.store, MAY).objects}

    assert (now[first], now[second], now[third]) == ("missing", "hidden", "there")


def test_a_reader_who_may_not_read_rows_sees_the_objects_all_the_same(vault, object_store):
    """The reader's identity may list parts and not read them, so only encryption and lock are not known."""
    reader = Store(object_store.client("reader"), vault.settings.store)

    details = read_details(reader, MAY)

    *parts, sums, manifest = details.objects
    assert {one.now for one in details.objects} == {"there"}
    assert [one.seen for one in (*parts, sums)] == [None] * len([*parts, sums])
    assert manifest.seen is not None
    assert details.problems == ()


def test_a_damaged_manifest_is_a_problem_and_no_error(vault):
    """Its page says so."""
    vault.vandal.write(MAY.manifest_key, b"{}")

    details = read_details(vault.store, MAY)

    assert details.manifest is None
    assert "manifest" in details.problems[0]


def test_a_destroyed_archive_has_its_certificate(vault):
    """Nothing else is left of it."""
    vault.purge("2026-05", now=LATER)

    details = read_details(vault.store, MAY)

    assert details.manifest is None
    assert details.certificate.archive_id == str(MAY)
    assert details.problems == ()


def test_where_the_log_has_its_seal_and_its_destruction_is_told(object_store, bucket, tmp_path):
    vault = Vault(object_store, with_log(some_settings(bucket, tmp_path)))
    seal_month(vault.store, vault.settings, "2026-05")

    sealed = read_details(vault.store, MAY).logged
    vault.purge("2026-05", now=LATER)
    purged = read_details(vault.store, MAY).logged

    assert (sealed.index, sealed.size, sealed.proof_key) == (1, 2, f"{MAY.evidence_prefix}sealed.tlog-proof")
    assert (purged.index, purged.size, purged.proof_key) == (3, 4, f"{MAY.evidence_prefix}destruction.tlog-proof")


def test_an_archive_that_never_was_is_nothing(vault):
    """There is no page for it."""
    assert read_details(vault.store, ArchiveId("public", "audit", "2026-05", 7)) is None


def test_what_the_run_left_out_and_deleted_is_told(source, object_store, bucket, tmp_path: Path):
    """The evidence of the delete and the run's own report."""
    with psycopg.connect(source) as session:
        session.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        session.execute("CREATE TABLE refers (id bigint PRIMARY KEY, audit bigint REFERENCES audit)")
        session.execute("INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 10) n")
        session.execute("INSERT INTO refers VALUES (1, 3)")
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    chain.run()

    details = read_details(chain.store, MAY)

    assert [one.deleted for one in details.deletions] == [9]
    assert [(one.reason, one.rows) for one in details.report.exclusions] == [("referenced", 1)]
