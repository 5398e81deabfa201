"""`airflow strongroom check`: try everything that a deployment needs, and everything that it must be refused."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby

from rich.markup import escape

from strongroom.checks.deployment import check_deployment, check_settings
from strongroom.checks.nagios import nagios_line
from strongroom.checks.result import Checklist, CheckResult
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings, load_settings
from strongroom_airflow.checks.airflow import check_airflow, check_task_logs, executor_elsewhere
from strongroom_airflow.checks.doors import AirflowDoors
from strongroom_airflow.commands.terminal import command, error_console, print_json, print_out

_MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "failed": "[bold red]FAILED [/]"}


@command
def check(args: Namespace) -> int:
    """Run all checks; exit code 1 if one failed, or as Nagios wants it."""
    if args.nagios:
        line, status = nagios_line(list(_checks()))
        print_out(escape(line))
        return status
    results: list[CheckResult] = []
    waiting = sys.stderr.isatty() and not args.json
    for area, found in groupby(_told(_checks(), waiting), key=lambda one: one.area):
        group = list(found)
        results += group
        if not args.json:
            _print_area(area, group, everything=args.all)
    failed = sum(one.verdict == "failed" for one in results)
    warned = sum(one.verdict == "warning" for one in results)
    if args.json:
        print_json({"failed": failed, "warnings": warned, "checks": [one.model_dump() for one in results]})
    else:
        print_out(
            f"\n{len(results)} checks: {len(results) - failed - warned} ok, {warned} {'warning' if warned == 1 else 'warnings'}, {failed} failed."
        )
    return 1 if failed else 0


def _checks() -> Iterator[CheckResult]:
    settings = yield from _settings()
    if settings is None:
        return
    yield from check_airflow(settings)
    yield from check_deployment(settings, AirflowDoors(), _now, elsewhere=executor_elsewhere())
    yield from check_task_logs(settings)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _settings() -> Generator[CheckResult, None, Settings | None]:
    """The checks of the settings; returns what is in force, or None."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        checks = Checklist("settings")
        checks.fault("archive.yaml is sound", error)
        yield from checks.results
        return None
    yield from check_settings(settings)
    return settings


def _told(checks: Iterator[CheckResult], waiting: bool) -> Iterator[CheckResult]:
    """The same checks; on a terminal, what is being waited for is shown meanwhile."""
    if not waiting:
        yield from checks
        return
    with error_console().status("Trying settings and Airflow…") as status:
        for one in checks:
            status.update(f"Trying; last done: {escape(one.area)}")
            yield one


def _print_area(area: str, group: Sequence[CheckResult], *, everything: bool) -> None:
    right = sum(one.verdict == "ok" for one in group)
    print_out(f"[bold]{escape(area)}[/]  {right} of {len(group)} ok")
    for one in group:
        if one.verdict == "ok" and not everything:
            continue
        found = f": {one.found}" if one.found else ""
        print_out(f"  {_MARKS[one.verdict]} {escape(one.what + found)}")
        for position, line in enumerate(one.hint.splitlines()):
            print_out(escape(f"          {'fix: ' if position == 0 else '     '}{line}"))
