"""Measure the peak memory of every task through real Airflow: ``make memory``. The results are in docs/measured/memory.md.

Three months of call records, 200,000 to 2,000,000 rows, are archived by the scheduler of a separate stack. The first two
are then restored, the larger one twice. A listener in each task's process records its peak resident memory (VmHWM) when
the task succeeds. An empty task is the baseline.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strongroom.calendar import Frequency, Partition, Term, newest_due
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.stack import Stack
from tests.system.helpers import STEPS, Airflow, Run, wait_for

FOLDER = REPOSITORY / ".strongroom" / "memory"
TABLE = "call_detail_records"
ARCHIVE_DAG, RESTORE_DAG = f"archive__{TABLE}", "restore_archive"
RESTORE_STEPS = ("locate", "thaw", "restore", "report")
SMALL, MIDDLE, LARGE = 200_000, 1_000_000, 2_000_000
MOST_MORE_MB = 100
"""How much more memory a task may use than an empty one."""

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
"""Peak resident memory in KiB, by DAG and run, then by task. A mapped task has one number for each part."""


class MeasuredStack(Stack):
    """A stack whose tasks record their peak memory. It has the repository's DAGs and an empty one."""

    def prepare(self) -> None:
        """Create its DAG and plugin folders: links to the repository's files, plus our own."""
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

    def airflow_environment(self) -> dict[str, str]:
        return {
            **super().airflow_environment(),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.folder / "plugins"),
            "STRONGROOM_PEAKS": str(self.peaks_file),
        }

    def read_peaks(self) -> Peaks:
        """What the tasks have recorded so far."""
        peaks: Peaks = defaultdict(lambda: defaultdict(list))
        for line in self.peaks_file.read_text().splitlines():
            dag_id, run_id, task_id, peak_kb = line.split()
            peaks[dag_id, run_id][task_id].append(int(peak_kb))
        return peaks


@dataclass(frozen=True)
class Restored:
    """One run of the restore DAG, and what it reported."""

    run: Run
    rows: int
    seconds: float
    report: dict[str, Any]


def main() -> int:
    stack = MeasuredStack(FOLDER)
    stack.destroy()
    stack.prepare()
    try:
        stack.up(say)
        report = measure(stack)
    finally:
        stack.destroy()
        shutil.rmtree(FOLDER, ignore_errors=True)
    print(report)
    return 0 if "OVER" not in report else 1


def measure(stack: MeasuredStack) -> str:
    """Run the empty DAG, archive the months one after another, and restore all but the largest."""
    newest = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc) - timedelta(days=31))
    assert newest is not None
    months = {SMALL: newest, MIDDLE: newest.previous(), LARGE: newest.previous().previous()}
    for rows, month in months.items():
        say(f"making {rows:,} call records in {month.key}")
        last = month.window.end - timedelta(seconds=1)
        sample.load(stack.source_conninfo(), call_records_per_month=rows, months=1, now=last)
    airflow = Airflow(stack)
    airflow.pause("empty", paused=False)
    empty = wait_for_success(airflow, airflow.trigger("empty", None))
    archived = {rows: archive(airflow, month) for rows, month in months.items()}
    airflow.pause(RESTORE_DAG, paused=False)
    restored = {
        words: restore(airflow, rows, months[rows])
        for words, rows in (
            (f"{SMALL:,} rows", SMALL),
            (f"{MIDDLE:,} rows", MIDDLE),
            (f"{MIDDLE:,} rows again", MIDDLE),
        )
    }
    return write_report(stack.read_peaks(), empty, archived, restored)


def archive(airflow: Airflow, month: Partition) -> Run:
    """Archive a month, after the run that the scheduler started by itself."""
    airflow.pause(ARCHIVE_DAG, paused=False)
    wait_for(lambda: airflow.runs(ARCHIVE_DAG), "the scheduler's own run")
    run = next((run for run in airflow.runs(ARCHIVE_DAG) if run.partition_key == month.key), None)
    return wait_for_success(airflow, run or airflow.trigger(ARCHIVE_DAG, month.key))


def restore(airflow: Airflow, rows: int, month: Partition) -> Restored:
    """Restore a month through the DAG."""
    started = time.monotonic()
    asked = {"table": TABLE, "first_partition": month.key, "last_partition": month.key, "why": "a measurement"}
    run = wait_for_success(airflow, airflow.trigger(RESTORE_DAG, None, conf=asked))
    return Restored(run, rows, time.monotonic() - started, airflow.result(run, "report"))


def wait_for_success(airflow: Airflow, run: Run) -> Run:
    say(f"running {run.dag_id} {run.partition_key or ''}")
    ended = airflow.wait_for_run(run.dag_id, run.run_id, seconds=3600)
    assert ended.state == "success", ended
    return ended


def write_report(peaks: Peaks, empty: Run, archived: dict[int, Run], restored: dict[str, Restored]) -> str:
    """Markdown: each step's peak per run, its largest excess over an empty task, and what the restores did."""

    def peaks_of(run: Run) -> dict[str, list[int]]:
        return peaks[run.dag_id, run.run_id]

    yardstick = statistics.median(peak for peaks_ in peaks_of(empty).values() for peak in peaks_)
    lines = [
        f"{os.cpu_count()} CPUs, {memory_gib():.0f} GiB of memory, Python {platform.python_version()}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}. An empty task: {yardstick / 1024:.0f} MB.",
        "",
        *table("step", STEPS, {f"{rows:,} rows": peaks_of(run) for rows, run in archived.items()}, yardstick),
        "",
        *table(
            "step of a restore", RESTORE_STEPS, {words: peaks_of(one.run) for words, one in restored.items()}, yardstick
        ),
        "",
        "| restore | inserted | unchanged | different | from trigger to end | rows/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for words, one in restored.items():
        counts = " | ".join(f"{one.report[name]:,}" for name in ("inserted", "unchanged", "different"))
        lines.append(f"| {words} | {counts} | {one.seconds:.0f} s | {one.rows / one.seconds:,.0f} |")
    return "\n".join(lines)


def table(head: str, steps: Sequence[str], columns: dict[str, dict[str, list[int]]], yardstick: float) -> list[str]:
    lines = [f"| {head} | {' | '.join(columns)} | more than an empty task |", f"|---|{'--:|' * (len(columns) + 1)}"]
    for step in steps:
        each = [max(column[step]) for column in columns.values()]
        more = (max(each) - yardstick) / 1024
        verdict = "" if more < MOST_MORE_MB else " OVER"
        lines.append(f"| {step} | {' | '.join(f'{peak / 1024:.0f} MB' for peak in each)} | {more:.0f} MB{verdict} |")
    return lines


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
