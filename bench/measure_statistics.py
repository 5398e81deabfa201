"""How long do statistics, catalogue and metrics of many archives take? ``make statistics``; see docs/measured/many-tables.md.

The measurement starts an S3 server with synthetic manifests, fifty months for each table, and a PostgreSQL server with
empty tables. It calls the code as the task, the command and the exporter do. Everything runs twice: without an index in
the store, and with the index that the first run left.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from strongroom.ledger.index import survey_manifests, write_index
from strongroom.object_keys import MANIFEST_INDEX
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.synthetic import many_manifests, put_manifests

BUCKET = "measurement"
MONTHS_A_TABLE = 50


def main() -> int:
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder, contextlib.ExitStack() as servers:
        server = ObjectStore(Path(folder) / "store")
        postgres = PostgresServer(Path(folder) / "postgres")
        for each in (server, postgres):
            servers.callback(each.destroy)
            each.start()
        server.create_bucket(BUCKET)
        store = Store(server.client("archiver"), StoreSettings(bucket=BUCKET))
        put_manifests(store, many_manifests(count, months=MONTHS_A_TABLE))
        set_environment(Path(folder), server, postgres, tables=-(-count // MONTHS_A_TABLE))
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        seconds = measure(server, store, count)
    print("\n".join(report(count, seconds)))
    return 0


def set_environment(folder: Path, store: ObjectStore, postgres: PostgresServer, *, tables: int) -> None:
    """Give Airflow in this process its settings, connections and metadata database, and create the tables."""
    names = [f"t{number:03d}" for number in range(tables)]
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    config = {"legal_basis": "a measurement", "tables": {name: {"date_column": "at"} for name in names}}
    (folder / "archive.yaml").write_text(json.dumps(config))
    database = conninfo_to_dict(postgres.conninfo())
    access_key, secret_key = store.keys("archiver")
    os.environ.update(
        AIRFLOW_HOME=str(folder / "airflow"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        STRONGROOM_CONFIG=str(folder / "archive.yaml"),
        STRONGROOM__STORE__BUCKET=BUCKET,
        STRONGROOM__STORE__ENDPOINT_URL=store.endpoint_url,
        AIRFLOW_CONN_STRONGROOM_STORE=json.dumps({"conn_type": "aws", "login": access_key, "password": secret_key}),
        AIRFLOW_CONN_STRONGROOM_SOURCE=json.dumps(
            {
                "conn_type": "postgres",
                "host": database["host"],
                "port": int(str(database["port"])),
                "schema": database["dbname"],
                "login": database["user"],
                "password": database["password"],
            }
        ),
    )


Seconds = dict[str, list[tuple[float, float, float]]]
"""Times per action, without and with the index: wall-clock seconds, and CPU seconds of this process and the S3 server."""


def measure(server: ObjectStore, store: Store, count: int) -> Seconds:
    """Run every action without and with the index."""
    # Airflow reads its settings on import, and they exist only now.
    from prometheus_client import CollectorRegistry, generate_latest

    from strongroom.settings import load_settings
    from strongroom.statistics.keep import keep_statistics
    from strongroom.statistics.page import make_page
    from strongroom_airflow.commands.catalog import catalog
    from strongroom_airflow.connections import connect_stores
    from strongroom_airflow.exporter import Figures
    from strongroom_airflow.statistics.collect import collect_statistics

    def statistics() -> int:
        settings = load_settings()
        collected = collect_statistics(settings, now=datetime.now(timezone.utc))
        page = make_page(collected)
        for each in connect_stores(settings):
            keep_statistics(each, collected, page)
        return collected.total.archives

    def command() -> int:
        wanted = dict.fromkeys(
            ("prefix", "partition", "table", "older_than", "younger_than", "rebuild_index", "verbose")
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            catalog(Namespace(**wanted, json=True))
        return len(json.loads(printed.getvalue()))

    def exporter() -> int:
        figures = Figures()
        figures.refresh()
        registry = CollectorRegistry()
        registry.register(figures)
        lines = generate_latest(registry).decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("strongroom_archives{")))

    things: dict[str, Callable[[], int]] = {
        "statistics": statistics,
        "`catalog`": command,
        "exporter, one collection": exporter,
    }
    seconds: Seconds = {}
    for words, thing in things.items():
        server.client("admin").delete_object(Bucket=BUCKET, Key=MANIFEST_INDEX)
        without = timed(thing, count, server)
        write_index(store, survey_manifests(store))
        seconds[words] = [without, timed(thing, count, server)]
    return seconds


def timed(thing: Callable[[], int], count: int, server: ObjectStore) -> tuple[float, float, float]:
    def clocks() -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), cpu_seconds(server.pid)

    before = clocks()
    assert thing() == count
    elapsed, client, served = (after - earlier for after, earlier in zip(clocks(), before, strict=True))
    return elapsed, client, served


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(count: int, seconds: Seconds) -> list[str]:
    lines = [
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {datetime.now(timezone.utc):%Y-%m-%d}; seconds from "
        f"start to end (CPU seconds here + in the S3 server). Load of the machine: {os.getloadavg()[0]:.0f}.",
        "",
        f"| {count:,} archives | without an index | with the index |",
        "|---|--:|--:|",
    ]
    for words, figures in seconds.items():
        cells = " | ".join(f"{elapsed:.1f} s ({client:.1f} + {served:.1f})" for elapsed, client, served in figures)
        lines.append(f"| {words} | {cells} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
