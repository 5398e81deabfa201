"""``make scaling``: archive four parts through CeleryExecutor with one worker and with two.

Each worker has one slot. Workers share no folder; staging is on S3. Each run archives a different month of the same size, so
no run profits from caches that another has warmed. Everything runs on one machine, so the source database, the S3 server and
Airflow use the same cores. ``--cores 0.4`` limits each worker to that much of a core and leaves the rest to them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from bench.cores import cpu_group
from bench.usage import Meter, Usage
from strongroom.calendar import Partition
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.celery import CeleryStack
from strongroom_local.servers.processes import wait_until
from tests.system.helpers import Airflow, wait_for
from tests.system.scaling.test_many_machines import DAG_ID, TABLE, due_month

FOLDER = REPOSITORY / ".strongroom" / "scaling" / "celery"
PARTS = 4
GOAL = 0.55


@dataclass(frozen=True)
class Figure:
    """The figures of one run."""

    month: str
    workers: int
    rows: int
    usage: Usage
    busy_cores: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make scaling", description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000, help="call records in a month")
    parser.add_argument("--pairs", type=int, default=2, help="how often one worker and two are compared")
    parser.add_argument("--cores", type=float, help="how much of a core each worker gets (root; default: what it can)")
    args = parser.parse_args()
    # Cutting by time is not exact, so without a margin there could be a fifth part of a few rows.
    settings = {"STRONGROOM__PART_ROWS": str(math.ceil(args.rows / PARTS * 1.02)), "AIRFLOW__CORE__PARALLELISM": "8"}
    stack = CeleryStack(FOLDER, workers=2, settings=settings)
    stack.destroy()
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, FOLDER.parent, ignore_errors=True)
        groups = {
            worker: ending.enter_context(cpu_group(f"strongroom-{worker}", args.cores))
            for worker in (stack.workers if args.cores else ())
        }
        ending.callback(stack.destroy)
        stack.up(say)
        figures = measure(stack, groups, args.rows, args.pairs)
    show(figures, args.cores)
    return 0


def measure(stack: CeleryStack, groups: Mapping[str, Path], rows: int, pairs: int) -> list[Figure]:
    """Archive month after month, with one and two workers in turn.

    Args:
        groups: The workers' control groups, if there are any.
        rows: Rows in each month.
        pairs: How many months to archive with each number of workers.
    """
    months = [due_month().previous()]
    while len(months) < 2 * pairs:
        months.insert(0, months[0].previous())
    say(f"making {rows:,} call records in each of {len(months)} months")
    last = months[-1].window.end - timedelta(seconds=1)
    sample.load(stack.source_conninfo(), call_records_per_month=rows, months=len(months), now=last)
    with psycopg.connect(stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    airflow = Airflow(stack)
    airflow.pause(DAG_ID, paused=False)  # the scheduler starts the newest due month by itself; it is empty
    run = wait_for(lambda: airflow.runs(DAG_ID), "the scheduler's run")[0]
    assert airflow.wait_for_run(DAG_ID, run.run_id, seconds=600).state == "success"
    return [measure_one(stack, airflow, groups, month, 1 + number % 2) for number, month in enumerate(months)]


def measure_one(
    stack: CeleryStack, airflow: Airflow, groups: Mapping[str, Path], month: Partition, workers: int
) -> Figure:
    """Archive one month."""
    for worker in stack.workers:
        stack.kill_worker(worker)  # it has nothing to do
    for worker in stack.workers[:workers]:
        start_and_wait(stack, worker, groups.get(worker))
    say(f"archiving {month.key} with {workers} {'worker' if workers == 1 else 'workers'}")
    server, store = stack.postgres.pid, stack.object_store.pid
    assert server is not None
    assert store is not None
    with psycopg.connect(stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    leaders = [stack.leader_of(worker) for worker in stack.workers[:workers]]
    busy, began = busy_seconds(), time.monotonic()
    with Meter(server, store, stack.folder / "worker-1" / "scratch", lambda: leaders).measured() as usage:
        started = airflow.trigger(DAG_ID, month.key)
        ended = airflow.wait_for_run(DAG_ID, started.run_id, seconds=3600)
    busy_cores = (busy_seconds() - busy) / (time.monotonic() - began)
    report = airflow.result(ended, "report")
    assert (ended.state, report["parts"]) == ("success", PARTS), report
    usage.seconds = airflow.seconds(ended)
    return Figure(month.key, workers, report["deleted_rows"], usage, busy_cores)


def start_and_wait(stack: CeleryStack, worker: str, group: Path | None) -> None:
    """Start a worker, in a control group if given, and wait until it accepts tasks."""
    log: Path = stack.logs / f"{worker}.log"
    ready = log.read_text().count(" ready.") if log.exists() else 0
    stack.start_worker(worker)
    if group is not None:
        (group / "cgroup.procs").write_text(str(stack.leader_of(worker)))  # it has no children yet
    assert wait_until(lambda: log.read_text().count(" ready.") > ready, timeout_seconds=120), worker


def busy_seconds() -> float:
    """CPU seconds of all cores of the machine, for any process."""
    user, nice, system, _idle, _wait, *more = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + sum(more[:2])) / os.sysconf("SC_CLK_TCK")


def show(figures: list[Figure], cores: float | None) -> None:
    """Print the figures, in the form used in docs/measured/scaling.md."""
    console = Console(width=130, highlight=False)
    bound = f", {cores} of one for each worker" if cores else ""
    table = Table(title=f"{TABLE}, {PARTS} parts, {os.cpu_count()} cores{bound}")
    for name in ("month", "workers", "rows", "s", "worker CPU s", "database CPU s", "store CPU s", "cores busy"):
        table.add_column(name, justify="right")
    for one in figures:
        usage = one.usage
        costs = (usage.seconds, usage.client_cpu, usage.server_cpu, usage.store_cpu, one.busy_cores)
        table.add_row(one.month, str(one.workers), f"{one.rows:,}", *(f"{cost:.1f}" for cost in costs))
    console.print(table)
    ratios = [two.usage.seconds / one.usage.seconds for one, two in zip(figures[::2], figures[1::2], strict=True)]
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    verdict = "reached" if min(ratios) <= GOAL else "falls short"
    console.print(f"{verdict}  two workers ÷ one, four parts: {told} (at most {GOAL})")


def say(what: str) -> None:
    """Print progress to stderr, so that stdout holds only the results."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
