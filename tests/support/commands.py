"""The `airflow` command, forked off a process that has imported all that it needs: that takes four CPU seconds each time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

_SECONDS = 120


def fork_airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real `airflow` command to its end, in a process and with the environment of this moment; its output is text.

    Airflow's own settings are those of the first call.
    """
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["tests.support.airflow_ahead"])
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        forked = forking.Process(
            target=_airflow, args=(arguments, dict(os.environ), DupFd(output.fileno()), DupFd(errors.fileno()))
        )
        forked.start()
        forked.join(_SECONDS)
        if forked.exitcode is None:
            forked.kill()
            raise subprocess.TimeoutExpired(["airflow", *arguments], _SECONDS)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(["airflow", *arguments], forked.exitcode, output.read(), errors.read())


def _airflow(arguments: Sequence[str], environment: dict[str, str], output: Any, errors: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output.detach(), 1)
    os.dup2(errors.detach(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main

    main()
