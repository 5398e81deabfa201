"""How long does a query over archived rows take, and how much memory? ``make query``; see docs/measured/query.md.

The measurement starts a PostgreSQL and an S3 server, archives call records as JSON lines (zstd) and as parquet, and runs queries as the
task does: locate, download, search in the child process, result in staging, record in the store.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg

from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import NOW, Chain, some_settings
from tests.support.querying import ask, when

TABLE = """
CREATE TABLE {table} (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, caller text NOT NULL, callee text NOT NULL, seconds integer NOT NULL,
    cost numeric(8, 2), rate numeric, direction text, trunk text, imsi text, cell integer, score float8, tags text[],
    detail jsonb, gateway text, reference uuid NOT NULL, note text
);
INSERT INTO {table}
SELECT n, '2026-05-01 00:00+00'::timestamptz + n * (interval '31 days' / {rows}), '+23480' || lpad((n * 7919 % 100000000)::text, 8, '0'),
       '+23470' || lpad((n * 104729 % 100000000)::text, 8, '0'), n % 3600, (n % 10000) / 100.0, n / 7.0, (ARRAY['in', 'out'])[1 + (n % 2)::integer],
       'trunk-' || n % 40, '62120' || lpad(n::text, 10, '0'), n % 100000, n / 3.0, ARRAY['a', NULL, 'b'],
       jsonb_build_object('cell', n % 100, 'codec', 'amr'), 'gw' || n % 20 || '.lagos.example.net', md5(n::text)::uuid, NULL
FROM generate_series(0::bigint, {rows} - 1) AS n;
CREATE INDEX ON {table} (at);
"""

QUERIES: dict[str, dict[str, Any]] = {
    "one caller (text `=`)": {"conditions": [when("caller", "=", "+2348000007919")]},
    "a cost (numeric `=`)": {"conditions": [when("cost", "=", "66.4"), when("seconds", ">", "3590")]},
    "part of an address (`contains`)": {"conditions": [when("caller", "contains", "0000791")]},
    "text in jsonb, which nothing sieves": {"conditions": [when("detail", "contains", '"nothing"')]},
    "an hour of the month": {"since": "2026-05-17T12:00Z", "before": "2026-05-17T13:00Z", "limit": 100_000},
    "the first 20 rows": {"limit": 20},
    "the first 100,000 rows, all columns": {"limit": 100_000},
}


def main() -> int:
    rows = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder, ExitStack() as servers:
        store, postgres = ObjectStore(Path(folder) / "store"), PostgresServer(Path(folder) / "postgres")
        for server in (store, postgres):
            servers.callback(server.destroy)
            server.start()
        lines = [line for form in ("jsonl", "parquet") for line in measure(form, rows, store, postgres, Path(folder))]
    print("\n".join([*head(rows), *lines]))
    return 0


def measure(form: str, rows: int, store: ObjectStore, postgres: PostgresServer, folder: Path) -> Iterator[str]:
    """Archive the rows and run each query; a line of the table for each."""
    table, bucket = f"calls_{form}", f"measurement-{form}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(TABLE.format(table=table, rows=rows))
    store.create_bucket(bucket)
    settings = some_settings(bucket, folder / form, table, format=form)
    chain = Chain(postgres.conninfo(), store.client("archiver"), settings)
    chain.seal(chain.plan())
    for number, (words, asked) in enumerate(QUERIES.items()):
        conditions = asked.get("conditions", ())
        others = {name: value for name, value in asked.items() if name != "conditions"}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        outcome = ask(chain, *conditions, now=NOW + timedelta(seconds=number), **others)
        elapsed, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        yield f"| {form} | {words} | {outcome.rows:,} | {elapsed:.1f} s | {cpu:.1f} s | {after.ru_maxrss >> 10} MB |"


def head(rows: int) -> list[str]:
    return [
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {datetime.now(timezone.utc):%Y-%m-%d}; {rows:,} rows of 17 columns. "
        f"Load of the machine: {os.getloadavg()[0]:.0f}.",
        "",
        "| format | query | rows found | time | CPU of the child | most memory of a child so far |",
        "|---|---|--:|--:|--:|--:|",
    ]


if __name__ == "__main__":
    sys.exit(main())
