"""Staging on S3, for workers that share no folder.

A step works in its own folder on its own machine, fetches what it needs and uploads what it wrote. An object is named after
its file *and the SHA-256 of its content*, so two tries of a step never overwrite each other; the record, which is written
last, says which of the two counts. The sum of a file is checked while it is fetched. A record is written only over the one
that was read: of two tries at work at the same time, only one succeeds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from strongroom.errors import IntegrityError, StagingError
from strongroom.records import Sha256
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging import Staging, StagingRoot, checked_name, is_name
from strongroom.storage.staging_folder import FolderStaging, translated

ROOT = "staging/"
"""The folder of all staging objects, below the prefix of the settings."""

_SETTING = "scratch"
_LOCK = ".lock"


class S3Root(StagingRoot):
    """A bucket and prefix, and for each step a folder of its own machine.

    Args:
        store: Its identity may remove what it wrote.
        scratch: Folder of this machine; created if missing, readable by its owner only.
    """

    def __init__(self, store: PurgeStore, scratch: str | Path) -> None:
        self._store = store
        self._scratch = Path(scratch)

    def of(self, *names: str) -> S3Staging:
        place = "".join(f"{checked_name(name)}/" for name in names)
        return S3Staging(self._store, ROOT + place, Scratch(self._scratch))

    def children(self, *names: str) -> list[str]:
        place = ROOT + "".join(f"{name}/" for name in names)
        found = {version.key.removeprefix(place).partition("/") for version in self._store.versions(place)}
        return sorted({name for name, slash, _ in found if slash and is_name(name)})

    def touched_at(self, *names: str) -> datetime:
        place = ROOT + "".join(f"{name}/" for name in names)
        written = [version.modified_at for version in self._store.versions(place)]
        return max(written, default=datetime.now(timezone.utc))


class S3Staging(Staging):
    """The staging of one archive below a prefix.

    Args:
        store: As for :class:`S3Root`.
        place: Prefix of this archive's objects, with its final slash.
        scratch: The step's own folder.
    """

    def __init__(self, store: PurgeStore, place: str, scratch: Scratch) -> None:
        self._store = store
        self._place = place
        self._scratch = scratch
        self._sums: dict[Path, Sha256] = {}
        self._etags: dict[str, str | None] = {}

    def __str__(self) -> str:
        return f"{self._store}{self._place.rstrip('/')}"

    @property
    def folder(self) -> Path:
        return self.local.folder

    @property
    def local(self) -> FolderStaging:
        return self._scratch.staging

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[list[IO[bytes]]]:
        with self.local.writing(*paths) as handles:
            yield handles
        for path in paths:
            self._sums[path] = self.local.sha256_of(path)
            self._store.put_file(
                self._key(path, self._sums[path]),
                path,
                sha256=self._sums[path],
                content_type="application/octet-stream",
                metadata={},
            )

    def fetch(self, path: Path, sha256: Sha256) -> Path | None:
        """Download a file, unless this step wrote or fetched it already. A damaged one is removed from staging."""
        if self._sums.get(path) == sha256 and path.exists():
            return path
        key = self._key(path, sha256)
        present = self._store.head(key)
        if present is None:
            return None
        digest = hashlib.sha256()
        with self.local.writing(path) as [handle]:
            for chunk in self._store.chunks(key, present.version_id):
                digest.update(chunk)
                handle.write(chunk)
            if digest.hexdigest() != sha256:
                self._remove(key)
                raise IntegrityError(
                    f"{self._store}{key} is damaged",
                    expected=f"SHA-256 {sha256}",
                    found=digest.hexdigest(),
                    hint="No row was deleted because of it, and it was removed from staging. "
                    "Clear 'plan' and the tasks after it to read the rows again.",
                )
        self._sums[path] = sha256
        return path

    def has(self, path: Path, sha256: Sha256) -> bool:
        return self._store.head(self._key(path, sha256)) is not None

    def sha256_of(self, path: Path) -> Sha256:
        return self._sums[path]

    def discard(self, path: Path) -> None:
        self._sums.pop(path, None)
        self.local.discard(path)
        self._remove(f"{self._place}{path.name}/")

    def clear(self) -> None:
        self._remove(self._place)
        self._etags.clear()

    def close(self) -> None:
        self._sums.clear()
        self._scratch.remove()

    def _key(self, path: Path, sha256: Sha256) -> str:
        return f"{self._place}{path.name}/{sha256}"

    def _remove(self, prefix: str) -> None:
        """Remove all versions of all objects there: a versioned bucket keeps what is merely hidden."""
        for version in self._store.versions(prefix):
            self._store.remove(version)

    def _where(self, name: str) -> str:
        return f"{self._store}{self._place}{name}"

    def _read_record(self, name: str) -> bytes | None:
        present = self._store.read(self._place + name)
        self._etags[name] = None if present is None else present[1]
        return None if present is None else present[0]

    def _write_record(self, name: str, content: bytes) -> None:
        if name not in self._etags:
            self._read_record(name)
        written = self._store.swap(self._place + name, content, etag=self._etags[name])
        if written is None and self._read_record(name) != content:  # equal: the answer to our own request was lost
            del self._etags[name]
            raise StagingError(
                f"another process is writing {self._where(name)}",
                hint="Nothing was changed by this try. Another try of this task is at work, or has just ended; Airflow ends "
                "the try that it gave up on within minutes, and the task tries again by itself.",
            )
        self._etags[name] = written or self._etags[name]

    def _put_aside(self, name: str) -> None:
        key = self._place + name
        present = self._store.read(key)
        if present is not None:
            self._store.swap(f"{key}.damaged", present[0], etag=None)
        for version in self._store.versions(key):
            if version.key == key:
                self._store.remove(version)
        self._etags[name] = None


class Scratch:
    """A folder of one step on its own machine, created when it is needed.

    It stays locked while its process is alive. Creating one removes the folders whose process was killed.

    Args:
        root: Holds the folders of all steps of this machine.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: tuple[FolderStaging, int] | None = None

    @property
    def staging(self) -> FolderStaging:
        """The folder, as staging that no other step sees and that need not survive a crash of the machine."""
        if self._made is None:
            with translated(self._root, _SETTING, "make a folder in", self._root):
                self._made = self._make()
        return self._made[0]

    def remove(self) -> None:
        """Remove the folder."""
        if self._made is not None:
            staging, lock = self._made
            self._made = None
            with _held(self._root / _LOCK):  # a search for dead folders would create a lock in one that is half removed
                staging.clear()
            os.close(lock)

    def _make(self) -> tuple[FolderStaging, int]:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(self._root / _LOCK):  # a folder that is not locked yet must not look dead
            self._sweep()
            staging = FolderStaging(self._root, f"step-{secrets.token_hex(8)}", setting=_SETTING, durable=False)
            staging.folder.mkdir(mode=0o700)
            return staging, _lock(staging.folder / _LOCK)

    def _sweep(self) -> None:
        for folder in self._root.glob("step-*"):
            with suppress(BlockingIOError):
                lock = _lock(folder / _LOCK, wait=False)
                shutil.rmtree(folder)
                os.close(lock)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, *, wait: bool = True) -> int:
    """Lock a file until this process ends or the returned descriptor is closed.

    Raises:
        BlockingIOError: Another process has the lock, and ``wait`` is false.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
