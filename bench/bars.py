"""One chart as SVG: for each contender a bar of seconds and a bar of CPU seconds, divided by step. Uses no library.

The colours follow the reader's light or dark mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.picture import ticks
from bench.usage import Step

_NAMES, _PANEL, _GAP, _EDGE = 262, 324, 26, 14
_WIDTH = _EDGE + _NAMES + 2 * _PANEL + _GAP + _EDGE
_TOTALS = 46
"""The room for a bar's total after the longest bar."""

_ROW, _BAR = 46, 24
_LEGEND_TOP, _LEGEND_LINE, _SWATCH = 66, 22, 14
_LETTER = 7.2
"""The width of an average letter of 12 pixels."""

COLOURS = {
    "start, plan": ("#8d99a6",),
    "extract": ("#3f7fd0",),
    "extract + compress": ("#3f7fd0", "#63b946"),
    "extract to upload": ("#3f7fd0", "#e0a020"),
    "compress": ("#63b946",),
    "checksum": ("#45b9cf",),
    "upload": ("#e0a020",),
    "verify": ("#9a6fd0",),
    "seal": ("#d07fb4",),
    "delete": ("#d2554a",),
    "not divided": ("#8d99a6", "#bcc5cd"),
}
"""The steps in the order of the legend. A step that does the work of two has stripes of both colours."""

_STYLE = """
text { fill: #1d2429; stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
.faint { fill: #5b6770 } .rule { stroke: #dfe3e6 } .ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; stroke: #0d1117 } .faint { fill: #9aa6b1 } .rule { stroke: #30363d } .ground { fill: #0d1117 } }
"""
"""Letters have an edge in the colour of the ground, so that a line behind them does not run through them."""


@dataclass(frozen=True)
class Bar:
    """One contender.

    Attributes:
        note: A second, smaller line under its name.
        steps: How its time and CPU time are divided; names are those of ``COLOURS``.
    """

    name: str
    note: str
    steps: Sequence[Step]


def draw_bars(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """Return the SVG, with the bars in the order given."""
    used = [name for name in COLOURS if any(step.name == name for bar in bars for step in bar.steps)]
    legend, top = _legend(used)
    height = top + 34 + _ROW * len(bars) + 30
    panels = [
        _panel("seconds from start to end", _EDGE + _NAMES, top, bars, "seconds"),
        _panel("CPU seconds of client, PostgreSQL and S3 server", _EDGE + _NAMES + _PANEL + _GAP, top, bars, "cpu"),
    ]
    parts = [_text(_EDGE, 26, title, size=16), _text(_EDGE, 46, f"{subtitle}; shorter is better", faint=True), legend]
    parts += [_name(bar, top + 34 + _ROW * number) for number, bar in enumerate(bars)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        f'font-family="system-ui, -apple-system, Helvetica, Arial, sans-serif">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<defs>{''.join(_stripes(name) for name in used)}</defs>\n"
        f'<rect class="ground" width="100%" height="100%"/>\n' + "\n".join([*parts, *panels]) + "\n</svg>\n"
    )


def _name(bar: Bar, y: float) -> str:
    return _text(_EDGE, y + 12, bar.name, size=13) + _text(_EDGE, y + 27, bar.note, faint=True, size=11)


def _legend(names: Sequence[str]) -> tuple[str, float]:
    """The swatches and their names, on as many lines as they need, and where they end."""
    x, y, drawn = float(_EDGE), float(_LEGEND_TOP), []
    for name in names:
        width = _SWATCH + 6 + len(name) * _LETTER + 18
        if x + width > _WIDTH - _EDGE:
            x, y = float(_EDGE), y + _LEGEND_LINE
        drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{_SWATCH}" height="{_SWATCH}" rx="2" fill="{_fill(name)}"/>')
        drawn.append(_text(x + _SWATCH + 6, y + 11.5, name))
        x += width
    return "".join(drawn), y + _LEGEND_LINE + 20


def _panel(title: str, left: float, top: float, bars: Sequence[Bar], figure: str) -> str:
    totals = [sum(getattr(step, figure) for step in bar.steps) for bar in bars]
    scale_ticks = ticks(max(totals))
    scale = (_PANEL - _TOTALS) / max(totals)
    bottom = top + 34 + _ROW * len(bars)
    drawn = [_text(left, top + 4, title, size=13)]
    for tick in scale_ticks:
        x = left + tick * scale
        if x <= left + _PANEL:
            drawn.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 18}" y2="{bottom}"/>')
            drawn.append(_text(x, bottom + 16, f"{tick:,g}", anchor="middle", faint=True))
    for number, (bar, total) in enumerate(zip(bars, totals, strict=True)):
        y = top + 34 + _ROW * number
        drawn += _segments(bar, left, y, scale, figure)
        drawn.append(_text(left + total * scale + 6, y + 17, f"{total:,.1f}"))
    return "".join(drawn)


def _segments(bar: Bar, left: float, y: float, scale: float, figure: str) -> Iterator[str]:
    x = left
    for step in bar.steps:
        width = getattr(step, figure) * scale
        yield (
            f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{_BAR}" fill="{_fill(step.name)}">'
            f"<title>{escape(step.name)}: {getattr(step, figure):,.1f} s</title></rect>"
        )
        x += width


def _stripes(name: str) -> str:
    """The pattern of a step that has two colours."""
    if len(COLOURS[name]) == 1:
        return ""
    one, two = COLOURS[name]
    return (
        f'<pattern id="{_id(name)}" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="8" height="8" fill="{one}"/><rect width="4" height="8" fill="{two}"/></pattern>'
    )


def _fill(name: str) -> str:
    return COLOURS[name][0] if len(COLOURS[name]) == 1 else f"url(#{_id(name)})"


def _id(name: str) -> str:
    return "".join(letter if letter.isalpha() else "-" for letter in name)


def _text(x: float, y: float, words: str, *, anchor: str = "start", faint: bool = False, size: float = 12) -> str:
    look = ' class="faint"' if faint else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{look}>{escape(words)}</text>'
