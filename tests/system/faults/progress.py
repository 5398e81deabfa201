"""Progress of a fault matrix run: which tests and moments are running, and how much time is left.

The processes that run tests append events to one file, and the reporting process reads it. ``expected.json`` records how
long each test took last time. It is used to start the longest first and to estimate the time left.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 30
_READ_SECONDS = 0.5
_NAME_LENGTH = 36
_USUAL_SECONDS = 5.0


class Teller:
    """Appends this process's events to the run's file, if there is one."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def tell(self, event: str, test: str, number: int = 0) -> None:
        """Add one event. A line this short is appended atomically, even if other processes write too."""
        if self.path is None:
            return
        with self.path.open("a") as file:
            file.write(json.dumps([event, test, number, time.time()]) + "\n")

    def moments(self, number: int) -> None:
        """Report how many moments the current test has."""
        self.tell("moments", current_test(), number)

    def moment(self) -> None:
        """Report that one moment is done."""
        self.tell("moment", current_test())


TELLER = Teller()


def current_test() -> str:
    """The test that this process runs. pytest keeps its id in the environment."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


@dataclass
class Spent:
    """The cost of a test: wall-clock seconds and moments."""

    seconds: float = 0.0
    moments: int = 1


def _expected_file() -> Path:
    return Path(os.environ.get("STRONGROOM_FAULTS_EXPECTED", Path(__file__).with_name("expected.json")))


def read_expected() -> dict[str, Spent]:
    """The cost of each test last time."""
    path = _expected_file()
    return {test: Spent(*spent) for test, spent in json.loads(path.read_text()).items()} if path.exists() else {}


def write_expected(spent: dict[str, Spent]) -> None:
    """Write the cost of each test, one line per test."""
    lines = [f"  {json.dumps(test)}: {json.dumps([one.seconds, one.moments])}" for test, one in sorted(spent.items())]
    _expected_file().write_text("{\n" + ",\n".join(lines) + "\n}\n")


@dataclass
class _Test:
    expected: Spent
    begun: float | None = None
    ended: float | None = None
    moments: int | None = None
    """None until the test has reported how many there are."""
    done: int = 0

    @property
    def total(self) -> int:
        return self.moments if self.moments is not None else 1 if self.ended else self.expected.moments

    @property
    def share_done(self) -> float:
        if self.ended is not None:
            return 1.0
        return self.done / self.moments if self.begun is not None and self.moments else 0.0


class Progress:
    """Follows the events of a run.

    Args:
        tests: The ids of the tests that will run.
        processes: How many processes share them.
        clock: Returns the time in seconds.
    """

    def __init__(self, tests: Collection[str], processes: int, clock: Callable[[], float] = time.time) -> None:
        self._processes = processes
        self._clock = clock
        self._begun = clock()
        expected = read_expected()
        self._tests = {test: _Test(expected.get(test, Spent(_USUAL_SECONDS))) for test in tests}

    def take(self, line: str) -> None:
        """Process one event."""
        event, name, number, at = json.loads(line)
        test = self._tests.setdefault(name, _Test(Spent()))
        if event == "begin":
            test.begun = at
        elif event == "end":
            test.ended = at
            test.done = test.total
        elif event == "moments":
            test.moments = (test.moments or 0) + number
        elif event == "moment":
            test.done += 1

    def spent(self) -> dict[str, Spent]:
        """The cost of each test that has ended."""
        return {
            name: Spent(round(test.ended - test.begun, 1), test.total)
            for name, test in self._tests.items()
            if test.ended is not None and test.begun is not None
        }

    def line(self) -> str:
        """The state of the run, in one line."""
        tests = self._tests.values()
        ended = sum(test.ended is not None for test in tests)
        done, total = sum(test.done for test in tests), sum(test.total for test in tests)
        passed = self._clock() - self._begun
        under_way = [
            f"{_short(name)} {test.done} of {test.moments}" if test.moments else _short(name)
            for name, test in self._tests.items()
            if test.begun is not None and test.ended is None
        ]
        return (
            f"{_minutes(passed)}  {done} of {total} moments, {ended} of {len(tests)} tests, {self._left()}; "
            f"now {', '.join(under_way) or 'nothing'}"
        )

    def _left(self) -> str:
        """Time left: what the tests took last time, scaled by how long finished tests took on this machine."""
        now = self._clock()
        was = sum(test.expected.seconds * test.share_done for test in self._tests.values())
        took = sum(
            (test.ended or now) - test.begun
            for test in self._tests.values()
            if test.begun is not None and test.share_done > 0
        )
        if was < 1:
            return "no estimate yet"
        left = [test.expected.seconds * (1 - test.share_done) * took / was for test in self._tests.values()]
        return f"about {_minutes(max(sum(left) / self._processes, max(left, default=0)))} left"


def _short(test: str) -> str:
    """A short form of a test's id, so that several fit in a line."""
    file, _, name = test.rpartition("/")[2].partition("::")
    name, bracket, parameters = name.removeprefix("test_").partition("[")
    if len(name) > _NAME_LENGTH:
        name = f"{name[:_NAME_LENGTH]}…"
    return f"{file.removesuffix('.py').removeprefix('test_')}::{name}{bracket}{parameters}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Follower:
    """Reads the file of events in a thread, and prints the state of the run at least twice a minute."""

    def __init__(self, path: Path, progress: Progress, say: Callable[[str], None]) -> None:
        self._path, self._progress, self._say = path, progress, say
        self._over = threading.Event()
        self._read = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read the rest, print it, and end."""
        self._over.set()
        self._thread.join()
        self._catch_up()
        self._say(self._progress.line())

    def _follow(self) -> None:
        due = time.monotonic() + _READ_SECONDS
        while not self._over.wait(_READ_SECONDS):
            self._catch_up()
            if time.monotonic() >= due:
                due = time.monotonic() + _EVERY_SECONDS
                self._say(self._progress.line())

    def _catch_up(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                self._progress.take(line.decode())
