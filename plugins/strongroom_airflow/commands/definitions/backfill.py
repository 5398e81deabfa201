"""`airflow dags backfill`, with the options that it had in Airflow 2."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser
from functools import partial
from typing import Any

from airflow.cli.cli_config import ARG_DAG_ID, ActionCommand, Arg, parsedate, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called

_REMOVED_SWITCHES = {
    ("-m", "--mark-success"): "mark runs in the UI or with `airflow tasks`; marking never archives anything",
    ("-l", "--local"): "the scheduler's executor runs the tasks; leave the option out",
    ("-x", "--donot-pickle"): "DAGs are never pickled any more; leave it out",
    ("-i", "--ignore-dependencies"): "every step depends on the proof of the one before it; leave the option out",
    ("-I", "--ignore-first-depends-on-past"): "no archive step depends on a past run; leave the option out",
    ("--continue-on-failures",): "a failed run never stops the others; leave the option out",
    ("--disable-retry",): "retries are set in the DAG; leave the option out",
    ("--treat-dag-id-as-regex",): "name one DAG in each call",
    ("--treat-dag-as-regex",): "name one DAG in each call",
}
"""Switches of Airflow 2's `dags backfill` that Airflow 3 does not have, and what to do instead."""

_REMOVED_OPTIONS = {
    ("-t", "--task-regex"): "a run always has all its tasks; clear single tasks with `airflow tasks clear`",
    ("-S", "--subdir"): "the DAG is read from the metadata database; leave the option out",
    ("--pool",): "pools are set in the DAG; leave the option out",
    ("--delay-on-limit",): "the scheduler waits by itself; use --max-active-runs to limit the runs",
}
"""The same for options that take a value."""


class _RefuseOption(Action):
    """An option that the parser knows only to say what to do without it."""

    def __init__(self, *args: Any, hint: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hint = hint

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        option = self.option_strings[-1]
        parser.exit(2, f"Airflow 3 has no {option} for backfills\nHINT: Nothing was created; {self.hint}.\n")


_OPTIONS = (
    ARG_DAG_ID,
    Arg(("-s", "--start-date"), help="First date, included; default: the end date", type=parsedate),
    Arg(("-e", "--end-date"), help="Last date, included; default: the start date", type=parsedate),
    Arg(("-n", "--dry-run"), help="Say what would be done and do nothing", action="store_true"),
    Arg(("-B", "--run-backwards"), help="Newest date first", action="store_true"),
    Arg(("-c", "--conf"), help="JSON that the runs get as their configuration"),
    Arg(
        ("--max-active-runs",),
        help="How many runs may run at the same time; default: the DAG's own limit",
        type=positive_int(allow_zero=False),
    ),
    Arg(("--rerun-failed-tasks",), help="Also run dates again whose last run failed", action="store_true"),
    Arg(("--reset-dagruns",), help="Run all dates again, whatever the result of their last run", action="store_true"),
    Arg(("--no-wait",), help="Return as soon as the runs are created", action="store_true"),
    Arg(("-y", "--yes"), help="Accepted for old scripts; the command asks nothing", action="store_true"),
    Arg(("-v", "--verbose"), help="Also show Airflow's own log lines", action="store_true"),
    *(
        Arg(flags, help=SUPPRESS, action=partial(_RefuseOption, hint=hint, nargs=0))
        for flags, hint in _REMOVED_SWITCHES.items()
    ),
    *(Arg(flags, help=SUPPRESS, action=partial(_RefuseOption, hint=hint)) for flags, hint in _REMOVED_OPTIONS.items()),
)

DAGS_BACKFILL = ActionCommand(
    name="backfill",
    help="Run a DAG for past dates, as in Airflow 2",
    description=(
        "Create runs for the dates from --start-date to --end-date, both included, and follow them to their end. The scheduler "
        "runs them, as it does for `airflow backfill create`. Dates that already have a run are left alone. Partitions inside "
        "hot retention never get a run."
    ),
    func=load_when_called("backfill.backfill"),
    args=_OPTIONS,
    epilog="Exit code: 0 when all runs succeeded or there was nothing to do, 1 otherwise, 2 for wrong options.",
)
