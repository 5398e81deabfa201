"""``make bench``: compare Strongroom with the shell pipe an expert would type, on the same rows, and report missed goals.

With ``--peers`` it also runs tools from PyPI. Method and results: docs/measured/performance.md and peers.md. The bench starts its own servers and removes them at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg

from bench.comparison import chart, contenders
from bench.contenders import (
    STEPS_NAME,
    run_archives,
    run_chain,
    run_copy_from,
    run_late_rows,
    run_operator,
    run_pipe,
    run_restore,
    run_steps,
)
from bench.course import TABLE, Course
from bench.goals import Goal, place_and_day, say
from bench.late import LATE
from bench.peers.race import ENVIRONMENT, run_peers
from bench.report import as_json, show
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
    parser.add_argument("--peers", action="store_true", help="also run the tools of bench/peers, installed by make")
    parser.add_argument("--chart", type=Path, help="where the chart of all contenders goes, as SVG")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--keep", action="store_true", help="leave the servers' folder for a look")
    args = parser.parse_args()
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]:
        print(
            f"the pipe needs {', '.join(missing)}: install what is missing (Debian: apt install zstd)", file=sys.stderr
        )
        return 2
    if args.peers and not ENVIRONMENT.is_dir():
        print(f"the peers are not in {ENVIRONMENT}: run deploy/make-peers, as make does", file=sys.stderr)
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
        peers = list(run_peers(course)) if args.peers else []
        late = run_late_rows(course) if args.peers else {}
    finally:
        if not args.keep:
            stack.destroy()
            shutil.rmtree(FOLDER, ignore_errors=True)
    compared = list(contenders(course.results, peers, late))
    goals = [*reckon_goals(course, args.format), *late_goals(late)]
    if args.json:
        print(json.dumps(as_json(course, goals, compared) | {"format": args.format}, indent=2))
    else:
        show(course, args.format, goals, compared if args.peers else [])
    if args.chart:
        args.chart.write_text(chart(course.rows, place_and_day(), compared))
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
    few, many = (1.8, 1.5) if format == "parquet" else (1.6, 1.3)
    most = many if course.rows >= _MANY_ROWS else few
    yield Goal(f"plan to report through the scheduler ÷ pipe, {course.rows:,} rows", chain.seconds / pipe.seconds, most)
    yield Goal("the same ÷ SqlToS3Operator", chain.seconds / operator.seconds, 0.33)
    yield Goal("CPU of the source database, all steps ÷ pipe", chain.server_cpu / pipe.server_cpu, 0.9)
    yield Goal("CPU of the source database, extract ÷ pipe", extract.server_cpu / pipe.server_cpu, 0.5)
    yield Goal("restore ÷ COPY FROM", restore.seconds / copy.seconds, 1.2)
    yield Goal("delete ÷ pipe", delete.seconds / pipe.seconds, 0.6)
    yield Goal("proved delete, rows a second", course.rows / delete.seconds, least=100_000)
    yield Goal("staging ÷ bytes of the rows", chain.staging_mb / course.original_mb, 0.6)


def late_goals(late: Mapping[str, int]) -> Iterator[Goal]:
    """Strongroom must keep both late rows, if it was asked."""
    if STEPS_NAME in late:
        yield Goal(f"late rows that Strongroom left in the table, of {LATE}", late[STEPS_NAME], least=LATE)


def _path() -> str:
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])  # noqa: PTH120


if __name__ == "__main__":
    sys.exit(main())
