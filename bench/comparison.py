"""Strongroom beside its peers: a table of what each costs, proves and deletes, and the chart at the end of the bench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from bench.bars import Bar, draw_bars
from bench.contenders import CHAIN_NAME, OPERATOR_NAME, PIPE_NAME, STEPS_NAME
from bench.course import Result
from bench.late import LATE
from bench.peers.race import PeerResult
from bench.usage import Step, Usage

_OURS = {
    PIPE_NAME: ("nothing", "the window"),
    OPERATOR_NAME: ("nothing", "nothing"),
    STEPS_NAME: ("each row", "equal rows only"),
    CHAIN_NAME: ("each row", "equal rows only"),
}
"""What each of the bench's own contenders reads back of what it wrote, and what it deletes."""

_STEPS_IN_THE_CHART = {"start": "start, plan", "plan": "start, plan", "extract_to_staging": "extract"}


@dataclass(frozen=True)
class Contender:
    """One contender that takes rows out of the table, from whichever list it comes.

    Attributes:
        reads_back: What it reads back of what it wrote.
        deletes: What it deletes.
        result: Its figures, with its steps; None if it failed.
        charge: The type that its files give to the column of amounts; empty for text, which has no types.
        late: How many of two late rows it left in the table; None if it deletes nothing or was not asked.
        error: Why it failed.
    """

    name: str
    reads_back: str
    deletes: str
    result: Result | None
    charge: str = ""
    late: int | None = None
    error: str = ""


def contenders(results: Sequence[Result], peers: Sequence[PeerResult], late: Mapping[str, int]) -> Iterator[Contender]:
    """All that do comparable work, the bench's own first.

    Args:
        late: How many of two late rows those of the bench's own that delete have left in the table.
    """
    by_name = {result.name: result for result in [*results, _sum_of_steps(results)]}
    for name, words in _OURS.items():
        yield Contender(name, *words, by_name[name], late=late.get(name))
    for one in peers:
        yield Contender(one.title, one.peer.reads_back, one.peer.deletes, one.result, one.charge, one.late, one.error)


def _sum_of_steps(results: Sequence[Result]) -> Result:
    """Strongroom's steps as one contender."""
    steps = [result for result in results if result.is_step]
    total = Usage()
    for step in steps:
        total.add(step.usage)
    divided = tuple(Step(step.name.strip(), step.usage.seconds, step.usage.cpu) for step in steps)
    [chain] = [result for result in results if result.name == CHAIN_NAME]
    return replace(chain, name=STEPS_NAME, usage=total, steps=divided)


def comparison_table(title: str, all_of_them: Sequence[Contender]) -> Table:
    """What each one costs, proves and deletes."""
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for name in ("s", "rows/s", "client CPU s", "database CPU s", "store CPU s", "memory MB", "stored MB"):
        table.add_column(name, justify="right")
    for name in ("reads back", "deletes", "late rows", "numeric(10, 2)"):
        table.add_column(name)
    for one in all_of_them:
        table.add_row(one.name, *_figures(one.result), one.reads_back, one.deletes, _fate(one.late), one.charge)
    return table


def _fate(late: int | None) -> str:
    return "" if late is None else "kept" if late == LATE else f"{LATE - late} of {LATE} lost"


def _figures(result: Result | None) -> list[str]:
    if result is None:
        return ["failed"] + [""] * 6
    usage = result.usage
    return [
        f"{usage.seconds:.1f}",
        f"{result.count / usage.seconds:,.0f}",
        *(f"{value:.1f}" for value in (usage.client_cpu, usage.server_cpu, usage.store_cpu)),
        f"{usage.peak_mb:,.0f}",
        f"{result.stored_mb:,.0f}",
    ]


def chart(rows: int, where_and_when: str, all_of_them: Sequence[Contender]) -> str:
    """The SVG of all contenders that did not fail."""
    bars = [_bar(one, one.result) for one in all_of_them if one.result is not None]
    return draw_bars(f"{rows:,} rows out of PostgreSQL: where the time and the CPU go", where_and_when, bars)


def _bar(one: Contender, result: Result) -> Bar:
    """Its steps, scaled to the figures of the table. Those also have what the meter itself takes."""
    usage = result.usage
    steps = result.steps or (Step("not divided", usage.seconds, usage.cpu),)
    seconds = usage.seconds / sum(step.seconds for step in steps)
    cpu = usage.cpu / sum(step.cpu for step in steps)
    scaled = [
        Step(_STEPS_IN_THE_CHART.get(step.name, step.name), step.seconds * seconds, step.cpu * cpu) for step in steps
    ]
    return Bar(one.name, f"reads back {one.reads_back}, deletes {one.deletes}", scaled)
