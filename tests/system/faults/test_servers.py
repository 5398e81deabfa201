"""Kill -9 of the database server and the S3 server in the middle of a step. They are restarted, and the run continues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.errors import StrongroomError
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.processes import kill_group, read_record
from strongroom_local.servers.s3 import ObjectStore
from tests.support.proxies import Moment
from tests.system.faults.scenario import Scenario, Scene, side_by_side
from tests.system.faults.steps import Steps

DATABASE_CRASHES = {
    "extract_to_staging": [("answer", "COPY (SELECT")],
    "verify": [("request", "COPY")],
    "delete": [("request", "COMMIT"), ("answer", "COMMIT")],
}
STORE_CRASHES = {
    "upload": [("request", "PUT"), ("answer", "/part-00000")],
    "verify": [("request", "/part-00001")],
    "seal": [("request", "/metadata/"), ("answer", "/metadata/")],
    "delete": [("answer", "/evidence/")],
}


@pytest.fixture(scope="module")
def servers(session_folder: Path) -> Iterator[tuple[PostgresServer, ObjectStore]]:
    """Servers for this module alone, because killing them must not affect other tests."""
    postgres, store = PostgresServer(session_folder / "killed-postgres"), ObjectStore(session_folder / "killed-store")
    try:
        postgres.start()
        store.start()
        yield postgres, store
    finally:
        postgres.destroy()
        store.destroy()


@pytest.fixture(scope="module")
def scene(servers: tuple[PostgresServer, ObjectStore], tmp_path_factory: Any) -> Scene:
    postgres, store = servers
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE killed")
    store.create_bucket("killed")
    return Scene(postgres, store, postgres.conninfo("killed"), "killed", tmp_path_factory.mktemp("killed"))


def crash(folder: Path, name: str) -> None:
    """Kill a server and all its processes at once."""
    record = read_record(folder / name)
    assert record is not None
    kill_group(record)


def test_a_database_server_that_is_killed_loses_nothing(scene: Scene):
    _crash_in_each(
        scene,
        DATABASE_CRASHES,
        "database",
        "the database server",
        lambda: crash(scene.postgres.folder, "postgres.pid"),
        scene.postgres.start,
    )


def test_an_s3_server_that_is_killed_loses_nothing(scene: Scene):
    _crash_in_each(
        scene,
        STORE_CRASHES,
        "store",
        "the S3 server",
        lambda: crash(scene.object_store.folder, "seaweedfs.pid"),
        scene.object_store.start,
    )


def _crash_in_each(
    scene: Scene,
    crashes: dict[str, list[tuple[str, str]]],
    boundary: str,
    server: str,
    kill: Callable[[], None],
    start: Callable[[], None],
) -> None:
    """The server is killed when all scenarios have reached their moments."""
    scenarios = []
    for step, side, what in [(step, *place) for step, places in crashes.items() for place in places]:
        scenario = scene.scenario()
        scenario.prepare(step)
        scenarios.append((scenario, step, side, what))
    meeting = threading.Barrier(len(scenarios), action=kill, timeout=300)

    def run(given: tuple[Scenario, str, str, str]) -> None:
        scenario, step, side, what = given
        met = threading.Event()

        def watch(moment: Moment) -> bool:
            if met.is_set() or (moment.boundary, moment.side) != (boundary, side) or what not in moment.what:
                return True
            met.set()
            meeting.wait()
            return False

        with scenario.boundaries(watch) as (place, _), pytest.raises(StrongroomError):
            Steps(place).run(step)

    side_by_side(run, scenarios, at_once=len(scenarios))
    start()
    for scenario, step, _, _ in scenarios:
        scenario.recover(step, "retry")
        scenario.require_all_archived()
        scenario.examine(f"kill -9 of {server} in {step}", recovered="restart of the server, then retry")
