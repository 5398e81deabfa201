"""Locks of other sessions: detach waits for few, and keeps nobody waiting for long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.support.partitions import (
    COOLED,
    DEFAULT,
    ROWS,
    TABLE,
    guards,
    left,
)


class Neighbours:
    """A writer of another partition and a reader of the table that go on all the time; nothing may keep them waiting for long."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._ended = threading.Event()
        self._workers = ThreadPoolExecutor(2)
        self.done = [0, 0]

    def _go_on(self, number: int, statement: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '20s'")
            while not self._ended.is_set():
                connection.execute(statement)
                self.done[number] += 1

    def __enter__(self) -> Neighbours:
        statements = (
            "INSERT INTO audit SELECT 100000 + random() * 1e12, '2026-06-20 10:30+00', 'new', 1",
            "SELECT count(*) FROM audit WHERE at >= '2026-06-01+00'",
        )
        self._at_work = [self._workers.submit(self._go_on, *each) for each in enumerate(statements)]
        return self

    def go_on(self) -> None:
        """See that both come to an end of what they do now, and of what they do next."""
        before = list(self.done)
        while any(now < then + 2 for now, then in zip(self.done, before, strict=True)):
            assert not any(each.done() for each in self._at_work)
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._at_work:
            each.result()
        self._workers.shutdown()


def test_a_long_writer_in_the_partition_leaves_its_rows_to_the_delete_by_key(chain):
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other:
        other.execute("UPDATE audit SET who = who WHERE id = 10")

        evidence = chain.detach(sealed.parts)

        other.commit()
    assert left(evidence) == {"audit_2026_05": "somebody else's lock was in the way"}
    assert guards(chain) == 0
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_long_reader_is_waited_for_without_anybody_waiting_behind_and_the_rest_is_done_later(chain):
    """The detach has begun for everybody who comes now; the purge brings it to its end."""
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other, Neighbours(chain.owner) as neighbours:
        other.execute("SELECT count(*) FROM audit")
        evidence = chain.detach(sealed.parts)
        neighbours.go_on()
        deleted = [chain.delete(part) for part in sealed.parts]
        [still] = chain.drop_detached(now=COOLED)
        seen = other.execute("SELECT count(*) FROM audit WHERE at < '2026-06-01+00'").fetchone()[0]
        other.commit()
    [dropped] = chain.drop_detached(now=COOLED)

    assert [(one.rows, one.held_as) for one in evidence.detached] == [(744, "public.audit_2026_05")]
    assert (sum(one.detached for one in deleted), sum(one.gone for one in deleted)) == (744, 0)
    assert (still.result, still.detail) == ("contended", "transactions that had it in use have not ended yet")
    assert seen in (1, 745), "under READ COMMITTED each statement has its own sight"
    assert dropped.result == "dropped"


def test_a_long_reader_where_only_a_plain_detach_is_allowed_leaves_the_rows_to_the_delete_by_key(make_chain):
    chain = make_chain(TABLE + DEFAULT + ROWS)
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other, Neighbours(chain.owner) as neighbours:
        other.execute("SELECT count(*) FROM audit")

        evidence = chain.detach(sealed.parts)

        neighbours.go_on()
        other.commit()
    assert left(evidence) == {"audit_2026_05": "somebody else's lock was in the way"}
    assert guards(chain) == 0
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744
