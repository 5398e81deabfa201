"""The fault matrix: what was broken, how often, and what became of the rows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ledger import Tally

BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"
_HEAD = (
    "| scenario | faults injected | runs | rows at risk | rows lost | rows resurrected | how it recovered |",
    "|---|--:|--:|--:|--:|--:|---|",
)


@dataclass
class Line:
    """One scenario, summed over its runs."""

    faults: int = 0
    runs: int = 0
    at_risk: int = 0
    lost: int = 0
    resurrected: int = 0
    recovered: Counter[str] = field(default_factory=Counter)


class Matrix:
    """Collects what scenarios found; may be told from several threads."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def note(self, scenario: str, tally: Tally, *, recovered: str, faults: int = 1) -> None:
        """Add one run of a scenario, before anybody judges it."""
        with self._lock:
            line = self._lines.setdefault(scenario, Line())
            line.faults += faults
            line.runs += 1
            line.at_risk += tally.at_risk
            line.lost += len(tally.lost) + len(tally.altered) + len(tally.doubled)
            line.resurrected += len(tally.resurrected)
            line.recovered[recovered] += 1

    def lines(self) -> Iterator[str]:
        """The table in Markdown."""
        yield from _HEAD
        total = Line()
        for scenario, line in self._lines.items():
            yield _written(scenario, line, _ways(line))
            total = Line(
                total.faults + line.faults,
                total.runs + line.runs,
                total.at_risk + line.at_risk,
                total.lost + line.lost,
                total.resurrected + line.resurrected,
            )
        yield _written("**all**", total, "")


def _written(scenario: str, line: Line, recovered: str) -> str:
    counts = (line.faults, line.runs, line.at_risk, line.lost, line.resurrected)
    return f"| {scenario} | {' | '.join(f'{count:,}' for count in counts)} | {recovered} |"


def _ways(line: Line) -> str:
    if len(line.recovered) == 1:
        return next(iter(line.recovered))
    return ", ".join(f"{way} ({times})" for way, times in sorted(line.recovered.items()))


def write_table(page: Path, matrix: Matrix) -> None:
    """Replace the table between the page's two markers."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text("\n".join([before + BEGIN, *matrix.lines(), END + after]))


MATRIX = Matrix()
"""Of this session."""
