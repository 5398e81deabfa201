"""A try that Airflow gave up but that still runs, in parallel with the next try of the same task."""

from __future__ import annotations

import threading

import pytest

from strongroom.errors import StagingError
from tests.support.proxies import Moment
from tests.system.faults.processes import step_process
from tests.system.faults.scenario import Scene


class Pause:
    """Lets everything pass except one message, which waits to be released."""

    def __init__(self, side: str, what: str) -> None:
        self._side, self._what = side, what
        self.reached, self.over = threading.Event(), threading.Event()

    def __call__(self, moment: Moment) -> bool:
        if moment.side == self._side and self._what in moment.what and not self.reached.is_set():
            self.reached.set()
            self.over.wait(120)
        return True


def test_two_tries_never_write_into_one_file(scene: Scene):
    """The later try reports it and changes nothing. Once the earlier one is dead, it continues."""
    scenario = scene.scenario()
    scenario.prepare("extract_to_staging")
    pause = Pause("request", "COPY (SELECT")

    with scenario.boundaries(pause) as (place, _):
        zombie = step_process(place, "extract_to_staging")
        zombie.start()
        assert pause.reached.wait(60)
        with pytest.raises(StagingError, match=r"another process is writing .*part-00000.lines.zst.partial"):
            scenario.steps.run("extract_to_staging")
        zombie.kill()
        zombie.join()
        pause.over.set()

    scenario.recover("extract_to_staging", "retry")
    scenario.require_all_archived()
    scenario.examine("two tries of extract_to_staging at once", recovered="retry")


@pytest.mark.parametrize(("step", "key"), [("delete", "evidence/"), ("report", "reports/")])
def test_a_try_that_comes_second_takes_what_the_first_has_put_on_record(scene: Scene, step, key):
    """Both have done the work. One record stays, and neither fails because of it."""
    scenario = scene.scenario()
    scenario.prepare(step)
    pause = Pause("request", f"PUT /{scene.bucket}/{scenario.ledger.table}/{key}")

    with scenario.boundaries(pause) as (place, _):
        slow = step_process(place, step)
        slow.start()
        assert pause.reached.wait(60)
        scenario.recover(step, "retry")
        pause.over.set()
        slow.join(60)

    assert slow.exitcode == 0, scenario.said()
    scenario.require_all_archived()
    scenario.examine(f"two tries of {step} at once", recovered="by itself")
