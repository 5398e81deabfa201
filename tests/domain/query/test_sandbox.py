"""DuckDB sees one file. Whatever it is asked directly, it reads nothing else, writes nothing, and stays as it is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pytest

from strongroom.query.sandbox import open_sandbox

ATTEMPTS = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('{path}/../../../etc/passwd')",
    "SELECT * FROM read_text('/proc/self/fd/../environ')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('https://example.com/')",
    "SELECT * FROM read_parquet('s3://bucket/key')",
    "COPY (SELECT 1) TO '{folder}/out'",
    "COPY (SELECT 1) TO '{path}'",
    "EXPORT DATABASE '{folder}/export'",
    "ATTACH '{folder}/other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE SECRET s (TYPE s3)",
    "SELECT getenv('HOME')",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/passwd']",
    "SET allowed_directories = ['/']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "SET temp_directory = '{folder}'",
    "SET profiling_output = '{folder}/profile'",
]
if (
    duckdb.__version__.partition(".")[0] != "1"
):  # the one for Python 3.10, which has that pragma print into the standard output
    ATTEMPTS.append("PRAGMA enable_profiling")


@pytest.fixture
def part(tmp_path):
    """A file without a name, as a query has it, and its path."""
    with tempfile.TemporaryFile(dir=tmp_path) as handle:
        handle.write(b'{"cost":66.40}\n')
        handle.flush()
        yield f"/proc/self/fd/{handle.fileno()}"


def test_it_reads_the_part_byte_for_byte(part):
    with open_sandbox(part, memory_bytes=1 << 28) as connection:
        assert connection.execute("SELECT json FROM read_ndjson_objects(?)", [part]).fetchall() == [('{"cost":66.40}',)]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_it_refuses_everything_else(part, tmp_path, attempt):
    before = sorted(tmp_path.iterdir())

    with open_sandbox(part, memory_bytes=1 << 28) as connection, pytest.raises(duckdb.Error):
        connection.execute(attempt.format(path=part, folder=tmp_path)).fetchall()

    assert sorted(tmp_path.iterdir()) == before
    assert Path(part).read_bytes() == b'{"cost":66.40}\n'


def test_a_variable_of_python_is_no_table(part):
    secret = "a table that python would lend"  # noqa: F841 - the query must not find it  # pragma: allowlist secret

    with open_sandbox(part, memory_bytes=1 << 28) as connection, pytest.raises(duckdb.Error):
        connection.execute("SELECT * FROM secret").fetchall()


def test_it_takes_no_more_memory_than_it_may(part):
    with open_sandbox(part, memory_bytes=32 << 20) as connection, pytest.raises(duckdb.OutOfMemoryException):
        connection.execute("SELECT count(DISTINCT i * 7919 % 100000007) FROM range(20000000) AS t(i)").fetchall()
