"""`strongroom-exporter`: the figures of all archives for Prometheus, on port 9092 of this machine.

The figures are collected every few minutes, not at each scrape. A scrape returns the last figures at once, and
`strongroom_figures_age_seconds` says how old they are. If a store or source database cannot be reached, its own tables keep their
last figures, and the next collection tries again.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from airflow.models.dag import DagTag
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError

from strongroom.errors import StrongroomError
from strongroom.ledger.watching import LogFigures, LogWatch
from strongroom.overview.facts import StoreFacts
from strongroom.overview.reading import read_facts, read_kept_facts
from strongroom.settings import Settings, load_settings
from strongroom.statistics.metrics import StepFigures, make_metrics
from strongroom.statistics.records import Uncounted
from strongroom.storage.store import Store
from strongroom_airflow.connections import StoreKey, connect_store, store_key, store_tables
from strongroom_airflow.statistics.collect import (
    UNREACHABLE,
    combine,
    count_tables,
    describe,
)
from strongroom_airflow.steps import step_of
from strongroom_airflow.stored_connections import find_stored_connections

log = logging.getLogger("strongroom.exporter")

TAG = "strongroom"
"""Every DAG of the package has this tag."""


class Figures(Collector):
    """The last figures, and how collecting them went."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[StoreKey, StoreFacts] = {}
        """What each store told when it was last read."""
        self._watches: dict[StoreKey, LogWatch] = {}
        """What is remembered of each store's transparency log."""
        self._logs: dict[StoreKey, LogFigures] = {}
        self._steps: list[StepFigures] = []
        self._approvals: dict[str, int] = {}
        self._families: list[Metric] = []
        self._tables_up: dict[str, bool] = {}
        self._read_at: dict[str, datetime] = {}
        self._collected_at = 0.0
        self._seconds = 0.0
        self._up = False
        self._failures = 0

    def refresh(self) -> None:
        """Collect the figures. Of what cannot be reached, the last figures stay and the error is logged."""
        started = time.monotonic()
        now = datetime.now(timezone.utc)
        try:
            settings = load_settings()
        except StrongroomError as error:
            log.error("could not read the settings: %s", error)
            with self._lock:
                self._tables_up = dict.fromkeys(self._tables_up, False)
                self._up, self._failures = False, self._failures + 1
            return
        for fault in settings.left_out.values():
            log.error("a table is left out: %s", fault)
        read = self._read_stores(settings, now)
        complete = self._read_steps() and read == {store_key(table) for table in settings.tables.values()}
        counts = count_tables(settings, now=now)
        statistics = combine(settings, self._told.values(), counts, now=now)
        unread = {table.qualified_name for table in settings.tables.values() if store_key(table) not in self._told}
        tables = tuple(
            table
            for table in statistics.tables
            # Nobody knows in which store the archives of a table are that is left out.
            if table.table not in unread and (table.configured or table.archives)
        )
        families = list(
            make_metrics(
                statistics.model_copy(update={"tables": tables}), self._steps, self._approvals, self._logs.values()
            )
        )
        up = {name: not isinstance(count, Uncounted) for name, count in counts.items()}
        for table in settings.tables.values():
            up[table.qualified_name] &= store_key(table) in read
        read_at = self._ages(settings, [table.table for table in tables])
        with self._lock:
            self._families, self._tables_up, self._read_at, self._up = families, up, read_at, complete
            self._failures += not complete
            if read:
                self._collected_at, self._seconds = now.timestamp(), time.monotonic() - started

    def _read_stores(self, settings: Settings, now: datetime) -> set[StoreKey]:
        """Read every store; returns those that could be read."""
        tables = {store_key(table): table for table in store_tables(settings)}
        self._told = {key: facts for key, facts in self._told.items() if key in tables}
        unopened = "its store cannot be opened"  # until it was looked at
        self._logs = {key: replace(told, problem=unopened) for key, told in self._logs.items() if key in tables}
        read = set()
        for key, table in tables.items():
            try:
                store = connect_store(table)
                self._look_at_log(key, store, now)
                self._told[key] = _read_store(store, now, self._told.get(key))
                read.add(key)
            except UNREACHABLE as error:
                log.error("could not read the store of %s: %s", table.qualified_name, describe(error))
        return read

    def _look_at_log(self, key: StoreKey, store: Store, now: datetime) -> None:
        """Look at the store's transparency log; a store without one has no figures of it."""
        figures = self._watches.setdefault(key, LogWatch()).look(store, now)
        if figures is None:
            self._logs.pop(key, None)
            return
        self._logs[key] = figures
        if figures.problem is not None:
            log.error("could not read the transparency log of %s: %s", store, figures.problem)
        if figures.grew is False:
            log.critical("the transparency log of %s does not extend what was seen of it before", store)

    def _read_steps(self) -> bool:
        try:
            self._steps, self._approvals = read_steps(), read_approvals()
        except SQLAlchemyError as error:
            log.error("could not read Airflow's metadata: %s", error)
            return False
        return True

    def _ages(self, settings: Settings, tables: list[str]) -> dict[str, datetime]:
        """When the figures of each table were read: the oldest reading of a store that contributes to them."""
        read_at: Mapping[str, set[datetime]] = {table: set() for table in tables}
        for table in settings.tables.values():
            if table.qualified_name in read_at:
                read_at[table.qualified_name].add(self._told[store_key(table)].read_at)
        for facts in self._told.values():
            for name in {one.table_name for one in facts.archives} & set(read_at):
                read_at[name].add(facts.read_at)
        return {table: min(instants) for table, instants in read_at.items() if instants}

    def collect(self) -> Iterator[Metric]:
        """Answer a scrape."""
        now = datetime.now(timezone.utc)
        with self._lock:
            yield GaugeMetricFamily(
                "strongroom_up", "Whether the last collection read every store and Airflow's metadata.", value=self._up
            )
            yield GaugeMetricFamily(
                "strongroom_collected_timestamp_seconds", "When the figures were collected.", value=self._collected_at
            )
            yield GaugeMetricFamily("strongroom_collect_seconds", "How long that took.", value=self._seconds)
            yield CounterMetricFamily(
                "strongroom_collect_failures",
                "Collections since the start that missed a store or Airflow's metadata.",
                value=self._failures,
            )
            yield _by_table(
                "strongroom_table_up",
                "Whether the table's settings, store and source database were all right at the last collection.",
                self._tables_up,
            )
            yield _by_table(
                "strongroom_figures_age_seconds",
                "How old the figures of the table's archives are.",
                {name: (now - read_at).total_seconds() for name, read_at in self._read_at.items()},
            )
            yield from self._families

    def describe(self) -> list[Metric]:
        """Nothing, because the names are known only after the first collection."""
        return []


def _read_store(store: Store, now: datetime, earlier: StoreFacts | None) -> StoreFacts:
    return read_facts(store, now=now, earlier=earlier or read_kept_facts(store))


def _by_table(name: str, words: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=("table",))
    for table, value in values.items():
        family.add_metric((table,), value)
    return family


def read_steps() -> list[StepFigures]:
    """Successes, failures and durations of the tasks of all DAGs of the package, until `airflow db clean` removes them."""
    sums: dict[tuple[str, str], list[float]] = {}
    for dag_id, task_id, state, count, seconds in _counted_tasks():
        figures = sums.setdefault((dag_id, step_of(task_id)), [0, 0.0, 0])
        if state == TaskInstanceState.SUCCESS:
            figures[0] += count
            figures[1] += seconds or 0.0
        else:
            figures[2] += count
    return [
        StepFigures(dag_id, step, successes=int(successes), seconds=seconds, failures=int(failures))
        for (dag_id, step), (successes, seconds, failures) in sorted(sums.items())
    ]


def _counted_tasks() -> Iterator[Any]:
    """DAG, task, state, number and seconds: of the last tries, then of earlier ones."""
    with create_session() as session:
        for model in (TaskInstance, TaskInstanceHistory):
            yield from session.execute(
                select(model.dag_id, model.task_id, model.state, func.count(), func.sum(model.duration))
                .where(model.dag_id.in_(select(DagTag.dag_id).where(DagTag.name == TAG)))
                .where(model.state.in_((TaskInstanceState.SUCCESS, TaskInstanceState.FAILED)))
                .group_by(model.dag_id, model.task_id, model.state)
            )


def read_approvals() -> dict[str, int]:
    """How many requests for an approval wait for an answer, for each DAG of the package that has asked for one."""
    waiting = case((TaskInstance.state == TaskInstanceState.AWAITING_INPUT, 1), else_=0)
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.dag_id, func.sum(waiting))
            .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
            .where(TaskInstance.dag_id.in_(select(DagTag.dag_id).where(DagTag.name == TAG)))
            .group_by(TaskInstance.dag_id)
        )
        return {dag_id: int(count) for dag_id, count in rows}


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = _parse(arguments)
    find_stored_connections()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    figures = Figures()
    registry = CollectorRegistry()
    registry.register(figures)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    try:
        server, thread = start_http_server(options.port, addr=options.address, registry=registry)
    except OSError as error:
        sys.stderr.write(
            f"cannot listen on {options.address}:{options.port}: {error.strerror}\n"
            "HINT: Nothing was changed. Choose another port with --port, or stop the process that uses this one.\n"
        )
        return 1
    log.info("serving http://%s:%s/metrics, collecting every %s s", options.address, options.port, options.interval)
    while not stop.is_set():
        figures.refresh()
        stop.wait(options.interval)
    server.shutdown()
    thread.join()
    return 0


def _parse(arguments: list[str] | None) -> Namespace:
    parser = ArgumentParser("strongroom-exporter", description="Serve the figures of all archives for Prometheus.")
    parser.add_argument(
        "--address", default=os.environ.get("STRONGROOM_EXPORTER_ADDRESS", "127.0.0.1"), help="default: %(default)s"
    )
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("STRONGROOM_EXPORTER_PORT", "9092")), help="default: %(default)s"
    )
    parser.add_argument(
        "--interval",
        type=int,
        default=int(os.environ.get("STRONGROOM_EXPORTER_INTERVAL", "300")),
        help="seconds between two collections; default: %(default)s",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
