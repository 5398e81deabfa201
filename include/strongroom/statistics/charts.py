"""The charts of the statistics: where each bar and word goes, and the numbers behind them. Templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strongroom.calendar import Frequency, Partition
from strongroom.statistics.figures import IN_DATABASE
from strongroom.statistics.records import Figures, Growth, Statistics, TableStatistics
from strongroom.statistics.words import number, ratio, short, size, usd

WIDTH = 720
_HEIGHT, _LEFT, _BOTTOM, _TOP = 220, 64, 28, 12
_ROW, _ROOM = 40, WIDTH - 110
_WIDEST = 60
_MOST_MONTHS = 36
_MOST_ROWS = 20

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """One bar. ``css`` is the series' colour, ``words`` what a pointer over it shows."""

    x: float
    y: float
    width: float
    height: float
    css: str
    words: str


@dataclass(frozen=True)
class Label:
    """One word beside a bar or at an axis; ``anchor`` is ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    anchor: str
    words: str


@dataclass(frozen=True)
class Numbers:
    """A table: its head, its rows and its foot, which may be empty. The first column is a name."""

    head: Cells
    rows: tuple[Cells, ...]
    foot: Cells = ()


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        numbers: What it shows, as a table.
        lines: Heights of the lines behind the bars.
        key: Colour and meaning of each series, if there are several.
        note: What a reader must know; without bars, why there are none.
    """

    title: str
    numbers: Numbers
    height: int = 0
    bars: tuple[Bar, ...] = ()
    labels: tuple[Label, ...] = ()
    lines: tuple[float, ...] = ()
    key: tuple[tuple[str, str], ...] = ()
    note: str = ""


def make_charts(statistics: Statistics) -> list[Chart]:
    """All charts of the statistics, in the order of the page."""
    total, tables = statistics.total, statistics.tables
    return [
        _growth_of_rows(total.growth),
        _growth_of_sizes(total.growth),
        _tiers(total),
        _ratios(tables, total),
        _costs(tables, total),
    ]


def _growth_of_rows(growth: Sequence[Growth]) -> Chart:
    months = _months(growth)
    return _columns(
        "Rows archived each month",
        [(one.month, one.rows) for one in months],
        (number, short),
        1000,
        Numbers(
            ("month", "archives", "rows", "original", "on S3", "ratio"),
            tuple(
                (
                    one.month,
                    number(one.archives),
                    number(one.rows),
                    size(one.original_size_bytes),
                    size(one.compressed_size_bytes),
                    ratio(one.original_size_bytes, one.compressed_size_bytes),
                )
                for one in months
            ),
        ),
    )


def _growth_of_sizes(growth: Sequence[Growth]) -> Chart:
    points = _running_sizes(growth)
    rows = tuple((month, size(value)) for month, value in points)
    numbers = Numbers(("month", "on S3 at its end"), rows)
    return _columns("Archives on S3 at the end of each month", points, (size, size), 1024, numbers)


def _tiers(total: Figures) -> Chart:
    costs = total.costs
    every = sum(one.size_bytes for one in costs)
    return _rows(
        "Rows and bytes of each tier",
        [(one.tier, ((_css(one.tier), one.size_bytes, size(one.size_bytes)),), size(one.size_bytes)) for one in costs],
        Numbers(
            ("tier", "rows", "size", "a month"),
            tuple((one.tier, number(one.rows), size(one.size_bytes), usd(one.usd_per_month)) for one in costs),
            ("all", "", size(every), usd(sum(one.usd_per_month for one in costs))),
        ),
        key=(("second", "tables in the database"), ("first", "archives on S3")),
        empty="Nothing is stored yet.",
    )


def _ratios(tables: Sequence[TableStatistics], total: Figures) -> Chart:
    def cells(name: str, one: Figures) -> Cells:
        sizes = (one.original_size_bytes, one.compressed_size_bytes)
        return name, *map(size, sizes), ratio(*sizes)

    archived = [one for one in tables if one.archives]
    bars = [(one.table, (("first", one.ratio, f"{one.ratio:.1f}x"),), f"{one.ratio:.1f}x") for one in archived]
    rows = tuple(cells(one.table, one) for one in archived)
    numbers = Numbers(("table", "original", "on S3", "ratio"), rows, cells("all", total))
    return _rows("Compression ratio by table", bars, numbers, empty="There is no archive yet.")


def _costs(tables: Sequence[TableStatistics], total: Figures) -> Chart:
    def cells(name: str, one: Figures) -> Cells:
        hot, cold = _hot_and_cold(one)
        return name, *map(usd, (hot, cold, hot + cold, one.saved_usd_per_month))

    bars = []
    for one in tables:
        hot, cold = _hot_and_cold(one)
        series = (("second", hot, f"in the database: {usd(hot)}"), ("first", cold, f"archives: {usd(cold)}"))
        bars.append((one.table, series, usd(hot + cold)))
    return _rows(
        "Monthly cost by table",
        bars,
        Numbers(
            ("table", "in the database", "archives", "all", "saved"),
            tuple(cells(one.table, one) for one in tables),
            cells("all", total),
        ),
        key=(("second", "hot and warm, in the database"), ("first", "archives, on S3")),
        empty="Nothing costs anything yet.",
    )


def _css(tier: str) -> str:
    return "second" if tier in IN_DATABASE else "first"


def _hot_and_cold(one: Figures) -> tuple[float, float]:
    hot = sum(cost.usd_per_month for cost in one.costs if cost.tier in IN_DATABASE)
    return hot, sum(cost.usd_per_month for cost in one.costs) - hot


def _columns(
    title: str,
    points: Sequence[tuple[str, int]],
    words: tuple[Callable[[int], str], Callable[[int], str]],
    unit: int,
    numbers: Numbers,
) -> Chart:
    """One upright bar for each month.

    Args:
        title: Of the chart.
        points: Month and value.
        words: How a bar's value and a value at the axis read.
        unit: The factor between the units of these words.
        numbers: The table.
    """
    if not points:
        return Chart(title, numbers, note="There is no archive yet.")
    of_bar, of_axis = words
    top, step, room = (
        _round_up(max(value for _, value in points), unit),
        (WIDTH - _LEFT) / len(points),
        _HEIGHT - _TOP - _BOTTOM,
    )
    floor, every = _HEIGHT - _BOTTOM, -(-len(points) // 8)
    lines = tuple(floor - room * quarter / 4 for quarter in range(5))
    labels = [Label(_LEFT - 8, y + 4, "end", of_axis(top * quarter // 4)) for quarter, y in enumerate(lines)]
    bars = []
    for place, (month, value) in enumerate(points):
        left, height = _LEFT + place * step, room * value / top
        bars.append(Bar(left + step * 0.12, floor - height, step * 0.76, height, "first", f"{month}: {of_bar(value)}"))
        if place % every == 0:
            labels.append(Label(min(left + step / 2, WIDTH - 24), _HEIGHT - 8, "middle", month))
    return Chart(title, numbers, _HEIGHT, tuple(bars), tuple(labels), lines)


def _rows(
    title: str,
    rows: Sequence[tuple[str, Sequence[tuple[str, float, str]], str]],
    numbers: Numbers,
    *,
    key: tuple[tuple[str, str], ...] = (),
    empty: str,
) -> Chart:
    """One lying bar for each name, made of its series one after the other.

    Args:
        title: Of the chart.
        rows: Name, series (colour, value, words) and the words at its end. Of very many the largest are drawn.
        numbers: The table.
        key: Colour and meaning of the series.
        empty: What stands there if every value is zero.
    """
    most = max((sum(value for _, value, _ in series) for _, series, _ in rows), default=0)
    if not most:
        return Chart(title, numbers, note=empty)
    note = ""
    if len(rows) > _MOST_ROWS:
        rows = sorted(rows, key=lambda row: -sum(value for _, value, _ in row[1]))[:_MOST_ROWS]
        note = f"The largest {_MOST_ROWS} are drawn; the numbers are of all."
    bars, labels = [], []
    for place, (name, series, words) in enumerate(rows):
        y, x = place * _ROW, 0.0
        labels.append(Label(0, y + 13, "start", name))
        for css, value, told in series:
            bars.append(Bar(x, y + 18, _ROOM * value / most, 12, css, f"{name}: {told}"))
            x += _ROOM * value / most
        labels.append(Label(x + 6, y + 28, "start", words))
    return Chart(title, numbers, _ROW * len(rows), tuple(bars), tuple(labels), key=key, note=note)


def _months(growth: Sequence[Growth]) -> list[Growth]:
    """The last months, including those without a new archive."""
    if not growth:
        return []
    by_month = {one.month: one for one in growth}
    month, filled = Partition.parse(Frequency.MONTHLY, growth[0].month), []
    while month.key <= growth[-1].month:
        empty = Growth(month=month.key, archives=0, rows=0, original_size_bytes=0, compressed_size_bytes=0)
        filled.append(by_month.get(month.key, empty))
        month = month.next()
    return filled[-_MOST_MONTHS:]


def _running_sizes(growth: Sequence[Growth]) -> list[tuple[str, int]]:
    shown = _months(growth)
    size_bytes = sum(one.compressed_size_bytes for one in growth if shown and one.month < shown[0].month)
    points = []
    for one in shown:
        size_bytes += one.compressed_size_bytes
        points.append((one.month, size_bytes))
    return points


def _round_up(value: int, unit: int) -> int:
    """The top of an axis that divides into four round numbers: 4, 8, 20, 40, 80, 200, … of the largest unit that fits."""
    scale, top = 1, 4
    while value >= scale * unit:
        scale *= unit
    while top * scale < value:
        top = top * 5 // 2 if str(top).startswith("8") else top * 2
    return top * scale
