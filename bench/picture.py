"""Charts of a series as SVG: panels side by side, each with axes, units and a limit. Uses no library and loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 340, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 44, 46
_INK, _FAINT, _RULE, _LINE, _BOUND = "#1d2429", "#5f6b73", "#dfe3e6", "#2f6f9f", "#b8622b"
_TICKS = 5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: What it shows.
        unit: Unit of the vertical axis.
        measured: The measured points, joined by a line.
        beside: The points to compare them with, joined by a dashed line.
        beside_words: The label of that line.
    """

    title: str
    unit: str
    measured: Points
    beside: Points
    beside_words: str


def draw(title: str, across: str, panels: Sequence[Panel]) -> str:
    """Return the SVG. ``across`` labels the horizontal axis of all panels."""
    width = _WIDTH * len(panels)
    drawn = "".join(
        f'<g transform="translate({number * _WIDTH},26)">{"".join(_panel(panel, across))}</g>\n'
        for number, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + 26}" width="{width}" role="img" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="11">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{_text(width / 2, 18, title, size=13)}\n{drawn}</svg>\n'
    )


def _panel(panel: Panel, across: str) -> Iterator[str]:
    both = [*panel.measured, *panel.beside]
    ticks_x, ticks_y = (ticks(max(point[axis] for point in both)) for axis in (0, 1))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return _LEFT + x / ticks_x[-1] * plot_width, _TOP + plot_height - y / ticks_y[-1] * plot_height

    yield _text(_LEFT, 14, panel.title, anchor="start", colour=_INK, size=12)
    yield f'<line x1="{_LEFT}" y1="27" x2="{_LEFT + 18}" y2="27" stroke="{_BOUND}" stroke-dasharray="5 4"/>'
    yield _text(_LEFT + 24, 31, panel.beside_words, anchor="start")
    for tick in ticks_y:
        _, y = place((0, tick))
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_RULE}"/>'
        yield _text(_LEFT - 6, y + 4, f"{tick:,g}", anchor="end")
    for tick in ticks_x:
        x, _ = place((tick, 0))
        yield _text(x, _HEIGHT - _BOTTOM + 16, f"{tick:,g}")
    yield _text(_LEFT + plot_width / 2, _HEIGHT - 10, across)
    middle = _TOP + plot_height / 2
    yield f'<g transform="rotate(-90 14 {middle})">{_text(14, middle, panel.unit)}</g>'
    yield f'<polyline points="{_points(map(place, panel.beside))}" fill="none" stroke="{_BOUND}" stroke-dasharray="5 4"/>'
    yield f'<polyline points="{_points(map(place, panel.measured))}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
    for point in panel.measured:
        x, y = place(point)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_LINE}"/>'
        yield _text(x, y - 8, f"{point[1]:,.0f}", anchor="end" if x > _WIDTH / 2 else "start", colour=_INK)


def ticks(most: float) -> list[float]:
    """Round numbers from zero up to at least the highest value."""
    rough = max(most, 1e-9) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [round(step * number, 10) for number in range(math.ceil(most / step - 1e-9) + 1)]


def _points(places: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(x: float, y: float, words: str, *, anchor: str = "middle", colour: str = _FAINT, size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(words)}</text>'
