"""A COPY is received as psycopg would receive it: all of its rows, its errors, and the session left in the same state."""

from __future__ import annotations

import _thread
import signal
import threading
from itertools import product

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from strongroom.database.copy_out import copied_blocks, copied_rows
from strongroom.database.session import open_source
from strongroom_local.servers.processes import wait_until

NUMBERS = "COPY (SELECT n FROM generate_series(1, {}) AS n) TO STDOUT"
FOREVER = "COPY (SELECT generate_series(1, 100000000), repeat('x', 1000)) TO STDOUT"
DIVIDED = "COPY (SELECT 1 / (5000 - n) FROM generate_series(1, 10000) AS n) TO STDOUT"


@pytest.fixture
def connection(source):
    with open_source(source, application_name="test copy") as connection:
        yield connection


def as_blocks(connection, query, most_messages=1000, most_bytes=1 << 20):
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from copied_blocks(copy, most_messages=most_messages, most_bytes=most_bytes)


def as_messages(connection, query):
    """What psycopg does by itself."""
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from map(bytes, copy)


def as_rows(connection, query):
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from copied_rows(copy)


BOTH = pytest.mark.parametrize("receive", [as_blocks, as_messages])
"""Both ways: what is asserted of ours is what psycopg does."""


def state(connection) -> TransactionStatus:
    return connection.info.transaction_status


def require_usable(connection) -> None:
    assert connection.execute("SELECT 47").fetchone() == (47,)


def test_every_row_arrives_once_and_in_its_order(connection):
    for rows, most_messages in product([0, 1, 999, 1000, 1001, 3000], [1, 7, 100, 1000, 1001, 5000]):
        blocks = list(as_blocks(connection, NUMBERS.format(rows), most_messages))

        assert b"".join(blocks).split() == [b"%d" % number for number in range(1, rows + 1)]
        full, rest = divmod(rows, most_messages)
        assert [block.count(b"\n") for block in blocks] == [most_messages] * full + [rest] * bool(rest)
        assert state(connection) == TransactionStatus.IDLE
        require_usable(connection)


def test_a_block_is_bounded_in_bytes_but_for_a_row_that_is_larger(connection):
    sizes = "COPY (SELECT repeat('x', size) FROM unnest(ARRAY[10, 10, 500000, 10, 10, 98, 200, 5]) AS size) TO STDOUT"

    blocks = list(as_blocks(connection, sizes, most_bytes=100))

    assert [[*map(len, block.split())] for block in blocks] == [[10, 10, 500000], [10, 10, 98], [200], [5]]


@BOTH
def test_an_error_in_mid_stream_is_raised_with_all_that_it_says(connection, receive):
    received = receive(connection, DIVIDED)

    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero") as raised:
        for _ in received:
            pass

    assert (raised.value.sqlstate, raised.value.diag.message_primary) == ("22012", "division by zero")
    assert state(connection) == TransactionStatus.IDLE
    require_usable(connection)


@BOTH
def test_an_error_in_mid_stream_fails_the_transaction(connection, receive):
    with connection.transaction(force_rollback=True):
        with pytest.raises(psycopg.errors.DivisionByZero):
            list(receive(connection, DIVIDED))

        assert state(connection) == TransactionStatus.INERROR

    require_usable(connection)


@BOTH
def test_a_statement_that_is_cancelled_while_it_is_waited_for_says_so(connection, receive):
    connection.execute("SET statement_timeout = '100ms'")

    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        list(receive(connection, "COPY (SELECT pg_sleep(600)) TO STDOUT"))

    require_usable(connection)


@pytest.mark.parametrize("receive", [as_blocks, as_messages, as_rows])
def test_who_has_seen_enough_cancels_the_copy(connection, receive):
    received = receive(connection, FOREVER)
    next(received)
    assert state(connection) == TransactionStatus.ACTIVE

    received.close()

    assert state(connection) == TransactionStatus.IDLE
    require_usable(connection)


@BOTH
def test_a_session_that_is_ended_in_mid_stream_is_an_error_of_operation(connection, source, receive):
    received = receive(connection, FOREVER)
    next(received)
    with psycopg.connect(source, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid]).fetchone() == (True,)

    with pytest.raises(psycopg.OperationalError):
        for _ in received:
            pass

    assert connection.broken


@pytest.fixture
def interruptible():
    """Let SIGINT raise KeyboardInterrupt: the workers of pytest-xdist ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@BOTH
def test_an_interrupt_while_nothing_comes_ends_the_copy_at_the_server(source, receive, interruptible):
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name = 'test sleep'"
    with psycopg.connect(source, autocommit=True) as other:

        def interrupt():
            wait_until(lambda: other.execute(sleeping).fetchone() == (1,), 60)
            _thread.interrupt_main()

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()

        with pytest.raises(KeyboardInterrupt), open_source(source, application_name="test sleep") as connection:
            list(receive(connection, "COPY (SELECT pg_sleep(600)) TO STDOUT"))

        interrupting.join()
        assert wait_until(lambda: other.execute(sleeping).fetchone() == (0,), 60)
