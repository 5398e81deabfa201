"""A pytest plugin that collects the fault matrix from the processes that run tests, and reports progress.

``make test-faults`` loads it with ``--fault-matrix``. Other runs of these tests only print the table at the end. It is
loaded before the tests set up their environment, so it imports nothing of the product.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.faults.matrix import MATRIX, Note, table, write_table
from tests.system.faults.progress import TELLER, Follower, Progress, Spent, read_expected, write_expected

_ALL_OF = ("tests/system/faults/", "tests/system/races/", "tests/system/demo/", "tests/system/scaling/")
_STACKS = ("tests/system/demo/", "tests/system/e2e/", "tests/system/scaling/", "tests/airflow/")
"""Tests that start whole stacks. They share one process, so that stacks run one after another."""
_NOTES = "fault matrix"
_EVENTS = "fault_events"

_found: dict[str, list[Note]] = {}
_order: list[str] = []
_follower: list[Follower] = []
_progress: list[Progress] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make test-faults``."""
    parser.addoption(
        "--fault-matrix", action="store_true", help="run the whole fault matrix, and say how far it has come"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Create the file of events, or get its path from the reporting process."""
    if not _asked(config):
        return
    given = getattr(config, "workerinput", None)
    if given is not None:
        TELLER.path = Path(given[_EVENTS])
        return
    handle, path = tempfile.mkstemp(prefix="strongroom-faults-")
    os.close(handle)
    TELLER.path = Path(path)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the file of events."""
    if TELLER.path is not None and not hasattr(config, "workerinput"):
        TELLER.path.unlink(missing_ok=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the file's path to a process that will run tests."""
    node.workerinput[_EVENTS] = str(TELLER.path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Start reporting on the tests that the first process has collected."""
    _begin(node.config, ids)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give tests to processes one by one, but all that start stacks to one process: stacks side by side would starve each other."""
    if not _asked(config):
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "stacks" if nodeid.startswith(_STACKS) else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep only the tests of the matrix, longest first. Tests with whole stacks go into one group."""
    if not _asked(config):
        return
    kept = [item for item in items if item.nodeid.startswith(_ALL_OF) or item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    expected = read_expected()
    stacks = [item for item in kept if item.nodeid.startswith(_STACKS)]
    others = [item for item in kept if item not in stacks]
    others.sort(key=lambda item: -expected.get(item.nodeid, Spent()).seconds)
    items[:] = stacks + others


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without xdist this process reports on itself."""
    if _asked(session.config) and not hasattr(session.config, "workerinput") and session.items:
        _begin(session.config, [item.nodeid for item in session.items])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record when a test begins and ends."""
    test = item.nodeid
    TELLER.tell("begin", test)
    try:
        return (yield)
    finally:
        TELLER.tell("end", test)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Attach the test's notes to its report, so that they reach the process that prints the table."""
    report = yield
    notes = MATRIX.take()
    if notes:
        report.user_properties = [*report.user_properties, (_NOTES, [list(note) for note in notes])]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect a test's notes."""
    for name, notes in report.user_properties:
        if name == _NOTES:
            _found.setdefault(report.nodeid, []).extend(Note(*note) for note in notes)


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Print no dots between the lines about progress."""
    if _asked(config) and report.passed:
        return ("passed" if report.when == "call" else "", "", "PASSED")
    return None


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Print the table. Write it into the docs if that was requested and everything passed."""
    if hasattr(config, "workerinput"):  # this process knows only its own share
        return
    for follower in _follower:
        follower.stop()
    if not _found:
        return
    order = {test: number for number, test in enumerate(_order)}
    notes = [note for test in sorted(_found, key=lambda test: order.get(test, 0)) for note in _found[test]]
    terminalreporter.section("fault matrix")
    for line in table(notes):
        terminalreporter.write_line(line)
    target = os.environ.get("STRONGROOM_FAULTS_TABLE")
    if target and exitstatus == 0:
        write_table(Path(target), table(notes))
        for progress in _progress:
            write_expected(progress.spent())


def _begin(config: pytest.Config, ids: list[str]) -> None:
    """Start reporting, once: each process collects the same tests."""
    if _follower or TELLER.path is None or config.getoption("collectonly"):
        return
    _order.extend(ids)
    processes = len(config.getoption("tx", None) or [None])
    _progress.append(Progress(_order, processes))
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    _follower.append(Follower(TELLER.path, _progress[0], lambda line: _say(reporter, line)))


def _say(reporter: Any, line: str) -> None:
    reporter.ensure_newline()
    reporter.write_line(line)
    reporter.flush()


def _asked(config: pytest.Config) -> bool:
    return bool(config.getoption("fault_matrix", False))
