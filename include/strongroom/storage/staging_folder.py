"""Staging in a folder that all workers share.

A file appears under its final name only when it is complete and on disk. What a killed task leaves is a ``.partial`` file,
which the next try overwrites. A try that Airflow gave up on but that is still alive holds a lock on its ``.partial`` file, so
two tries never write to the same one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from strongroom.errors import NO_ROOM, StagingError
from strongroom.records import Sha256

if TYPE_CHECKING:
    pass
from strongroom.storage.staging import Staging, StagingRoot, checked_name, is_name


class FolderRoot(StagingRoot):
    """A folder.

    Args:
        path: Created if missing, readable by its owner only.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def of(self, *names: str) -> FolderStaging:
        *outer, name = map(checked_name, names)
        return FolderStaging(self._path.joinpath(*outer), name)

    def children(self, *names: str) -> list[str]:
        folder = self._path.joinpath(*names)
        found = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
        return [path.name for path in found if path.is_dir() and not path.is_symlink() and is_name(path.name)]

    def touched_at(self, *names: str) -> datetime:
        folder = self._path.joinpath(*names)
        try:
            latest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
        except FileNotFoundError:  # a task at work just removed a file
            return datetime.now(timezone.utc)
        return datetime.fromtimestamp(latest, timezone.utc)


class FolderStaging(Staging):
    """The staging folder of one archive, which all workers reach under the same name.

    Args:
        root: Folder that holds it; created if missing, readable by its owner only.
        name: The archive's id, or the restore's.
        setting: The setting that names the folder, for errors.
        durable: Whether a file must survive the machine.

    Raises:
        StagingError: It is not a valid name; its folder could be anywhere.
    """

    def __init__(self, root: str | Path, name: str, *, setting: str = "staging", durable: bool = True) -> None:
        self.root = Path(root)
        self._folder = self.root / checked_name(name)
        self._setting = setting
        self._durable = durable

    def __str__(self) -> str:
        return str(self._folder)

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def local(self) -> FolderStaging:
        return self

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[list[IO[bytes]]]:
        partial = [path.with_name(f"{path.name}.partial") for path in paths]
        with self._translated("write", paths[0]), ExitStack() as locks:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in partial:
                locks.enter_context(_locked(path))
            handles: list[IO[bytes]] = []
            try:
                handles.extend(path.open("wb", buffering=1 << 20) for path in partial)
                yield handles
                for handle in handles:
                    handle.flush()
                    if self._durable:
                        os.fsync(handle.fileno())
            except BaseException:
                for handle in handles:
                    _close_quietly(handle)
                for path in partial:
                    path.unlink(missing_ok=True)
                raise
            for handle in handles:
                handle.close()
            for path, final in zip(partial, paths, strict=True):
                path.replace(final)
            if self._durable:
                self._sync_folder()

    def fetch(self, path: Path, sha256: Sha256) -> Path | None:
        """The file as it is; each step computes the sum of what it reads."""
        return path if self.has(path, sha256) else None

    def has(self, path: Path, sha256: Sha256) -> bool:  # noqa: ARG002 (one name has one file)
        return path.exists()

    def sha256_of(self, path: Path) -> Sha256:
        digest = hashlib.sha256()
        with path.open("rb") as handle:
            for block in iter(partial(handle.read, 1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()

    def discard(self, path: Path) -> None:
        with self._translated("remove", path):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        with self._translated("remove", self.folder):
            if self.folder.exists():
                shutil.rmtree(self.folder)

    def _where(self, name: str) -> str:
        return str(self.folder / name)

    def _read_record(self, name: str) -> bytes | None:
        path = self.folder / name
        with self._translated("read", path):
            return path.read_bytes() if path.exists() else None

    def _write_record(self, name: str, content: bytes) -> None:
        with self.writing(self.folder / name) as [handle]:
            handle.write(content)

    def _put_aside(self, name: str) -> None:
        path = self.folder / name
        with self._translated("read", path):
            path.replace(path.with_name(f"{name}.damaged"))

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _translated(self, doing: str, path: Path) -> Iterator[None]:
        with translated(self.root, self._setting, doing, path):
            yield


def free_bytes(folder: Path, setting: str) -> int:
    """Free space on the disk of a folder, which is created if missing.

    Args:
        setting: The setting that names it, for errors.
    """
    with translated(folder, setting, "look at", folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return shutil.disk_usage(folder).free


@contextmanager
def translated(root: Path, setting: str, doing: str, path: Path) -> Iterator[None]:
    """Turn the system's errors about staging files into errors that say what, where and what to do."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise  # not about a staging file, but a connection, for example
        if error.errno in NO_ROOM:
            raise StagingError(
                f"staging has no room left to {doing} {path}",
                found=f"{shutil.disk_usage(root).free} bytes free on its disk" if root.exists() else None,
                hint="Nothing is lost: the unfinished file was removed, and no row is deleted before its archive is "
                f"proved. Free space, or point `{setting}` at a larger disk, or lower `part_rows`, `part_bytes` or "
                "`max_parallel_parts`; the task then tries again.",
            ) from None
        raise StagingError(
            f"staging could not {doing} {path}",
            found=error.strerror,
            hint="No row is deleted before its archive is proved. "
            f"See that `{setting}` names a folder that the Airflow worker may write.",
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file for this process; it is created if missing. The lock ends with the process, however that ends."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StagingError(
                    f"another process is writing {path}",
                    hint="Nothing was changed. An earlier try of this task is still alive; Airflow ends it within "
                    "minutes, and the task tries again by itself.",
                ) from None
            if _is_at(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name: its previous owner may have finished and renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _close_quietly(handle: IO[bytes]) -> None:
    # Closing flushes, and flushing to a full disk fails again; report the first error.
    try:
        handle.close()
    except OSError:
        return
