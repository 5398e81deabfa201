"""Reads a part from a standby, so that the primary has less to do; where that is no good, from the primary.

What is read is only believed because the delete compares each row again, on the primary. So a wrong standby loses no
row, but it would fill archives with the wrong ones: it must be a standby of this very database, and have replayed all
that the primary had when it was asked.
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
    """Which database, and how far its write-ahead log had come."""

    identity: SourceIdentity
    lsn: str | None


@contextmanager
def read_source(open_primary: OpenSource, open_replica: OpenSource) -> Iterator[Connection]:
    """A session to read a part in: the replica's if that is fit, else the primary's; the log says which and why.

    Raises:
        SourceAccessError: The primary lets nobody in.
        SourceError: The primary cannot be reached.
    """
    with open_primary() as primary:
        position = _position_of(primary)
    with ExitStack() as sessions:
        problem: str | None
        try:
            # Its session stays open, for the reading, where it is fit.
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
        row = (None,)  # servers that only speak PostgreSQL's protocol have no such log
    return Position(read_identity(primary), row[0])


def find_problem(replica: Connection, primary: Position, *, wait_seconds: float = WAIT_SECONDS) -> str | None:
    """Why a part may not be read from a replica; None when it may.

    Waits for the replica to have replayed all that the primary had.

    Args:
        replica: A session in autocommit mode.
        primary: What its primary said.
        wait_seconds: How long it may take.
    """
    row: Any = replica.execute("SELECT pg_is_in_recovery()").fetchone()
    if not row[0]:
        return "it is no standby"
    theirs = read_identity(replica)
    if not _is_same(theirs, primary.identity):
        return f"it is a standby of another database: {_name(theirs)} and not {_name(primary.identity)}"
    if primary.lsn is None:
        return "the primary does not tell how far it is"
    until = time.monotonic() + wait_seconds
    while True:
        row = replica.execute(
            "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, pg_last_wal_replay_lsn()::text", (primary.lsn,)
        ).fetchone()
        if row[0]:
            return None
        if row[0] is None:
            return "it does not tell how far it has replayed"
        if time.monotonic() >= until:
            return f"it has replayed {row[1]} and not {primary.lsn} within {wait_seconds:g} seconds"
        time.sleep(0.2)


def _is_same(theirs: SourceIdentity, ours: SourceIdentity) -> bool:
    systems = {theirs.system_identifier, ours.system_identifier} - {None}
    return len(systems) < 2 and (theirs.database, theirs.database_oid) == (ours.database, ours.database_oid)


def _name(identity: SourceIdentity) -> str:
    return f"{identity.database} ({identity.database_oid}) of system {identity.system_identifier or 'unknown'}"
