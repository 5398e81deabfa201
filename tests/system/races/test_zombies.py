"""A task stalls longer than its claim lasts, and wakes up after others have continued."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.errors import ContendedError, IntegrityError
from strongroom.records import RunIdentity
from strongroom.retention.sweep import sweep_store
from strongroom.storage.purge_store import PurgeStore
from tests.support import restoring
from tests.support.proxies import Moment
from tests.system.faults.scenario import OUTSIDE, ROWS, Scenario, Scene
from tests.system.faults.steps import ARCHIVE_STEPS, CLAIM_TTL, Steps
from tests.system.faults.test_twins import Pause

SWEEP = RunIdentity(dag_id="retention_purge", run_id="a sweep")


class PauseAt(Pause):
    """Holds a later message of the kind instead of the first."""

    def __init__(self, side: str, what: str, number: int) -> None:
        super().__init__(side, what)
        self._left = number
        self._lock = threading.Lock()

    def __call__(self, moment: Moment) -> bool:
        with self._lock:
            if moment.side == self._side and self._what in moment.what:
                self._left -= 1
            if self._left > 0 or self.reached.is_set():
                return True
        return super().__call__(moment)


def test_a_delete_that_wakes_up_after_a_restore_deletes_nothing_more(scene: Scene):
    """Its claim expired during its second batch, and someone has restored the rows for good reasons."""
    scenario = scene.scenario(part_rows=ROWS)
    scenario.prepare("delete")
    pause = PauseAt("request", f"GET /{scene.bucket}/{scenario.ledger.table}/claims/", 3)
    later = scenario.place.now + 2 * CLAIM_TTL

    with scenario.boundaries(pause) as (place, _), ThreadPoolExecutor(1) as sleepers:
        asleep = sleepers.submit(Steps(place).run, "delete")
        assert pause.reached.wait(120)
        assert len(scenario.ledger.live()) == OUTSIDE + ROWS - 25
        restoring.restore(replace(scenario.place, now=later).chain(), "restore", now=later)
        pause.over.set()

    assert isinstance(asleep.exception(), ContendedError)
    assert len(scenario.ledger.live()) == OUTSIDE + ROWS, "all rows are there, and stay"
    scenario.examine("a delete that wakes up after a restore", recovered="it notices", restored=True)


def test_a_restore_that_wakes_up_after_its_time_loads_nothing_more(scene: Scene):
    """Its record has expired too, and the partition was archived again."""
    scenario = scene.scenario(part_rows=ROWS)
    scenario.steps.run_all(ARCHIVE_STEPS)
    pause = PauseAt("request", f"GET /{scene.bucket}/{scenario.ledger.table}/claims/", 2)
    planned = restoring.plan(scenario.place.chain(), "restore")

    with scenario.boundaries(pause) as (place, _), ThreadPoolExecutor(1) as sleepers:
        asleep = sleepers.submit(restoring.load, place.chain(), planned)
        assert pause.reached.wait(120)
        scenario.place = replace(scenario.place, run_id="another", now=planned.until + timedelta(days=1))
        scenario.steps = Steps(scenario.place)
        scenario.steps.run_all(ARCHIVE_STEPS)
        pause.over.set()

    assert isinstance(asleep.exception(), ContendedError)
    scenario.require_all_archived()
    scenario.examine("a restore that wakes up after its time", recovered="it notices", restored=True)


@pytest.mark.parametrize("when", ["before it looks for a seal", "before it removes the first part"])
def test_a_sweep_that_wakes_up_removes_no_part_of_an_archive(scene: Scene, when):
    """A run that was stuck at `seal` for weeks is cleared while a sweep that has lost its claim is about to remove its parts."""
    scenario = scene.scenario()
    scenario.prepare("seal")
    table, store = scenario.ledger.table, scenario.steps.chain.store
    evidence, part = f"PUT /{scene.bucket}/{table}/evidence/", f"DELETE /{scene.bucket}/{table}/archives/"
    pause = Pause("request", {"before it looks for a seal": evidence}.get(when, part))
    in_weeks = datetime.now(timezone.utc) + timedelta(days=30)

    def sweep(place: Any) -> None:
        purge_store = PurgeStore(place.client("purger"), place.settings.store)
        given = {"grace": timedelta(days=7), "claim_ttl": CLAIM_TTL, "run": SWEEP, "now": in_weeks}
        sweep_store(place.chain().store, purge_store, **given)

    with scenario.boundaries(pause) as (place, _), ThreadPoolExecutor(1) as sleepers:
        asleep = sleepers.submit(sweep, place)
        assert pause.reached.wait(120)
        scenario.place = replace(scenario.place, now=in_weeks + 2 * CLAIM_TTL)
        scenario.steps = Steps(scenario.place)
        sealed = _try_to_end(scenario)
        pause.over.set()

    assert asleep.exception() is None
    parts = [key for key in store.keys("archives/") if "/part-" in key]
    assert (sealed, len(parts)) == ((True, 2) if when == "before it looks for a seal" else (False, 0))
    scenario.recover("plan", "clearing plan")
    scenario.require_all_archived()
    scenario.examine("a sweep that wakes up beside a run", recovered="it notices" if sealed else "clearing plan")


def _try_to_end(scenario: Scenario) -> bool:
    try:
        scenario.steps.run_all(ARCHIVE_STEPS[ARCHIVE_STEPS.index("seal") :])
    except IntegrityError:
        return False
    return True
