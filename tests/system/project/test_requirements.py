"""What `make lint` requires of requirements.lock, and that our shell scripts have no syntax errors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

SCRIPTS = [
    path
    for path in sorted([*(REPOSITORY / "deploy").iterdir(), REPOSITORY / ".ci" / "run"])
    if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash")
]
HASH = f"    --hash=sha256:{'0' * 64}"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPOSITORY / "deploy" / "check-lock", path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "bench/peers/requirements.lock", "deploy/tlog/requirements.lock"]
)
def test_the_lock_is_in_order(lock):
    checked = check(REPOSITORY / lock)

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("one==1.0\n", "one has no hash"),
        (f"one==1.0 \\\n{HASH}\none==1.1 \\\n{HASH}\n", "one is listed 2 times"),
        (f"one==1.0 ; python_full_version < '3.11' \\\n{HASH}\none==1.1 \\\n{HASH}\n", "one is listed 2 times"),
        (f"one>=1.0 \\\n{HASH}\n", "line 1 is neither a pinned package nor a hash"),
        (f"one @ https://example.org/one.whl \\\n{HASH}\n", "line 1 is neither"),
        (f"--index-url https://example.org/simple\none==1.0 \\\n{HASH}\n", "line 1 is neither"),
        ("one==1.0 \\\n    --hash=md5:00000000000000000000000000000000\n", "line 2 is neither"),
    ],
)
def test_a_lock_that_is_not_in_order_is_refused(tmp_path, lock, fault):
    path = tmp_path / "requirements.lock"
    path.write_text(lock)

    checked = check(path)

    assert checked.returncode == 1
    assert fault in checked.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_can_be_read_to_its_end(script):
    """A shell parses a line only when it gets there, so an error after an early exit would show up only on another machine."""
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False).stderr == ""
