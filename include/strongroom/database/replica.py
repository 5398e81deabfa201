"""Reads a part from a standby, to take load off the primary; if the standby is not fit, from the primary.

The delete compares each row again on the primary, so a wrong standby loses no row. But it would fill archives with wrong rows:
it must be a standby of this very database, and must have replayed everything that the primary had when it was asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import errors

from strongroom.database.session import Connection, read_identity, translated_errors
from strongroom.errors import SourceAccessError, SourceError
from strongroom.records import SourceIdentity

WAIT_SECONDS = 60
"""How long a standby may take to replay what the primary had when it was asked."""

_logger = logging.getLogger(__name__)

OpenSource = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True)
class Position:
    """A database, and a position in its write-ahead log."""

    identity: SourceIdentity
    lsn: str | None


@contextmanager
def read_source(open_primary: OpenSource, open_replica: OpenSource) -> Iterator[Connection]:
    """A session to read a part in: on the replica if it is fit, else on the primary. The log says which, and why.

    Raises:
        SourceAccessError: The primary refuses the connection.
        SourceError: The primary cannot be reached.
    """
    with open_primary() as primary:
        position = _position_of(primary)
    with ExitStack() as sessions:
        problem: str | None
        try:
            # If the replica is fit, its session stays open for the reading.
            replica = sessions.enter_context(open_replica())
            with translated_errors("behind the replica's connection"):
                problem = find_problem(replica, position)
        except (SourceError, SourceAccessError) as error:
            problem = str(error).partition("\n")[0]
        if problem is None:
            _logger.info("Reads from the replica, which has replayed %s", position.lsn)
            yield replica
            return
    _logger.warning("Reads from the primary, not from the replica: %s", problem)
    with open_primary() as primary:
        yield primary


def _position_of(primary: Connection) -> Position:
    try:
        row: Any = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    except (errors.UndefinedFunction, errors.InsufficientPrivilege, errors.FeatureNotSupported):
        row = (None,)  # servers that only speak PostgreSQL's protocol have no write-ahead log positions
    return Position(read_identity(primary), row[0])


def find_problem(replica: Connection, primary: Position, *, wait_seconds: float = WAIT_SECONDS) -> str | None:
    """Why a part may not be read from a replica; None if it may.

    Waits until the replica has replayed everything that the primary had.

    Args:
        replica: A session in autocommit mode.
        primary: Identity and position of the primary.
        wait_seconds: How long it may take.
    """
    row: Any = replica.execute("SELECT pg_is_in_recovery()").fetchone()
    if not row[0]:
        return "it is not a standby"
    theirs = read_identity(replica)
    if not _is_same(theirs, primary.identity):
        return f"it is a standby of another database: {_name(theirs)} and not {_name(primary.identity)}"
    if primary.lsn is None:
        return "the primary does not tell its position"
    until = time.monotonic() + wait_seconds
    while True:
        row = replica.execute(
            "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, pg_last_wal_replay_lsn()::text", (primary.lsn,)
        ).fetchone()
        if row[0]:
            return None
        if row[0] is None:
            return "it does not tell its replay position"
        if time.monotonic() >= until:
            return f"it has replayed {row[1]} and not {primary.lsn} within {wait_seconds:g} seconds"
        time.sleep(0.2)


def _is_same(theirs: SourceIdentity, ours: SourceIdentity) -> bool:
    systems = {theirs.system_identifier, ours.system_identifier} - {None}
    return len(systems) < 2 and (theirs.database, theirs.database_oid) == (ours.database, ours.database_oid)


def _name(identity: SourceIdentity) -> str:
    return f"{identity.database} ({identity.database_oid}) of system {identity.system_identifier or 'unknown'}"
