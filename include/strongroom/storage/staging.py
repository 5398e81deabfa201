"""Scratch space between the steps of a run: a place per archive, a few files per part.

Where all workers share a folder it is that (:class:`FolderStaging`); where they do not it is a prefix on S3
(:mod:`strongroom.storage.staging_s3`). A step sees no difference: it works on files of its own machine, says which file of an
earlier step it needs, by its sum, and keeps what it made. The record of a finished step lies beside the files, so that a
repeat of the step finds it and does not work twice.

In a folder a file appears under its final name only when it is complete and on disk; what a killed task leaves is a
``.partial`` file that the next try overwrites. A try that Airflow gave up and that still lives has its ``.partial`` file
locked, so that two never write into one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from strongroom.errors import NO_ROOM, IntegrityError, StagingError
from strongroom.object_keys import part_file, part_name
from strongroom.records import PartKind, PlannedPart, Sha256, narrow, parse_record

if TYPE_CHECKING:
    from typing_extensions import Self

OF_RESTORES = "restores"
"""Where restores have their staging: a place for each of them, and in it one for each archive."""

_CLEAR = "Nothing was uploaded or deleted because of it. Another version wrote it: clear 'plan' and the tasks after it."
_FOLDER = re.compile(r"(?!\.+$)[A-Za-z0-9_.%-]+")


class Staging(ABC):
    """The scratch space of one archive, as one step sees it; a context manager, because a step may leave files of its own.

    Its paths are those of files on this machine.
    """

    @property
    @abstractmethod
    def folder(self) -> Path:
        """A folder of this machine that is there, for files of this step."""

    @property
    @abstractmethod
    def local(self) -> FolderStaging:
        """For files that no other step needs: what is written here may be gone with this step."""

    def original(self, number: int, format: str = "jsonl") -> Path:
        """What extract_to_staging wrote of one part: its JSON lines, or its parquet file."""
        return self.folder / part_file(number, "none", format)

    def compressed(self, number: int, compression_type: str, format: str = "jsonl") -> Path:
        """Compressed JSON lines of one part; the original itself when compression is off, or inside of parquet."""
        return self.folder / part_file(number, compression_type, format)

    def keys(self, number: int) -> Path:
        """Primary keys and row digests of one part, as COPY reads them, in the order of the JSON lines."""
        return self.folder / f"{part_name(number)}.keys"

    @abstractmethod
    def writing(self, *paths: Path) -> AbstractContextManager[list[IO[bytes]]]:
        """Open files for writing; they are kept only if the block ends well.

        Raises:
            StagingError: The disk is full, the folder cannot be written, or another process is writing these files.
        """

    @abstractmethod
    def fetch(self, path: Path, sha256: Sha256) -> Path | None:
        """Bring a file of an earlier step to this machine, or say that there is none.

        Args:
            path: From this staging.
            sha256: Of the very file that is meant: another try of that step may have written another one.

        Raises:
            IntegrityError: On its way or where it lay it has become another.
        """

    @abstractmethod
    def holds(self, path: Path, sha256: Sha256) -> bool:
        """Whether :meth:`fetch` would find something."""

    @abstractmethod
    def sha256_of(self, path: Path) -> Sha256:
        """Sum of a file that this step wrote."""

    def save(self, record: PlannedPart) -> None:
        """Keep the record of a finished step, under a line with its sum."""
        body = record.model_dump_json(indent=2).encode()
        name = _record_name(type(record), record.number)
        self._write_record(name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def load(self, kind: type[PartKind], number: int) -> PartKind | None:
        """The record that a step kept, or None.

        Raises:
            IntegrityError: It is damaged. It is put aside, so that a repeat finds none and does the step again.
        """
        name = _record_name(kind, number)
        present = self._read_record(name)
        if present is None:
            return None
        written, _, body = present.partition(b"\n")
        found = hashlib.sha256(body).hexdigest()
        if written == found.encode():
            return parse_record(kind, body, where=self._where(name), what="a record of this version", hint=_CLEAR)
        self._put_aside(name)
        raise IntegrityError(
            f"{self._where(name)} is damaged",
            expected=f"SHA-256 {written[:64].decode(errors='replace')}",
            found=found,
            hint=f"Nothing was uploaded or deleted because of it, and it was put aside as {name}.damaged. Look after "
            "the disk that staging lies on, then clear this task: it does its step again.",
        )

    def finished(self, kind: type[PartKind], part: PlannedPart) -> PartKind | None:
        """The record of a step that is already finished for this very part, or None.

        A plan that was made anew may have cut other parts under the same numbers; their records are not this part's.
        """
        record = self.load(kind, part.number)
        return record if record is not None and narrow(record, type(part)) == part else None

    @abstractmethod
    def discard(self, path: Path) -> None:
        """Remove one file if it is there, whichever try wrote it."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything of this archive."""

    def close(self) -> None:  # noqa: B027 (a shared folder leaves nothing)
        """Remove what only this step needed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _where(self, name: str) -> str:
        """The place of a record, for people."""

    @abstractmethod
    def _read_record(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _write_record(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _put_aside(self, name: str) -> None: ...


class StagingRoot(ABC):
    """Where all staging lies."""

    @abstractmethod
    def of(self, *names: str) -> Staging:
        """The staging of an archive, or of what else the names say, outermost first.

        Raises:
            StagingError: One is no such name; it might lie anywhere.
        """

    @abstractmethod
    def children(self, *names: str) -> list[str]:
        """Names of what has staging in a place."""

    @abstractmethod
    def touched_at(self, *names: str) -> datetime:
        """When something was written there last."""


class FolderRoot(StagingRoot):
    """A folder.

    Args:
        path: Made when missing, readable by its owner only.
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
        root: Folder that holds it; made when missing, readable by its owner only.
        name: The archive's id, or the restore's.
        setting: What names the folder in the settings, for errors.
        durable: Whether a file must survive the machine.

    Raises:
        StagingError: It is no such name; its folder might lie anywhere.
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
        """The file as it lies; each step sums up what it reads."""
        return path if self.holds(path, sha256) else None

    def holds(self, path: Path, sha256: Sha256) -> bool:  # noqa: ARG002 (there is one file of a name)
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


def is_name(name: str) -> bool:
    """Whether a name is one folder, and no way out of it."""
    return _FOLDER.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """The same name, if it is one.

    Raises:
        StagingError: It is none.
    """
    if is_name(name):
        return name
    raise StagingError(
        f"{name[:300]!r} is no name for a folder of staging",
        expected="the id of an archive or of a restore",
        hint="Nothing was written or removed. Clear 'plan' or 'locate' and the tasks after it.",
    )


def free_bytes(folder: Path, setting: str) -> int:
    """Room left on the disk of a folder, which is made when missing.

    Args:
        setting: What names it in the settings, for errors.
    """
    with translated(folder, setting, "look at", folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return shutil.disk_usage(folder).free


@contextmanager
def translated(root: Path, setting: str, doing: str, path: Path) -> Iterator[None]:
    """Turn what the system says of files of staging into errors that say what, where and what to do."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise  # not about a file of ours: a connection, for example
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


def _record_name(kind: type[PlannedPart], number: int) -> str:
    return f"{part_name(number)}.{kind.__name__.removesuffix('Part').lower()}.json"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Have a file for this process alone; made if it is missing. The lock ends with the process, however that ends."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StagingError(
                    f"another process is writing {path}",
                    hint="Nothing was changed. It is an earlier try of this task that still lives; Airflow ends it within "
                    "minutes, and the task tries again by itself.",
                ) from None
            if _is_at(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name: who had it before may have finished it in between."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _close_quietly(handle: IO[bytes]) -> None:
    # Closing flushes, and flushing to a full disk fails once more; the first error is the one to tell.
    try:
        handle.close()
    except OSError:
        return
