"""Runs a contender that is a process of its own, and divides its time into steps by what it prints."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.usage import Laps, Meter, Step, Usage
from strongroom_local.servers.processes import ServerError

_STEP_BEGINS = re.compile(r"^step: (.+)$")
_LAST_LINES = 20


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        ServerError: It ended with an error.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=Path("/"))
    if done.returncode != 0:
        raise _failure(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


def run_in_steps(
    command: Sequence[str],
    environment: Mapping[str, str],
    meter: Meter,
    first: str,
    marks: Mapping[str, str] | None = None,
) -> tuple[Usage, tuple[Step, ...]]:
    """Run a command to its end and measure it, as a whole and step by step.

    Args:
        first: The step that it begins with.
        marks: Which step begins when a line has certain words in it. A line ``step: NAME`` always begins one.

    Raises:
        ServerError: It ended with an error.
    """
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with meter.measured() as usage:
        laps = Laps(meter, first)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path("/")
        )
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                last.append(line)
                for name in steps_begun(line, marks or {}):
                    laps.begin(name)
        steps = laps.end()
    if process.returncode != 0:
        raise _failure(command, process.returncode, "".join(last))
    return usage, steps


def steps_begun(line: str, marks: Mapping[str, str]) -> Iterator[str]:
    """The steps that begin with this line of a contender's output."""
    if begun := _STEP_BEGINS.match(line.rstrip()):
        yield begun[1]
    yield from (name for words, name in marks.items() if words in line)


def _failure(command: Sequence[str], code: int, printed: str) -> ServerError:
    return ServerError(
        f"{command[0]} ended with {code}",
        found=printed[-800:],
        hint="the bench works on databases of its own; nothing else was touched",
    )
