"""Each test session has a folder for its servers. The next session removes what killed sessions left behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.processes import exclusively, kill_group, read_record
from strongroom_local.servers.redis import RedisServer
from strongroom_local.servers.s3 import ObjectStore
from strongroom_local.servers.stack import Stack

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30


def _folder() -> Path:
    """In RAM if the machine has enough, because the servers sync each write and nothing needs to survive a reboot."""
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).total >= _ROOM_BYTES:
        clone = hashlib.sha256(bytes(REPOSITORY)).hexdigest()[:8]
        return _MEMORY / f"strongroom-test-{os.getuid()}-{clone}"
    return REPOSITORY / ".strongroom" / "test"


SESSIONS = _folder()


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that no other test session uses, removed at the end."""
    SESSIONS.mkdir(parents=True, exist_ok=True)
    with exclusively(SESSIONS):
        sweep_dead_sessions()
        folder = SESSIONS / secrets.token_hex(4)
        folder.mkdir()
        lock = _try_lock(folder)
    assert lock is not None, f"somebody else locked {folder}, which was made a moment ago"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_dead_sessions() -> None:
    """Stop the servers and remove the folders of sessions whose pytest was killed. A living session holds its lock."""
    for folder in filter(Path.is_dir, list(SESSIONS.iterdir())):
        lock = _try_lock(folder)
        if lock is None:
            continue
        for worker in list(folder.glob("**/run/worker-*.pid")):
            if (record := read_record(worker)) is not None:
                kill_group(record)
        for state in list(folder.glob("**/redis.json")):
            RedisServer(state.parent).destroy()
        for state in list(folder.glob("**/stack.json")):
            Stack(state.parent).destroy()
        for state in list(folder.glob("**/postgres.json")):
            PostgresServer(state.parent).destroy()
        for state in list(folder.glob("**/store.json")):
            ObjectStore(state.parent).destroy()
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Take a session's lock for as long as this process lives. Return None if another process has it."""
    descriptor = os.open(folder / "session.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
