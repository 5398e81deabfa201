"""What happens to a task that is told to end: it takes back what is unfinished, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.errors import StrongroomError


class StoppedError(StrongroomError):
    """The task was told to end (SIGTERM) before it was done."""

    retryable = True


class _Stop(KeyboardInterrupt):
    """Ends the work wherever it is.

    psycopg cancels the statement that runs, and the S3 client, which wraps and retries each Exception, lets it pass.
    """


class Stopping:
    """Turns ``on_kill`` of an operator into an end of its ``execute``.

    Airflow's SIGTERM handler calls ``on_kill`` in the thread that is working, and goes on with the work when that
    returns; five seconds later comes SIGKILL.
    """

    def __init__(self) -> None:
        self._working = self._told = False

    def stop(self) -> None:
        """End the work, or do not let it begin; telling it again changes nothing."""
        self._told = True
        if self._working:
            self._working = False
            raise _Stop

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this lasts the work can be stopped.

        Raises:
            StoppedError: It was.
        """
        try:
            self._working = True
            if self._told:
                self.stop()
            yield
        except _Stop:
            raise StoppedError(
                "the task was told to end before it was done",
                hint="The batch that was under way was taken back whole; what was done before it stands, and connections "
                "are closed. The next try goes on from there.",
            ) from None
        finally:
            self._working = False
