"""`make demo` as a newcomer runs it, with few rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from strongroom.settings import FILE_VARIABLE
from strongroom_local.servers.stack import Stack
from tests.system.helpers import configuration_of
from tests.system.sample_rows import CALL_RECORDS


@dataclass(frozen=True)
class Demonstration:
    """What a demo printed, and its demo.json."""

    output: str
    result: dict[str, Any]


def start_demo(stack: Stack, *words: str) -> subprocess.Popen[str]:
    """Start the demo without the settings of other tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM")}
    configuration = configuration_of(stack)
    if configuration.exists():
        environment[FILE_VARIABLE] = str(configuration)
    command = [sys.executable, "-m", "strongroom_local", "--folder", str(stack.folder), "demo"]
    return subprocess.Popen(
        [*command, "--rows", str(CALL_RECORDS), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": "1"},
    )


def run_demo(stack: Stack, *words: str) -> Demonstration:
    """Run a demo that succeeds."""
    with start_demo(stack, *words) as demo:
        output, _ = demo.communicate(timeout=1800)
    assert demo.returncode == 0, output
    return Demonstration(output, json.loads((stack.folder / "demo.json").read_text()))
