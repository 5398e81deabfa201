"""What a run of the fault matrix prints while it runs, and the table that it assembles from several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from tests.system.faults.progress import Progress

TWO_TESTS = """
import pytest
from tests.support.ledger import Tally
from tests.system.faults.matrix import MATRIX
from tests.system.faults.scenario import side_by_side

@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ["seal", "plan", "seal"])
def test_kills(step):
    def work(number):
        MATRIX.note(f"kill -9 of {step}", Tally(at_risk=120, kept=20), recovered="retry")

    side_by_side(work, range(5))

@pytest.mark.exhaustive
def test_that_fails():
    MATRIX.note("a failure", Tally(at_risk=120, kept=20, lost=[1, 2]), recovered="not at all")
    assert FAILS

def test_of_something_else():
    raise AssertionError("it is no part of the matrix")
"""
PAGE = "before\n<!-- fault matrix: begin -->\nold\n<!-- fault matrix: end -->\nafter\n"


OF_STACKS = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_a_stack(number):
    with Path(__file__).with_name("processes").open("a") as file:
        file.write(f"{os.getpid()}\\n")
"""


def run_matrix(folder: Path, *, fails: bool) -> tuple[int, str, str]:
    """Run the matrix in two processes. Return its exit code, its output, and the page that it wrote."""
    page = folder / "page.md"
    (folder / "test_some.py").write_text(f"FAILS = {not fails}\n" + TWO_TESTS)
    return run_in_two_processes(folder, page)


def run_in_two_processes(folder: Path, page: Path) -> tuple[int, str, str]:
    """Run the matrix of what tests are in a folder."""
    page.write_text(PAGE)
    words = ("-p", "tests.system.faults.reporting", "--fault-matrix", "-n", "2", "--dist", "loadscope")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", *words, "--rootdir", folder, folder],
        cwd=REPOSITORY,
        env=os.environ | {"STRONGROOM_FAULTS_TABLE": str(page), "STRONGROOM_FAULTS_EXPECTED": str(folder / "expected")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, page.read_text()


@pytest.mark.exhaustive
def test_several_processes_make_one_table_in_the_order_of_the_tests(tmp_path):
    code, said, page = run_matrix(tmp_path, fails=False)

    rows = [
        "| kill -9 of seal | 10 | 10 | 1,200 | 0 | 0 | retry |",
        "| kill -9 of plan | 5 | 5 | 600 | 0 | 0 | retry |",
        "| a failure | 1 | 1 | 120 | 2 | 0 | not at all |",
        "| **all** | 16 | 16 | 1,920 | 2 | 0 |  |",
    ]
    assert code == 0, said
    assert "\n".join(rows) in said
    assert page.startswith("before\n<!-- fault matrix: begin -->\n| scenario |")
    assert page.endswith("\n".join([*rows, "<!-- fault matrix: end -->", "after", ""]))
    assert "16 of 16 moments, 4 of 4 tests, about 0:00 left; now nothing" in said
    spent = json.loads((tmp_path / "expected").read_text())
    assert sorted(moments for _, moments in spent.values()) == [1, 5, 5, 5]


@pytest.mark.exhaustive
def test_a_run_that_fails_prints_the_table_and_writes_nothing(tmp_path):
    code, said, page = run_matrix(tmp_path, fails=True)

    assert (code, page) == (1, PAGE)
    assert "| a failure | 1 | 1 | 120 | 2 | 0 | not at all |" in said
    assert not (tmp_path / "expected").exists()


def test_a_line_says_what_is_under_way_and_how_much_is_left(tmp_path, monkeypatch):
    """Two tests took 100 s and 300 s last time. The first has ended in half its time; the second is a third done."""
    expected = tmp_path / "expected"
    monkeypatch.setenv("STRONGROOM_FAULTS_EXPECTED", str(expected))
    expected.write_text(json.dumps({"tests/test_a.py::test_one": [100, 10], "tests/test_b.py::test_two[x]": [300, 30]}))
    progress = Progress(["tests/test_a.py::test_one", "tests/test_b.py::test_two[x]"], 1, clock=lambda: 100)
    events = [("begin", "tests/test_a.py::test_one", 0, 0.0), ("end", "tests/test_a.py::test_one", 0, 50.0)]
    events += [
        ("begin", "tests/test_b.py::test_two[x]", 0, 50.0),
        ("moments", "tests/test_b.py::test_two[x]", 30, 51.0),
    ]
    events += [("moment", "tests/test_b.py::test_two[x]", 0, 90.0)] * 10

    for event in events:
        progress.take(json.dumps(event))

    assert progress.line() == ("0:00  11 of 31 moments, 1 of 2 tests, about 1:40 left; now b::two[x] 10 of 30")
    assert progress.spent()["tests/test_a.py::test_one"].seconds == 50


@pytest.mark.exhaustive
def test_tests_that_start_stacks_run_in_one_process(tmp_path):
    """Stacks side by side would starve each other, and these tests share theirs."""
    folder = tmp_path / "tests" / "system" / "demo"
    folder.mkdir(parents=True)
    (folder / "test_stacks.py").write_text(OF_STACKS)

    code, said, _ = run_in_two_processes(tmp_path, tmp_path / "page.md")

    processes = (folder / "processes").read_text().split()
    assert (code, len(processes), len(set(processes))) == (0, 6, 1), said
