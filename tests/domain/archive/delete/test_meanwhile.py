"""What other sessions, holds, claims and the clock do while a delete is under way."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from strongroom.archive import delete
from strongroom.archive.delete import delete_part
from strongroom.database import retry
from strongroom.errors import (
    ContendedError,
    HeldError,
    OutOfTimeError,
    SourceError,
    StrongroomError,
)
from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom.records import DeletedPart, VerifiedPart
from strongroom.tables import pace
from strongroom.tables.delete_batch import BatchDelete
from tests.support.chain import NOW, Chain
from tests.support.database import execute
from tests.support.deleting import (
    database_of,
    delete_while,
    keys_of,
    left,
    nothing_more,
    require_refused,
    waits_for,
)


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT"])
def test_a_row_that_comes_to_be_referred_to_while_the_delete_looks_stays(chain, part, action):
    """The reference is not visible until the DELETE has looked; the batch is rolled back and tried again."""
    execute(
        chain.conninfo,
        'CREATE TABLE notes (id bigint, branch text COLLATE "C", FOREIGN KEY (id, branch) REFERENCES audit '
        f"ON DELETE {action})",
    )

    [deleted] = delete_while(chain, part, "INSERT INTO notes VALUES (1, 'a')", nothing_more)

    assert (deleted.deleted, deleted.referenced, left(chain)) == (9, 1, ["1a"])


def test_a_batch_that_loses_a_deadlock_is_tried_again(chain, part):
    """The other session has the last row of the first batch and wants its first one."""
    first, _, _, last, *_ = keys_of(chain, part)
    execute(chain.conninfo, f"ALTER DATABASE \"{database_of(chain)}\" SET deadlock_timeout = '3s'")
    row = "SELECT 1 FROM audit WHERE id = {} AND branch = '{}' FOR UPDATE"

    def want(other: Any) -> None:
        other.execute("SET deadlock_timeout = '60s'")  # the delete looks first, finds it, and gives way
        other.execute(row.format(*first))

    [deleted] = delete_while(chain, part, row.format(*last), want)

    assert (deleted.deleted, left(chain)) == (10, [])


def test_a_batch_that_waits_too_long_for_a_lock_is_tried_again_and_then_given_up(chain, part, monkeypatch):
    """Five tries, with longer and longer breaks between them."""
    breaks: list[float] = []
    with psycopg.connect(chain.conninfo) as other:
        other.execute("LOCK TABLE audit IN SHARE MODE")
        with monkeypatch.context() as patched:
            patched.setattr(retry, "time", SimpleNamespace(sleep=breaks.append))
            with pytest.raises(SourceError, match="lock timeout"):
                impatiently(chain, part)
        assert breaks == pytest.approx([0.2, 0.4, 0.6, 0.8])
        assert len(left(chain)) == 10
        threading.Timer(0.5, other.commit).start()

        assert impatiently(chain, part).deleted == 10


def test_a_row_that_moves_to_another_partition_under_the_delete_is_looked_at_again(chain):
    """PostgreSQL calls that a failed serialization."""
    execute(
        chain.conninfo,
        """
        DROP TABLE audit;
        CREATE TABLE audit (id bigint, branch text, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
        CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
        INSERT INTO audit SELECT n, 'a', '2026-05-02+00' FROM generate_series(1, 10) AS n;
        """,
    )
    [part] = chain.seal(chain.plan()).parts

    [deleted] = delete_while(chain, part, "UPDATE audit SET at = '2026-06-10+00' WHERE id = 1", nothing_more)

    assert (deleted.deleted, deleted.gone, left(chain)) == (9, 1, ["1a"])


def test_a_fault_of_another_kind_is_not_tried_again(chain, part):
    execute(chain.conninfo, "REVOKE ALL ON audit FROM public; CREATE ROLE guard_reader LOGIN PASSWORD 'x'")
    execute(chain.conninfo, f'GRANT TEMPORARY ON DATABASE "{database_of(chain)}" TO guard_reader')
    execute(chain.conninfo, "GRANT USAGE ON SCHEMA public TO guard_reader; GRANT SELECT ON audit TO guard_reader")
    owner = chain.conninfo
    chain.conninfo = psycopg.conninfo.make_conninfo(owner, user="guard_reader", password="x")
    try:
        with pytest.raises(StrongroomError, match="DELETE"):
            chain.delete(part)
    finally:
        chain.conninfo = owner
        execute(owner, "DROP OWNED BY guard_reader; DROP ROLE guard_reader")
    assert len(left(chain)) == 10


def impatiently(chain: Chain, part: VerifiedPart) -> DeletedPart:
    """Delete in a session that waits a tenth of a second for each lock."""
    with chain.source() as connection:
        connection.execute("SET lock_timeout = '100ms'")
        return delete_part(connection, part, chain.deleting_step(chain.staging(part.archive_id)))


def test_nothing_more_is_deleted_once_the_claim_is_lost(chain, part):
    """Another run has had it between two batches."""
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 4})
    looks = itertools.count(1)

    def keep_claim() -> None:
        if next(looks) == 2:
            raise ContendedError("lost", hint="a test")

    chain.keep_claim = keep_claim
    with pytest.raises(ContendedError, match="lost"):
        chain.delete(part)

    assert len(left(chain)) == 10 - 4
    assert chain.delete(part).deleted == 10


def test_a_hold_on_everything_takes_a_long_batch_back(chain, part, monkeypatch):
    """Somebody places it while the second batch is under way; once it is released the delete goes on behind the first."""
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0)
    reasons = {"why": "a doubt", "who": "ada", "reference": "17", "now": NOW}
    looks, holds = itertools.count(1), []

    def keep_claim() -> None:
        if next(looks) == 2:
            holds.append(place_hold(chain.store, EVERYTHING, **reasons))

    chain.keep_claim = keep_claim
    with pytest.raises(HeldError, match=r"held: all deletion .* is stopped: found hold .* on everything") as caught:
        chain.delete(part)

    assert len(left(chain)) == 10 - 4
    assert caught.value.hint.startswith("No row is deleted while this hold is in force")
    assert require_refused(chain, part, HeldError, "all deletion")
    release_hold(chain.store, holds[0].hold_id, who="ada", reason="no doubt", now=NOW)
    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_legal_hold_on_the_table_stops_no_delete(chain, part):
    """What it covers lies in the archive, and stays there."""
    place_hold(chain.store, "public.audit", why="a case", who="ada", reference="17", now=NOW)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_no_batch_begins_when_the_time_is_over(chain, part, monkeypatch):
    """By the clock that goes on from the store's; the batch that is under way ends."""
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0)
    ticks = itertools.count()
    monkeypatch.setattr(delete, "running_clock", lambda now: lambda: now + timedelta(minutes=next(ticks)))
    chain.stop_at = NOW + timedelta(minutes=2)

    with pytest.raises(OutOfTimeError, match="out of time: the delete stops here") as caught:
        chain.delete(part)

    assert len(left(chain)) == 10 - 4 - 4
    assert caught.value.hint.startswith("Nothing is lost")
    chain.stop_at = NOW
    require_refused(chain, part, OutOfTimeError, "found 2026-11-23 12:03 UTC")
    chain.stop_at = None
    assert (chain.delete(part).deleted, left(chain)) == (10, [])


def test_a_batch_that_kept_somebody_waiting_is_followed_by_a_rest(chain, part, monkeypatch):
    """He is seen at the end of the batch's transaction, and has his turn before the next one."""
    rests: list[float] = []
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=time.monotonic, sleep=rests.append))
    lock = "BEGIN; LOCK TABLE audit IN SHARE MODE; COMMIT"
    real = BatchDelete.delete

    def delete_rows(self: BatchDelete, batch: list[bytes]) -> Any:
        result = real(self, batch)
        if not waiters:
            waiters.append(threading.Thread(target=execute, args=(chain.conninfo, lock)))
            waiters[0].start()
            assert waits_for(chain, self.connection.info.backend_pid)
        return result

    waiters: list[threading.Thread] = []
    monkeypatch.setattr(BatchDelete, "delete", delete_rows)

    assert (chain.delete(part).deleted, left(chain)) == (10, [])

    waiters[0].join(timeout=60)
    assert rests == [0.2]
