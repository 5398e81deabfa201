"""The database drops connections, is full, kills sessions, cancels statements and deadlocks."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.errors import SourceError
from tests.support.proxies import Moment
from tests.system.faults.scenario import ROWS, Scenario, Scene, side_by_side
from tests.system.faults.steps import Steps
from tests.system.helpers import wait_for

MOMENTS = {
    "extract_to_staging": "COPY (SELECT",
    "verify": "COPY",
    "delete": "COPY (DELETE",
}


def at_first(side: str, what: str, act: Callable[[], bool]) -> Callable[[Moment], bool]:
    """A watch that acts when a statement first passes. The action's result says whether the message goes through."""
    met = threading.Event()

    def watch(moment: Moment) -> bool:
        if met.is_set() or (moment.boundary, moment.side) != ("database", side) or not moment.what.startswith(what):
            return True
        met.set()
        return act()

    return watch


def cut() -> bool:
    return False


@pytest.mark.parametrize("side", ["request", "answer"])
def test_a_commit_that_is_cut_off_is_counted_as_what_it_was(scene: Scene, side):
    """The retry asks the server whether it committed. Each row counts as deleted, none as gone."""
    scenario = scene.scenario()
    scenario.prepare("delete")

    with (
        scenario.boundaries(at_first(side, "COMMIT", cut)) as (place, _),
        pytest.raises(SourceError, match="continues where it stopped"),
    ):
        Steps(place).run("delete")

    scenario.recover("delete", "retry")
    scenario.require_all_archived()
    [report] = scenario.steps.result("report")
    assert (report["deleted_rows"], report["gone_rows"]) == (ROWS, 0)
    scenario.examine(f"a COMMIT cut off before its {side}", recovered="retry")


def test_a_session_that_is_ended_is_tried_again(scene: Scene):
    """As when an administrator or a failover ends it."""

    def end_in(step: str) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)
        end = partial(_sessions, scenario, "pg_terminate_backend(pid)")

        with scenario.boundaries(at_first("request", MOMENTS[step], end)) as (place, _), pytest.raises(SourceError):
            Steps(place).run(step)

        scenario.recover(step, "retry")
        scenario.require_all_archived()
        scenario.examine("pg_terminate_backend() in mid-step", recovered="retry")

    side_by_side(end_in, list(MOMENTS))


@pytest.mark.parametrize("step", ["extract_to_staging", "delete"])
def test_a_statement_that_is_cancelled_is_tried_again(scene: Scene, step):
    """The statement is waiting for another session's lock when it is cancelled."""
    scenario = scene.scenario()
    scenario.prepare(step)

    cancel = partial(_sessions, scenario, "pg_cancel_backend(pid)", "AND wait_event_type = 'Lock'")

    with psycopg.connect(scenario.place.conninfo) as other, ThreadPoolExecutor(1) as helper:
        other.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(scenario.ledger.table)))
        cancelled = helper.submit(wait_for, cancel, "the step to wait for the lock")
        with pytest.raises(SourceError, match="canceling statement"):
            scenario.steps.run(step)

    assert cancelled.result()
    scenario.recover(step, "retry")
    scenario.require_all_archived()
    scenario.examine("pg_cancel_backend() in mid-step", recovered="retry")


def _sessions(scenario: Scenario, act: str, where: str = "") -> bool:
    """Do something with the sessions of the scenario's run. Return False if there are none."""
    query = f"SELECT {act} FROM pg_stat_activity WHERE application_name = %s {where}"
    with psycopg.connect(scenario.place.conninfo, autocommit=True) as session:
        return bool(session.execute(query, (scenario.place.chain().application_name,)).fetchall())


def test_both_ends_notice_soon_when_the_line_is_cut_without_a_word(scene: Scene):
    """Otherwise the server would hold the locks of a dead task's batch for two hours."""
    with scene.scenario().place.chain().source() as connection:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        theirs = [connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone() for name in names]
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ours = [line.getsockopt(socket.IPPROTO_TCP, option) for option in options]

    assert (theirs, ours) == ([("60",), ("10",), ("6",)], [60, 10, 6, 120_000])


@pytest.mark.exhaustive
def test_a_delete_that_deadlocks_takes_its_batch_back_and_tries_it_again(scene: Scene):
    """Another session has locked the last row of a batch and wants the first, which the delete has. The server ends the delete.

    A session checks for a deadlock once, after waiting for ``deadlock_timeout``, and fails if it finds one.
    """
    scenario = scene.scenario(part_rows=1000, delete_batch_rows=1000)
    scenario.prepare("delete")
    row = sql.SQL("SELECT FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(scenario.ledger.table))
    waiting = partial(_sessions, scenario, "pid", "AND wait_event_type = 'Lock'")

    with psycopg.connect(scenario.place.conninfo) as other, ThreadPoolExecutor(1) as helper:
        other.execute("SET LOCAL deadlock_timeout = '2min'")
        other.execute(row, (ROWS,))
        patient = make_conninfo(scenario.place.conninfo, options="-c deadlock_timeout=15s")
        deleting = helper.submit(Steps(replace(scenario.place, conninfo=patient)).run, "delete")
        wait_for(waiting, "the delete to wait for the last row")
        other.execute(row, (1,))
        other.commit()
        deleting.result()

    wait_for(partial(_deadlocks, scenario), "the server to count the deadlock")
    scenario.recover("delete", "retry")
    scenario.require_all_archived()
    scenario.examine("a deadlock with the delete", recovered="by itself")


def test_a_database_at_its_connection_limit_is_tried_again(scene: Scene):
    scenario = scene.scenario()
    scenario.prepare("delete")
    role = scenario.ledger.table.replace("audit", "role")
    with psycopg.connect(scenario.place.conninfo, autocommit=True) as owner:
        for statement in (
            "CREATE ROLE {role} LOGIN PASSWORD 'a password' CONNECTION LIMIT 1",
            "GRANT SELECT, DELETE ON {table} TO {role}",
        ):
            names = {"role": sql.Identifier(role), "table": sql.Identifier(scenario.ledger.table)}
            owner.execute(sql.SQL(statement).format(**names))
    limited = replace(scenario.place, conninfo=make_conninfo(scenario.place.conninfo, user=role, password="a password"))

    with psycopg.connect(limited.conninfo), pytest.raises(SourceError, match="too many connections"):
        Steps(limited).run("delete")

    for name in ("delete", "report"):
        wait_for(
            partial(_is_done, Steps(limited), name),
            f"{name}: for a moment the server counts a session that its client closed",
        )
    scenario.require_all_archived()
    scenario.examine("a database at its connection limit", recovered="retry")
    with psycopg.connect(scenario.place.conninfo, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def _is_done(steps: Steps, name: str) -> bool:
    """Try a step as a task does, and say whether it succeeded or found too many connections."""
    try:
        steps.run(name)
    except SourceError as error:
        if "too many connections" in str(error):
            return False
        raise
    return True


def _deadlocks(scenario: Scenario) -> int:
    with psycopg.connect(scenario.place.conninfo, autocommit=True) as session:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        [deadlocks] = session.execute(query).fetchone()
        return int(deadlocks)
