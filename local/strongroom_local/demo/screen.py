"""What the demo prints: progress while it runs, tables at the end; plain lines if stdout is not a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from strongroom.statistics.records import Figures
from strongroom_local.demo.checks import Check
from strongroom_local.demo.evidence import Verdict
from strongroom_local.demo.later import Later, PurgeDay
from strongroom_local.demo.proof import Look
from strongroom_local.demo.runs import RunView

_PLAIN_WIDTH = 100
_SUMMARY_SECONDS = 15
_STYLES = {"success": "green", "failed": "red", "running": ""}
_UNITS = ("B", "kB", "MB", "GB", "TB")


class Screen:
    """Writes to stdout, and knows whether it is a terminal."""

    def __init__(self) -> None:
        console = Console(highlight=False, emoji=False)
        self.watched = console.is_terminal and not console.is_dumb_terminal
        # Without a terminal, rich assumes 80 columns. A file has room for more.
        self.console = console if self.watched else Console(highlight=False, emoji=False, width=_PLAIN_WIDTH)
        self._started = time.monotonic()

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print a line unchanged; the terminal wraps long ones."""
        self.console.print(text, style=style, soft_wrap=True, markup=False)

    def log(self, text: str) -> None:
        """Print a line after the seconds since the demo started."""
        self.say(f"{time.monotonic() - self._started:5.0f} s  {text}")

    @contextmanager
    def doing(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show what is being done; yields a function that updates the text."""
        if not self.watched:
            yield self.log
            return
        with self.console.status(f"{escape(text)} …") as spinner:
            yield lambda words: spinner.update(f"{escape(words)} …")

    @contextmanager
    def watching(self, text: str) -> Iterator[Callable[[str], None]]:
        """Like `doing`, for work in short steps: without a terminal, they do not get a line each."""
        with self.doing(text) as tell:
            if not self.watched:
                self.log(text)
            yield (lambda step: tell(f"{text}: {step}")) if self.watched else (lambda _: None)

    @property
    def mark(self) -> str:
        """The mark before a claim that holds, in the output's encoding."""
        return "✓" if self.console.encoding.startswith("utf") else "ok"

    @property
    def cross(self) -> str:
        """The mark before a claim that does not hold."""
        return "✗" if self.console.encoding.startswith("utf") else "FAILED"


class RunsOnScreen:
    """A table that updates in place on a terminal; otherwise a line for each run that begins or ends."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._known: dict[tuple[str, str], RunView] = {}
        self._told = time.monotonic()
        self._live = Live(console=screen.console, auto_refresh=False, transient=True) if screen.watched else None

    def __enter__(self) -> RunsOnScreen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, views: Sequence[RunView]) -> None:
        """Show the progress of the runs."""
        if self._live is not None:
            self._live.update(self._table(views), refresh=True)
        for view in views:
            key = (view.target.table, view.target.month)
            known, self._known[key] = self._known.get(key), view
            if view.finished and not (known and known.finished):
                self._tell(_sentence(view))
            elif view.state == "running" and not (known and known.state == "running") and self._live is None:
                self._tell(f"{view.target.table} {view.target.month}: begins")
        if self._live is None and time.monotonic() - self._told > _SUMMARY_SECONDS:
            done = sum(view.finished for view in views)
            steps = Counter(view.step or "starting" for view in views if _runs(view))
            running = (step if runs == 1 else f"{runs} x {step}" for step, runs in steps.items())
            self._tell(f"{done} of {len(views)} runs done; running: {', '.join(running) or 'nothing'}")

    def _tell(self, text: str) -> None:
        self._told = time.monotonic()
        if self._live is None:
            self._screen.log(text)

    def _table(self, views: Sequence[RunView]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("table", min_width=25, no_wrap=True)
        table.add_column("month", no_wrap=True)
        table.add_column("step", min_width=24, no_wrap=True)
        table.add_column("rows", justify="right", min_width=7)
        table.add_column("s", justify="right", min_width=3)
        for view in views:
            rows = "" if view.rows is None else f"{view.rows:,}"
            seconds = f"{view.seconds:.0f}" if view.seconds else ""
            style = _STYLES.get(view.state, "dim")
            table.add_row(view.target.table, view.target.month, self._step(view), rows, seconds, style=style)
        return table

    def _step(self, view: RunView) -> str:
        if view.state == "success":
            return f"{self._screen.mark} {view.report.outcome if view.report else 'done'}"
        return view.state if view.state == "failed" or not _runs(view) else view.step or "starting"


def show_results(screen: Screen, views: Sequence[RunView], looks: Sequence[Look]) -> None:
    """Print the result for each month of each table, in 79 columns, and below it why rows were left."""
    left = {(look.table, look.month): look.in_table.count for look in looks}
    screen.say(_line("", "archived", "deleted", "left", "before", "after", "ratio", "SHA-256", "s"), style="dim")
    named = ""
    for view in views:
        report = view.report
        if report is None:
            continue
        if view.target.table != named:
            named = view.target.table
            screen.say(named, style="bold")
        rows = (report.archived_rows, report.deleted_rows, left[named, view.target.month])
        sizes = (report.original_size_bytes, report.compressed_size_bytes)
        first, *others = report.sha256 or ("",)
        sha256 = f"{first[:11]}+" if others else first[:12]
        screen.say(_line(view.target.month, *map(_count, rows), *_sizes(*sizes), sha256, f"{view.seconds:.0f}"))
    reports = [view.report for view in views if view.report]
    rows = (
        sum(report.archived_rows for report in reports),
        sum(report.deleted_rows for report in reports),
        sum(left.values()),
    )
    sizes = (
        sum(report.original_size_bytes for report in reports),
        sum(report.compressed_size_bytes for report in reports),
    )
    screen.say(_line("total", *map(_count, rows), *_sizes(*sizes), "", ""), style="bold")
    for reason in _reasons(views):
        screen.say(reason)


def show_checks(screen: Screen, checks: Sequence[Check]) -> None:
    """Print each claim with its numbers, and where it does not hold."""
    for check in checks:
        mark, style = (screen.mark, "green") if check.holds else (screen.cross, "bold red")
        screen.say(f"  {mark} {check.claim}: {check.numbers}", style=style)
        for fault in check.faults:
            screen.say(f"      {fault}", style="red")


def show_later(screen: Screen, later: Later) -> None:
    """Print the restore, the statistics and what a purge would destroy on which day, in 79 columns."""
    restoration, statistics = later.restoration, later.count.statistics
    until = f"{restoration.reports[0].until:%Y-%m-%d}"
    screen.say(f"Restored, twice: {restoration.table} {restoration.month}", style="bold")
    show_checks(screen, restoration.checks)
    screen.say(f"  No run archives that month again until {until}: its rows are needed.")
    screen.say()
    screen.say("Statistics, all archives", style="bold")
    screen.say(_figures("", "archives", "rows", "before", "on S3", "ratio", "still due"), style="dim")
    for one in statistics.tables:
        if one.archives:
            screen.say(_figures_of(one.table.removeprefix("public."), one))
    screen.say(_figures_of("total", statistics.total), style="bold")
    screen.say(f"  With charts: {later.count.page}")
    screen.say()
    screen.say("What a purge would do. Nothing was removed.", style="bold")
    for day in later.days:
        screen.say(f"  {day.at:%Y-%m-%d}  {_tell_day(day)}")
    screen.say()
    show_verdict(screen, later.verdict)


def show_verdict(screen: Screen, verdict: Verdict) -> None:
    """Print what the verifier found, with what is not proved first."""
    screen.say("The whole bucket, checked by tools/verify_evidence.py without Strongroom:", style="bold")
    marks = {"proved": (screen.mark, "green"), "not proved": ("?", "yellow"), "false": (screen.cross, "bold red")}
    for finding in sorted(verdict.findings, key=lambda one: list(marks).index(one["verdict"]), reverse=True):
        mark, style = marks[finding["verdict"]]
        for line in wrap(f"{finding['check']}: {finding['text']}", 74):
            screen.say(f"  {mark} {line}", style=style)
            mark = " "
    style = "bold green" if verdict.proved else "bold yellow" if verdict.words != "false" else "bold red"
    screen.say(f"  Verdict: {verdict.words.upper()}", style=style)


def _tell_day(day: PurgeDay) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(day.reasons.items()))
    if not day.destroyed:
        return f"{reasons}; the first term ends {day.kept_until[0]:%Y-%m-%d}" if day.kept_until else reasons
    rows = sum(one.record_count or 0 for one in day.destroyed)
    size = write_bytes(sum(one.compressed_size or 0 for one in day.destroyed))
    return f"{reasons}: {rows:,} rows in {size} would be destroyed"


def _figures_of(name: str, one: Figures) -> str:
    due = "?" if one.overdue_rows is None else _count(one.overdue_rows)
    sizes = _sizes(one.original_size_bytes, one.compressed_size_bytes)
    return _figures(name, _count(one.archives), _count(one.rows), *sizes, due)


def _figures(*cells: str) -> str:
    name, archives, rows, before, after, ratio, due = cells
    return f"  {name:26}{archives:>8}{rows:>10}{before:>9}{after:>9}{ratio:>6}{due:>10}"


def write_bytes(size_bytes: float) -> str:
    """Format a size with three digits: ``27.1 MB``."""
    unit = 0
    while size_bytes >= 999.5 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1000, unit + 1
    digits = 0 if unit == 0 or size_bytes >= 99.95 else 1
    return f"{size_bytes:.{digits}f} {_UNITS[unit]}"


def _line(*cells: str) -> str:
    month, archived, deleted, left, before, after, ratio, sha256, seconds = cells
    return (
        f"  {month:7}{archived:>10}{deleted:>10}{left:>7}{before:>9}{after:>9}{ratio:>6}  {sha256:12}{seconds:>5}"
    ).rstrip()


def _count(rows: int) -> str:
    return f"{rows:,}"


def _sizes(original: int, compressed: int) -> tuple[str, str, str]:
    return write_bytes(original), write_bytes(compressed), f"{original / max(1, compressed):.1f}x"


def _reasons(views: Sequence[RunView]) -> Iterator[str]:
    """Say why rows of a month stay in the table, one line per reason."""
    for view in views:
        if view.report is None:
            continue
        where = f"of {view.target.table} {view.target.month} stay"
        for exclusion in view.report.exclusions:
            yield f"{exclusion.rows:,} rows {where}: {exclusion.detail}"
        if view.report.changed_rows:
            yield f"{view.report.changed_rows:,} rows {where}: they changed after they were archived"
        if view.report.referenced_rows:
            yield f"{view.report.referenced_rows:,} rows {where}: other rows now refer to them"
        if view.report.kept_by_trigger_rows:
            yield f"{view.report.kept_by_trigger_rows:,} rows {where}: a trigger of the table kept them"


def _sentence(view: RunView) -> str:
    where = f"{view.target.table} {view.target.month}"
    report = view.report
    if report is None:
        return f"{where}: {view.state}"
    if report.archive_id is None:
        return f"{where}: {report.outcome}"
    sizes = f"{write_bytes(report.original_size_bytes)} to {write_bytes(report.compressed_size_bytes)}"
    return (
        f"{where}: {report.outcome} {report.archived_rows:,} rows, deleted {report.deleted_rows:,}, "
        f"{sizes}, {view.seconds:.0f} s"
    )


def _runs(view: RunView) -> bool:
    return view.state == "running"
