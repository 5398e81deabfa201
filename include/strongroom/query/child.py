"""The process that searches parts: it reads jobs from standard input, and writes rows and answers to standard output.

It gets no credentials, makes no file, and ends with the process that started it. The part lies in a file without a name that
both processes have open. Started by :class:`strongroom.query.searcher.Searcher`.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from typing import BinaryIO

from strongroom.query.records import PartAnswer, PartJob
from strongroom.query.row_lines import as_lines
from strongroom.query.search import Row, search_part

_SET_PARENT_DEATH_SIGNAL = 1
_FLUSH_ROWS = 500
_ERROR_BYTES = 1 << 16
"""The most that this process writes to a file: its standard error is one."""


def main(argv: list[str]) -> int:
    """Search one part after the other until standard input ends.

    Args:
        argv: Descriptor of the file that holds the part, and the memory and CPU seconds that this process may take.
    """
    descriptor, memory_bytes, seconds = map(int, argv)
    _limit(memory_bytes, seconds)
    for line in sys.stdin.buffer:
        answer = answer_job(f"/proc/self/fd/{descriptor}", PartJob.model_validate_json(line), sys.stdout.buffer)
        sys.stdout.buffer.write(answer.model_dump_json().encode() + b"\n")
        sys.stdout.buffer.flush()
    return 0


def answer_job(path: str, job: PartJob, target: BinaryIO) -> PartAnswer:
    """Write the matching rows of a part, and say how it went."""
    some: list[Row] = []
    matched = 0

    def flush() -> None:
        target.write(as_lines(job.archive_id, some))
        some.clear()

    try:
        for row in search_part(path, job):
            if matched == job.limit:
                flush()
                return PartAnswer(result="done", matched=matched, more=True)
            some.append(row)
            matched += 1
            if len(some) == _FLUSH_ROWS:
                flush()
    except Exception as error:  # noqa: BLE001 - whatever a library raises about a part, its message may quote a row
        flush()
        return PartAnswer(result=_result_of(error), matched=matched, found=type(error).__name__)
    flush()
    return PartAnswer(result="done", matched=matched)


def _result_of(error: Exception) -> str:
    """DuckDB's errors are known by their names: it is not loaded where nothing was searched."""
    too_long = "maximum_object_size" in str(error)
    return (
        "memory"
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException" or too_long
        else "unreadable"
    )


def _limit(memory_bytes: int, seconds: int) -> None:
    """Let the kernel hold this process to its limits, and end it with its parent."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    for limit, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, _ERROR_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
