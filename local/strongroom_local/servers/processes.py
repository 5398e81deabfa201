"""Long-running child processes: each starts its own group, is recorded in a file, and is stopped without hitting others."""

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

    code = "SR-902"


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
    """Identifies one process, so that a later one with the same pid is not mistaken for it.

    Args:
        pid: Process id, which is also its process group id.
        started_ticks: Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``.
        boot_id: Identifies the boot that the ticks count from.
    """

    pid: int
    started_ticks: int
    boot_id: str

    @property
    def alive(self) -> bool:
        """Whether this same process still runs. A zombie does not."""
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
        log: File that its output is appended to; created with mode 0600 if missing.
        environment: Its complete environment.
        folder: Its working folder.
        account: The user it runs as; None means the current user.
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
    """Run a short command as a user, with a bare environment, in the root folder. Does not check its exit status.

    Args:
        account: The user; None means the current user.
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
    """Return only what a server needs: none of the caller's PG*, AWS_* or AIRFLOW__*, and messages in English."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def record_of(process: subprocess.Popen[bytes]) -> ProcessRecord | None:
    """Describe a process that was just started; None if it has already ended."""
    started = _start_of(process.pid)
    return None if started is None else ProcessRecord(process.pid, started, _boot_id())


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Drop the handle of a server that outlives us, without Python's warning that nobody waited for it."""
    process.returncode = 0


def write_record(path: Path, record: ProcessRecord) -> None:
    """Record a process in a file."""
    write_private(path, json.dumps(asdict(record)) + "\n")


def read_record(path: Path) -> ProcessRecord | None:
    """Read a process record; None if there is none, or a crash left it incomplete."""
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def stop(record: ProcessRecord, *, signal_number: int = signal.SIGTERM, timeout_seconds: float) -> None:
    """Ask a process to end, wait, then kill what is left of its group. Safe to repeat.

    Args:
        record: The process; a later process with the same pid is left alone.
        signal_number: The signal that asks it to end.
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
        record: The group's leader, which may already have ended.
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
    """Whether the process or any other member of its group still runs."""
    return bool(_members_of(record))


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll until a condition holds; False on timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically. Only its owner can read it, and it is on disk when this returns."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log, for an error message; empty if there is no log."""
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
            hint="nothing was started or lost; free some space and start again",
        )


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Lock a folder, so that two processes do not start or stop its servers at once. Waits for the lock."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _members_of(record: ProcessRecord) -> list[int]:
    """List the living members of the session that a recorded process leads, whatever their process group.

    The kernel does not reuse a pid while a session with that number has members. So a session whose leader has ended is
    still the recorded one. A leader with another start time leads a new one.
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
    """Find a server's program: beside Python, where a wheel puts it, or on the PATH.

    Args:
        name: The program's name.
        product: The product's name, for the error.
        install: What to do if it is missing, for the hint.

    Raises:
        ServerError: This machine does not have it.
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
    """Split ``/proc/PID/stat`` from its third field (state) on; None if the process has ended or is a zombie.

    Zombies of our own are reaped here: PostgreSQL believes that the pid in its stale lock file is a live server as long
    as that pid accepts signals.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the program's name in brackets, may itself contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return None
    return fields


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
