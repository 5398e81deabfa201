"""Locks that block other sessions: requested briefly, given up soon, tried again later.

A session that waits for ACCESS EXCLUSIVE blocks every session that comes after it, readers too. So the wait must be short,
not only the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg import errors, sql

from strongroom.database.session import Connection

LOCK_MILLISECONDS = 200
"""The longest wait for one lock."""

STATEMENT_MILLISECONDS = 500
"""The longest that one statement with such locks may take, waits included."""

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The pauses between tries to get a lock; after the last one there is one more try."""

CONTENDED = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)
"""What the server raises when another session's lock was in the way for too long."""


@contextmanager
def briefly(connection: Connection) -> Iterator[None]:
    """A transaction, or a savepoint in one, that waits for each lock only briefly.

    Raises:
        psycopg.Error: One of :data:`CONTENDED`; nothing was changed.
    """
    with connection.transaction():
        before = _timeouts(connection)
        _set_timeouts(connection, f"{LOCK_MILLISECONDS}ms", f"{STATEMENT_MILLISECONDS}ms")
        yield
        _set_timeouts(connection, *before)


def tried(work: Callable[[], None], *, between: Callable[[], None] = lambda: None) -> bool:
    """Do something that a lock may block, and try again after growing pauses.

    Args:
        work: Raises one of :data:`CONTENDED` if a lock was in the way.
        between: Called before each further try.

    Returns:
        Whether it was done.
    """
    for pause_seconds in (*PAUSES_SECONDS, None):
        try:
            work()
        except CONTENDED:
            if pause_seconds is None:
                return False
            time.sleep(pause_seconds)
            between()
        else:
            return True
    return False


def _timeouts(connection: Connection) -> tuple[str, str]:
    row = connection.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return str(row[0]), str(row[1])


def _set_timeouts(connection: Connection, lock: str, statement: str) -> None:
    for name, value in (("lock_timeout", lock), ("statement_timeout", statement)):
        connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
