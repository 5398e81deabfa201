"""Starts the process that searches parts, gives it one part after the other, and ends it: at the latest when time is over.

A part lies in a file without a name. Nobody has to remove it: it is gone with the processes that have it open, however they end.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from pydantic import ValidationError

from strongroom.errors import NO_ROOM, QueryError, QueryLimitError, StagingError
from strongroom.formats.reading_back import unequal
from strongroom.query.records import PartAnswer, PartJob
from strongroom.records import VerifiedPart
from strongroom.settings.sections import QueryLimits
from strongroom.storage.either import read_either
from strongroom.storage.store import Store

if TYPE_CHECKING:
    from typing_extensions import Self

_SAFE = "Nothing was shown, and the archives are untouched."


class Searcher:
    """Searches parts in a process of its own, in a ``with`` block.

    Args:
        limits: Memory and time.
        folder: Where the file for parts is made; made itself if it is missing.
    """

    def __init__(self, limits: QueryLimits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._late = False

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._part: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        self._errors: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        descriptor = self._part.fileno()
        limits = (descriptor, self._limits.memory_bytes, self._limits.timeout_seconds)
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "strongroom.query.child", *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            cwd="/",
            pass_fds=(descriptor,),
        )
        self._timer = threading.Timer(self._limits.timeout_seconds, self._end_late)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for handle in (self._process.stdin, self._process.stdout, self._part, self._errors):
            _close_quietly(handle)

    @property
    def process_id(self) -> int:
        """Of the process that searches."""
        return self._process.pid

    @property
    def memory_bytes(self) -> int:
        """What that process may take."""
        return self._limits.memory_bytes

    def fetch(self, store: Store, part: VerifiedPart) -> str | None:
        """Download what was archived, in place of the part before it, and check its SHA-256.

        Returns:
            Why it was read from the store's replica; None if it was not.

        Raises:
            IntegrityError: The object is gone, or is not what was archived, and so is its copy.
            FrozenError, StoreAccessError, StoreError: It cannot be read.
            StagingError: The disk is full.
            QueryLimitError: Time is over.
        """
        return read_either(store, part.object_key, part.version_id, lambda chunks: self._keep(part, chunks))[1]

    def _keep(self, part: VerifiedPart, chunks: Iterator[bytes]) -> None:
        digest, size_bytes = hashlib.sha256(), 0
        try:
            self._part.seek(0)
            self._part.truncate()
            for chunk in chunks:
                self._require_time()
                digest.update(chunk)
                size_bytes += len(chunk)
                if size_bytes > part.compressed_size_bytes:
                    raise unequal(part, "compressed size", part.compressed_size_bytes, "more")
                self._part.write(chunk)
            self._part.flush()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise StagingError(
                f"{self._folder} has no room left for a part that is searched",
                expected=f"{part.compressed_size_bytes} bytes for {part.archive_id} part {part.number}",
                hint=f"{_SAFE} Free space, or point `staging` or `scratch` at a larger disk; the task then tries again.",
            ) from None
        if digest.hexdigest() != part.sha256:
            raise unequal(part, "SHA-256", part.sha256, digest.hexdigest())

    def search(self, job: PartJob, write: Callable[[bytes], object]) -> PartAnswer:
        """Search the part that was fetched.

        Args:
            write: Takes each matching row as a line.

        Raises:
            QueryLimitError: It needed more time or memory than it may.
            QueryError: The process ended by itself.
        """
        self._require_time()
        jobs, lines = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        try:
            jobs.write(job.model_dump_json().encode() + b"\n")
            jobs.flush()
        except BrokenPipeError:
            raise self._ended(job) from None
        for line in lines:
            if not line.startswith(b"{"):
                write(line)
                continue
            answer = _answer(line)
            if answer is None:
                break
            if answer.result == "memory":
                raise self._too_large(job)
            return answer
        raise self._ended(job)

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def _require_time(self) -> None:
        if self._late:
            raise self._too_late()

    def _too_late(self) -> QueryLimitError:
        return QueryLimitError(
            f"the query took longer than {self._limits.timeout_seconds} seconds",
            hint=f"{_SAFE} Narrow the time range or the conditions, ask for fewer rows, or raise `query.timeout_seconds`.",
        )

    def _too_large(self, job: PartJob) -> QueryLimitError:
        return QueryLimitError(
            f"the search of {job.archive_id} needed more than {self._limits.memory_bytes} bytes of memory",
            hint=f"{_SAFE} Ask for fewer columns, or raise `query.memory_bytes`.",
        )

    def _ended(self, job: PartJob) -> QueryError:
        """Why the process is gone: its standard error may quote rows, so only the kind of error is told."""
        status = self._process.wait()
        if self._late or status == -signal.SIGXCPU:
            return self._too_late()
        self._errors.seek(0)
        kinds = re.findall(rb"^([A-Za-z_.]+(?:Error|Exception))\b", self._errors.read(1 << 20), re.MULTILINE)
        if b"MemoryError" in kinds:
            return self._too_large(job)
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return QueryError(
            f"the process that searched {job.archive_id} ended by itself",
            expected="an answer",
            found=f"{how}{f', {kinds[-1].decode()}' if kinds else ''}",
            hint=f"{_SAFE} If the system ran out of memory, lower `query.memory_bytes`. Otherwise try again with fewer columns.",
        )


def _answer(line: bytes) -> PartAnswer | None:
    """None for a line that was cut off."""
    try:
        return PartAnswer.model_validate_json(line)
    except ValidationError:
        return None


def _environment() -> dict[str, str]:
    """Nothing of this process's own: no key, no connection, no setting. Only where Python finds its modules."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    return {"PYTHONPATH": path, "TZ": "UTC", "LC_ALL": "C.UTF-8"}


def _close_quietly(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:
        return
