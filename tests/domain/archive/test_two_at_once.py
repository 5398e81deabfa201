"""Runs and tries of one partition that work at the same moment archive and delete each row once."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from strongroom.errors import (
    ContendedError,
    StrongroomError,
)
from strongroom.formats.codecs import decompress
from strongroom.formats.line_reader import split_lines
from strongroom.ledger.claims import release_claim, take_claim
from strongroom.ledger.manifests import archive_ids, require_manifest
from strongroom.object_keys.records import claim_key
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.hourly import DUE, EVENTS, ROWS, archived_ids, left_ids, require_nothing_lost


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, EVENTS)
    settings = some_settings(bucket, tmp_path / "staging", delete_batch_rows=100)
    return Chain(source, object_store.client("archiver"), settings)


def test_two_runs_that_start_at_the_same_moment_archive_each_row_once(chain, object_store, tmp_path):
    """One takes the claim and does the work; the other is told who has it, and finds nothing due afterwards."""
    start = threading.Barrier(2)

    def run(owner: str) -> str:
        other = Chain(chain.conninfo, object_store.client("archiver"), chain.settings)
        key = claim_key("public", "audit", other.key)
        start.wait()
        try:
            take_claim(other.store, key, owner=owner, now=other.now, ttl=timedelta(hours=1))
        except ContendedError as error:
            return str(error)
        outcome = other.run().outcome
        release_claim(other.store, key, owner=owner, now=other.now)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(run, ["first", "second"]))

    assert outcomes[0] == "archived"
    assert outcomes[1].startswith("contended: claims/public.audit/2026-05.json is held by ")
    assert "HINT: Nothing was changed. Wait for that run to end" in outcomes[1]
    assert sorted(archived_ids(chain)) == sorted(DUE)
    assert left_ids(chain) == ROWS - DUE
    assert chain.run().outcome == "nothing_due"


def test_two_tries_of_one_delete_at_once_delete_each_row_once(chain):
    """A worker that was given up for dead goes on while the cleared task begins anew."""
    sealed = chain.seal(chain.plan())
    start = threading.Barrier(2)

    def attempt(_: int) -> int | str:
        start.wait()
        try:
            return chain.delete(sealed.parts[0]).rows
        except StrongroomError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, range(2)))

    assert 744 in outcomes, outcomes
    assert left_ids(chain) == ROWS - DUE
    require_nothing_lost(chain)
    assert chain.delete(sealed.parts[0]).rows == 744


VERSIONED = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, version bigint NOT NULL);
INSERT INTO audit SELECT n, '2026-05-01+00'::timestamptz + n * interval '15 minutes', 0 FROM generate_series(1, 2900) AS n;
"""
WRITES = (
    "UPDATE audit SET version = version + 1 WHERE id = %(id)s RETURNING version",
    "UPDATE audit SET version = version + 1, at = at + %(hours)s * interval '1 hour' WHERE id = %(id)s RETURNING version",
)


def archived_versions(store: Store) -> set[tuple[int, int]]:
    """Id and version of each row in all sealed archives."""
    archived = set()
    for manifest in (require_manifest(store, archive_id) for archive_id in archive_ids(store)):
        for part in manifest.parts:
            compressed = store.chunks(part.object_key, part.version_id)
            lines = split_lines(decompress(manifest.compression_type, compressed, on_chunk=len))
            archived |= {(row["id"], row["version"]) for row in map(json.loads, lines)}
    return archived


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("staging", ["one folder", pytest.param("a folder each", marks=pytest.mark.exhaustive)])
def test_runs_that_ignore_each_other_and_an_application_that_writes_on_lose_nothing(
    source, object_store, bucket, tmp_path, staging, seconds
):
    """Three runs of one partition without any claim, while rows change and move to other parts and months.

    Runs may fail as they like. In the end each row is in the table or in an archive, as the application left it.
    """
    execute(source, VERSIONED)
    written = dict.fromkeys(range(1, 2901), 0)
    ending_at = time.monotonic() + seconds
    deleted = threading.Event()

    def goes_on() -> bool:
        """For so long, and on a busy machine until one of the runs has got through to its delete."""
        now = time.monotonic()
        return now < ending_at or (not deleted.is_set() and now < ending_at + 300)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(source, autocommit=True) as connection:
            while goes_on():
                key = chance.randrange(seed, 2901, 2)  # each writer has keys of its own
                row = connection.execute(
                    chance.choice(WRITES), {"id": key, "hours": chance.randint(-300, 300)}
                ).fetchone()
                if row is not None:
                    written[key] = row[0]

    def archive(number: int) -> None:
        chance = random.Random(number)
        folder = tmp_path / ("staging" if staging == "one folder" else f"staging-{number}")
        while goes_on():
            sizes = {"part_rows": chance.choice([200, 500, 1000]), "delete_batch_rows": chance.choice([40, 200])}
            client = object_store.client("archiver")
            with contextlib.suppress(StrongroomError, FileNotFoundError):
                if Chain(source, client, some_settings(bucket, folder, **sizes)).run().deleted_rows:
                    deleted.set()

    with ThreadPoolExecutor() as workers:
        for done in [
            *(workers.submit(write, seed) for seed in (1, 2)),
            *(workers.submit(archive, n) for n in range(3)),
        ]:
            done.result()

    archived = archived_versions(Store(object_store.client("archiver"), StoreSettings(bucket=bucket)))
    with psycopg.connect(source) as connection:
        kept = set(connection.execute("SELECT id, version FROM audit").fetchall())
    assert set(written.items()) - archived - kept == set()
    assert len(kept) < 2900
