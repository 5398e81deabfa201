"""The examples of the references for SQL, S3 and Python do what the pages say: they run in order, on a real database and store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from psycopg.conninfo import conninfo_to_dict

from strongroom_local.servers.s3 import REGION
from tests.support.chain import Chain, some_settings
from tests.support.database import a_database, execute
from tests.support.repository import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"
SHOWN = "-- what this example printed --"
TABLE = """
CREATE TABLE audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL, actor text, cost numeric(8, 2), detail jsonb
);
CREATE INDEX ON audit_events (created_at);
CREATE TABLE reviews (event_id bigint REFERENCES audit_events);
INSERT INTO audit_events (created_at, actor, cost, detail)
SELECT '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n, n / 10.0, jsonb_build_object('n', n)
FROM generate_series(0, 1463) AS n;
"""
"""May, which is archived, and June, which is due."""


class Example(NamedTuple):
    """One block of code, and what the page says that it prints; None if it says nothing."""

    code: str
    printed: str | None


def examples(page: str, language: str) -> list[Example]:
    """The blocks of a page in its order."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (REFERENCE / page).read_text(), re.MULTILINE | re.DOTALL)
    following = [*blocks[1:], ("", "")]
    return [
        Example(code, words if kind == "text" else None)
        for (written, code), (kind, words) in zip(blocks, following, strict=True)
        if written == language
    ]


def difference(found: list[Example], printed: str) -> list[tuple[str, str, str]]:
    """The examples that printed something else than their page says: code, what the page says, what came."""
    pieces = printed.split(f"{SHOWN}\n")
    assert len(pieces) == len(found) + 1
    return [
        (one.code, one.printed, piece)
        for one, piece in zip(found, pieces, strict=False)
        if one.printed is not None and one.printed.rstrip() != piece.rstrip()
    ]


@pytest.fixture(scope="module")
def world(postgres, object_store, coming_buckets, tmp_path_factory) -> Iterator[tuple[dict[str, str], Path]]:
    """The environment of a person at a shell, and their folder: May archived as lines, and as parquet in the folder `parquet`."""
    folder = tmp_path_factory.mktemp("examples")
    with a_database(postgres) as source, a_database(postgres) as other:
        bucket = next(coming_buckets).result()
        client = object_store.client("archiver")
        for database, name, changes in (
            (source, bucket, {"part_rows": 300}),
            (other, next(coming_buckets).result(), {"format": "parquet"}),
        ):
            execute(database, TABLE)
            settings = some_settings(
                name, folder / f"staging-{name}", "audit_events", date_column="created_at", **changes
            )
            assert Chain(database, client, settings).run().outcome == "archived"
        (folder / "parquet").mkdir()
        for one in client.list_objects_v2(Bucket=settings.store.bucket, Prefix="archives/")["Contents"]:
            client.download_file(settings.store.bucket, one["Key"], str(folder / "parquet" / Path(one["Key"]).name))
        yield {**os.environ, **at_a_shell(postgres, object_store, source), "BUCKET": bucket}, folder


def at_a_shell(postgres, object_store, conninfo: str) -> dict[str, str]:
    """The variables that lead psql, aws and boto3 to the servers of the tests."""
    parts = conninfo_to_dict(conninfo)
    access_key, secret_key = object_store.keys("archiver")
    return {
        "PATH": f"{Path(sys.executable).parent}:{postgres.binaries}:{os.environ['PATH']}",
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGUSER": str(parts["user"]),
        "PGPASSWORD": str(parts["password"]),
        "PGDATABASE": str(parts["dbname"]),
        "PSQLRC": "/dev/null",
        "AWS_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }


def output_of(world, *command: str, given: str) -> str:
    """What a program prints that gets its text from standard input; it must succeed."""
    environment, folder = world
    done = subprocess.run(
        command, input=given, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_queries_on_the_source(world):
    found = examples("sql.md", "sql")

    script = "".join(f"{one.code}\n\\echo {SHOWN}\n" for one in found)
    printed = output_of(world, "psql", "-q", "-v", "ON_ERROR_STOP=1", given=script)

    assert len(found) >= 9
    assert difference(found, printed) == []


def test_the_commands_on_the_store_and_then_python(world):
    """Python reads what the commands fetched, as on the pages."""
    missing = [name for name in ("jq", "zstd", "sha256sum") if shutil.which(name) is None]
    assert missing == [], "these examples need them: on Debian, apt install jq zstd"
    shell, python = examples("s3.md", "sh"), examples("python.md", "python")
    shell[0] = shell[0]._replace(code=re.sub(r"BUCKET=\S+ ", "", shell[0].code))

    commands = "set -euo pipefail\n" + "".join(f"{one.code}\necho '{SHOWN}'\n" for one in shell)
    printed = output_of(world, "bash", given=commands.replace("| head -n 1", "| sed -n 1p"))
    program = "".join(f"{one.code}\nprint({SHOWN!r}, flush=True)\n" for one in python)
    answered = output_of(world, sys.executable, "-", given=program)

    assert (len(shell), len(python)) >= (10, 5)
    assert difference(shell, printed) == []
    assert difference(python, answered) == []
