"""A real Prometheus on loopback, and its promtool."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.support.repository import REPOSITORY


@cache
def find_promtool() -> Path:
    """The program; Prometheus itself lies beside it. It is fetched if it is not there, and whoever needs it fails if that fails."""
    found = subprocess.run(
        [REPOSITORY / "deploy" / "find-promtool", "--install"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(found.stderr)
    return Path(found.stdout.strip())
