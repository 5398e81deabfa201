"""Archive, restore and purge in a loop while a writer is active: `make soak MINUTES=5`. Nothing may grow, no row may be wrong.

One process does all of Strongroom's work for the whole time, unlike any Airflow task. Another writes, keeps the ledger and
measures. Each round has its own table and prefix: two runs of a partition while a writer is active, a restore into the live
table, the ledger's comparison, and a purge after the archives have expired. After each round everything that could grow is
measured. At the end the medians of the first and the last third are compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from strongroom.settings import StoreSettings
from strongroom.storage.staging import OF_RESTORES
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.ledger import examine
from tests.system.faults.scenario import Scene
from tests.system.faults.steps import ARCHIVE_STEPS, PURGE_STEPS, RESTORE_STEPS, Place, Steps
from tests.system.races.writer import Writer

ROWS = 500
AFTER_ITS_TERM = timedelta(days=3000)
MOST_GROWTH = {"memory, KiB": 1.05}
"""The allowed ratio of the last third to the first. Everything else may not grow at all."""

ROOM = {"sockets": 1 + 2 * StoreSettings(bucket="any").max_connections}
"""Up to this number growth does not count: the connection pools of two S3 clients fill slowly."""


_clients: dict[tuple[str, str], Any] = {}


class SteadyPlace(Place):
    """A place that creates its S3 clients once: botocore frees a client's memory late, if at all."""

    def client(self, identity: str) -> Any:
        known = (self.endpoint_url, identity)
        if known not in _clients:
            _clients[known] = super().client(identity)
        return _clients[known]


@dataclass
class Worker:
    """The process that does Strongroom's work."""

    process: Any
    line: Connection

    @classmethod
    def start(cls) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        return cls(process, ours)

    def run(self, place: Place, names: tuple[str, ...]) -> None:
        """Run steps to their end."""
        self.line.send((place, names))
        error = self.line.recv()
        if error is not None:
            raise RuntimeError(error)


def _work(line: Connection) -> None:
    while True:
        place, names = line.recv()
        try:
            Steps(place).run_all(names)
            if names == RESTORE_STEPS:  # as the last operator does
                place.chain().staging(OF_RESTORES, place.run_id).clear()
        except Exception as error:  # noqa: BLE001 - reported to the waiting process
            line.send(f"{type(error).__name__}: {error}")
        else:
            line.send(None)


def play_round(scene: Scene, worker: Worker) -> tuple[int, int]:
    """Run one round; return how many statements the writer ran and how many rows were compared."""
    scenario = scene.scenario(rows=ROWS, part_rows=125, delete_batch_rows=50)
    place = SteadyPlace(**vars(scenario.place))
    with Writer(scenario.ledger) as writer:
        for number in range(2):
            worker.run(replace(place, run_id=f"run-{number}"), ARCHIVE_STEPS)
    worker.run(replace(place, run_id="restore"), RESTORE_STEPS)
    tally = examine(scenario.ledger, replace(place, now=place.now + timedelta(days=1)).chain(), restored=True)
    tally.require_sound()
    place.chain().staging(OF_RESTORES, f"back-{place.settings.table}-1").clear()
    late = replace(place, run_id="purge", now=place.now + AFTER_ITS_TERM)
    worker.run(late, PURGE_STEPS)
    results = {one.result for one in Steps(late).purged()}
    assert results == {"purged"}, results
    with psycopg.connect(place.conninfo, autocommit=True) as session:
        for table in (place.settings.table, f"{place.settings.table}_back_1"):
            session.execute(f"DROP TABLE {table}")
    return writer.statements, len(scenario.ledger.rows)


def look(scene: Scene, worker: Worker) -> dict[str, int]:
    """The current value of everything that could grow."""
    own = Path(f"/proc/{worker.process.pid}")
    rollup = dict(line.split(":", 1) for line in (own / "smaps_rollup").read_text().splitlines()[1:])
    open_ = [str(one.readlink()) for one in (own / "fd").iterdir()]
    with psycopg.connect(scene.conninfo, autocommit=True) as session:

        def counted(query: str) -> int:
            [number] = session.execute(query).fetchone()  # type: ignore[misc]
            return int(number)

        connections = counted("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test'")
        temporary = counted("SELECT count(*) FROM pg_class WHERE relpersistence = 't'")
    uploads = scene.object_store.client("admin").list_multipart_uploads(Bucket=scene.bucket).get("Uploads", ())
    staging = [path for path in scene.folder.glob("*/staging/**/*") if path.is_file()]
    return {
        "memory, KiB": int(rollup["Anonymous"].split()[0]),  # mapped files are shared, so they do not count as growth
        "open files": sum(not one.startswith("socket:") for one in open_),
        "sockets": sum(one.startswith("socket:") for one in open_),
        "connections": connections,
        "temporary tables": temporary,
        "staging, bytes": sum(path.stat().st_size for path in staging),
        "unfinished uploads": len(uploads),
    }


def compare(looks: list[dict[str, int]]) -> tuple[list[str], bool]:
    """A Markdown table, and whether anything grew."""
    third = max(1, len(looks) // 3)
    lines = ["| what | first third | last third | most |", "|---|--:|--:|--:|"]
    grew = False
    for name in looks[0]:
        seen = [one[name] for one in looks]
        first, last = statistics.median(seen[:third]), statistics.median(seen[-third:])
        over = last > max(first * MOST_GROWTH.get(name, 1.0), ROOM.get(name, 0))
        grew |= over
        lines.append(f"| {name} | {first:,.0f} | {last:,.0f}{' GREW' if over else ''} | {max(seen):,} |")
    return lines, grew


def main(minutes: float) -> int:
    with tempfile.TemporaryDirectory(prefix="strongroom-soak-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database may run as another user
        postgres, store = PostgresServer(folder / "postgres"), ObjectStore(folder / "store")
        try:
            postgres.start()
            store.start()
            store.create_bucket("soak")
            (folder / "rounds").mkdir()
            with psycopg.connect(postgres.conninfo(), autocommit=True) as session:
                session.execute("CREATE DATABASE soak")
            return soak(Scene(postgres, store, postgres.conninfo("soak"), "soak", folder / "rounds"), minutes)
        finally:
            store.destroy()
            postgres.destroy()


def soak(scene: Scene, minutes: float) -> int:
    worker = Worker.start()
    looks: list[dict[str, int]] = []
    statements = rows = 0
    started = time.monotonic()
    while time.monotonic() - started < minutes * 60 or len(looks) < 3:
        made, compared = play_round(scene, worker)
        statements, rows = statements + made, rows + compared
        looks.append(look(scene, worker))
        print(f"round {len(looks)}: {looks[-1]}", file=sys.stderr, flush=True)
    worker.process.kill()
    lines, grew = compare(looks[1:])  # the first round loads modules and fills caches
    seconds = time.monotonic() - started
    print(
        f"{len(looks)} rounds in {seconds / 60:.1f} minutes, {statements:,} statements of the writer, {rows:,} rows at the end "
        "of their rounds: none lost, altered, doubled or resurrected."
    )
    print("\n".join(lines))
    return 1 if grew else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=5)
    sys.exit(main(arguments.parse_args().minutes))
