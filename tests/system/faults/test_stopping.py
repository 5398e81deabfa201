"""SIGTERM: a step undoes unfinished work, closes its connections and ends within the time that Airflow allows."""

from __future__ import annotations

from functools import partial

import psycopg
import pytest
from psycopg import sql

from tests.support.ledger import read_archives
from tests.system.faults.processes import STOPPED, step_process
from tests.system.faults.scenario import ROWS, Scenario, Scene
from tests.system.helpers import wait_for


@pytest.mark.parametrize(("step", "locked"), [("extract_to_staging", "TABLE"), ("delete", "ROW")])
def test_a_step_in_the_middle_of_a_statement_takes_it_back(scene: Scene, step, locked):
    """The statement waits for another session's lock. It is cancelled, not left running without a client."""
    scenario = scene.scenario()
    scenario.prepare(step)
    table = sql.Identifier(scenario.ledger.table)
    lock = {"TABLE": "LOCK TABLE {}", "ROW": "SELECT FROM {} WHERE id = 30 FOR UPDATE"}[locked]

    with psycopg.connect(scenario.place.conninfo) as other:
        other.execute(sql.SQL(lock).format(table))
        process = step_process(scenario.place, step)
        process.start()
        wait_for(partial(_sessions, scenario, "wait_event_type = 'Lock'"), "the step to wait for the lock")
        process.terminate()
        process.join(60)
        wait_for(lambda: not _sessions(scenario, "true"), "the session to end", seconds=10)

    assert process.exitcode == STOPPED, scenario.said()
    assert not list(scenario.place.folder.glob("staging/*/*.partial"))
    scenario.recover(step, "retry")
    scenario.require_all_archived()
    [report] = scenario.steps.result("report")
    assert (report["deleted_rows"], report["gone_rows"]) == (ROWS, 0)
    scenario.examine(f"SIGTERM to {step} in mid-statement", recovered="retry")


def test_a_step_in_the_middle_of_a_request_lets_go_of_it(scene: Scene):
    """The stop is no ordinary error: the S3 client would wrap and retry one."""
    scenario = scene.scenario()
    scenario.prepare("upload")

    with scenario.boundaries() as (place, proxy):
        hold = proxy.hold("PUT", "/part-00000", "request")
        process = step_process(place, "upload")
        process.start()
        assert hold.reached.wait(60)
        process.terminate()
        process.join(60)
        exit_code = process.exitcode  # read before the request is answered

    assert exit_code == STOPPED, scenario.said()
    assert read_archives(scenario.place.client("archiver"), scenario.place.settings) == []
    scenario.recover("upload", "retry")
    scenario.require_all_archived()
    scenario.examine("SIGTERM to upload in mid-request", recovered="retry")


def _sessions(scenario: Scenario, where: str) -> bool:
    query = f"SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND {where}"
    with psycopg.connect(scenario.place.conninfo, autocommit=True) as session:
        return bool(session.execute(query, (scenario.place.chain().application_name,)).fetchall())
