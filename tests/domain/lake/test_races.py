"""Runs that are killed at their writes, and runs that meet another one there: one consistent history, and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest

from strongroom.object_keys.archives import ArchiveId
from tests.domain.lake.test_lake import JUNE, LATER, MAY
from tests.support.chain import NOW
from tests.support.lakes import Killed, Lakeside, Watched, Write, kill

At = Callable[[Write], bool]

MOMENTS: dict[str, tuple[At, bool]] = {
    "between metadata and commit": (lambda write: write.key.endswith(".metadata.json"), False),
    "between commit and hint": (lambda write: write.key.endswith("version-hint.text"), True),
    "before the last clearing": (lambda write: write.method == "delete_object", True),
}
MOMENTS_TO_TEST = [
    next(iter(MOMENTS)),
    *(pytest.param(moment, marks=pytest.mark.thorough) for moment in list(MOMENTS)[1:]),
]
PHASES = ((NOW, (MAY, JUNE)), (LATER, (JUNE,)))
"""A run that makes the table, or puts an archive in, and one that takes an archive out."""


def holds(lakeside: Lakeside, *archives: ArchiveId) -> bool:
    """Whether the table holds these archives, each part once, and its place nothing else."""
    paths = sorted(entry.data_file.file_path.rpartition("/")[0].rpartition("/")[2] for entry in lakeside.entries())
    needed = lakeside.needed()
    assert sorted(lakeside.keys()) == needed
    assert any(key.endswith(f"/{lakeside.hint()}.metadata.json") for key in needed)
    return paths == [str(archive) for archive in archives]


def kill_and_finish(lakeside: Lakeside, at: At, *, before: bool) -> bool:
    """Kill a run of each phase at a write, and run again. Returns whether one had such a write."""
    fired = False
    for now, archives in PHASES:
        watched = Watched(lakeside.object_store.client("iceberg"), at, kill, before=before)
        with suppress(Killed):
            lakeside.reconcile(now=now, client=watched)
        fired |= watched.fired
        lakeside.reconcile(now=now)
        assert holds(lakeside, *archives)
    return fired


def meet(lakeside: Lakeside, at: At, *, before: bool) -> bool:
    """Let another run, which would have every archive in the table, come in at a write of a run of each phase."""
    fired = False
    for now, archives in PHASES:
        client = lakeside.object_store.client("iceberg")
        watched = Watched(client, at, lambda: lakeside.reconcile(now=NOW), before=before)
        lakeside.reconcile(now=now, client=watched)
        fired |= watched.fired
        assert holds(lakeside, *archives) or holds(lakeside, MAY, JUNE), "either run's result"
        lakeside.reconcile(now=now)
        assert holds(lakeside, *archives)
    return fired


@pytest.mark.parametrize("moment", MOMENTS_TO_TEST)
def test_a_run_that_is_killed_is_finished_by_the_next(another, moment):
    at, before = MOMENTS[moment]

    assert kill_and_finish(another(), at, before=before)


@pytest.mark.parametrize("moment", MOMENTS_TO_TEST[:2])
def test_two_runs_at_once_keep_one_result(another, moment):
    at, before = MOMENTS[moment]

    assert meet(another(), at, before=before)


@pytest.mark.exhaustive
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("disturb", [kill_and_finish, meet])
def test_at_each_write(another, disturb, before):
    for last in count(1):
        if not disturb(another(), lambda write, last=last: write.number == last, before=before):
            break

    assert last > 6
