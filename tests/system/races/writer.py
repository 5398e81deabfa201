"""An application that writes all the time: it inserts, updates and deletes rows, and moves them in and out of the window."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from tests.support.ledger import Ledger

_DAY = 24 * 3600
_MOVES = (0, 0, 0, 3600, -3600, 10 * _DAY, -10 * _DAY, 40 * _DAY, -40 * _DAY)
"""By how many seconds an update moves a row: often none, or a little, to another part, out of the window or into it."""


class Writer:
    """Writes from several sessions during the ``with`` block. Each session has its own rows.

    Args:
        ledger: The ledger of the table. It records each statement.
        a_second: The target number of statements per second, all sessions together.
        sessions: The number of sessions.
    """

    def __init__(self, ledger: Ledger, *, a_second: int = 500, sessions: int = 4) -> None:
        self._ledger = ledger
        self._pause_seconds = sessions / a_second
        self._over = threading.Event()
        self._counts = [0] * sessions
        self._workers = ThreadPoolExecutor(sessions)
        self._work: list[Future[None]] = []
        self._ids = [[id_ for id_ in ledger.rows if id_ % sessions == number] for number in range(sessions)]

    @property
    def statements(self) -> int:
        """How many statements it has run so far."""
        return sum(self._counts)

    def __enter__(self) -> Writer:
        self._work = [self._workers.submit(self._write, number) for number in range(len(self._ids))]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._workers.shutdown()
        for work in self._work:
            work.result()

    def _write(self, number: int) -> None:
        chance = random.Random(number)
        ids = self._ids[number]
        fresh = 1_000_000 * (number + 1)
        due = time.monotonic()
        with psycopg.connect(self._ledger.conninfo, autocommit=True) as session:
            session.execute("SET synchronous_commit TO off")  # only for speed; its commits are visible anyway
            while not self._over.is_set():
                kind = chance.random()
                if kind < 0.3 or len(ids) < 10:
                    fresh += 1
                    self._insert(session, fresh, chance.randrange(-3 * _DAY, 34 * _DAY))
                    ids.append(fresh)
                elif kind < 0.8:
                    self._ledger.update(session, chance.choice(ids), chance.choice(_MOVES))
                else:
                    self._ledger.delete(session, ids.pop(chance.randrange(len(ids))))
                self._counts[number] += 1
                due += self._pause_seconds
                self._over.wait(max(0.0, due - time.monotonic()))

    def _insert(self, session: psycopg.Connection[Any], id_: int, seconds: int) -> None:
        self._ledger.insert(session, [id_], [f"2026-05-01T00:00:00+00:00 + {seconds} s"])
