"""Real commands, forked from a process that has imported all that they need. Importing it takes four CPU seconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import IO, Any

_SECONDS = 600
"""More than a run of a whole DAG takes at load 20."""


def fork_airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real `airflow` command to its end in another process, with the current environment. Its output is text.

    Airflow's own settings are read at the first call and stay.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        forked = start("airflow.__main__", *arguments, output=output, errors=errors)
        forked.join(_SECONDS)
        if forked.exitcode is None:
            forked.kill()
            raise subprocess.TimeoutExpired(["airflow", *arguments], _SECONDS)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(["airflow", *arguments], forked.exitcode, output.read(), errors.read())


def start(
    program: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    output: IO[str] = sys.__stdout__,
    errors: IO[str] = sys.__stderr__,
) -> BaseProcess:
    """Run a module's `main` in another process, as `python -m` would.

    Args:
        program: The module.
        environment: All of its environment variables; None means the current ones.
        output: Where its output goes.
        errors: Where its errors go.
    """
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["tests.support.airflow_ahead"])
    given = dict(os.environ if environment is None else environment)
    forked = forking.Process(
        target=_run, args=(program, arguments, given, DupFd(output.fileno()), DupFd(errors.fileno()))
    )
    forked.start()
    return forked


def _run(program: str, arguments: Sequence[str], environment: dict[str, str], output: Any, errors: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output.detach(), 1)
    os.dup2(errors.detach(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = [program.removesuffix(".__main__"), *arguments]
    sys.exit(import_module(program).main())
