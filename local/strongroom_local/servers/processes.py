"""Long-running child processes: started in groups of their own, remembered in files, stopped without hitting others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from strongroom.errors import StrongroomError

_POLL_SECONDS = 0.05
_LEAST_FREE_BYTES = 512 * 1024**2


class ServerError(StrongroomError):
    """A server of the local stack could not be found, started or reached."""


@dataclass(frozen=True)
class Account:
    """The user that a server runs as.

    Args:
        uid: User id.
        gid: Group id.
    """

    uid: int
    gid: int


@dataclass(frozen=True)
class ProcessRecord:
    """One process, so that it is never mistaken for a later one with the same pid.

    Args:
        pid: Process id, which is the id of its process group too.
        started_ticks: Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``.
        boot_id: The boot that those ticks count from.
    """

    pid: int
    started_ticks: int
    boot_id: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.boot_id == _boot_id() and _start_of(self.pid) == self.started_ticks


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server detached from this terminal, in its own session and process group.

    Args:
        command: Program and arguments.
        log: File that its output is appended to; created with mode 0600.
        environment: Its whole environment.
        folder: Its working folder.
        account: The user it runs as; None is the current one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    finally:
        os.close(descriptor)


def run_as(account: Account | None, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end as a user, with a bare environment, from the root folder; checks nothing.

    Args:
        account: The user; None is the current one.
        command: Program and arguments.
    """
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=bare_environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )


def bare_environment() -> dict[str, str]:
    """Give a server only what it needs: no PG*, AWS_* or AIRFLOW__* of the caller, and messages in English."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def record_of(process: subprocess.Popen[bytes]) -> ProcessRecord | None:
    """Describe a process that was just started; None when it has ended already."""
    started = _start_of(process.pid)
    return None if started is None else ProcessRecord(process.pid, started, _boot_id())


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Drop the handle of a server that is to outlive us, without Python's warning that it was not waited for."""
    process.returncode = 0


def write_record(path: Path, record: ProcessRecord) -> None:
    """Remember a process in a file."""
    write_private(path, json.dumps(asdict(record)) + "\n")


def read_record(path: Path) -> ProcessRecord | None:
    """Read back what was remembered; None when nothing was, or the file was torn by a crash."""
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def stop(record: ProcessRecord, *, signal_number: int = signal.SIGTERM, timeout_seconds: float) -> None:
    """Ask a process to end, wait, then kill whatever is left of its group. A process that is gone already is fine.

    Args:
        record: The process; a later process with the same pid is left alone.
        signal_number: How it likes to be asked.
        timeout_seconds: How long it may take before it is killed.
    """
    if record.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal_number)
        wait_until(lambda: not record.alive, timeout_seconds)
    kill_group(record)


def stop_group(record: ProcessRecord, *, timeout_seconds: float) -> None:
    """Ask every member of a recorded group to end, wait, then kill what is left.

    Args:
        record: The group's leader, which may be gone already.
        timeout_seconds: How long they may take before they are killed.
    """
    for pid in _members_of(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not _members_of(record), timeout_seconds)
    kill_group(record)


def kill_group(record: ProcessRecord) -> None:
    """Kill what remains of a recorded process's group, orphans included."""
    for pid in _members_of(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _members_of(record), timeout_seconds=5)


def group_alive(record: ProcessRecord) -> bool:
    """Say whether the process or any other member of its group still runs."""
    return bool(_members_of(record))


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Ask again and again until a condition holds; False when the time is over first."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write_private(path: Path, text: str) -> None:
    """Replace a file's text in one step, readable by its owner alone, on disk when this returns."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def tail(log: Path, lines: int = 8) -> str:
    """Give the last lines of a log for an error message; empty when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def require_space(folder: Path) -> None:
    """Refuse to start a server on a disk that is nearly full.

    Raises:
        ServerError: Less than 512 MiB are free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise ServerError(
            f"the disk of {folder} is full",
            expected=f"at least {_LEAST_FREE_BYTES // 1024**2} MiB free",
            found=f"{free_bytes // 1024**2} MiB",
            hint="nothing was started and nothing was lost; free some space and start again",
        )


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Hold a folder against other starters and stoppers of the same servers; waits for its turn."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _members_of(record: ProcessRecord) -> list[int]:
    """List the living members of the session that a recorded process leads, process groups made in it included.

    A pid is not given out again while a session with that number has members, so a session whose leader is gone is
    still the recorded one, and a new leader with another start time shows that it is not.
    """
    if record.boot_id != _boot_id():
        return []
    leader_started = _start_of(record.pid)
    if leader_started is not None and leader_started != record.started_ticks:
        return []
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = _stat_of(int(entry.name))
            if fields is not None and int(fields[3]) == record.pid and int(fields[19]) >= record.started_ticks:
                members.append(int(entry.name))
    return members


def find_program(name: str, product: str, install: str) -> Path:
    """Find a server's program: a wheel puts it beside python, a system has it on the PATH.

    Args:
        name: Of the program.
        product: What it is a server of, for the error.
        install: What to do where it is missing.

    Raises:
        ServerError: This machine has none.
    """
    beside_python = Path(sysconfig.get_path("scripts")) / name
    if beside_python.exists():
        return beside_python
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    raise ServerError(
        f"there is no {product} on this machine",
        expected=f"{beside_python}, or {name} on the PATH",
        hint=f"nothing was started; {install}",
    )


def _start_of(pid: int) -> int | None:
    fields = _stat_of(pid)
    return None if fields is None else int(fields[19])


def _stat_of(pid: int) -> list[str] | None:
    """Split ``/proc/PID/stat`` from its third field (state) on; None when the process is gone or a zombie.

    A zombie of our own is reaped on the way: PostgreSQL takes the pid in its stale lock file for a living server as
    long as signals can be sent to it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the program's name in brackets, may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return None
    return fields


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
