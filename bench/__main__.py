"""``make bench``: compare Strongroom with the shell pipe an expert would type, on the same rows, and report missed goals.

Method and results: docs/measured/performance.md. The bench starts its own servers and removes them at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

import psycopg
from rich.console import Console
from rich.table import Table

from bench.contenders import (
    TABLE,
    Course,
    Result,
    run_archives,
    run_chain,
    run_copy_from,
    run_operator,
    run_pipe,
    run_restore,
    run_steps,
)
from bench.goals import Goal, goals_as_json, machine, say, show_goals
from strongroom.calendar import Frequency, Term, newest_due
from strongroom_local.demo import sample
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.stack import Stack

FOLDER = REPOSITORY / ".strongroom" / "bench"
_FORMAT_VARIABLE = "STRONGROOM__FORMAT"
_MANY_ROWS = 4_900_000
"""From this many rows on, Airflow's fixed overhead matters little, and a different goal applies."""

TOOLS = ("psql", "zstd", "sha256sum", "aws", "bash")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="call records in the month")
    parser.add_argument(
        "--format", choices=("jsonl", "parquet"), default="jsonl", help="what Strongroom's archives are"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--keep", action="store_true", help="leave the servers' folder for a look")
    args = parser.parse_args()
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]:
        print(
            f"the pipe needs {', '.join(missing)}: install what is missing (Debian: apt install zstd)", file=sys.stderr
        )
        return 2
    os.environ[_FORMAT_VARIABLE] = args.format  # read by this process and its children
    stack = Stack(FOLDER)
    stack.destroy()
    try:
        course = prepare(stack, args.rows)
        for contender in (run_pipe, run_operator, run_steps, run_copy_from, run_chain, run_restore, run_archives):
            say(str(contender.__doc__).splitlines()[0])
            result = contender(course)
            course.results += result if isinstance(result, list) else [result]
    finally:
        if not args.keep:
            stack.destroy()
            shutil.rmtree(FOLDER, ignore_errors=True)
    goals = list(reckon_goals(course, args.format))
    if args.json:
        print(json.dumps(_as_json(course, goals) | {"format": args.format}, indent=2))
    else:
        show(course, args.format, goals)
    return 0


def prepare(stack: Stack, rows: int) -> Course:
    """Start all servers and create one due month of call records."""
    stack.up(say)
    month = newest_due(Frequency.MONTHLY, Term.parse("P90D"), datetime.now(timezone.utc))
    assert month is not None
    say(f"making {rows:,} call records in {month.key}")
    last = month.window.end - timedelta(seconds=1)
    sample.load(stack.source_conninfo(), call_records_per_month=rows, months=1, now=last)
    with psycopg.connect(stack.source_conninfo(), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        [(made,)] = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
    return Course(stack, month, made)


def reckon_goals(course: Course, format: str) -> Iterator[Goal]:
    """The figures that the documentation promises, computed from this run alone."""
    by_name = {result.name.strip(): result for result in course.results}
    pipe, chain = by_name["the pipe, unproved"].usage, by_name["Strongroom, plan to report"].usage
    operator, delete = by_name["SqlToS3Operator, no delete"].usage, by_name["delete"].usage
    restore, copy = by_name["Strongroom, restore"].usage, by_name["COPY FROM, unproved"].usage
    extract = by_name["extract_to_staging"].usage
    many, source = (0.7, 0.5) if format == "parquet" else (1.0, 1.0)
    most = many if course.rows >= _MANY_ROWS else 1.8
    yield Goal(f"plan to report through the scheduler ÷ pipe, {course.rows:,} rows", chain.seconds / pipe.seconds, most)
    yield Goal("the same ÷ SqlToS3Operator", chain.seconds / operator.seconds, 0.33)
    yield Goal("CPU of the source database, all steps ÷ pipe", chain.server_cpu / pipe.server_cpu, source)
    yield Goal("CPU of the source database, extract ÷ pipe", extract.server_cpu / pipe.server_cpu, source)
    yield Goal("restore ÷ COPY FROM", restore.seconds / copy.seconds, 1.5)
    yield Goal("proved delete by key, rows a second", course.rows / delete.seconds, least=100_000)
    yield Goal("staging ÷ bytes of the rows", chain.staging_mb / course.original_mb, 1.3)


def show(course: Course, format: str, goals: Sequence[Goal]) -> None:
    """Print the results and the goals, in the form used in docs/measured/performance.md."""
    console = Console(width=140, highlight=False)
    console.print(
        _table(
            course,
            f"{course.rows:,} call records, {course.original_mb:,.0f} MB as JSON lines, archived as {format}",
            "rows",
        )
    )
    console.print(_table(course, "archives of three parts each, most of them at the end of their term", "archives"))
    show_goals(console, goals)


def _table(course: Course, title: str, of: str) -> Table:
    """A table of the results that count rows, or of those that count archives."""
    table = Table(title=f"{title}, {machine()}")
    for name in (
        "",
        "s",
        f"{of}/s",
        *(["MB/s"] if of == "rows" else []),
        "client CPU s",
        "database CPU s",
        "store CPU s",
        "memory MB",
        "staging MB",
        "stored MB",
    ):
        table.add_column(name, justify="right" if name else "left", no_wrap=not name)
    for result in course.results:
        if result.of != of:
            continue
        usage = result.usage
        table.add_row(
            result.name,
            f"{usage.seconds:.1f}",
            f"{result.count / usage.seconds:,.0f}",
            *([f"{course.original_mb / usage.seconds:,.0f}"] if of == "rows" else []),
            *(f"{value:.1f}" for value in (usage.client_cpu, usage.server_cpu, usage.store_cpu)),
            *(f"{value:,.0f}" for value in (usage.peak_mb, usage.staging_mb, result.stored_mb)),
        )
    return table


def _path() -> str:
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])  # noqa: PTH120


def _as_json(course: Course, goals: Sequence[Goal]) -> dict[str, object]:
    results: list[Result] = course.results
    return {
        "rows": course.rows,
        "original_mb": course.original_mb,
        "machine": machine(),
        "at": datetime.now(timezone.utc).isoformat(),
        "results": [asdict(result) | {"name": result.name.strip()} for result in results],
        "goals": goals_as_json(goals),
    }


if __name__ == "__main__":
    sys.exit(main())
