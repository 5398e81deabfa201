"""A restore of a unit as a process of its own, which ends or stops itself at a moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from strongroom.restore import load as loading
from strongroom.restore.progress import RestoreProgress
from strongroom.restore.records import RestorePlan
from strongroom.storage.staging import Staging
from tests.support import restoring
from tests.system.faults.steps import Place

BATCH_ROWS = 140
_FORKSERVER = multiprocessing.get_context("forkserver")


def load_in_a_process(place: Place, plan: RestorePlan, *, moment: int | None, sent: int = signal.SIGKILL):
    """Start a process that loads a plan.

    Args:
        moment: At the one with this number the process sends itself a signal; None means never. Each try of a batch is one, in its
            transaction before a row is changed, and so is each commit, before it is noted.
        sent: The signal.
    """
    _FORKSERVER.set_forkserver_preload(["tests.system.faults.warm"])
    arguments = (place, plan.model_dump_json(), moment, sent)
    process = _FORKSERVER.Process(target=_load, args=arguments, daemon=True)
    process.start()
    return process


def _load(place: Place, plan: str, last: int | None, sent: int) -> None:
    sys.stderr = (place.folder / "stderr").open("w")
    loading.BATCH_ROWS = loading.COMPARED_ROWS = BATCH_ROWS
    moments = 0

    def happens(*_: object) -> None:
        nonlocal moments
        if moments == last:
            os.kill(os.getpid(), sent)
        moments += 1

    save = Staging.save

    def save_after(staging: Staging, record: object) -> None:
        if isinstance(record, RestoreProgress):
            happens()
        save(staging, record)  # type: ignore[arg-type]

    Staging.save = save_after  # type: ignore[assignment, method-assign]
    restoring.load(place.chain(), RestorePlan.model_validate_json(plan), on_batch=happens)


def wait_until_stopped(pid: int) -> None:
    """Wait until a process was stopped by SIGSTOP."""
    for _ in range(6000):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} did not stop within a minute")
