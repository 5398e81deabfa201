"""How a delete goes easy on its neighbours: the size of its batches, its rests and its pauses, and what stops it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import BusyError, ContendedError, HeldError, OutOfTimeError
from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom.settings import DeleteLimits, StoreSettings
from strongroom.storage.store import Store
from strongroom.tables import pace
from strongroom.tables.pace import Neighbours, Pace
from tests.support.chain import NOW, some_settings
from tests.support.database import execute, scalar

REASONS = {"why": "a doubt", "who": "ada", "reference": "17", "now": NOW}
CALM = {
    "replication_lag_seconds": None,
    "replication_lag_bytes": None,
    "waiting_sessions": None,
    "commit_seconds": None,
}


class Clock:
    """Time for a pace: a sleep lets it pass, and so does what a test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


@pytest.fixture
def store(object_store, bucket) -> Store:
    return Store(object_store.client("archiver"), StoreSettings(bucket=bucket))


@pytest.fixture
def connection(source) -> Iterator[psycopg.Connection[Any]]:
    execute(
        source,
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz); ALTER TABLE audit SET (autovacuum_enabled = off)",
    )
    with open_source(source, application_name="test") as session:
        yield session


@pytest.fixture
def make_pace(connection, store, tmp_path, caplog):
    """A function that makes a pace with some limits; what it says is caught."""
    caplog.set_level(logging.INFO, logger="strongroom.tables.pace")

    def make(*, rows: int = 10_000, keep_claim=lambda: None, stop_at=None, **limits: Any) -> Pace:
        changes = {"delete_batch_rows": rows, "delete_limits": DeleteLimits(**CALM | limits)}
        settings = some_settings("bucket", tmp_path, **changes)
        later = lambda: NOW + timedelta(seconds=pace.time.monotonic() - 1000)  # noqa: E731
        return Pace(connection, store, settings, keep_claim=keep_claim, clock=later, stop_at=stop_at)

    return make


# ------------------------------------------------------------------------------------------------- the size of a batch


def batches(one: Pace) -> Iterator[int]:
    """The most rows of each batch. It ends when the next one is asked for."""
    while True:
        with one.turn() as rows:
            yield rows


def sizes(
    one: Pace, clock: Clock, seconds_a_row: float, count: int, *, fixed: float = 0, commit: float = 0
) -> list[int]:
    """How large some batches are where a row takes so long, and the rest of each batch, and its commit."""
    found = []
    for rows in itertools.islice(batches(one), count):
        found.append(rows)
        began, rows_seconds = clock.now, seconds_a_row * rows
        clock.now += rows_seconds + fixed
        one.before_commit(began, rows, rows_seconds)
        clock.now += commit
    return found


def test_quick_batches_grow_up_to_the_setting(make_pace, clock):
    assert sizes(make_pace(), clock, 0.000_001, 6) == [1000, 2000, 4000, 8000, 10_000, 10_000]


def test_slow_batches_shrink_to_half_a_second(make_pace, clock):
    assert sizes(make_pace(), clock, 0.001, 3) == [1000, 500, 500]


@pytest.mark.parametrize(
    ("fixed", "rows"),
    [
        (0.04, 4600),  # half a second for both
        (0.08, 7200),  # nine times as long for its rows
        (0.3, 7000),  # a second for both
        (0.6, 6000),  # as long for its rows
        (0.9, 9000),
    ],
)
@pytest.mark.parametrize("part", ["fixed", "commit"])
def test_a_batch_is_worth_what_it_costs_whatever_its_rows(make_pace, clock, part, fixed, rows):
    """A row takes a tenth of a millisecond. The commit is as good a part of the rest as any."""
    assert sizes(make_pace(), clock, 0.0001, 6, **{part: fixed})[-2:] == [rows, rows]


def test_a_machine_that_becomes_busy_does_not_make_the_batches_ever_smaller(make_pace, clock):
    """Everything takes a hundred times as long, so rows take no more of a batch's time than before, and no less than half of it."""
    calm = sizes(make_pace(), clock, 0.000_05, 8, fixed=0.01)
    busy = sizes(make_pace(), clock, 0.005, 8, fixed=1)

    assert calm[-1] == 9800
    assert busy == [1000, *[200] * 7]


def test_no_batch_is_smaller_than_a_hundred_rows(make_pace, clock):
    assert sizes(make_pace(), clock, 1, 3) == [1000, 100, 100]


@pytest.mark.parametrize("rows", [4, 100])
def test_a_setting_of_few_rows_is_kept_however_slow_they_are(make_pace, clock, rows):
    assert sizes(make_pace(rows=rows), clock, 1, 3) == [rows, rows, rows]


# ------------------------------------------------------------------------------------------------- what stops it


def test_a_hold_is_noticed_within_two_seconds(make_pace, store, clock):
    given = batches(make_pace(rows=1))
    next(given)
    place_hold(store, EVERYTHING, **REASONS)

    clock.now += 1.9
    next(given)
    clock.now += 0.2
    with pytest.raises(HeldError):
        next(given)


def test_a_hold_that_comes_while_a_batch_takes_long_is_noticed_before_it_is_committed(make_pace, store, clock):
    """A batch may wait for a lock for minutes; one that is quick does not look."""
    one = make_pace(rows=1)
    next(batches(one))
    place_hold(store, EVERYTHING, **REASONS)

    clock.now += 1.9
    one.before_commit(clock.now, 1000, 0)
    clock.now += 0.2
    with pytest.raises(HeldError):
        one.before_commit(clock.now, 1000, 0)


def test_a_released_hold_and_holds_on_less_stop_nothing_and_are_read_once(make_pace, store, clock, monkeypatch):
    place_hold(store, "public.audit", **REASONS)
    old = place_hold(store, EVERYTHING, **REASONS)
    release_hold(store, old.hold_id, who="ada", reason="over", now=NOW)
    read: list[str] = []
    real = store.read
    monkeypatch.setattr(store, "read", lambda *place: read.append(place) or real(*place))

    for _ in itertools.islice(batches(make_pace(rows=1)), 5):
        clock.now += 10

    assert len(read) == 3  # both versions of the one that was released


def test_a_hold_that_cannot_be_read_stops_it(make_pace, store, clock):
    store.put_bytes("holds/20261123T120000Z-00000000.json", b"slip")

    with pytest.raises(Exception, match="is not a sound legal hold"):
        next(batches(make_pace()))


def test_it_stops_when_the_time_is_over(make_pace, clock):
    given = batches(make_pace(stop_at=NOW + timedelta(seconds=5)))

    for _ in range(2):
        next(given)
        clock.now += 2.5
    with pytest.raises(OutOfTimeError):
        next(given)


# ------------------------------------------------------------------------------------------------- rests and pauses


def test_a_batch_with_a_slow_commit_is_followed_by_a_rest_that_grows(make_pace, clock, caplog):
    one = make_pace(rows=10, commit_seconds=1)
    given = batches(one)
    for seconds in (0.9, *[1.1] * 7, 0.9, 1.1):
        next(given)
        one.before_commit(clock.now, 1000, 0)
        clock.now += seconds
    next(given)

    assert clock.slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 0.2])
    assert caplog.messages == [
        "The delete rests after each batch: a commit took 1.1 seconds (limit 1)",
        "The delete no longer rests",
        "The delete rests after each batch: a commit took 1.1 seconds (limit 1)",
    ]


def test_only_the_commit_counts_for_its_limit(make_pace, clock):
    one = make_pace(rows=10, commit_seconds=1)
    given = batches(one)
    next(given)
    clock.now += 30
    one.before_commit(clock.now - 30, 1000, 30)
    next(given)

    assert clock.slept == []


def test_batches_that_keep_others_waiting_shrink_as_far_as_they_are_worth_it_and_then_only_rest(
    make_pace, clock, monkeypatch
):
    """A row takes a millisecond, the rest of a batch 20: 180 rows are nine times that."""
    monkeypatch.setattr(Neighbours, "waiting", lambda _: 1)

    assert sizes(make_pace(waiting_sessions=0), clock, 0.001, 7, fixed=0.02) == [1000, 480, 240, *[180] * 4]
    assert clock.slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5])


@pytest.mark.parametrize("trouble", ["waiting", "commit"])
def test_no_batch_grows_while_it_is_a_burden(make_pace, clock, monkeypatch, trouble):
    monkeypatch.setattr(Neighbours, "waiting", lambda _: 2)
    limits = {"waiting": {"waiting_sessions": 1}, "commit": {"commit_seconds": 1}}[trouble]

    assert sizes(make_pace(**limits), clock, 0.0001, 4, fixed=0.1, commit=1.5) == [1000] * 4


def begin_to_wait(conninfo: str, blocker: psycopg.Connection[Any], table: str) -> threading.Thread:
    """Somebody who waits for a lock of a session, until that lets it go."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    pid = blocker.info.backend_pid
    before = scalar(conninfo, query, pid)
    waiter = threading.Thread(target=execute, args=(conninfo, f"BEGIN; LOCK TABLE {table} IN SHARE MODE; COMMIT"))
    waiter.start()
    assert any(scalar(conninfo, query, pid) > before or time.sleep(0.02) for _ in range(1500))
    return waiter


def test_who_waits_for_the_delete_is_seen_and_given_way(make_pace, connection, source, clock, caplog):
    """Two sessions wait for it; a third waits for somebody else."""
    execute(source, "CREATE TABLE elsewhere ()")
    one = make_pace(waiting_sessions=1)
    given = batches(one)
    with psycopg.connect(source) as other:
        other.execute("LOCK TABLE elsewhere")
        waiters = [begin_to_wait(source, other, "elsewhere")]
        next(given)
        with connection.transaction():
            connection.execute("DELETE FROM public.audit")
            waiters += [begin_to_wait(source, connection, "audit") for _ in range(2)]
            clock.now += 0.5
            one.before_commit(clock.now - 0.5, 1000, 0.5)

    assert next(given) == 500
    assert clock.slept == [0.2]
    assert caplog.messages == ["The delete rests after each batch: 2 sessions waited for its locks (limit 1)"]
    for waiter in waiters:
        waiter.join(timeout=60)


def counted(conninfo: str, statement: str) -> None:
    """Run a statement, and see that the server's statistics have it."""
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute("SELECT pg_stat_force_next_flush()")
        session.execute(statement)
        session.execute("SELECT pg_stat_force_next_flush()")


def test_dead_rows_above_the_limit_make_it_pause_until_a_vacuum_came(make_pace, source, clock, caplog):
    counted(source, "INSERT INTO audit SELECT n FROM generate_series(1, 100) AS n")
    counted(source, "DELETE FROM audit WHERE id <= 30")
    claims: list[float] = []

    def keep_claim() -> None:
        claims.append(clock.now)
        if len(claims) == 3:
            counted(source, "VACUUM audit")

    given = batches(make_pace(rows=10, keep_claim=keep_claim, dead_rows_percent=25))

    assert next(given) == 10
    assert clock.slept == [2, 2, 2]
    assert claims == [1002, 1004, 1006]
    assert caplog.messages == [
        "The delete pauses: dead rows are 30 % of the table (limit 25)",
        "The delete continues after a pause of 6 seconds",
    ]


def test_without_limits_the_server_is_asked_nothing(source, tmp_path):
    """And nobody counts as waiting, although a session waits."""
    asked: list[Any] = []

    class Counting(psycopg.Connection[Any]):
        def execute(self, query, params=None, **options):
            asked.append(query)
            return super().execute(query, params, **options)

    execute(source, "CREATE TABLE audit (id bigint PRIMARY KEY)")
    with Counting.connect(source, autocommit=True) as session, psycopg.connect(source) as other:
        watched = Neighbours(session, some_settings("bucket", tmp_path, delete_limits=DeleteLimits(**CALM)))
        session.execute("BEGIN; LOCK TABLE audit")
        waiter = threading.Thread(target=lambda: other.execute("SELECT FROM audit"))
        waiter.start()
        asked.clear()

        found = (watched.worries(), watched.waiting(), [*asked])

        session.execute("COMMIT")
        waiter.join()
    assert found == ([], 0, [])


def test_a_server_without_figures_gives_no_worry(source, tmp_path):
    """There is no table of that name, and usually no standby. One of another test may be there, so its limits are far away."""
    far = {"replication_lag_seconds": 3600, "replication_lag_bytes": 10**12, "dead_rows_percent": 1}
    limits = DeleteLimits(**CALM | far)
    with open_source(source, application_name="test") as session:
        watched = Neighbours(session, some_settings("bucket", tmp_path, delete_limits=limits))

        assert watched.worries() == []


def test_dead_rows_below_the_limit_or_without_one_do_not_matter(make_pace, source, clock):
    """30 % is not above 30 %."""
    counted(source, "INSERT INTO audit SELECT n FROM generate_series(1, 100) AS n")
    counted(source, "DELETE FROM audit WHERE id <= 30")

    for limit in (30, None):
        next(batches(make_pace(dead_rows_percent=limit)))

    assert clock.slept == []


def test_dead_rows_of_all_partitions_count(connection, source, tmp_path):
    counted(
        source,
        "DROP TABLE audit; CREATE TABLE audit (id bigint) PARTITION BY RANGE (id);"
        "CREATE TABLE a PARTITION OF audit FOR VALUES FROM (0) TO (10) WITH (autovacuum_enabled = off);"
        "CREATE TABLE b PARTITION OF audit FOR VALUES FROM (10) TO (20) WITH (autovacuum_enabled = off);"
        "INSERT INTO audit SELECT n FROM generate_series(0, 19) AS n",
    )
    counted(source, "DELETE FROM audit WHERE id < 5")
    limits = DeleteLimits(**CALM, dead_rows_percent=20)
    neighbours = Neighbours(connection, some_settings("bucket", tmp_path, delete_limits=limits))

    assert neighbours.worries() == ["dead rows are 25 % of the table (limit 20)"]


def test_a_pause_that_is_too_long_ends_in_an_error_that_is_tried_again(make_pace, source, clock):
    counted(source, "INSERT INTO audit VALUES (1), (2)")
    counted(source, "DELETE FROM audit WHERE id = 1")

    with pytest.raises(BusyError, match=r"paused for 10 seconds.*: found dead rows are 50 % of the table") as caught:
        next(batches(make_pace(dead_rows_percent=1, longest_pause_seconds=10)))

    assert len(clock.slept) == 5
    assert caught.value.retryable
    assert caught.value.hint.startswith("All deleted rows are in a verified archive.")


@pytest.mark.parametrize("what", ["claim", "hold", "time"])
def test_a_pause_ends_when_the_delete_may_not_go_on(make_pace, store, source, clock, what):
    counted(source, "INSERT INTO audit VALUES (1), (2)")
    counted(source, "DELETE FROM audit WHERE id = 1")

    def keep_claim() -> None:
        if what == "claim":
            raise ContendedError("lost", hint="a test")
        if what == "hold":
            place_hold(store, EVERYTHING, **REASONS)

    stop_at = NOW + timedelta(seconds=1) if what == "time" else None
    kind = {"claim": ContendedError, "hold": HeldError, "time": OutOfTimeError}[what]
    with pytest.raises(kind):
        next(batches(make_pace(dead_rows_percent=1, keep_claim=keep_claim, stop_at=stop_at)))

    assert clock.slept == [2]


def test_what_cannot_be_read_is_left_out_and_told_once(make_pace, connection, source, clock, caplog):
    """A server without such a view, and one without the function; here they are hidden under other names for a while."""
    with psycopg.connect(source, autocommit=True) as owner:
        owner.execute("SET allow_system_table_mods = on")
        owner.execute("ALTER VIEW pg_catalog.pg_stat_replication RENAME TO pg_stat_replication_hidden")
        owner.execute("ALTER FUNCTION pg_catalog.pg_blocking_pids RENAME TO pg_blocking_pids_hidden")
        try:
            one = make_pace(rows=1, replication_lag_bytes=1, waiting_sessions=0)
            for _ in itertools.islice(batches(one), 3):
                with connection.transaction():
                    one.before_commit(clock.now, 1000, 0)
                    connection.execute("SELECT 1")
                clock.now += 10
        finally:
            owner.execute("ALTER VIEW pg_catalog.pg_stat_replication_hidden RENAME TO pg_stat_replication")
            owner.execute("ALTER FUNCTION pg_catalog.pg_blocking_pids_hidden RENAME TO pg_blocking_pids")

    assert sorted(caplog.messages) == [
        "The delete cannot watch replication lag (UndefinedTable)",
        "The delete cannot watch who waits for the delete (UndefinedFunction)",
    ]
    assert clock.slept == []


@pytest.mark.parametrize("state", ["0A000", "42501", "42703", "42883", "42P01"])
def test_a_figure_that_the_server_refuses_to_show_is_left_out(make_pace, source, clock, caplog, state):
    """A right that is missing, a view without such a column, or what a server of another kind does not support."""
    execute(
        source,
        f"""
        SET allow_system_table_mods = on;
        ALTER VIEW pg_catalog.pg_stat_replication RENAME TO pg_stat_replication_hidden;
        CREATE FUNCTION public.refuse() RETURNS SETOF pg_catalog.pg_stat_replication_hidden LANGUAGE plpgsql
            AS $$ BEGIN RAISE SQLSTATE '{state}'; END $$;
        CREATE VIEW pg_catalog.pg_stat_replication AS SELECT * FROM public.refuse();
        """,
    )

    next(batches(make_pace(replication_lag_seconds=1)))

    [message] = caplog.messages
    assert message == f"The delete cannot watch replication lag ({psycopg.errors.lookup(state).__name__})"
