"""Kill -9 at each moment of each step: before and after each write to staging, to the store and to the database."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import read_archives
from tests.support.proxies import Moment
from tests.system.faults.matrix import MATRIX
from tests.system.faults.processes import Ending, staging_events
from tests.system.faults.scenario import OUTSIDE, RECOVERIES, ROWS, Scenario, Scene, moment_of, side_by_side
from tests.system.faults.steps import ARCHIVE_STEPS, PURGE_STEPS, RESTORE_STEPS, Steps

_WRITES = re.compile(r"COPY|RELEASE|INSERT|DELETE|WITH (gone|loaded)|COMMIT")
AFTER_ITS_TERM = timedelta(days=3000)


def in_the_store(moment: Moment) -> bool:
    return moment.boundary == "store"


def in_staging_on_s3(moment: Moment) -> bool:
    return moment.boundary == "store" and "/staging/" in moment.what


def in_the_database(moment: Moment) -> bool:
    """Statements that write or end a transaction. Nothing changes between two statements that only read."""
    return moment.boundary == "database" and bool(_WRITES.match(moment.what))


TELLING = {
    "plan, when its claim is stored": ("plan", "store", "answer", "PUT .*/claims/"),
    "extract, when all rows are read": ("extract_to_staging", "database", "answer", "^COPY"),
    "upload, before a part is stored": ("upload", "store", "request", "PUT .*/part-00001"),
    "upload, when a part is stored": ("upload", "store", "answer", "PUT .*/part-00001"),
    "verify, when a part is read": ("verify", "store", "answer", "GET .*/part-00001"),
    "seal, before the manifest is stored": ("seal", "store", "request", "PUT .*/metadata/"),
    "seal, when the manifest is stored": ("seal", "store", "answer", "PUT .*/metadata/"),
    "delete, before a batch is committed": ("delete", "database", "request", "^COMMIT"),
    "delete, when a batch is committed": ("delete", "database", "answer", "^COMMIT"),
    "delete, when the evidence is stored": ("delete", "store", "answer", "PUT .*/evidence/"),
    "report, when the report is stored": ("report", "store", "answer", "PUT .*/reports/"),
    "delete, before the second block of a batch": ("delete", "database", "answer", "^RELEASE"),
    "delete, when the rows of a block are deleted": ("delete", "database", "answer", r"^COPY \(DELETE"),
    "delete by key, when rows are deleted": ("delete", "database", "answer", "^DELETE"),
    "delete by key, when a batch is committed": ("delete", "database", "answer", "^COMMIT"),
}
BY_KEY = {"delete_by": "key"}


def test_a_step_killed_at_a_telling_moment_loses_nothing(scene: Scene):
    """The short form of the tests below."""

    def break_at(number: int) -> None:
        name, (step, *moment) = list(TELLING.items())[number]
        scenario = scene.scenario(**BY_KEY if "by key" in name else {})
        scenario.prepare(step)
        scenario.kill_at(step, 0, moment_of(*moment))
        _recover_and_examine(scenario, step, f"kill -9 of {step} at a message to or from the {moment[0]}", number)

    side_by_side(break_at, range(len(TELLING)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ARCHIVE_STEPS)
def test_a_step_killed_at_any_request_to_the_store_loses_nothing(scene: Scene, step):
    _kill_at_each(scene, step, "store", in_the_store)


@pytest.mark.parametrize(("settings", "by_range"), [({}, ROWS), (BY_KEY, 0)], ids=["by range", "by key"])
def test_a_delete_that_nobody_disturbs_goes_as_it_is_asked_to(scene: Scene, settings, by_range):
    """Without this the tests here could break the delete by key only."""
    scenario = scene.scenario(**settings)

    scenario.steps.run_all(ARCHIVE_STEPS)

    assert sum(part["by_range"] for part in scenario.steps.result("delete")) == by_range
    assert sum(sum(part["one_by_one"].values()) for part in scenario.steps.result("delete")) == ROWS - by_range


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ["extract_to_staging", "verify", "delete"])
def test_a_step_killed_at_any_statement_loses_nothing(scene: Scene, step):
    _kill_at_each(scene, step, "database", in_the_database)


@pytest.mark.exhaustive
def test_a_delete_by_key_killed_at_any_statement_loses_nothing(scene: Scene):
    _kill_at_each(scene, "delete", "database", in_the_database, **BY_KEY)


def _kill_at_each(scene: Scene, step: str, boundary: str, counted: Callable[[Moment], bool], **settings: Any) -> None:
    rehearsal = scene.scenario(**settings)
    rehearsal.prepare(step)
    moments = [moment for moment in rehearsal.record(step) if counted(moment)]

    def break_at(number: int) -> None:
        scenario = scene.scenario(**settings)
        scenario.prepare(step)
        scenario.kill_at(step, number, counted)
        _recover_and_examine(scenario, step, f"kill -9 of {step} at a message to or from the {boundary}", number)

    side_by_side(break_at, range(len(moments)))
    assert moments


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "step", ["plan", "extract_to_staging", "compress", "checksum", "upload", "verify", "delete", "report"]
)
def test_a_step_killed_before_any_change_in_staging_loses_nothing(scene: Scene, step):
    rehearsal = scene.scenario()
    rehearsal.prepare(step)
    rehearsal.record(step)
    events = staging_events(rehearsal.place)

    def break_before(number: int) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)
        assert scenario.run_child(step, scenario.place, Ending(at_staging_event=number)) == -signal.SIGKILL
        _recover_and_examine(scenario, step, f"kill -9 of {step} at a change in staging", number)

    side_by_side(break_before, range(len(events)))
    assert events


ON_S3 = {
    "extract, before its record is put": ("extract_to_staging", "request", "PUT .*/staging/.*extracted.json"),
    "compress, when its record is put": ("compress", "answer", "PUT .*/staging/.*compressed.json"),
    "checksum, when the lines are removed": ("checksum", "answer", "DELETE .*/staging/.*lines.zst/"),
    "upload, when its record is put": ("upload", "answer", "PUT .*/staging/.*uploaded.json"),
    "verify, before the compressed file is removed": ("verify", "request", "DELETE .*/staging/.*jsonl.zst/"),
    "delete, when its progress is put": ("delete", "answer", "PUT .*/staging/.*deleteprogress.json"),
    "report, when a first thing is removed": ("report", "answer", "DELETE .*/staging/"),
}


def test_a_step_killed_at_a_telling_request_to_staging_on_s3_loses_nothing_and_leaves_nothing(scene: Scene):
    """The next try runs on another machine."""

    def break_at(number: int) -> None:
        step, *moment = list(ON_S3.values())[number]
        scenario = scene.scenario(staging_on_s3=True)
        scenario.prepare(step)
        scenario.kill_at(step, 0, moment_of("store", *moment))
        scenario.recover(step, "retry")
        assert list(scenario.steps.chain.store.keys("staging/")) == []
        scenario.require_all_archived()
        scenario.examine(f"kill -9 of {step} at a message to or from the staging on S3", recovered="retry")

    side_by_side(break_at, range(len(ON_S3)))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "step", ["plan", "extract_to_staging", "compress", "checksum", "upload", "verify", "delete", "report"]
)
def test_a_step_killed_at_any_request_to_staging_on_s3_loses_nothing(scene: Scene, step):
    _kill_at_each(scene, step, "staging on S3", in_staging_on_s3, staging_on_s3=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ["extract_to_staging", "compress"])
def test_a_step_that_ends_in_the_middle_of_a_file_loses_nothing(scene: Scene, step):
    """The kernel kills it in the write that exceeds a size, so half a file is left."""

    def break_at(size_bytes: int) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)
        ended = scenario.run_child(step, scenario.place, Ending(at_file_size=size_bytes))
        assert ended == -signal.SIGXFSZ, scenario.said()
        _recover_and_examine(scenario, step, f"{step} ends in the middle of a file", size_bytes)

    side_by_side(break_at, [0, 100, 1001])


@pytest.mark.exhaustive
def test_a_disk_without_room_takes_back_what_is_unfinished(scene: Scene):
    """The delete has no room for its own record, and so deletes nothing."""

    def fill(step: str) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)
        ended = scenario.run_child(step, scenario.place, Ending(on_full_disk=100))
        assert (ended, "StagingError: staging has no room left to write" in scenario.said()) == (1, True)
        assert not list(scenario.place.folder.glob("staging/*/*.partial"))
        assert sorted(scenario.ledger.live()) == sorted(scenario.ledger.rows.values())
        scenario.recover(step, "retry")
        scenario.require_all_archived()
        scenario.examine("a full disk in staging", recovered="room, then retry")

    side_by_side(fill, ["extract_to_staging", "compress", "checksum", "upload", "delete"])


def _recover_and_examine(scenario: Scenario, step: str, name: str, number: int) -> None:
    how = RECOVERIES[number % len(RECOVERIES)]
    scenario.recover(step, how)
    scenario.require_all_archived()
    scenario.examine(name, recovered=how)


def test_a_delete_killed_at_every_commit_it_comes_to_gets_through(scene: Scene):
    """Each try is killed when its first batch is committed. The next try continues after that batch."""
    scenario = scene.scenario()
    scenario.prepare("delete")
    kills = 0
    while kills < 20:
        try:
            scenario.kill_at("delete", 0, moment_of("database", "answer", "^COMMIT"))
        except AssertionError:
            break
        kills += 1
    scenario.recover("delete", "retry")

    scenario.require_all_archived()
    scenario.examine("kill -9 of each try of delete", recovered="retry", faults=kills)
    assert kills == sum(part["batches"] for part in scenario.steps.result("delete")) >= 5


# Restore.


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", RESTORE_STEPS)
@pytest.mark.parametrize("boundary", ["store", "database"])
def test_a_restore_killed_at_any_moment_brings_each_row_back_once(scene: Scene, step, boundary):
    counted = in_the_store if boundary == "store" else in_the_database
    rehearsal = _archived(scene)
    rehearsal.prepare(step, RESTORE_STEPS)
    moments = [moment for moment in rehearsal.record(step) if counted(moment)]
    _kill_restores(scene, step, [counted] * len(moments), range(len(moments)))


def test_a_restore_killed_when_a_batch_is_committed_brings_each_row_back_once(scene: Scene):
    moments = [moment_of("database", side, "^COMMIT") for side in ("request", "answer")]
    _kill_restores(scene, "restore", moments, [0, 0])


def _kill_restores(
    scene: Scene, step: str, counted: Sequence[Callable[[Moment], bool]], numbers: Sequence[int]
) -> None:
    def break_at(place: int) -> None:
        scenario = _archived(scene)
        scenario.prepare(step, RESTORE_STEPS)
        scenario.kill_at(step, numbers[place], counted[place])
        how = RECOVERIES[place % len(RECOVERIES)].replace("plan", "locate")
        scenario.recover(step, how, RESTORE_STEPS)
        scenario.examine(f"kill -9 of {step}", recovered=how, restored=True)
        assert sorted(scenario.ledger.live()) == sorted(scenario.ledger.rows.values())

    side_by_side(break_at, range(len(counted)))


def _archived(scene: Scene) -> Scenario:
    scenario = scene.scenario()
    scenario.steps.run_all(ARCHIVE_STEPS)
    scenario.require_all_archived()
    return scenario


# Purge.


@pytest.mark.exhaustive
def test_a_purge_killed_at_any_request_leaves_an_archive_or_a_certificate(scene: Scene):
    rehearsal = _expired(scene)
    requests = [moment for moment in rehearsal.record("purge") if in_the_store(moment)]
    _kill_purges(scene, [in_the_store] * len(requests), range(len(requests)))


def test_a_purge_killed_when_it_has_removed_a_part_leaves_a_certificate_in_the_end(scene: Scene):
    moments = [moment_of("store", "answer", f"DELETE .*/{what}") for what in ("part-00000", "metadata/")]
    _kill_purges(scene, moments, [0, 0])


def _kill_purges(scene: Scene, counted: Sequence[Callable[[Moment], bool]], numbers: Sequence[int]) -> None:
    def break_at(place: int) -> None:
        scenario = _expired(scene)
        scenario.kill_at("purge", numbers[place], counted[place])
        how = ("retry", "new run")[place % 2]
        scenario.recover("purge", how, PURGE_STEPS)
        _examine_purge(scenario, how)

    side_by_side(break_at, range(len(counted)))


def _expired(scene: Scene) -> Scenario:
    scenario = _archived(scene)
    scenario.place = replace(scenario.place, now=scenario.place.now + AFTER_ITS_TERM)
    scenario.steps = Steps(scenario.place)
    return scenario


def _examine_purge(scenario: Scenario, how: str) -> None:
    """Expired rows are gone everywhere, with a certificate. All others are where they were."""
    archive_id = f"public.{scenario.ledger.table}.2026-05.0001"
    scenario.ledger.rows = {id_: row for id_, row in scenario.ledger.rows.items() if id_ > ROWS}
    store = scenario.place.chain().store
    left = [version.key for prefix in ("archives/", "metadata/public") for version in store.versions(prefix)]
    certificate = store.read(f"evidence/public.{scenario.ledger.table}/2026-05/{archive_id}/destruction.json")

    tally = scenario.ledger.compare(read_archives(scenario.place.client("archiver"), scenario.place.settings))

    MATRIX.note("kill -9 of purge", tally, recovered=how)
    tally.require_sound()
    assert (left, certificate is not None, tally.kept) == ([], True, OUTSIDE)
