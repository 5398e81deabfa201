"""The commands that a stranger is given, carried out by a shell against a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import psycopg
import pytest

from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.overview.commands import CommandBlock, check_commands
from tests.support.chain import Chain, some_settings

ROWS = 30


def sealed_chain(source, object_store, bucket, tmp_path, **changes) -> Chain:
    with psycopg.connect(source) as session:
        session.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text)")
        session.execute(
            "INSERT INTO audit SELECT n, '2026-05-01'::timestamptz + n * interval '1 hour', 'it''s' FROM generate_series(1, %s) n",
            (ROWS,),
        )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging", **changes))
    chain.run()
    return chain


def commands_of(chain, object_store) -> list[CommandBlock]:
    manifest = require_manifest(chain.store, ArchiveId("public", "audit", "2026-05", 1))
    return check_commands(
        manifest,
        bucket=chain.store.settings.bucket,
        prefix=chain.store.settings.prefix,
        endpoint_url=object_store.endpoint_url,
    )


def run_in_shell(block: CommandBlock, folder: Path, object_store) -> str:
    """Run the commands as a stranger does, with the archive's own tools on the path."""
    key, secret = object_store.keys("archiver")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "HOME": str(folder),
    }
    done = subprocess.run(
        ["bash", "-euc", block.text], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("compression", [{"type": "gzip", "level": 6}, {"type": "none"}])
def test_a_stranger_can_fetch_check_and_count_an_archive_of_lines(source, object_store, bucket, tmp_path, compression):
    """Each command ends well, and says what the manifest says."""
    chain = sealed_chain(source, object_store, bucket, tmp_path, compression=compression)
    fetch, compare, inside, _, count = commands_of(chain, object_store)
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    run_in_shell(fetch, folder, object_store)
    compared = run_in_shell(compare, folder, object_store)
    said = run_in_shell(inside, folder, object_store).split()

    manifest = require_manifest(chain.store, ArchiveId("public", "audit", "2026-05", 1))
    assert compared.count(": OK") == 3
    assert (said[0], said[2]) == (manifest.parts[0].original_sha256, str(ROWS))
    assert rows_by_duckdb(count, folder) == ROWS


def test_a_stranger_can_count_the_rows_of_parquet(source, object_store, bucket, tmp_path):
    """Parquet needs no program to unpack it; DuckDB counts its rows."""
    chain = sealed_chain(source, object_store, bucket, tmp_path, format="parquet")
    fetch, compare, count, first = commands_of(chain, object_store)

    run_in_shell(fetch, tmp_path, object_store)

    assert run_in_shell(compare, tmp_path, object_store).count(": OK") == 3
    assert rows_by_duckdb(count, tmp_path) == ROWS
    assert "LIMIT 3" in first.text


def test_zstd_is_unpacked_by_zstd(source, object_store, bucket, tmp_path):
    """The program is the one of the archive's compression."""
    chain = sealed_chain(source, object_store, bucket, tmp_path)

    inside = commands_of(chain, object_store)[2]

    assert inside.text.startswith("zstd -dc part-00000.jsonl.zst | sha256sum")


def test_names_that_a_shell_would_read_are_quoted(source, object_store, bucket, tmp_path):
    """A bucket, prefix or address cannot add a command of its own."""
    chain = sealed_chain(source, object_store, bucket, tmp_path)
    manifest = require_manifest(chain.store, ArchiveId("public", "audit", "2026-05", 1))

    fetch = check_commands(manifest, bucket="a b", prefix="$(touch x)/", endpoint_url="http://h/;reboot")[0]

    assert "--bucket 'a b'" in fetch.text
    assert "--key '$(touch x)/archives/" in fetch.text
    assert "--endpoint-url 'http://h/;reboot'" in fetch.text


def rows_by_duckdb(block: CommandBlock, folder: Path) -> int:
    """What the DuckDB command counts, by the same query through DuckDB's library."""
    query = block.text.split('"')[1]
    with duckdb.connect() as database:
        database.execute(f"SET file_search_path = '{folder}'")
        return database.execute(query).fetchone()[0]
