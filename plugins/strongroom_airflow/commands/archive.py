"""`airflow strongroom archive`: start the runs of some partitions by hand and follow them to their end.

Airflow lets a partition have any number of runs. This command makes the run's id from the partition, so that typing it twice
starts one run, and it says so. Only `--again` starts another.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow.utils.state import DagRunState
from rich.markup import escape

from strongroom.archive.report import RunReport
from strongroom.calendar import Partition, refuse_if_hot
from strongroom.settings import TableSettings
from strongroom.statistics.waiting import TableCounts, count_waiting
from strongroom_airflow.commands.runs import (
    REMOVED,
    Problem,
    find_problems,
    page_of,
    refuse_a_paused_dag,
    results,
    shell_user,
)
from strongroom_airflow.commands.screen import follow, print_problems
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.database_connections import connect_database
from strongroom_airflow.step import MEMBERS_XCOM
from strongroom_airflow.trigger import RunError, begin_partition

_NOT_SUCCEEDED = frozenset({DagRunState.FAILED, REMOVED})


@dataclass(frozen=True)
class Run:
    """One partition's run.

    Attributes:
        partition_key: The partition.
        run_id: Airflow's id of the run.
        found: ``started`` by this command, ``running`` already, or ``ran`` before. JSON output calls it ``fate``.
        state: Airflow's state of the run.
        reports: Of the run's table, then of the other tables of its unit; none if the run did not come so far.
    """

    partition_key: str
    run_id: str
    found: str
    state: str
    reports: tuple[RunReport, ...] = ()

    def words(self, dag_id: str) -> str:
        """Whether the run was started, and where the UI shows it."""
        if self.found == "ran":
            return f"{self.partition_key} already ran as {self.run_id} ({self.state}); --again starts another run"
        verb = "started as" if self.found == "started" else "is already under way as"
        return f"{self.partition_key} {verb} {self.run_id}: {page_of(dag_id, self.run_id)}"

    def outcome(self) -> str:
        """How the run ended, in a line with the archive's id; of a unit, a line for each table."""
        if not self.reports:
            return f"{self.partition_key} ended as {self.state} in {self.run_id}"
        return "\n".join(one.sentence() for one in self.reports)


@command
def archive(args: Namespace) -> int:
    """Start the runs, oldest partition first, and follow them; exit code 1 if one failed, now or before."""
    settings = read_settings()
    if args.plan is not None:
        from strongroom_airflow.commands.planned import keys_of_plan  # only this needs a look at the whole table

        _require_alone(args)
        chosen = keys_of_plan(settings, Path(args.plan), args.table)
        work = [(settings.table(name), keys) for name, keys in chosen.items()]
    else:
        _require_partitions(args)
        table = settings.table(args.table)
        _require_own_runs(table)
        work = [(table, _read_keys(args, table, datetime.now(timezone.utc)))]
    if args.dry_run or not any(keys for _, keys in work):
        _print_plans(args, work)
        return 0
    for table, _ in work:
        refuse_a_paused_dag(_dag_of(table), wait=not args.no_wait)
    begun = [(table, _begin_all(args, table, keys)) for table, keys in work if keys]
    ended = (
        begun if args.no_wait else [(table, _follow(_dag_of(table), runs, quiet=args.json)) for table, runs in begun]
    )
    return _conclude(args, {_dag_of(table): runs for table, runs in ended})


def _dag_of(table: TableSettings) -> str:
    return f"archive__{table.slug}"


def _require_own_runs(table: TableSettings) -> None:
    if table.is_member and table.unit is not None:
        root = table.unit.tables[0]
        raise RunError(
            f"{table.table} is archived together with {root}",
            hint=f"Nothing was started. `airflow strongroom archive {root}` archives the rows of both.",
        )


def _require_alone(args: Namespace) -> None:
    if args.partition is not None or args.before is not None:
        raise RunError(
            "a saved plan says itself which partitions to archive",
            found="--partition" if args.partition is not None else "--before",
            hint="Nothing was started. Leave that option out, or --plan.",
        )


def _require_partitions(args: Namespace) -> None:
    if args.table is None or (args.partition is None) == (args.before is None):
        raise RunError(
            "archive needs a table and either --partition or --before; or --plan",
            hint="Nothing was started. `airflow strongroom archive audit_events --partition 2026-05` archives one month.",
        )


def _begin_all(args: Namespace, table: TableSettings, keys: Sequence[str]) -> list[Run]:
    """Start the runs of a table. A plan's rows are in the table, so an earlier run does not make its own needless."""
    dag_id = _dag_of(table)
    runs = [_begin(dag_id, key, again=args.again or args.plan is not None) for key in keys]
    if not args.json:
        for run in runs:
            print_out(escape(run.words(dag_id)))
    return runs


def _conclude(args: Namespace, runs_of: Mapping[str, Sequence[Run]]) -> int:
    """Print what became of the runs of each DAG.

    Raises:
        RunError: One of them failed.
    """
    runs = [(dag_id, run) for dag_id, of_dag in runs_of.items() for run in of_dag]
    failed = [(dag_id, run) for dag_id, run in runs if run.state in _NOT_SUCCEEDED]
    found = {(dag_id, run.run_id): find_problems(dag_id, run.run_id) for dag_id, run in failed}
    if args.json:
        print_json([_as_json(dag_id, run, found.get((dag_id, run.run_id), [])) for dag_id, run in runs])
    for (dag_id, run_id), problems in found.items():
        print_problems(dag_id, run_id, problems)
    if failed:
        dags = ", ".join(dict.fromkeys(dag_id for dag_id, _ in failed))
        raise RunError(
            f"{len(failed)} of {len(runs)} runs of {dags} failed: {', '.join(run.partition_key for _, run in failed)}",
            hint="No row was deleted that was not proved. Read the failed task's log, fix the cause and clear the task; or "
            "repeat the command with --again.",
        )
    return 0


def _read_keys(args: Namespace, table: TableSettings, now: datetime) -> list[str]:
    """The partitions to archive, oldest first; with `--before` only those that have rows in the table.

    Raises:
        PartitionError: A key is malformed, or its partition is not due.
    """
    if args.partition:
        partitions = [Partition.parse(table.frequency, key) for key in args.partition]
        for partition in partitions:
            refuse_if_hot(partition, table.hot_retention, now)
        return sorted({partition.key for partition in partitions})
    before = args.before.astimezone(timezone.utc)
    waiting = [Partition.parse(table.frequency, one.partition_key) for one in _count(table).waiting]
    return [partition.key for partition in waiting if partition.window.end <= before]


def _count(table: TableSettings) -> TableCounts:
    """Count the rows of each due partition that are still in the table."""
    with connect_database(
        table, table.source_conn_id, application_name=f"strongroom archive {table.table}"
    ) as connection:
        return count_waiting(connection, table, now=datetime.now(timezone.utc))


def _print_plans(args: Namespace, work: Sequence[tuple[TableSettings, Sequence[str]]]) -> None:
    rows = {(table.table, one.partition_key): one.rows for table, keys in work if keys for one in _count(table).waiting}
    found = [(table.table, key, rows.get((table.table, key), 0)) for table, keys in work for key in keys]
    if args.json:
        print_json([{"table": name, "partition_key": key, "rows": number} for name, key, number in found])
    elif found:
        several = len(work) > 1
        would_be = ", ".join(
            f"{f'{name} ' if several else ''}{key} ({number:,} rows wait)" for name, key, number in found
        )
        print_out(f"Dry run: nothing was started. It would be {would_be}.")
    elif args.plan is not None:
        print_out("Nothing to do: the plan has no partition that is due.")
    else:
        print_out("Nothing to do: no due partition before that date has a row in the table.")


def _begin(dag_id: str, key: str, *, again: bool) -> Run:
    """Start the run of a partition, unless one is under way, or one has ended and ``again`` is false."""
    hint = "Runs of earlier partitions may have been started. Fix the cause and repeat the command."
    begun = begin_partition(dag_id, key, shell_user(), again=again, hint=hint)
    return Run(key, begun.run_id, begun.found, begun.state)


def _follow(dag_id: str, runs: Sequence[Run], *, quiet: bool) -> list[Run]:
    """Follow the runs that have not ended; returns all of them, as they ended."""
    ended: dict[str, Run] = {run.run_id: run for run in runs if run.found == "ran"}
    unfinished = {run.run_id: run for run in runs if run.found != "ran"}

    def on_end(run_id: str, state: str) -> None:
        ended[run_id] = replace(unfinished[run_id], state=state, reports=_reports_of(dag_id, run_id))
        if not quiet:
            print_out(escape(ended[run_id].outcome()))

    follow(dag_id, list(unfinished), quiet=quiet, on_end=on_end)
    return [ended[run.run_id] for run in runs]


def _reports_of(dag_id: str, run_id: str) -> tuple[RunReport, ...]:
    of_members = results(dag_id, run_id, "report", key=MEMBERS_XCOM)
    returned = [*results(dag_id, run_id, "report"), *(one for reports in of_members for one in reports)]
    return tuple(map(RunReport.model_validate, returned))


def _as_json(dag_id: str, run: Run, found: Sequence[Problem]) -> dict[str, Any]:
    reports = [one.model_dump(mode="json") for one in run.reports]
    return {
        "partition_key": run.partition_key,
        "run_id": run.run_id,
        "fate": run.found,
        "state": run.state,
        "page": page_of(dag_id, run.run_id),
        "problems": [problem.as_json() for problem in found],
        "archive_id": run.reports[0].archive_id if run.reports else None,
        "report": reports[0] if reports else None,
        "members": reports[1:],
    }
