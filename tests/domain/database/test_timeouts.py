"""No session on the source database waits, works or stands still without an end."""

from __future__ import annotations

import re

import psycopg
import pytest

from strongroom.database.session import open_source
from strongroom.errors import SourceError
from tests.support.database import execute
from tests.support.repository import REPOSITORY


def test_a_session_has_its_time_outs(source):
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    limits = {"statement_timeout_seconds": 70, "lock_timeout_seconds": 7, "idle_timeout_seconds": 77}

    with open_source(source, application_name="test", **limits) as connection:
        found = [connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0] for name in names]

    assert found == ["70s", "7s", "77s"]


def test_a_session_has_nothing_compiled(source):
    """A batch of a delete is planned as if it were costly, and compiling it anew each time takes longer than running it."""
    execute(source, "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET jit = on', current_database()); END$$")

    with open_source(source, application_name="test") as connection:
        [jit] = connection.execute("SELECT current_setting('jit')").fetchone()

    assert jit == "off"


def test_a_statement_that_takes_too_long_is_ended_and_may_be_tried_again(source):
    with (
        pytest.raises(SourceError, match="found canceling statement due to statement timeout") as caught,
        open_source(source, application_name="test", statement_timeout_seconds=1) as connection,
    ):
        connection.execute("SELECT pg_sleep(60)")

    assert caught.value.retryable


def test_a_lock_that_is_not_had_in_time_is_given_up_and_may_be_tried_again(source):
    execute(source, "CREATE TABLE audit ()")
    with psycopg.connect(source) as other:
        other.execute("LOCK TABLE audit")
        with (
            pytest.raises(SourceError, match="found canceling statement due to lock timeout") as caught,
            open_source(source, application_name="test", lock_timeout_seconds=1) as connection,
        ):
            connection.execute("SELECT FROM public.audit")

    assert caught.value.retryable


def test_nothing_opens_a_session_in_another_way():
    """Whoever connects past ``open_source`` has none of it."""
    code = [*(REPOSITORY / "include" / "strongroom").rglob("*.py"), *(REPOSITORY / "plugins").rglob("*.py")]
    assert len(code) > 50

    assert [
        path.name for path in code if re.search(r"psycopg\w*\.connect\(|Connection\.connect\(", path.read_text())
    ] == ["session.py"]
