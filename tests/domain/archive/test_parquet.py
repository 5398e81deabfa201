"""Archives of parquet: whoever reads parquet reads them as they lie, and the chain proves them like any other."""

from __future__ import annotations

import gc
import hashlib
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from strongroom.errors import IntegrityError, SourceError, StagingError, StrongroomError
from strongroom.formats.reading_back import ReadingBack
from strongroom.ledger.manifests import parse_manifest, require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore import load as restore_part_module
from strongroom.statistics.proofs import verify_and_record
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings
from tests.support.full_disk import largest_file
from tests.support.statements import Watched

CALLS = """
CREATE TYPE direction AS ENUM ('in', 'out');
CREATE TABLE calls (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, ended timestamp, day date, valid_until timestamptz, way direction, seconds integer,
    cost numeric(8, 2), tax numeric, score double precision, flagged boolean, caller uuid, hops inet[], detail jsonb, note text
);
INSERT INTO calls
SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', '2026-05-01 00:00:00.25'::timestamp + n * interval '1 hour',
       '2026-05-01'::date + n / 24, CASE n % 3 WHEN 0 THEN 'infinity'::timestamptz WHEN 1 THEN '2030-01-01 00:00+00' END,
       CASE n % 2 WHEN 0 THEN 'in'::direction ELSE 'out' END, n, CASE WHEN n % 100 = 7 THEN 'NaN' ELSE n * 1.1 END, n / 7.0,
       n / 3.0::float8, n % 5 = 0, md5(n::text)::uuid, ARRAY['10.0.0.1', NULL]::inet[], json_build_object('cell', n), 'a "note", \\ of ' || n
FROM generate_series(0, 699) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """700 hourly calls in May, in three parts."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(CALLS)
    table = some_settings(bucket, tmp_path / "staging", "calls", format="parquet", part_rows=250)
    return Chain(source, object_store.client("archiver"), table)


def rows(chain: Chain) -> list[tuple]:
    with psycopg.connect(chain.conninfo) as connection:
        return connection.execute("SELECT c::text FROM calls c ORDER BY id").fetchall()


def download(chain: Chain, folder: Path) -> list[Path]:
    """The archives as they lie in the store."""
    paths = []
    for key in chain.store.keys("archives/"):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(chain.store.chunks(key, None)))
        if path.suffix == ".parquet":
            paths.append(path)
    return sorted(paths)


def test_duckdb_reads_an_archive_as_it_lies(chain, tmp_path):
    with psycopg.connect(chain.conninfo) as connection:
        query = """SELECT way::text, count(*), sum(cost) FILTER (WHERE cost <> 'NaN'), sum(seconds), max("at"), min(day), count(*) FILTER (WHERE flagged)
                   FROM calls WHERE "at" >= '2026-05-17 00:00:00+00' GROUP BY way ORDER BY way::text"""
        expected = connection.execute(query).fetchall()
    report = chain.run()
    assert (report.outcome, report.deleted_rows) == ("archived", 700)
    download(chain, tmp_path)

    with duckdb.connect() as analyst:
        analyst.execute("SET timezone = 'UTC'")
        files = f"{tmp_path}/archives/public.calls/*/*/*.parquet"
        found = analyst.execute(
            f"""SELECT way, count(*), sum(cost), sum(seconds), max("at"), min(day), count(*) FILTER (WHERE flagged)
                FROM '{files}' WHERE "at" >= '2026-05-17 00:00:00+00' AND partition = '2026-05' GROUP BY way ORDER BY way"""
        ).fetchall()
        endless = analyst.execute(
            f"SELECT count(*) FROM '{files}' WHERE valid_until IS NULL AND strongroom_exact LIKE '%\"valid_until\": \"infinity\"%'"
        ).fetchone()
        described = analyst.execute(f"""DESCRIBE SELECT id, "at", day, cost, tax FROM '{files}'""").fetchall()

    assert found == expected
    assert endless == (234,)
    assert [type_ for _, type_, *_ in described] == [
        "BIGINT",
        "TIMESTAMP WITH TIME ZONE",
        "DATE",
        "DECIMAL(8,2)",
        "VARCHAR",
    ]


def test_pyarrow_reads_a_part_as_it_lies(chain, tmp_path):
    chain.run()
    first, *others = download(chain, tmp_path)

    table = pq.read_table(first, partitioning=None)

    assert (first.name, len(others)) == ("part-00000.parquet", 2)
    assert table.schema.types == [
        pa.int64(), pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.date32(), pa.timestamp("us", "UTC"), pa.string(), pa.int32(),
        pa.decimal128(8, 2), pa.string(), pa.float64(), pa.bool_(), pa.string(), pa.string(), pa.string(), pa.string(), pa.string(),
    ]  # fmt: skip
    ninth = next(row for row in table.to_pylist() if row["id"] == 9)
    assert ninth == {
        "id": 9,
        "at": datetime(2026, 5, 1, 9, tzinfo=timezone.utc),
        "ended": datetime(2026, 5, 1, 9, 0, 0, 250000),
        "day": date(2026, 5, 1),
        "valid_until": None,
        "way": "out",
        "seconds": 9,
        "cost": Decimal("9.90"),
        "tax": "1.2857142857142857",
        "score": 3.0,
        "flagged": False,
        "caller": "45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26",
        "hops": "{10.0.0.1,NULL}",
        "detail": '{"cell": 9}',
        "note": 'a "note", \\ of 9',
        "strongroom_exact": '{"valid_until": "infinity"}',
    }
    nan = next(row for row in table.to_pylist() if row["id"] == 7)
    assert (nan["cost"], json.loads(nan["strongroom_exact"])) == (None, {"cost": "NaN"})


def test_a_parquet_archive_is_proved_restored_and_described_like_any_other(chain):
    before = rows(chain)

    report = chain.run()

    archive = ArchiveId.parse(report.archive_id)
    manifest = require_manifest(chain.store, archive)
    assert (manifest.format_version, manifest.format, manifest.compression_type) == (3, "parquet", "zstd")
    assert rows(chain) == []
    assert verify_and_record(chain.store, archive, who="ada", now=NOW).result == "sound"
    restored = restoring.restore(chain)
    assert (restored.outcome, restored.inserted) == ("restored", 700)
    assert rows(chain) == before
    assert restoring.restore(chain, "restore-2").outcome == "unchanged"


def test_values_go_into_the_table_without_json_in_between(chain, monkeypatch):
    """And a try that broke off goes on in the middle of a row group, in batches of any size."""
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE calls ALTER id ADD GENERATED BY DEFAULT AS IDENTITY")
        before = rows(chain)
        chain.run()
        monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 90)
        monkeypatch.setattr("strongroom.formats.parquet.READ_ROWS", 40)
        monkeypatch.setattr("strongroom.formats.parquet.LineWriter", None)
        planned = restoring.plan(chain)
        watched, calls = Watched(), iter(range(100))

        def break_off_at_the_third(_: object) -> None:
            if next(calls) == 2:
                raise SourceError("the line broke", hint="Nothing is lost.")

        with pytest.raises(SourceError):
            restoring.load(chain, planned, on_session=watched, on_batch=break_off_at_the_third)
        left = len(rows(chain))

        parts = restoring.load(chain, planned, on_session=watched)

        assert left == 180
        assert not [one for one in watched.statements if one.startswith('COPY "pg_temp"."strongroom_rows"')]
        assert [(part.result, part.inserted) for part in parts] == [("restored", part.rows) for part in parts]
        assert max(part.highest["id"] for part in parts) == 699
        assert rows(chain) == before


def test_rows_that_are_there_in_another_form_are_found_among_those_of_a_parquet_file(chain, monkeypatch):
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 90)
    monkeypatch.setattr(restore_part_module, "COMPARED_ROWS", 70)
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        chain.run()
        connection.execute("INSERT INTO calls (id, at) VALUES (130, '2026-05-04 00:00+00')")

        report = restoring.restore(chain)

    assert (report.inserted, report.unchanged, report.different) == (699, 0, 1)


def test_the_same_rows_have_the_same_blocks_and_lines_in_both_formats(chain, bucket, tmp_path):
    plan = chain.plan()
    parquet = chain.verified(plan, plan.parts[0])
    chain.settings = some_settings(bucket, tmp_path / "other", "calls", part_rows=250)
    plan = chain.plan()
    lines = chain.verified(plan, plan.parts[0])

    for field in ("rows", "blocks_sha256"):
        assert getattr(parquet, field) == getattr(lines, field)
    assert parquet.sha256 != lines.sha256
    chunks = chain.store.chunks(parquet.object_key, parquet.version_id)
    other = chain.store.chunks(lines.object_key, lines.version_id)
    assert [*ReadingBack(parquet, chunks).lines(plan.shape)] == [*ReadingBack(lines, other).lines(plan.shape)]


def test_the_original_of_a_parquet_file_is_the_canonical_text(chain):
    """Whoever selects the rows by COPY has the same bytes."""
    plan = chain.plan()
    with psycopg.connect(chain.conninfo) as connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        where = f"at >= '{plan.parts[0].start_at}' AND at < '{plan.parts[0].end_at}'"
        with cursor.copy(f"COPY (SELECT * FROM calls WHERE {where}) TO STDOUT") as copy:
            served = b"".join(copy)

    part = chain.verified(plan, plan.parts[0])

    content = b"".join(ReadingBack(part, chain.store.chunks(part.object_key, part.version_id)).blocks())
    assert sorted(content.splitlines()) == sorted(served.splitlines())
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (part.original_sha256, part.original_size_bytes)


@pytest.mark.parametrize("compression", [{"type": "gzip", "level": 1}, {"type": "none"}, {"type": "zstd", "level": 19}])
def test_every_compression_inside_comes_back(chain, bucket, tmp_path, compression):
    """What the manifest says is what the file says, also if the settings change before it is passed on."""
    chain.settings = some_settings(bucket, tmp_path / "s", "calls", format="parquet", compression=compression)
    plan = chain.plan()
    extracted = [chain.extract(part) for part in plan.parts]
    chain.settings = some_settings(bucket, tmp_path / "s", "calls")
    verified = [chain.verify(plan, chain.upload(chain.checksum(chain.compress(part)))) for part in extracted]

    sealed = chain.seal_parts(plan, verified)

    manifest = require_manifest(chain.store, ArchiveId.parse(sealed.archive_id))
    level = compression.get("level")
    assert (manifest.format, manifest.compression_type, manifest.compression_level) == (
        "parquet", compression["type"], level
    )  # fmt: skip
    assert [chain.delete(part).deleted for part in sealed.parts] == [700]


def test_archives_of_both_formats_lie_side_by_side(chain, bucket, tmp_path):
    """Rows that come late are archived as the settings say then; a restore brings both back."""
    chain.run()
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO calls (id, at) VALUES (1000, '2026-05-20+00')")
    chain.settings = some_settings(bucket, tmp_path / "staging", "calls")
    late = chain.run()

    restored = restoring.restore(chain)

    manifest = require_manifest(chain.store, ArchiveId.parse(late.archive_id))
    assert (manifest.format_version, manifest.format) == (3, "jsonl")
    assert (restored.outcome, restored.inserted) == ("restored", 701)


def test_a_manifest_whose_format_is_not_of_its_version_is_refused(chain):
    archive = ArchiveId.parse(chain.run().archive_id)
    document = json.loads(require_manifest(chain.store, archive).to_json())

    for change, found in (
        ({"format_version": 1}, "a format, which version 1 does not have"),
        ({"format_version": 2, "format": "jsonl"}, "parts of format jsonl in version 2"),
        ({"format_version": 2}, "part 0 without the sum that version 2 has"),
        ({"format": "orc"}, "format: Input should be"),
        ({"format_version": 4}, "no locators or succession in version 4"),
        ({"format_version": 5}, "no unit in version 5"),
        ({"format_version": 6}, "format_version: Input should be 1, 2, 3, 4 or 5"),
    ):
        with pytest.raises(IntegrityError) as refused:
            parse_manifest(chain.store, archive, json.dumps(document | change).encode())
        assert found in str(refused.value)


def test_a_full_disk_is_named_and_leaves_nothing_behind(chain):
    """Wherever it happens: as a part is written, and as it is copied to be read."""
    plan = chain.plan()
    folder = chain.staging(plan.archive_id).folder

    with largest_file(size_bytes=2000), pytest.raises(StagingError, match="no room left to write"):
        chain.extract(plan.parts[0])
    gc.collect()
    assert [path for path in folder.iterdir() if path.stat().st_size] == []

    uploaded = chain.upload(chain.checksum(chain.compress(chain.extract(plan.parts[0]))))
    with largest_file(size_bytes=2000), pytest.raises(StagingError, match="no room left for what is read back"):
        chain.verify(plan, uploaded)
    assert chain.verify(plan, uploaded).rows == plan.parts[0].expected_rows


def test_a_part_that_is_no_longer_in_staging_is_named(chain):
    plan = chain.plan()
    extracted = chain.extract(plan.parts[0])
    (chain.staging(plan.archive_id).folder / "part-00000.parquet").unlink()

    with pytest.raises(StrongroomError, match=r"part-00000.parquet is gone"):
        chain.compress(extracted)


def test_a_late_row_is_found_by_its_time_of_day(chain):
    """A timestamp keeps its microseconds on the way through the file."""
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("TRUNCATE calls")
        connection.execute(
            "INSERT INTO calls (id, at, ended) VALUES (1, '2026-05-31 23:59:59.999999+00', '0001-01-01')"
        )
    before = rows(chain)

    report = chain.run()

    assert report.deleted_rows == 1
    assert restoring.restore(chain, now=NOW + timedelta(seconds=1)).inserted == 1
    assert rows(chain) == before
