"""`airflow strongroom jobs`: Strongroom's DAGs, when each runs next, and whether it is paused."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime

from airflow.models.dag import DagModel, DagTag
from airflow.utils.session import create_session
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy import select

from strongroom_airflow.commands.terminal import command, print_json, print_out

_TAG = "strongroom"
_NO_SCHEDULE = "None"
"""Airflow's summary of a DAG without a schedule."""


@command
def jobs(args: Namespace) -> int:
    """List the DAGs as Airflow's metadata database has them."""
    with create_session() as session:
        found = session.execute(
            select(
                DagModel.dag_id,
                DagModel.timetable_summary,
                DagModel.next_dagrun_create_after,
                DagModel.next_dagrun_partition_key,
                DagModel.is_paused,
                DagModel.has_import_errors,
            )
            .join(DagTag, DagTag.dag_id == DagModel.dag_id)
            .where(DagTag.name == _TAG, ~DagModel.is_stale)
            .order_by(DagModel.dag_id)
        ).all()
    names = ("dag_id", "schedule", "next_run_at", "next_partition", "paused", "import_errors")
    jobs = [dict(zip(names, row, strict=True)) for row in found]
    for one in jobs:
        one["schedule"] = None if one["schedule"] == _NO_SCHEDULE else one["schedule"]
    if args.json:
        print_json([one | {"next_run_at": one["next_run_at"] and one["next_run_at"].isoformat()} for one in jobs])
        return 0
    table = Table(*(Column(name, overflow="fold") for name in ("job", "schedule", "next run", "state")), box=SIMPLE)
    for one in jobs:
        next_run = _next_run(one["next_run_at"], one["next_partition"])
        state = "[yellow]paused[/]" if one["paused"] else "active"
        errors = " [red]import errors[/]" if one["import_errors"] else ""
        table.add_row(escape(one["dag_id"]), escape(one["schedule"] or "by hand"), escape(next_run), f"{state}{errors}")
    print_out(
        table if jobs else "Airflow knows no DAG of Strongroom yet: `airflow dags list-import-errors` may say why."
    )
    if any(one["paused"] for one in jobs):
        print_out("A paused job starts no run. To start it again: `airflow dags unpause JOB`.")
    return 0


def _next_run(at: datetime | None, partition_key: str | None) -> str:
    if at is None:
        return ""
    return f"{at:%Y-%m-%d %H:%M} UTC" + (f", {partition_key}" if partition_key else "")
