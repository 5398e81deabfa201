"""How long do statistics, catalogue, metrics and pages of many archives take? ``make statistics``; see docs/measured/many-tables.md.

The measurement starts an S3 server with synthetic manifests and evidence of their deletes, and a PostgreSQL server with
empty tables. It calls the code as the task, the command, the exporter and the web server do. Everything but the pages runs
twice: without the indexes in the store, and with those that a run leaves.

Arguments: the number of archives, and how many months each table has (50); ``--pages`` measures the pages alone.
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
from strongroom.object_keys.layout import MANIFEST_INDEX, OVERVIEW
from strongroom.overview.reading import keep_facts, read_facts, read_kept_facts
from strongroom.settings import StoreSettings
from strongroom.storage.store import Store
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.postgres import PostgresServer
from strongroom_local.servers.s3 import ObjectStore
from tests.support.synthetic import many_manifests, put_evidence, put_manifests
from tests.support.visiting import visitor

BUCKET = "measurement"
MONTHS_A_TABLE = 50


def main() -> int:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    count, months = (*numbers, MONTHS_A_TABLE)[:2]
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder, contextlib.ExitStack() as servers:
        server = ObjectStore(Path(folder) / "store")
        postgres = PostgresServer(Path(folder) / "postgres")
        for each in (server, postgres):
            servers.callback(each.destroy)
            each.start()
        server.create_bucket(BUCKET)
        store = Store(server.client("archiver"), StoreSettings(bucket=BUCKET))
        put_manifests(store, many_manifests(count, months=months))
        put_evidence(store, many_manifests(count, months=months))
        set_environment(Path(folder), server, postgres, tables=-(-count // months))
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        tables = [] if "--pages" in sys.argv else report(count, measure(server, store, count))
        tables += ["", *report_pages(count, months, measure_pages(server, store, count))]
    print("\n".join([machine(), "", *tables]))
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
        for key in (MANIFEST_INDEX, OVERVIEW):
            server.client("admin").delete_object(Bucket=BUCKET, Key=key)
        without = timed(thing, count, server)
        write_index(store, survey_manifests(store))
        keep_facts(store, read_facts(store, now=datetime.now(timezone.utc)))
        seconds[words] = [without, timed(thing, count, server)]
    return seconds


Pages = dict[str, tuple[float, float, float]]
"""The same times of what a web server does, and of each page."""


def measure_pages(server: ObjectStore, store: Store, count: int) -> Pages:
    """What a web server does before its first page and behind it; then each page, when the facts are there."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    from strongroom.settings import load_settings
    from strongroom_airflow.pages.gathering import gathering

    with create_session() as session:  # the auth manager asks which DAGs there are
        session.add(DagBundleModel(name="measured"))
        session.flush()
        dags = (f"archive__{table.slug}" for table in load_settings().tables.values())
        given = {
            "bundle_name": "measured",
            "is_stale": False,
            "max_active_tasks": 1,
            "has_task_concurrency_limits": False,
        }
        session.add_all(DagModel(dag_id=dag_id, max_consecutive_failed_dag_runs=0, **given) for dag_id in dags)
    client, now = visitor(), datetime.now(timezone.utc)

    def kept() -> int:
        facts = read_kept_facts(store)
        return len(facts.archives) if facts else 0

    def page(address: str, part: str) -> Callable[[], int]:
        def get() -> int:
            answer = client.get(address)
            assert part in answer.text, answer.text[:2000]
            return count

        return get

    keep_facts(store, read_facts(store, now=now))
    seconds: Pages = {
        "behind it: what is new since the kept facts": timed(
            lambda: len(read_facts(store, now=now, earlier=read_kept_facts(store)).archives), count, server
        ),
        "the same without kept facts": timed(lambda: len(read_facts(store, now=now).archives), count, server),
        "kept facts": timed(kept, count, server),
    }
    gathering.facts(seconds=600, fresh=True)
    page("/archive", 'id="map"')()  # imports and compiles what the first page of a process needs
    for words, address, part in (
        ("map", "/archive", 'id="map"'),
        ("totals", "/totals", "<svg"),
        ("search", "/search?q=t001+2019-05", "public.t001.2019-05.0001"),
    ):
        gathering.facts(seconds=600)
        seconds[words] = timed(page(address, part), count, server)
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


def machine() -> str:
    return (
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {datetime.now(timezone.utc):%Y-%m-%d}; seconds from "
        f"start to end (CPU seconds here + in the S3 server). Load of the machine: {os.getloadavg()[0]:.0f}."
    )


def report(count: int, seconds: Seconds) -> list[str]:
    lines = [f"| {count:,} archives | without the indexes | with them |", "|---|--:|--:|"]
    for words, figures in seconds.items():
        cells = " | ".join(f"{elapsed:.1f} s ({client:.1f} + {served:.1f})" for elapsed, client, served in figures)
        lines.append(f"| {words} | {cells} |")
    return lines


def report_pages(count: int, months: int, pages: Pages) -> list[str]:
    lines = [f"| {count:,} archives, {-(-count // months)} tables | |", "|---|--:|"]
    for words, (elapsed, client, served) in pages.items():
        lines.append(f"| {words} | {elapsed:.2f} s ({client:.2f} + {served:.2f}) |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
