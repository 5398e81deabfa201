"""Measure the peak memory of every task through real Airflow: ``make memory``. The results stand in docs/memory.md.

Two months of call records, 200,000 and 2,000,000 rows, are archived by the scheduler of a stack of its own. A listener in
each task's process notes its peak resident memory (VmHWM) when the task has succeeded; an empty task is the yardstick.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

from strongroom.partitions import Frequency, Partition, Term, newest_due
from strongroom_local import sample
from strongroom_local.airflow import REPOSITORY
from strongroom_local.stack import Stack
from tests.e2e.helpers import STEPS, Airflow, Run, wait_for

FOLDER = REPOSITORY / ".strongroom" / "memory"
DAG_ID = "archive__call_detail_records"
SMALL, LARGE = 200_000, 2_000_000
MOST_MORE_MB = 100
"""What a task may take more than an empty one."""

EMPTY_DAG = """
from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("empty", schedule=None, default_args={"retries": 3, "retry_delay": timedelta(seconds=5)}):
    for number in range(3):
        PythonOperator(task_id=f"empty_{number}", python_callable=lambda: None)
"""

LISTENER = """
import os
import sys
from pathlib import Path

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


@hookimpl
def on_task_instance_success(previous_state, task_instance):
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    line = f"{task_instance.dag_id} {task_instance.run_id} {task_instance.task_id} {peak}\\n"
    with Path(os.environ["STRONGROOM_PEAKS"]).open("a") as peaks:
        peaks.write(line)


class PeakPlugin(AirflowPlugin):
    name = "peak"
    listeners = [sys.modules[__name__]]
"""

Peaks = dict[tuple[str, str], dict[str, list[int]]]
"""Peak resident memory in KiB, by DAG and run, then by task; one number for each part of a mapped task."""


class MeasuredStack(Stack):
    """A stack whose tasks note their peak memory, with the empty DAG beside the repository's."""

    def prepare(self) -> None:
        """Lay out its DAGs and plugins: the repository's by link, ours beside them."""
        for folder, name, text in (("dags", "empty.py", EMPTY_DAG), ("plugins", "peak.py", LISTENER)):
            ours = self.folder / folder
            ours.mkdir(parents=True, exist_ok=True)
            for path in (REPOSITORY / folder).glob("*.py"):
                (ours / path.name).unlink(missing_ok=True)
                (ours / path.name).symlink_to(path)
            (ours / name).write_text(text)

    @property
    def peaks_file(self) -> Path:
        return self.folder / "peaks.txt"

    def _airflow_environment(self) -> dict[str, str]:
        return {
            **super()._airflow_environment(),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.folder / "plugins"),
            "STRONGROOM_PEAKS": str(self.peaks_file),
        }

    def read_peaks(self) -> Peaks:
        """What the tasks have noted so far."""
        peaks: Peaks = defaultdict(lambda: defaultdict(list))
        for line in self.peaks_file.read_text().splitlines():
            dag_id, run_id, task_id, peak_kb = line.split()
            peaks[dag_id, run_id][task_id].append(int(peak_kb))
        return peaks


def main() -> int:
    stack = MeasuredStack(FOLDER)
    stack.destroy()
    stack.prepare()
    try:
        stack.up(say)
        empty, small, large = measure(stack)
        report = write_report(stack.read_peaks(), empty, small, large)
    finally:
        stack.destroy()
        shutil.rmtree(FOLDER, ignore_errors=True)
    print(report)
    return 0 if "OVER" not in report else 1


def measure(stack: MeasuredStack) -> tuple[Run, Run, Run]:
    """Run the empty DAG, the small month and the large month, one after the other."""
    small_month = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc) - timedelta(days=31))
    assert small_month is not None
    large_month = small_month.previous()
    for month, rows in ((large_month, LARGE), (small_month, SMALL)):
        say(f"making {rows:,} call records in {month.key}")
        last = month.window.end - timedelta(seconds=1)
        sample.load(stack.source_conninfo(), call_records_per_month=rows, months=1, now=last)
    airflow = Airflow(stack)
    empty = run_to_the_end(airflow, "empty", None)
    return empty, run_to_the_end(airflow, DAG_ID, small_month), run_to_the_end(airflow, DAG_ID, large_month)


def run_to_the_end(airflow: Airflow, dag_id: str, month: Partition | None) -> Run:
    """Start a run and wait until it has succeeded; what the scheduler started by itself goes first."""
    airflow.pause(dag_id, paused=False)
    key = month.key if month else None
    if month:
        wait_for(lambda: airflow.runs(dag_id), "the scheduler's own run")
    run = next((run for run in airflow.runs(dag_id) if key and run.partition_key == key), None)
    run = run or airflow.trigger(dag_id, key)
    say(f"running {dag_id} {key or ''}")
    ended = airflow.wait_for_run(dag_id, run.run_id, seconds=1800)
    assert ended.state == "success", ended
    return ended


def write_report(peaks: Peaks, empty: Run, small: Run, large: Run) -> str:
    """A Markdown table: per step its peak in both months, and the most that it took beyond an empty task."""
    yardstick = statistics.median(peak for peaks_ in peaks[empty.dag_id, empty.run_id].values() for peak in peaks_)
    lines = [
        f"{os.cpu_count()} CPUs, {memory_gib():.0f} GiB of memory, Python {platform.python_version()}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}. An empty task: {yardstick / 1024:.0f} MB.",
        "",
        f"| step | {SMALL:,} rows | {LARGE:,} rows | more than an empty task |",
        "|---|--:|--:|--:|",
    ]
    for step in STEPS:
        both = [max(peaks[run.dag_id, run.run_id][step]) for run in (small, large)]
        more = (max(both) - yardstick) / 1024
        verdict = "" if more < MOST_MORE_MB else " OVER"
        lines.append(f"| {step} | {both[0] / 1024:.0f} MB | {both[1] / 1024:.0f} MB | {more:.0f} MB{verdict} |")
    return "\n".join(lines)


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
