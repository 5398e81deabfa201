"""The fault matrix: what was broken, how often, and what happened to the rows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.support.ledger import Tally

BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"
_HEAD = (
    "| scenario | faults injected | runs | rows at risk | rows lost | rows resurrected | how it recovered |",
    "|---|--:|--:|--:|--:|--:|---|",
)


class Note(NamedTuple):
    """What one run of a scenario found. It is sent between processes, so it holds only plain values."""

    scenario: str
    faults: int
    at_risk: int
    lost: int
    resurrected: int
    recovered: str


class Notebook:
    """Collects what the scenarios of a test find. Thread-safe."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._lock = threading.Lock()

    def note(self, scenario: str, tally: Tally, *, recovered: str, faults: int = 1) -> None:
        """Add one run of a scenario, before it is known to pass or fail."""
        lost = len(tally.lost) + len(tally.altered) + len(tally.doubled)
        note = Note(scenario, faults, tally.at_risk, lost, len(tally.resurrected), recovered)
        with self._lock:
            self._notes.append(note)

    def take(self) -> list[Note]:
        """Return the notes added since the last call."""
        with self._lock:
            taken, self._notes = self._notes, []
        return taken


@dataclass
class Line:
    """One scenario, summed over its runs."""

    faults: int = 0
    runs: int = 0
    at_risk: int = 0
    lost: int = 0
    resurrected: int = 0
    recovered: Counter[str] = field(default_factory=Counter)

    def add(self, note: Note) -> None:
        """Add one run."""
        self.faults += note.faults
        self.runs += 1
        self.at_risk += note.at_risk
        self.lost += note.lost
        self.resurrected += note.resurrected
        self.recovered[note.recovered] += 1


def table(notes: Iterable[Note]) -> Iterator[str]:
    """The matrix in Markdown: a line for each scenario, in the order of first notes."""
    lines: dict[str, Line] = {}
    total = Line()
    for note in notes:
        lines.setdefault(note.scenario, Line()).add(note)
        total.add(note)
    yield from _HEAD
    for scenario, line in lines.items():
        yield _written(scenario, line, _ways(line))
    yield _written("**all**", total, "")


def _written(scenario: str, line: Line, recovered: str) -> str:
    counts = (line.faults, line.runs, line.at_risk, line.lost, line.resurrected)
    return f"| {scenario} | {' | '.join(f'{count:,}' for count in counts)} | {recovered} |"


def _ways(line: Line) -> str:
    if len(line.recovered) == 1:
        return next(iter(line.recovered))
    return ", ".join(f"{way} ({times})" for way, times in sorted(line.recovered.items()))


def write_table(page: Path, lines: Iterable[str]) -> None:
    """Replace the table between the page's two markers."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text("\n".join([before + BEGIN, *lines, END + after]))


MATRIX = Notebook()
"""This process's notes."""
