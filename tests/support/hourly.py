"""A table with a row for each hour, and checks of where its rows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.errors import StrongroomError
from strongroom.formats.codecs import decompress
from strongroom.ledger.manifests import archive_ids, require_manifest
from tests.support.chain import Chain, some_settings

EVENTS = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);
INSERT INTO audit
SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n FROM generate_series(-50, 999) AS n;
"""
DUE = set(range(744))
ROWS = set(range(-50, 1000))
SECRET = "marked-secret-5b1f"  # pragma: allowlist secret


def execute(conninfo: str, statement: str) -> list[tuple]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def hourly_chain(source: str, client: Any, bucket: str, folder: Path) -> Chain:
    """Make the table in an empty database, and a chain for it that deletes 100 rows at a time."""
    execute(source, EVENTS)
    return Chain(source, client, some_settings(bucket, folder / "staging", delete_batch_rows=100))


def archived_ids(chain: Chain) -> list[int]:
    """Ids of the rows in all sealed archives."""
    found = []
    for archive in archive_ids(chain.store):
        manifest = require_manifest(chain.store, archive)
        for part in manifest.parts:
            chunks = chain.store.chunks(part.object_key, part.version_id)
            lines = b"".join(decompress(manifest.compression_type, chunks, on_chunk=lambda _: None)).splitlines()
            found += [int(line.partition(b":")[2].partition(b",")[0]) for line in lines]
    return found


def left_ids(chain: Chain) -> set[int]:
    return {row[0] for row in execute(chain.conninfo, "SELECT id FROM audit")}


def require_nothing_lost(chain: Chain) -> None:
    """Each row is in the table, in an archive, or in both. None is archived twice."""
    archived = archived_ids(chain)
    assert left_ids(chain) | set(archived) == ROWS
    assert max(Counter(archived).values(), default=1) == 1


def require_success(chain: Chain) -> None:
    """The run succeeds, and each row is where it should be."""
    report = chain.run()
    assert report.outcome == "archived"
    assert left_ids(chain) == ROWS - DUE
    assert sorted(archived_ids(chain)) == sorted(DUE)


def told(attempt: Callable[[], object]) -> str:
    """The one error that an attempt ends in, as the log shows it. No driver error is attached to it."""
    with pytest.raises(StrongroomError) as raised:
        attempt()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    text = f"{type(raised.value).__name__}: {raised.value}"
    assert text.count("HINT: ") == 1
    assert SECRET not in text
    return text
