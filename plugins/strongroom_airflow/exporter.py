"""`strongroom-exporter`: the figures of all archives for Prometheus, on port 9092 of this machine.

They are collected every few minutes, not at each scrape: a scrape answers at once with the last ones, and
`strongroom_collected_timestamp_seconds` says how old these are. When collecting fails the last figures stay, and
`strongroom_up` is 0.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from airflow.models.dag import DagTag
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from strongroom.errors import StrongroomError
from strongroom.metrics import StepFigures, make_metrics
from strongroom.settings import load_settings
from strongroom_airflow.gathering import gather_statistics

log = logging.getLogger("strongroom.exporter")

TAG = "strongroom"
"""Each DAG of the package has it."""


class Figures(Collector):
    """The last figures, whoever asks, and how collecting them went."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._collected_at = 0.0
        self._seconds = 0.0
        self._up = False
        self._failures = 0

    def refresh(self) -> None:
        """Collect anew; on an error the last figures stay and the error is logged."""
        started = time.monotonic()
        now = datetime.now(timezone.utc)
        try:
            statistics = gather_statistics(load_settings(), now=now)
            families = list(make_metrics(statistics, read_steps()))
        except (StrongroomError, SQLAlchemyError) as error:
            log.error("could not collect: %s", error)
            with self._lock:
                self._up, self._failures = False, self._failures + 1
            return
        with self._lock:
            self._families, self._up = families, True
            self._collected_at, self._seconds = now.timestamp(), time.monotonic() - started

    def collect(self) -> Iterator[Metric]:
        """Answer a scrape."""
        with self._lock:
            yield GaugeMetricFamily("strongroom_up", "Whether the last collection succeeded.", value=self._up)
            yield GaugeMetricFamily(
                "strongroom_collected_timestamp_seconds", "When the figures were collected.", value=self._collected_at
            )
            yield GaugeMetricFamily("strongroom_collect_seconds", "How long that took.", value=self._seconds)
            yield CounterMetricFamily(
                "strongroom_collect_failures", "Collections that failed since the start.", value=self._failures
            )
            yield from self._families

    def describe(self) -> list[Metric]:
        """Nothing: the names are known only after the first collection."""
        return []


def read_steps() -> list[StepFigures]:
    """What Airflow's metadata say of the tasks of all DAGs of the package; `airflow db clean` makes them forget."""
    sums: dict[tuple[str, str], list[float]] = {}
    for dag_id, task_id, state, count, seconds in _counted_tasks():
        figures = sums.setdefault((dag_id, task_id.rpartition(".")[2]), [0, 0.0, 0])
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
    """DAG, task, state, number and seconds: of the last tries, and then of those before them."""
    with create_session() as session:
        for model in (TaskInstance, TaskInstanceHistory):
            yield from session.execute(
                select(model.dag_id, model.task_id, model.state, func.count(), func.sum(model.duration))
                .where(model.dag_id.in_(select(DagTag.dag_id).where(DagTag.name == TAG)))
                .where(model.state.in_((TaskInstanceState.SUCCESS, TaskInstanceState.FAILED)))
                .group_by(model.dag_id, model.task_id, model.state)
            )


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = _parse(arguments)
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
            "HINT: Nothing was changed. Choose another port with --port, or stop whoever has this one.\n"
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
