"""The process that searches: it has no secret, and whatever ends it or its parent leaves no process and no file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.errors import IntegrityError, QueryError, QueryLimitError, StagingError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.query.records import PartJob
from strongroom.query.searcher import Searcher
from strongroom.settings import QueryLimits
from tests.support.full_disk import largest_file

LIMITS = QueryLimits()
PARENT = """
import sys, time
from pathlib import Path
from strongroom.query.searcher import Searcher
from strongroom.settings import QueryLimits
with Searcher(QueryLimits(), Path(sys.argv[1])) as searcher:
    print(searcher.process_id, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def part(archived):
    return require_manifest(archived.store, ArchiveId("public", "audit", "2026-05", 1)).verified_part(0)


@pytest.fixture
def job(archived) -> PartJob:
    manifest = require_manifest(archived.store, ArchiveId("public", "audit", "2026-05", 1))
    return PartJob(
        archive_id=manifest.archive_id,
        format=manifest.format,
        compression_type=manifest.compression_type,
        columns=manifest.table.columns,
        conditions=(),
        selected=("id",),
        limit=2,
        memory_bytes=LIMITS.memory_bytes,
    )


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(process_id: int) -> None:
    deadline = time.monotonic() + 60
    while is_alive(process_id):
        assert time.monotonic() < deadline, "the process is still there"
        time.sleep(0.05)


def test_it_gets_no_secret_and_leaves_no_file(archived, part, job, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of this process")
    folder, lines = tmp_path / "parts", []

    with Searcher(LIMITS, folder) as searcher:
        searcher.fetch(archived.store, part)
        answer = searcher.search(job, lines.append)
        environment = Path(f"/proc/{searcher.process_id}/environ").read_bytes()
        child = searcher.process_id
        assert list(folder.iterdir()) == []

    assert (answer.result, answer.matched, answer.more, len(lines)) == ("done", 2, True, 2)
    assert b"a secret of this process" not in environment
    assert not is_alive(child)
    assert list(folder.iterdir()) == []


def test_a_process_that_is_killed_is_an_error_and_leaves_no_file(archived, part, job, tmp_path):
    folder = tmp_path / "parts"

    with Searcher(LIMITS, folder) as searcher:
        searcher.fetch(archived.store, part)
        os.kill(searcher.process_id, signal.SIGKILL)
        with pytest.raises(QueryError, match=re.escape("ended by itself: expected an answer, found signal 9")):
            searcher.search(job, lambda _: None)

    assert list(folder.iterdir()) == []


def test_time_that_is_over_ends_the_process(archived, part, job, tmp_path):
    with Searcher(QueryLimits(timeout_seconds=1), tmp_path) as searcher:
        wait_until_gone(searcher.process_id)
        with pytest.raises(QueryLimitError, match="took longer than 1 seconds"):
            searcher.search(job, lambda _: None)
        with pytest.raises(QueryLimitError, match="took longer than 1 seconds"):
            searcher.fetch(archived.store, part)


def test_it_ends_with_its_parent_however_that_ends_and_no_file_stays(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    wait_until_gone(child)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_clear_error(archived, part, tmp_path):
    with (
        Searcher(LIMITS, tmp_path) as searcher,
        largest_file(100),
        pytest.raises(StagingError, match="has no room left for a part that is searched"),
    ):
        searcher.fetch(archived.store, part)


def test_other_bytes_are_not_searched(archived, part, tmp_path):
    other = part.model_copy(update={"sha256": "0" * 64})

    with Searcher(LIMITS, tmp_path) as searcher, pytest.raises(IntegrityError, match=r"SHA-256 of .* does not match"):
        searcher.fetch(archived.store, other)


def test_a_part_that_is_not_what_its_reader_expects_is_told_by_the_kind_of_error_alone(archived, part, job, tmp_path):
    wrong = job.model_copy(update={"format": "parquet"})

    with Searcher(LIMITS, tmp_path) as searcher:
        searcher.fetch(archived.store, part)
        answer = searcher.search(wrong, lambda _: None)

        assert (answer.result, answer.matched) == ("unreadable", 0)
        assert answer.found.endswith(("Error", "Exception"))
        assert searcher.search(job, lambda _: None).result == "done"
