"""What happens to a task that is stopped: it rolls back what is unfinished, and says so.

This module imports nothing of Airflow, so that a test can stop a step of the domain in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.errors import StrongroomError


class StoppedError(StrongroomError):
    """The task was stopped (SIGTERM) before it was done."""

    code = "SR-114"
    retryable = True


class _Stop(KeyboardInterrupt):
    """Interrupts the work wherever it is.

    It is no Exception: psycopg cancels the running statement, and the S3 client, which retries every Exception, does not catch it.
    """


class Stopping:
    """Lets ``on_kill`` of an operator end its ``execute``.

    Airflow's SIGTERM handler calls ``on_kill`` in the thread that does the work. When ``on_kill`` returns, the work continues, and
    five seconds later Airflow sends SIGKILL.
    """

    def __init__(self) -> None:
        self._working = self._stopped = False

    def stop(self) -> None:
        """End the work, or prevent it from starting. A second call does nothing."""
        self._stopped = True
        if self._working:
            self._working = False
            raise _Stop

    @contextmanager
    def working(self) -> Iterator[None]:
        """A block of work that :meth:`stop` can end.

        Raises:
            StoppedError: It was ended.
        """
        try:
            self._working = True
            if self._stopped:
                self.stop()
            yield
        except _Stop:
            raise StoppedError(
                "the task was stopped before it was done",
                hint="The batch that was under way was rolled back; what was done before it is kept, and connections are closed. "
                "The next try continues from there.",
            ) from None
        finally:
            self._working = False
