"""Goals compared with measured figures, and what all benches share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from rich.console import Console


@dataclass(frozen=True)
class Goal:
    """A goal for one measured figure.

    Attributes:
        most: The upper limit; None if the goal has a lower limit.
        least: The lower limit.
    """

    words: str
    figure: float
    most: float | None = None
    least: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the figure is within the limit."""
        return (self.most is None or self.figure <= self.most) and (self.least is None or self.figure >= self.least)


def show_goals(console: Console, goals: Sequence[Goal]) -> None:
    """Print goals and figures side by side."""
    for goal in goals:
        wanted = f"at most {goal.most}" if goal.most is not None else f"at least {goal.least:,}"
        console.print(
            f"{'reached    ' if goal.reached else 'falls short'}  {goal.words}: {goal.figure:,.2f} ({wanted})"
        )


def goals_as_json(goals: Sequence[Goal]) -> list[dict[str, object]]:
    """The goals in a form ready for JSON."""
    return [asdict(goal) | {"reached": goal.reached} for goal in goals]


def say(what: str) -> None:
    """Print progress to stderr, so that stdout holds only the results."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


def machine() -> str:
    """This machine's cores and memory, in words."""
    return f"{os.cpu_count()} cores, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.0f} GiB"


def place_and_day() -> str:
    """This machine and the day in UTC, for a chart."""
    return f"{machine()}, {datetime.now(timezone.utc):%Y-%m-%d}"
