"""The whole chain against a real PostgreSQL and a real S3 store."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import zstandard

from strongroom.archive.extract_to_staging import extract_part
from strongroom.errors import IdentityError, IntegrityError, PartitionError, UnarchivableError
from strongroom.ledger.manifests import archive_ids, require_manifest, sealed_part
from strongroom.object_keys.archives import ArchiveId
from tests.support.chain import RUN, Chain, some_settings
from tests.support.database import AUDIT, execute, scalar


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, AUDIT)
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=300))


def test_rows_of_the_window_move_and_all_others_stay(chain):
    """744 hours of May go to the archive in parts; April's and June's rows are not touched."""
    report = chain.run()

    assert (report.outcome, report.archived_rows, report.deleted_rows, report.parts) == ("archived", 744, 744, 3)
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 800 - 744
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit WHERE at >= '2026-05-01' AND at < '2026-06-01'") == 0


def test_a_second_run_finds_nothing_due_and_changes_nothing(chain):
    chain.run()
    before = list(chain.store.keys(""))

    report = chain.run()

    assert report.outcome == "nothing_due"
    assert report.earlier_archives == ("public.audit.2026-05.0001",)
    assert list(chain.store.keys("")) == before


def test_a_server_that_does_not_name_itself_is_archived_all_the_same(chain):
    """Some hosted and distributed servers have no pg_control_system(); the store is bound to the database's name and oid."""
    execute(chain.conninfo, "ALTER FUNCTION pg_catalog.pg_control_system() RENAME TO hidden")

    report = chain.run()

    [archive] = archive_ids(chain.store)
    assert report.deleted_rows == 744
    assert require_manifest(chain.store, archive).source.system_identifier is None


def test_late_rows_become_a_further_archive(chain):
    chain.run()
    execute(chain.conninfo, "INSERT INTO audit (at, who) VALUES ('2026-05-11', 'late')")

    report = chain.run()

    assert (report.archive_id, report.archived_rows) == ("public.audit.2026-05.0002", 1)


def test_a_manifest_says_who_started_its_run(chain):
    chain.identity = RUN.model_copy(update={"triggered_by": "grace"})

    chain.run()

    [archive] = archive_ids(chain.store)
    assert require_manifest(chain.store, archive).triggered_by == "grace"
    assert json.loads(chain.store.read(archive.manifest_key)[0])["triggered_by"] == "grace"


def test_a_manifest_of_a_run_that_nobody_started_has_the_bytes_that_it_always_had(chain):
    """Older manifests do not have the field either: their sums stay what certificates and indexes say."""
    chain.run()

    [archive] = archive_ids(chain.store)
    body, _ = chain.store.read(archive.manifest_key)
    assert "triggered_by" not in json.loads(body)
    assert require_manifest(chain.store, archive).to_json() == body


def test_a_row_changed_after_it_was_read_stays_and_is_listed(chain):
    plan = chain.plan()
    sealed = chain.seal(plan)
    execute(chain.conninfo, "UPDATE audit SET cost = 0.10 WHERE id = 10")
    execute(chain.conninfo, "DELETE FROM audit WHERE id = 11")

    deleted = [chain.delete(part) for part in sealed.parts]

    assert (deleted[0].deleted, deleted[0].changed, deleted[0].gone) == (deleted[0].rows - 2, 1, 1)
    annex = json.loads(chain.store.read(deleted[0].evidence_key)[0])["annex"]
    assert json.loads(chain.store.read(annex["key"])[0])["kept"] == [{"reason": "changed", "key": ["10"]}]
    assert scalar(chain.conninfo, "SELECT array_agg(id) FROM audit WHERE at >= '2026-05-01' AND at < '2026-06-01'") == [
        10
    ]


def test_a_column_added_between_reading_and_deleting_stops_the_delete(chain):
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, "ALTER TABLE audit ADD note text")

    with pytest.raises(UnarchivableError, match="changed its columns"):
        chain.delete(sealed.parts[0])

    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 800


def test_a_run_that_stopped_after_seal_is_taken_up_again_even_without_its_staging(chain):
    """The keys are made anew from the archive; they must be what the extraction wrote, byte for byte."""
    sealed = chain.seal(chain.plan())
    chain.staging(sealed.archive_id).clear()

    plan = chain.plan()
    assert (plan.outcome, plan.archive_id) == ("resumed", sealed.archive_id)
    deleted = [chain.delete(part) for part in sealed.parts]

    assert sum(part.deleted for part in deleted) == 744


def test_a_run_that_stopped_before_seal_leaves_its_number_unused(chain):
    plan = chain.plan()
    chain.verified(plan, plan.parts[0])

    assert chain.run().archive_id == "public.audit.2026-05.0002"
    assert [str(archive) for archive in archive_ids(chain.store)] == ["public.audit.2026-05.0002"]


def test_the_archive_can_be_checked_with_sha256sum_zstd_and_a_json_parser(chain, tmp_path):
    expected = scalar(
        chain.conninfo,
        "SELECT json_agg(row_to_json(a) ORDER BY id)::text FROM audit a WHERE at >= '2026-05-01' AND at < '2026-06-01'",
    )
    report = chain.run()
    archive = ArchiveId.parse(report.archive_id)
    folder = tmp_path / "download"
    folder.mkdir()
    for key in chain.store.keys(archive.archive_prefix):
        Path(folder / key.rpartition("/")[2]).write_bytes(b"".join(chain.store.chunks(key, None)))

    assert (
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True).returncode
        == 0
    )
    lines = b"".join(
        zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        for path in sorted(folder.glob("*.zst"))
    )
    rows = [json.loads(line, parse_float=str) for line in lines.splitlines()]
    assert sorted(rows, key=lambda row: row["id"]) == json.loads(expected, parse_float=str)
    manifest = require_manifest(chain.store, archive)
    assert hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest() == manifest.checksum
    assert manifest.retention_until.isoformat() == "2033-06-01T00:00:00+00:00"


def test_a_window_inside_hot_retention_is_refused_with_the_day_it_falls_due(chain):
    chain.key = "2026-09"

    with pytest.raises(PartitionError, match="2026-12-30"):
        chain.plan()


def test_a_store_that_belongs_to_another_database_is_refused(chain, postgres):
    chain.plan()
    execute(chain.conninfo, 'CREATE DATABASE "clone of it"')
    clone = postgres.conninfo("clone of it")
    execute(clone, AUDIT)
    chain.conninfo = clone

    with pytest.raises(IdentityError, match="belongs to another database"):
        chain.plan()


@pytest.mark.parametrize("compression", [{"type": "gzip"}, {"type": "none"}, {"type": "zstd", "level": 19}])
def test_every_compression_comes_back(chain, bucket, tmp_path, compression):
    chain.settings = some_settings(bucket, tmp_path, compression=compression)

    report = chain.run()

    assert (report.outcome, report.deleted_rows) == ("archived", 744)


def test_a_plan_made_anew_never_takes_up_parts_that_an_earlier_plan_cut(chain, bucket, tmp_path):
    """Nothing was uploaded, so the archive id is free again; what lies in staging is of another cut."""
    earlier = chain.plan()
    with chain.source() as connection:
        extract_part(connection, chain.staging(earlier.archive_id), chain.settings, earlier.parts[0], now=chain.now)
    chain.settings = some_settings(bucket, tmp_path, part_rows=100)

    report = chain.run()

    assert (report.archive_id, report.parts, report.archived_rows) == (earlier.archive_id, 8, 744)
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 800 - 744


@pytest.mark.parametrize("at", ["date '2026-05-17'", "timestamptz '2026-05-17 12:00:00.5+00'"])
def test_what_time_cuts_no_further_is_cut_by_keys(at, source, object_store, bucket, tmp_path):
    """A load of a whole day under one date, or a batch that was stamped in one instant."""
    execute(
        source,
        f"CREATE TABLE loads AS SELECT {at} AS at, n / 7 AS a, 'key ' || n AS b FROM generate_series(1, 1000) AS n;"
        "INSERT INTO loads SELECT '2026-05-03', 0, 'earlier ' || n FROM generate_series(1, 50) AS n;"
        "ALTER TABLE loads ADD PRIMARY KEY (a, b)",
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, "loads", part_rows=200))

    plan = chain.plan()
    sealed = chain.seal(plan)

    assert [(part.share, part.shares) for part in plan.parts] == [(0, 1), *((share, 5) for share in range(5))]
    assert [part.rows for part in sealed.parts] == [part.expected_rows for part in plan.parts]
    assert sum(part.rows for part in sealed.parts) == 1050
    assert max(part.rows for part in sealed.parts) < 300
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 1050
    assert scalar(source, "SELECT count(*) FROM loads") == 0


def test_parts_are_of_one_size_and_no_few_rows_are_left_for_a_last_one(source, object_store, bucket, tmp_path):
    """Ten rows an instant: a hundred and three fit into a part, but no four parts of whole instants hold all of them."""
    execute(
        source,
        "CREATE TABLE loads AS SELECT n AS id, timestamptz '2026-05-01 00:00:00+00' + n / 10 * interval '5 hours' AS at "
        "FROM generate_series(0, 409) AS n; ALTER TABLE loads ADD PRIMARY KEY (id)",
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, "loads", part_rows=103))

    plan = chain.plan()

    assert [part.expected_rows for part in plan.parts] == [80, 80, 80, 90, 80]


def test_a_stranger_among_the_archives_does_not_stop_the_plan(chain, object_store, bucket):
    for name in ("README.txt", "notes/today.txt"):
        key = f"archives/public.audit/partition=2026-05/{name}"
        object_store.client("admin").put_object(Bucket=bucket, Key=key, Body=b"x")

    assert chain.run().archive_id == "public.audit.2026-05.0001"


def test_a_part_that_a_sealed_archive_does_not_have_is_named(chain):
    sealed = chain.seal(chain.plan())
    stale = sealed.parts[0].model_copy(update={"number": 7})

    with pytest.raises(IntegrityError, match="has no part 7"):
        sealed_part(chain.store, stale)
