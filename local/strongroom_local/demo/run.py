"""``make demo``: real Airflow archives two months of five tables and restores one; SQL and S3 alone prove it.

The demo counts the rows, has Airflow archive them, counts again, and compares. It works like an operator, through
Airflow's API. It checks like an auditor, without the archiver's own records.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from strongroom.calendar import Frequency, Partition, hot_until
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.settings import TableSettings, load_settings
from strongroom_local.demo import sample
from strongroom_local.demo.api import Airflow, unpause, wait_for_dags
from strongroom_local.demo.checks import Check, RowsByMonth, check
from strongroom_local.demo.evidence import verify_bucket
from strongroom_local.demo.later import (
    RESTORE_DAG,
    RESTORED_TABLE,
    STATISTICS_DAG,
    Later,
    describe,
    name_run,
    preview_purge,
    read_count,
    restore_twice,
    start_count,
)
from strongroom_local.demo.proof import Look, count_months, list_keys, look_at
from strongroom_local.demo.runs import RunView, Target, await_quiet, describe_run, follow, start_runs
from strongroom_local.demo.screen import RunsOnScreen, Screen, show_checks, show_later, show_results
from strongroom_local.servers.airflow import VIEWER
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET

RESULT_FILE = "demo.json"

_MONTHS = 2
_INTERRUPTED = 130
_WAITS_FOR = {"acm_alerts": "fraud_investigations"}
"""An alert that an investigation refers to stays in its table. So investigations go first, and more alerts can follow."""


@dataclass
class _Demo:
    """One demo: the rows before, what Airflow did, and the rows after."""

    stack: Stack
    screen: Screen
    call_records_per_month: int
    started_at: datetime
    tables: Sequence[TableSettings]
    seconds: dict[str, float] = field(default_factory=dict)
    months: Sequence[Partition] = ()
    archived_before: Sequence[Partition] = ()
    before: Sequence[Look] = ()
    after: Sequence[Look] = ()
    months_before: RowsByMonth = field(default_factory=dict)
    views: Sequence[RunView] = ()
    checks: Sequence[Check] = ()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure how long a phase takes."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run(stack: Stack, *, keep: bool, rows: int) -> int:
    """Run the demo and return its exit status: 0 if every claim holds.

    A stack that is already up is used and left running. Otherwise the demo stops what it started when it ends, unless
    `keep` is set. An interrupted demo always stops what it started.

    Args:
        stack: The stack to use; the result is written to ``demo.json`` in its folder.
        keep: Leave the stack running.
        rows: Call records a month; the other tables follow in proportion.
    """
    screen = Screen()
    found_up = stack.running
    interrupted = False
    _let_signals_interrupt()
    try:
        return _demonstrate(stack, screen, keep=keep or found_up, rows=rows)
    except StrongroomError as error:
        what, _, hint = str(error).partition("\nHINT: ")
        screen.say(f"{screen.cross} {what}", style="bold red")
        screen.say(f"hint: {hint}", style="bold")
        return 1
    except (psycopg.Error, BotoCoreError, ClientError) as error:
        screen.say(f"{screen.cross} the demo lost a server: {error}", style="bold red")
        screen.say(
            "hint: no row was deleted that is not in a proved archive; run the demo again to continue", style="bold"
        )
        return 1
    except KeyboardInterrupt:
        interrupted = True
        screen.say("\ninterrupted: no row was deleted that is not in a proved archive; run it again to continue")
        return _INTERRUPTED
    finally:
        if found_up or (keep and not interrupted and stack.running):
            _say_where(stack, screen)
        else:
            _stop(stack, screen)


def _let_signals_interrupt() -> None:
    """Handle SIGTERM and a closed terminal like Ctrl-C. A shell's `&` ignores Ctrl-C by default; `nohup` is respected."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _demonstrate(stack: Stack, screen: Screen, *, keep: bool, rows: int) -> int:
    demo = _Demo(stack, screen, rows, datetime.now(timezone.utc), _read_tables())
    _introduce(demo)
    _prepare(demo)
    if not demo.months:
        screen.say("Every due month of the sample data is already archived: nothing was done.")
        screen.say("'make clean' removes everything; the next 'make demo' then starts over.")
        return 0
    _archive(demo)
    _prove(demo)
    later = _go_on(demo)
    result = _write_result(demo, later)
    _conclude(demo, later, keep=keep)
    return 0 if result["proved"] else 1


def _read_tables() -> list[TableSettings]:
    """Return the settings of the sample tables.

    Raises:
        ConfigurationError: The caller's settings for them are ones that the demo cannot show.
    """
    settings = load_settings()
    tables = [settings.table(table.name) for table in sample.TABLES]
    kinds = {(table.frequency, str(table.hot_retention), table.format) for table in tables}
    if len(kinds) > 1 or (tables[0].frequency, tables[0].format) != (Frequency.MONTHLY, "jsonl"):
        raise ConfigurationError(
            "the demo needs five monthly tables that fall due together, archived as JSON lines",
            expected="frequency monthly, format jsonl and one hot_retention for the five sample tables",
            found=", ".join(f"{frequency.value} {format} {hot}" for frequency, hot, format in sorted(kinds)),
            hint="Nothing was started; unset STRONGROOM_CONFIG and the STRONGROOM__ variables for the demo.",
        )
    return tables


def _introduce(demo: _Demo) -> None:
    say, hot = demo.screen.say, demo.tables[0].hot_retention.in_words
    say(
        "Strongroom demo: two to three minutes, longer on a busy machine. Ctrl-C stops it and everything it started.",
        style="bold",
    )
    say(f"  1  start PostgreSQL, S3 and Airflow in {_near(demo.stack.folder)}, load sample data")
    say(f"  2  archive two months of five tables: the newest that are due, {hot} after their end")
    say("  3  check with SQL and S3 alone that each deleted row is in an archive, unchanged")
    say("  4  restore one month, twice; show statistics, and what a purge would do")
    say("  5  check all evidence in the bucket as an outsider does, without Strongroom")
    say()


def _prepare(demo: _Demo) -> None:
    """Start the servers, load the sample data, look at everything, and only then start Airflow.

    In this order, a run that an earlier demo left unfinished resumes after the first look, not during it.
    """
    stack, screen = demo.stack, demo.screen
    dag_ids = [*(f"archive__{table.slug}" for table in demo.tables), RESTORE_DAG, STATISTICS_DAG]
    if stack.running:
        with demo.phase("earlier runs"), screen.watching("waiting for earlier runs to end") as progress:
            await_quiet(Airflow(stack), dag_ids, progress)
    with demo.phase("servers"), screen.doing("starting PostgreSQL and the S3 server"):
        stack.start_source()
        stack.object_store.start()
        stack.object_store.create_bucket(BUCKET)
    with (
        demo.phase("sample"),
        screen.doing(f"loading sample data: {demo.call_records_per_month:,} call records a month"),
    ):
        added = sample.load(
            stack.source_conninfo(), call_records_per_month=demo.call_records_per_month, now=demo.started_at
        )
    with (
        demo.phase("first look"),
        screen.doing("counting"),
        psycopg.connect(stack.source_conninfo(), autocommit=True) as connection,
    ):
        demo.months, demo.archived_before = _choose_months(demo, connection)
        demo.before = _look(demo, connection)
        demo.months_before = {table.table_name: count_months(connection, table) for table in demo.tables}
    in_tables = sum(sum(rows.values()) for rows in demo.months_before.values())
    screen.log(f"sample data: {in_tables:,} rows in five tables, {sum(added.values()):,} of them new")
    if demo.archived_before:
        screen.log(f"archived before: {', '.join(month.key for month in demo.archived_before)}")
    if not demo.months:
        return
    with demo.phase("Airflow"), screen.doing("starting") as progress:
        stack.up(progress)
        airflow = Airflow(stack)
        wait_for_dags(airflow, dag_ids)
    user, password = stack.login
    screen.log(f"Airflow is up: {stack.api_url}  user {user}, password {password}")


def _choose_months(demo: _Demo, connection: psycopg.Connection) -> tuple[list[Partition], list[Partition]]:
    """Choose the newest due months that are not archived yet; return them, and the months that are archived.

    Both lists are oldest first. A month whose archiving was interrupted is chosen again, and finished.
    """
    made = connection.execute("SELECT DISTINCT month FROM strongroom_sample.progress").fetchall()
    months = sorted((Partition.parse(Frequency.MONTHLY, f"{month:%Y-%m}") for (month,) in made), key=str)
    hot = demo.tables[0].hot_retention
    due = [month for month in months if hot_until(month.window, hot) <= demo.started_at]
    keys = _finished_months(demo)
    finished = [month for month in due if month.key in keys]
    chosen: list[Partition] = []
    for month in reversed(due):
        if month not in finished and len(chosen) < _MONTHS:
            chosen.insert(0, month)
        elif chosen:
            break  # a backfill is one range
    return chosen, finished


def _finished_months(demo: _Demo) -> set[str]:
    """The months for which every table has a report, which is the last thing a run writes."""
    client = demo.stack.object_store.client("archiver")
    months = []
    for table in demo.tables:
        prefix = f"{table.store.prefix}/" if table.store.prefix else ""
        folder = f"{prefix}reports/{table.qualified_name}/"
        months.append({key.removeprefix(folder).partition("/")[0] for key in list_keys(client, BUCKET, folder)})
    return set.intersection(*months)


def _look(demo: _Demo, connection: psycopg.Connection) -> list[Look]:
    client = demo.stack.object_store.client("archiver")
    return [look_at(connection, client, table, month, bucket=BUCKET) for table in demo.tables for month in demo.months]


def _archive(demo: _Demo) -> None:
    """Have Airflow archive the months, and show the progress."""
    airflow, screen = Airflow(demo.stack), demo.screen
    dag_ids = {table.table_name: f"archive__{table.slug}" for table in demo.tables}
    waits_for = {dag_ids[table]: dag_ids[other] for table, other in _WAITS_FOR.items()}
    targets = [
        Target(table.table_name, dag_ids[table.table_name], month.key) for table in demo.tables for month in demo.months
    ]
    screen.log(f"archiving {' and '.join(month.key for month in demo.months)} of {len(dag_ids)} tables")
    with demo.phase("backfills"), screen.doing("creating the runs"):
        start_runs(airflow, list(dag_ids.values()), demo.months)
    with demo.phase("archiving"), RunsOnScreen(screen) as runs:
        unpause(airflow, [dag_id for dag_id in dag_ids.values() if dag_id not in waits_for])
        for views in follow(airflow, targets, waits_for):
            runs.show(views)
            demo.views = views
    screen.log(f"all {len(targets)} runs succeeded")


def _prove(demo: _Demo) -> None:
    """Look again and compare. Meanwhile Airflow computes statistics, which only read."""
    start_count(Airflow(demo.stack), name_run(demo.started_at, "statistics"))
    with (
        demo.phase("proof"),
        demo.screen.doing("downloading the archives and comparing"),
        psycopg.connect(demo.stack.source_conninfo(), autocommit=True) as connection,
    ):
        demo.after = _look(demo, connection)
        months_after = {table.table_name: count_months(connection, table) for table in demo.tables}
    demo.checks = check(demo.before, demo.after, demo.months_before, months_after)


def _go_on(demo: _Demo) -> Later:
    """Show what happens to archives later: statistics, a restore, and a purge when their retention term ends."""
    airflow, screen, month = Airflow(demo.stack), demo.screen, demo.months[-1]
    with demo.phase("statistics"), screen.watching("counting the archives") as progress:
        count = read_count(airflow, name_run(demo.started_at, "statistics"), progress)
    screen.log(f"statistics: {count.statistics.total.archives} archives, {count.statistics.total.rows:,} rows")
    with (
        demo.phase("restoring"),
        screen.watching(f"restoring {RESTORED_TABLE} {month.key}, twice") as progress,
        psycopg.connect(demo.stack.source_conninfo(), autocommit=True) as connection,
    ):
        restoration = restore_twice(
            airflow,
            connection,
            next(table for table in demo.tables if table.table_name == RESTORED_TABLE),
            month,
            next(look for look in demo.before if (look.table, look.month) == (RESTORED_TABLE, month.key)),
            run_ids=(name_run(demo.started_at, "restore"), name_run(demo.started_at, "restore_again")),
            progress=progress,
        )
    first, second = restoration.reports
    screen.log(f"restored {RESTORED_TABLE} {month.key}: {first.inserted:,} rows; again: {second.inserted:,} rows")
    archives = [view.report.archive_id for view in demo.views if view.report and view.report.archive_id]
    days = preview_purge(demo.stack, archives, datetime.now(timezone.utc))
    with demo.phase("evidence"), screen.doing("checking the evidence as an outsider does"):
        verdict = verify_bucket(demo.stack)
    return Later(count, restoration, days, verdict)


def _write_result(demo: _Demo, later: Later) -> dict[str, Any]:
    """Write what was done and found as JSON, in the stack's folder."""
    looks = {(look.table, look.month): look for look in demo.after}
    checks = [*demo.checks, *later.restoration.checks]
    result = {
        "proved": all(one.holds for one in checks) and later.verdict.words != "false",
        "started_at": demo.started_at.isoformat(),
        "finished_at": datetime.now(timezone.utc).isoformat(),
        "call_records_per_month": demo.call_records_per_month,
        "hot_retention": str(demo.tables[0].hot_retention),
        "months": [month.key for month in demo.months],
        "archives": [describe_run(view, looks[view.target.table, view.target.month]) for view in demo.views],
        "checks": [asdict(one) | {"holds": one.holds} for one in checks],
        **describe(later),
        "seconds": demo.seconds,
    }
    (demo.stack.folder / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n")
    return result


def _conclude(demo: _Demo, later: Later, *, keep: bool) -> None:
    """Show the result, the proof, and what to do next."""
    screen, folder = demo.screen, demo.stack.folder
    screen.say()
    show_results(screen, demo.views, demo.after)
    screen.say()
    screen.say("Checked with SQL and S3 alone, without the archiver's own records:", style="bold")
    show_checks(screen, demo.checks)
    screen.say()
    show_later(screen, later)
    screen.say()
    longest = sorted(demo.seconds.items(), key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest)
    screen.say(f"Took {sum(demo.seconds.values()):.0f} s: {parts}. As JSON: {_near(folder / RESULT_FILE)}")
    if keep:
        _suggest(demo, later)
    else:
        screen.say("Next: 'make demo KEEP=1' archives the two months before, and leaves Airflow running.")


def _near(path: Path) -> Path:
    """Shorten a path: relative to the working folder if it is inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _suggest(demo: _Demo, later: Later) -> None:
    first, last = demo.months[0].window.start, demo.months[-1].window.end - timedelta(days=1)
    biggest = max(demo.views, key=lambda view: view.rows or 0)
    archive_id = biggest.report.archive_id if biggest.report else ""
    table = next(table for table in demo.tables if table.table_name == biggest.target.table)
    for line in (
        "Three things to try:",
        f"  1  In the UI, open {biggest.target.dag_id}, its last run, and the log of 'verify';",
        f"     and {STATISTICS_DAG}, its last run, its task, 'Details', 'Statistics'",
        """  2  eval "$(make -s env)", then archive the same months again; it changes nothing:""",
        f"     airflow dags backfill -s {first:%Y-%m-%d} -e {last:%Y-%m-%d} {biggest.target.dag_id}",
        "  3  See which rows are left, what an archive holds, and when it may be purged:",
        f"     psql -c 'SELECT min({table.date_column}), count(*) FROM {table.table}'",  # noqa: S608 (a line to read)
        f"     airflow strongroom show {archive_id}",
        f"     airflow strongroom purge --dry-run --at {later.days[-1].at:%Y-%m-%d}",
    ):
        demo.screen.say(line)


def _say_where(stack: Stack, screen: Screen) -> None:
    user, password = stack.login
    screen.say(f"Airflow keeps running: {stack.api_url}  user {user}, password {password}", style="bold")
    screen.say(f"The user {VIEWER}, password {stack.password(VIEWER)}, may look and start nothing.")
    screen.say("'make down' stops everything; data and archives are kept.")
    screen.say(f"Every table and month at a glance: {stack.archive_page}", style="bold")


def _stop(stack: Stack, screen: Screen) -> None:
    """Stop the stack. A second Ctrl-C is ignored, so that nothing is left half running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with screen.doing("stopping everything"):
        stack.down()
    screen.say(f"Everything is stopped; data and archives are kept in {stack.folder}.")
