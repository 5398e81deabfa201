"""How long do other sessions wait while a partition leaves its table? ``make partitions``; see docs/measured/partitions.md.

A large partition is archived, detached and dropped. Meanwhile one session reads the table and another writes to it,
as fast as they can, and a third records who holds which lock, some hundred times a second. The partition is detached once
concurrently, and once under a lock, because the table has a DEFAULT partition. For comparison the same rows are deleted as usual.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import NOW, Chain, some_settings

TABLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON audit (at);
CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
"""
DEFAULT = "CREATE TABLE rest PARTITION OF audit DEFAULT"
FILL = """
INSERT INTO audit SELECT n, '2026-05-01+00'::timestamptz + n * interval '31 days' / (%(rows)s + 1), 'agent ' || n
FROM generate_series(1, %(rows)s) AS n
"""
WRITE = "INSERT INTO audit VALUES (nextval('numbers') + 1000000000, '2026-06-20+00', 'new')"
READ = "SELECT count(*) FROM (SELECT FROM audit WHERE at >= '2026-06-01+00' LIMIT 10) AS few"
LOCKS = """
SELECT bool_or(relation <> coalesce(to_regclass('strongroom_detached.may'), 0)) FROM pg_locks
WHERE locktype = 'relation' AND granted AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
  AND relation IN (SELECT oid FROM pg_class WHERE relname IN ('audit', 'may', 'june', 'rest'))
"""
WAYS = {
    "concurrently": ("", True),
    "under a lock (DEFAULT partition)": (DEFAULT, True),
    "by range, for comparison": ("", False),
}


class Neighbours:
    """Other sessions: their longest statement, and the longest time that a lock kept readers out of live tables."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._ended = threading.Event()
        self.longest = {"reader": 0.0, "writer": 0.0, "lock": 0.0}

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        with ThreadPoolExecutor(3) as threads:
            at_work = [
                threads.submit(self._go_on, "reader", READ),
                threads.submit(self._go_on, "writer", WRITE),
                threads.submit(self._watch),
            ]
            try:
                yield
            finally:
                self._ended.set()
            for each in at_work:
                each.result()

    def _go_on(self, name: str, statement: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            while not self._ended.is_set():
                started = time.monotonic()
                connection.execute(statement)
                self.longest[name] = max(self.longest[name], time.monotonic() - started)

    def _watch(self) -> None:
        since: float | None = None
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            while not self._ended.is_set():
                row = connection.execute(LOCKS).fetchone()
                held = bool(row is not None and row[0])
                now = time.monotonic()
                since = (now if since is None else since) if held else None
                if since is not None:
                    self.longest["lock"] = max(self.longest["lock"], now - since)
                time.sleep(0.002)


def main() -> int:
    rows = int(sys.argv[1])
    print(
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {datetime.now(timezone.utc):%Y-%m-%d}, "
        f"{rows:,} rows in one partition. Load of the machine: {os.getloadavg()[0]:.0f}.\n"
    )
    print("| way | step | took | longest lock that keeps readers out | longest read | longest write |")
    print("|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder, contextlib.ExitStack() as servers:
        store, postgres = ObjectStore(Path(folder) / "store"), PostgresServer(Path(folder) / "postgres")
        for each in (store, postgres):
            servers.callback(each.destroy)
            each.start()
        for number, (way, (more, enabled)) in enumerate(WAYS.items()):
            name = f"measure-{number}"
            store.create_bucket(name)
            with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            conninfo = postgres.conninfo(name)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(f"{TABLE}; {more}; CREATE SEQUENCE numbers")
                connection.execute(FILL, {"rows": rows})
                connection.execute("VACUUM ANALYZE audit")
            changes = {"partition_delete": {"enabled": enabled}}
            settings = some_settings(name, Path(folder) / "staging" / name, **changes)
            measure(way, Chain(conninfo, store.client("archiver"), settings), rows, enabled=enabled)
    return 0


def measure(way: str, chain: Chain, rows: int, *, enabled: bool) -> None:
    """Run one method and print a line for each of its steps."""
    sealed = chain.seal(chain.plan())

    def step(name: str, work: Callable[[], int]) -> None:
        neighbours = Neighbours(chain.conninfo)
        started = time.monotonic()
        with neighbours.going_on():
            done = work()
            seconds = time.monotonic() - started
        assert done == rows, f"{name}: {done} rows"
        lock, reader, writer = (f"{neighbours.longest[each] * 1000:,.0f} ms" for each in ("lock", "reader", "writer"))
        print(f"| {way} | {name} | {seconds:.1f} s | {lock} | {reader} | {writer} |", flush=True)

    if enabled:
        step("detach", lambda: chain.detach(sealed.parts).rows)
        step("delete", lambda: sum(chain.delete(part).detached for part in sealed.parts))
        later = NOW + timedelta(days=2)
        step("drop", lambda: sum(one.rows for one in chain.drop_detached(now=later)))
    else:
        step("delete", lambda: sum(chain.delete(part).deleted for part in sealed.parts))


if __name__ == "__main__":
    sys.exit(main())
