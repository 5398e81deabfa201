"""Scratch space between the steps of a run: a folder per archive, a few files per part.

A file appears under its final name only when it is complete and on disk; what a killed task leaves is a ``.partial``
file that the next try overwrites. A try that Airflow gave up and that still lives has its ``.partial`` file locked, so
that two never write into one. The record of a finished step lies beside the files, so that a repeat of the step finds
it and does not work twice.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from strongroom.errors import IntegrityError, StagingError
from strongroom.object_keys import part_file, part_name
from strongroom.records import PartKind, PlannedPart, narrow, parse_record

_CLEAR = "Nothing was uploaded or deleted because of it. Another version wrote it: clear 'plan' and the tasks after it."
_FOLDER = re.compile(r"(?!\.+$)[A-Za-z0-9_.%-]+")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def restores_folder(root: str | Path) -> Path:
    """Where restores have their staging: a folder for each of them, and in it one for each archive."""
    return Path(root) / "restores"


class Staging:
    """The staging folder of one archive.

    Args:
        root: Folder that holds all staging; made when missing, readable by its owner only.
        name: The archive's id, or the restore's.

    Raises:
        StagingError: It is no such name; its folder might lie anywhere.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        if not _FOLDER.fullmatch(name):
            raise StagingError(
                f"{name[:300]!r} is no name for a folder of staging",
                expected="the id of an archive or of a restore",
                hint="Nothing was written or removed. Clear 'plan' or 'locate' and the tasks after it.",
            )
        self.root = Path(root)
        self.folder = self.root / name

    def original(self, number: int, format: str = "jsonl") -> Path:
        """What extract_to_staging wrote of one part: its JSON lines, or its parquet file."""
        return self.folder / part_file(number, "none", format)

    def compressed(self, number: int, compression_type: str, format: str = "jsonl") -> Path:
        """Compressed JSON lines of one part; the original itself when compression is off, or inside of parquet."""
        return self.folder / part_file(number, compression_type, format)

    def keys(self, number: int) -> Path:
        """Primary keys and row digests of one part, as COPY reads them, in the order of the JSON lines."""
        return self.folder / f"{part_name(number)}.keys"

    def free_bytes(self) -> int:
        """Room left on the disk that staging lies on."""
        with self._translated("look at", self.root):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return shutil.disk_usage(self.root).free

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[list[IO[bytes]]]:
        """Open files for writing; they appear under their names, synced, only if the block ends well.

        Raises:
            StagingError: The disk is full, the folder cannot be written, or another process is writing these files.
        """
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
            self._sync_folder()

    def save(self, record: PlannedPart) -> None:
        """Keep the record of a finished step, under a line with its sum."""
        body = record.model_dump_json(indent=2).encode()
        with self.writing(self._record(type(record), record.number)) as [handle]:
            handle.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def load(self, kind: type[PartKind], number: int) -> PartKind | None:
        """The record that a step kept, or None.

        Raises:
            IntegrityError: It is damaged. It is put aside, so that a repeat finds none and does the step again.
        """
        path = self._record(kind, number)
        with self._translated("read", path):
            if not path.exists():
                return None
            written, _, body = path.read_bytes().partition(b"\n")
            found = hashlib.sha256(body).hexdigest()
            if written == found.encode():
                return parse_record(kind, body, where=str(path), what="a record of this version", hint=_CLEAR)
            path.replace(path.with_name(f"{path.name}.damaged"))
        raise IntegrityError(
            f"{path} is damaged",
            expected=f"SHA-256 {written[:64].decode(errors='replace')}",
            found=found,
            hint=f"Nothing was uploaded or deleted because of it, and it was put aside as {path.name}.damaged. Look after "
            "the disk that staging lies on, then clear this task: it does its step again.",
        )

    def finished(self, kind: type[PartKind], part: PlannedPart) -> PartKind | None:
        """The record of a step that is already finished for this very part, or None.

        A plan that was made anew may have cut other parts under the same numbers; their records are not this part's.
        """
        record = self.load(kind, part.number)
        return record if record is not None and narrow(record, type(part)) == part else None

    def discard(self, path: Path) -> None:
        """Remove one file if it is there."""
        with self._translated("remove", path):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder of this archive."""
        with self._translated("remove", self.folder):
            if self.folder.exists():
                shutil.rmtree(self.folder)

    def _record(self, kind: type[PlannedPart], number: int) -> Path:
        return self.folder / f"{part_name(number)}.{kind.__name__.removesuffix('Part').lower()}.json"

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _translated(self, doing: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno not in _NO_ROOM:
                raise  # not about a file of ours: a connection, for example
            if error.errno in _NO_ROOM:
                raise StagingError(
                    f"staging has no room left to {doing} {path}",
                    found=f"{shutil.disk_usage(self.root).free} bytes free on its disk" if self.root.exists() else None,
                    hint="Nothing is lost: the unfinished file was removed, and no row is deleted before its archive is "
                    "proved. Free space, or point `staging` at a larger disk, or lower `part_rows`, `part_bytes` or "
                    "`max_parallel_parts`; the task then tries again.",
                ) from None
            raise StagingError(
                f"staging could not {doing} {path}",
                found=error.strerror,
                hint="No row is deleted before its archive is proved. "
                "See that `staging` names a folder that the Airflow worker may write.",
            ) from None


@contextmanager
def kept_aside(stream: Iterable[bytes], folder: Path | None) -> Iterator[IO[bytes]]:
    """A stream as a file that can be sought in, and that has no name and ends with the block.

    Args:
        stream: Is read to its end.
        folder: Where there is room for it; None takes the system's folder for temporary files.

    Raises:
        StagingError: The disk is full.
    """
    with tempfile.TemporaryFile(dir=folder) as handle:
        try:
            handle.writelines(stream)
            handle.seek(0)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise StagingError(
                f"{folder or tempfile.gettempdir()} has no room left for a copy of a parquet file",
                hint="No row is deleted before its archive is proved. Free space, or point `staging`, and TMPDIR where an "
                "archive is read without staging, at a larger disk; the task then tries again.",
            ) from None
        yield handle


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
