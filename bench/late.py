"""Two rows that come late: one is changed and one inserted after a contender has stored the month and right before it deletes.

Neither is in its files, so a contender that deletes them has destroyed them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from psycopg import sql

from bench.course import TABLE
from strongroom_local.servers.processes import ServerError

LATE = 2
_MARK = "late"
_FEW = 50
"""One row in this many is enough here."""

_LONGEST_SECONDS = 600
_LOOK_SECONDS = 0.05
_COLUMNS = (
    "call_start_time, answer_time, duration_seconds, direction, calling_number, called_number, presented_number, imsi, "
    "cell_id, gateway_ip, codecs, charge, hangup_cause, quality"
)


def late_rows_kept(conninfo: str, work: Callable[[], object]) -> int:
    """How many of the two late rows are in the table after a contender has archived and deleted.

    A lock on the table lets it read and makes its first DELETE wait. While it waits, the two rows come.

    Args:
        conninfo: A database of its own with the month's rows. Most of them are removed first.
        work: Archives the month of that database and deletes it.

    Raises:
        ServerError: It did not get as far as a DELETE.
    """
    with psycopg.connect(conninfo) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute(_filled("DELETE FROM {table} WHERE mod(id, %s) <> 0"), (_FEW,))
        connection.commit()
        connection.execute(_filled("LOCK TABLE {table} IN SHARE MODE"))
        done = pool.submit(work)
        try:
            _wait_for_delete(conninfo, done)
            change = "UPDATE {table} SET remark = %s WHERE id = (SELECT max(id) FROM {table})"
            insert = "INSERT INTO {table} ({columns}, remark) SELECT {columns}, %s FROM {table} LIMIT 1"
            for statement in (change, insert):
                connection.execute(_filled(statement), (_MARK,))
        finally:
            connection.commit()  # lets it go on, whatever happened here
        done.result()
        marked = _filled("SELECT count(*) FROM {table} WHERE remark = %s")
        [(kept,)] = connection.execute(marked, (_MARK,)).fetchall()
    return int(kept)


def _wait_for_delete(conninfo: str, done: Future[object]) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
    until = time.monotonic() + _LONGEST_SECONDS
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while connection.execute(waiting, (TABLE,)).fetchall() == [(0,)]:
            if done.done() or time.monotonic() > until:
                raise ServerError(
                    "the contender did not get as far as a DELETE",
                    found=done.exception() if done.done() else "it still runs",
                    hint="the bench works on databases of its own; nothing else was touched",
                )
            time.sleep(_LOOK_SECONDS)


def _filled(statement: str) -> sql.Composed:
    return sql.SQL(statement).format(table=sql.Identifier(TABLE), columns=sql.SQL(_COLUMNS))
