"""``make bench-scale``: do memory and staging stay constant, and does time stay linear, as months of call records grow?

The real scheduler archives the months. Method and results: docs/measured/performance.md, with the chart that this draws.
The bench starts its own servers, keeps their data on disk, and removes them at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.contenders import ARCHIVE_DAG, airflow_pids
from bench.course import TABLE
from bench.goals import Goal, goals_as_json, machine, say, show_goals
from bench.many_rows import ManyRows
from bench.measure_memory import MeasuredStack, Peaks, wait_for_success
from bench.picture import Panel, draw
from bench.usage import Meter
from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom.settings import load_settings
from strongroom_local.servers.airflow import REPOSITORY
from tests.system.helpers import Airflow, Run, wait_for

FOLDER = REPOSITORY / ".strongroom" / "scale"
SERIES = (1_000_000, 5_000_000, 20_000_000)
MOST_MEMORY_MB = 100
"""How much more memory a task may use than an empty one."""

MOST_STAGING = 1.3
"""The most that parts in progress may take in staging, divided by the size of the rows of all parts that may be in progress."""

MOST_BENT = 0.1
_BYTES_A_ROW, _BYTES_BESIDE = 700, 4 << 30
_LONGEST_SECONDS = 4 * 3600


@dataclass(frozen=True)
class Month:
    """The figures of one month.

    Attributes:
        seconds: From the run's creation to its end.
        task: The task that used most memory.
        memory_mb: How much more it used than an empty task.
        staging_mb: The largest size of staging.
        under_way_mb: The same without the blocks of finished parts that wait for the delete.
        in_flight_mb: The rows of all parts that may be in progress at once, as JSON lines.
    """

    rows: int
    parts: int
    seconds: float
    task: str
    memory_mb: float
    staging_mb: float
    under_way_mb: float
    in_flight_mb: float
    original_mb: float
    client_cpu: float
    server_cpu: float
    store_cpu: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--series", type=_series, default=SERIES, help="call records of each month: 1000000,5000000")
    parser.add_argument("--picture", type=Path, help="where the picture goes")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_args()
    stack = MeasuredStack(FOLDER)
    stack.destroy()
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted, free = max(args.series) * _BYTES_A_ROW + _BYTES_BESIDE, shutil.disk_usage(FOLDER).free
    if free < wanted:
        print(
            f"{max(args.series):,} rows take about {wanted / 1e9:.0f} GB and {FOLDER} has {free / 1e9:.0f} GB free: "
            "free some, or ask for fewer with SERIES=1000000,5000000",
            file=sys.stderr,
        )
        return 2
    stack.prepare()
    try:
        stack.up(say)
        months = measure(stack, args.series)
    finally:
        stack.destroy()
        shutil.rmtree(FOLDER, ignore_errors=True)
    goals = list(reckon_goals(months))
    if args.picture:
        args.picture.write_text(picture(months))
    if args.json:
        found = {"machine": machine(), "at": datetime.now(timezone.utc).isoformat()}
        print(json.dumps(found | {"months": [asdict(one) for one in months], "goals": goals_as_json(goals)}, indent=2))
    else:
        show(months, goals)
    return 0


def _series(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({int(size) for size in text.split(",")}))
    if len(sizes) < 2 or sizes[0] < 1:
        raise argparse.ArgumentTypeError("two or more numbers of rows, none below 1")
    return sizes


def measure(stack: MeasuredStack, series: Sequence[int]) -> list[Month]:
    """Archive one month for each size, oldest last. The table holds one month at a time."""
    newest = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc))
    assert newest is not None
    airflow = Airflow(stack)
    airflow.pause("empty", paused=False)
    empty = wait_for_success(airflow, airflow.trigger("empty", None))
    airflow.pause(ARCHIVE_DAG, paused=False)  # the scheduler starts the newest due month by itself; it is empty
    first = wait_for(lambda: airflow.runs(ARCHIVE_DAG), "the scheduler's own run")[0]
    wait_for_success(airflow, first)
    say(f"making {min(max(series), 250_000):,} call records to copy")
    many_rows = ManyRows(stack.source_conninfo(), newest, max(series))
    months, month = [], newest
    for rows in series:
        month = month.previous()
        months.append(_archive(stack, airflow, many_rows, month, rows, empty))
    return months


def _archive(
    stack: MeasuredStack, airflow: Airflow, many_rows: ManyRows, month: Partition, rows: int, empty: Run
) -> Month:
    say(f"making {rows:,} call records in {month.key}")
    made = many_rows.fill(month, rows)
    server, store = stack.postgres.pid, stack.object_store.pid
    assert server is not None
    assert store is not None
    with Meter(server, store, stack.staging, lambda: airflow_pids(stack)).measured() as usage:
        say(f"archiving {made:,} call records of {month.key}")
        run = airflow.trigger(ARCHIVE_DAG, month.key)
        ended = airflow.wait_for_run(ARCHIVE_DAG, run.run_id, seconds=_LONGEST_SECONDS)
    assert ended.state == "success", ended
    report = airflow.result(run, "report")
    assert report["deleted_rows"] == made, report
    seconds = airflow.seconds(run)
    say(f"{made / seconds:,.0f} rows a second")
    task, memory_mb = most_memory(stack.read_peaks(), run, empty)
    parts, original_mb = report["parts"], report["original_size_bytes"] / 1e6
    in_flight = min(parts, load_settings().table(TABLE).max_parallel_parts)
    return Month(
        rows=made,
        parts=parts,
        seconds=seconds,
        task=task,
        memory_mb=memory_mb,
        staging_mb=usage.staging_mb,
        under_way_mb=usage.under_way_mb,
        in_flight_mb=original_mb / parts * in_flight,
        original_mb=original_mb,
        client_cpu=usage.client_cpu,
        server_cpu=usage.server_cpu,
        store_cpu=usage.store_cpu,
    )


def most_memory(peaks: Peaks, run: Run, empty: Run) -> tuple[str, float]:
    """The task of a run that used most memory, and how many MB more than an empty one."""
    yardstick = statistics.median(peak for each in peaks[empty.dag_id, empty.run_id].values() for peak in each)
    task, most = max(
        ((task, max(each)) for task, each in peaks[run.dag_id, run.run_id].items()), key=lambda one: one[1]
    )
    return task, (most - yardstick) / 1024


def line(months: Sequence[Month]) -> tuple[float, float]:
    """The straight line through the smallest and the largest month: seconds for zero rows, and seconds per row."""
    first, last = months[0], months[-1]
    a_row = (last.seconds - first.seconds) / (last.rows - first.rows)
    return first.seconds - a_row * first.rows, a_row


def reckon_goals(months: Sequence[Month]) -> Iterator[Goal]:
    """Goals for constant memory and staging, and for linear time."""
    first, last = months[0], months[-1]
    start, a_row = line(months)
    highest = max(months, key=lambda month: month.memory_mb)
    spread = max(month.memory_mb for month in months) - min(month.memory_mb for month in months)
    sizes = f"{first.rows:,} to {last.rows:,} rows"
    bent = max(abs(month.seconds / (start + a_row * month.rows) - 1) for month in months)
    yield Goal(f"memory above an empty task, MB, most of all tasks ({highest.task})", highest.memory_mb, MOST_MEMORY_MB)
    yield Goal(f"memory, highest less lowest from {sizes}, MB", spread, most=10)
    yield Goal(
        "staging of parts under way ÷ their bytes, the worst",
        max(month.under_way_mb / month.in_flight_mb for month in months),
        MOST_STAGING,
    )
    yield Goal(f"time from {sizes}, farthest from a straight line, share", bent, MOST_BENT)
    yield Goal(
        f"time a row, {last.rows:,} ÷ {first.rows:,} rows",
        last.seconds / last.rows / (first.seconds / first.rows),
        1 + MOST_BENT,
    )


def picture(months: Sequence[Month]) -> str:
    """Three charts over millions of rows."""
    millions = [month.rows / 1e6 for month in months]
    start, a_row = line(months)

    def over_rows(values: Sequence[float]) -> list[tuple[float, float]]:
        return list(zip(millions, values, strict=True))

    ends = (0.0, millions[-1])
    panels = [
        Panel(
            "Memory of the hungriest task",
            "MB more than an empty task",
            over_rows([month.memory_mb for month in months]),
            [(end, MOST_MEMORY_MB) for end in ends],
            f"bound: {MOST_MEMORY_MB} MB",
        ),
        Panel(
            "Staging of parts under way, the most at a time",
            "MB",
            over_rows([month.under_way_mb for month in months]),
            over_rows([month.in_flight_mb * MOST_STAGING for month in months]),
            f"bound: {MOST_STAGING} of their bytes",
        ),
        Panel(
            "Time from the run's creation to its end",
            "seconds",
            over_rows([month.seconds for month in months]),
            [(end, max(0.0, start + a_row * end * 1e6)) for end in ends],
            f"a straight line: {start:,.0f} s and {a_row * 1e6:,.1f} s a million rows",
        ),
    ]
    title = f"archive__{TABLE} through the scheduler, {machine()}, {datetime.now(timezone.utc):%Y-%m-%d}"
    return draw(title, "million rows in the month", panels)


def show(months: Sequence[Month], goals: Sequence[Goal]) -> None:
    """Print the results and the goals, in the form used in docs/measured/performance.md."""
    console = Console(width=130, highlight=False)
    table = Table(title=f"archive__{TABLE} through the scheduler, {machine()}")
    for name in (
        "rows",
        "MB",
        "parts",
        "s",
        "s a million",
        "rows/s",
        "memory MB",
        "staging MB",
        "under way MB",
        "at most MB",
    ):
        table.add_column(name, justify="right")
    for name in ("client CPU s", "database CPU s", "store CPU s"):
        table.add_column(name, justify="right")
    for month in months:
        table.add_row(
            f"{month.rows:,}",
            f"{month.original_mb:,.0f}",
            f"{month.parts}",
            f"{month.seconds:.1f}",
            f"{month.seconds / month.rows * 1e6:.1f}",
            f"{month.rows / month.seconds:,.0f}",
            *(f"{value:,.0f}" for value in (month.memory_mb, month.staging_mb, month.under_way_mb, month.in_flight_mb)),
            *(f"{value:.1f}" for value in (month.client_cpu, month.server_cpu, month.store_cpu)),
        )
    console.print(table)
    show_goals(console, goals)


if __name__ == "__main__":
    sys.exit(main())
