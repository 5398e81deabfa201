"""The steps as processes: one process runs one step, and can be killed with kill -9.

Python's audit events show what happens in staging, and the process can kill itself at any of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from strongroom.errors import StrongroomError
from strongroom.formats import blocks
from strongroom_airflow.stopping import StoppedError, Stopping
from tests.support.proxies import Moment
from tests.system.faults.steps import BLOCK_ROWS, Place, Steps

STOPPED = 15
"""Exit code of a step that got SIGTERM."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_IN_FOLDERS = frozenset({"os.remove", "os.rmdir"})
_STAGING_EVENTS = frozenset({"open", "os.rename", "os.mkdir", "shutil.rmtree"}) | _IN_FOLDERS


@dataclass(frozen=True)
class Ending:
    """How a process is to end before its work is done.

    Attributes:
        at_staging_event: Kill -9 before the staging event with this number; None means no kill.
        at_file_size: The kernel kills it in the write that would make a file longer than this many bytes.
        on_full_disk: The same write fails instead, as on a full disk.

    SIGTERM ends it as it ends an Airflow task: with :data:`STOPPED`, after it has undone unfinished work.
    """

    at_staging_event: int | None = None
    at_file_size: int | None = None
    on_full_disk: int | None = None


def step_process(place: Place, name: str, ending: Ending | None = None) -> Any:
    """A process that will run one step. The caller starts it and later reads its exit code.

    It is forked from a small server process that has the modules and the S3 service model loaded, and no threads.
    """
    _FORKSERVER.set_forkserver_preload(["tests.system.faults.warm"])
    return _Process(target=_run, args=(place, name, ending or Ending()), daemon=True)


class KillAt:
    """A watch of proxies: kill -9 a process at the numbered moment among those that count. No message passes afterwards."""

    def __init__(self, number: int, counted: Callable[[Moment], bool]) -> None:
        self._left, self._counted = number, counted
        self._lock = threading.Lock()
        self._process: Any = None
        self.moment: Moment | None = None

    def __call__(self, moment: Moment) -> bool:
        with self._lock:
            if self.moment is not None:
                return False
            if not self._counted(moment):
                return True
            if self._left:
                self._left -= 1
                return True
            self.moment = moment
        self._process.kill()
        return False

    def run(self, process: Any, seconds: float) -> bool:
        """Run a process to its end; whether it was killed before."""
        self._process = process
        process.start()
        process.join(seconds)
        return bool(process.exitcode == -signal.SIGKILL)


_FORKSERVER = multiprocessing.get_context("forkserver")


class _Process(_FORKSERVER.Process):  # type: ignore[name-defined, misc]
    """A process that can be used while other threads also start and join processes.

    Each start reaps all children that ended. If another thread asks for the exit code of one at the same moment, one of the
    two finds it already reaped, and multiprocessing reports 255.
    """

    _one_at_a_time = threading.Lock()

    def start(self) -> None:
        with self._one_at_a_time:
            super().start()

    def join(self, timeout: float | None = None) -> None:
        wait([self.sentinel], timeout)
        with self._one_at_a_time:
            super().join(0)

    @property
    def exitcode(self) -> int | None:
        with self._one_at_a_time:
            code: int | None = super().exitcode
            return code


def staging_events(place: Place) -> list[str]:
    """The staging events of the last undisturbed step."""
    found: list[str] = json.loads((place.folder / "staging-events").read_text())
    return found


def _run(place: Place, name: str, ending: Ending) -> None:
    blocks.BLOCK_ROWS = BLOCK_ROWS
    sys.stderr = (place.folder / "stderr").open("w")
    events = _watch_staging(place, ending.at_staging_event)
    if ending.at_file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ending.at_file_size, ending.at_file_size))
    if ending.on_full_disk is not None:  # Python ignores SIGXFSZ, so the write fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (ending.on_full_disk, resource.RLIM_INFINITY))
    stopping = Stopping()
    signal.signal(signal.SIGTERM, lambda *_: stopping.stop())
    try:
        with stopping.working():
            Steps(place).run(name)
    except StoppedError:
        sys.exit(STOPPED)
    except StrongroomError:
        if ending.on_full_disk is not None:  # the error itself may be written
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        raise
    (place.folder / "staging-events").write_text(json.dumps(events))


def _watch_staging(place: Place, last: int | None) -> list[str]:
    root = str(place.settings.staging)
    events: list[str] = []
    lock = threading.Lock()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _STAGING_EVENTS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        inside = path.startswith(root)
        if event == "open":
            concerned = inside and (arguments[2] & _WRITING or Path(path).is_dir())  # a folder is opened to be synced
        else:
            concerned = inside or (event in _IN_FOLDERS and arguments[1] >= 0)  # rmtree names files by their folder
        if not concerned:
            return
        with lock:
            if len(events) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            events.append(f"{event} {path.removeprefix(root)}")

    sys.addaudithook(hook)
    return events
