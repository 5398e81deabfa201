"""The statistics as one HTML file with charts: no script, nothing fetched from anywhere, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from html import escape

from strongroom.calendar import Frequency, Partition
from strongroom.statistics.figures import Figures, Growth, Statistics, TableStatistics

_MOST_MONTHS = 36
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 220, 64, 28, 12
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_STYLE = """
:root { color-scheme: light dark; --ground: #fbfbf9; --card: #ffffff; --ink: #1d2429; --faint: #5f6b73; --rule: #dfe3e6;
  --first: #2f6f9f; --second: #b8622b; --alarm: #a6291f; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181b; --card: #1c2226; --ink: #e6eaed; --faint: #9aa6ae;
  --rule: #323b41; --first: #6db0de; --second: #e39a63; --alarm: #ff8a7d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; } p { margin: .2rem 0; color: var(--faint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem; margin-top: 1.4rem; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.35rem; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: .8rem; }
.charts h2 { margin-top: 0; } .wide { grid-column: 1 / -1; } .wide svg { max-width: 48rem; } .card { overflow-x: auto; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--faint); font-size: 12px; }
svg .grid { stroke: var(--rule); } .first { fill: var(--first); } .second { fill: var(--second); }
.key { font-size: .85rem; } .key i { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px; margin: 0 .35rem 0 .8rem; }
.key i:first-child { margin-left: 0; } i.first { background: var(--first); } i.second { background: var(--second); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th { text-align: left; font-weight: 600; color: var(--faint); } th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule);
  white-space: nowrap; } td.n, th.n { text-align: right; } tfoot td { font-weight: 600; border-bottom: 0; }
.alarm { color: var(--alarm); font-weight: 600; }
"""


def make_page(statistics: Statistics) -> str:
    """Make the page; names and texts in it are escaped."""
    total = statistics.total
    cards = [
        _card(
            "Rows archived each month", _bars([(one.month, one.rows) for one in _months(total.growth)], _short, 1000)
        ),
        _card("Archives on S3 at the end of each month", _bars(_running_sizes(total.growth), _size, 1024)),
        _card("Monthly cost by table", _cost_bars(statistics.tables), "card wide"),
    ]
    body = [
        "<h1>Archive statistics</h1>",
        f"<p>{_minute(statistics.made_at)}</p>",
        _alarms(statistics),
        f'<div class="tiles">{"".join(_tiles(statistics))}</div>',
        f'<h2>Growth and cost</h2><div class="charts">{"".join(cards)}</div>',
        "<h2>Archives</h2>",
        _archive_table(statistics),
        "<h2>Rows that wait in the database</h2>",
        _waiting_table(statistics),
        "<h2>Cost by tier</h2>",
        _tier_table(total),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Archive statistics {statistics.made_at:%Y-%m-%d}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{chr(10).join(filter(None, body))}\n</body></html>\n"
    )


def _alarms(statistics: Statistics) -> str:
    sentences = [f"{one.archive_id} has a damaged manifest: {one.problem}" for one in statistics.damaged]
    sentences += [f"{one.table} was not counted: {one.uncounted}" for one in statistics.tables if one.uncounted]
    return "".join(f'<p class="alarm">{escape(sentence)}</p>' for sentence in sentences)


def _tiles(statistics: Statistics) -> Iterable[str]:
    total = statistics.total
    monthly = sum(cost.usd_per_month for cost in total.costs)
    for figure, words in (
        (_number(total.archives), f"archives, {total.held_archives} of them held"),
        (_number(total.rows), "rows archived"),
        (_size(total.compressed_size_bytes), f"on S3, {total.ratio:.1f} times smaller than before"),
        (_number(total.overdue_rows), "rows overdue"),
        (_usd(monthly), "a month for tables and archives"),
        (_usd(total.saved_usd_per_month), "a month saved by archiving"),
        (_day(total.last_verified_at), "last archive read again"),
        (_day(statistics.last_restored_at), "last proved restore"),
        (_expiry(total), "next archive expires"),
    ):
        yield f'<div class="tile"><b>{escape(figure)}</b><span>{escape(words)}</span></div>'


def _archive_table(statistics: Statistics) -> str:
    head = ("table", "archives", "rows", "original", "on S3", "ratio", "from", "to", "next expiry")
    return _table(
        head,
        [_archive_row(one.table, one) for one in statistics.tables],
        _archive_row("all", statistics.total),
    )


def _archive_row(name: str, one: Figures) -> tuple[str, ...]:
    return (
        name,
        _number(one.archives),
        _number(one.rows),
        _size(one.original_size_bytes),
        _size(one.compressed_size_bytes),
        f"{one.ratio:.1f}x" if one.archives else "–",
        _day(one.oldest_at),
        _day(one.newest_at),
        _expiry(one),
    )


def _expiry(one: Figures) -> str:
    """When the next archive expires that no hold covers, if there is one."""
    if one.next_expiry_at is None:
        return "held" if one.held_archives else "–"
    return _day(one.next_expiry_at)


def _next(table: TableStatistics) -> str:
    return f"{table.next_run.partition_key} on {_minute(table.next_run.at)}" if table.next_run else "not configured"


def _waiting_table(statistics: Statistics) -> str:
    head = ("table", "in the table", "size", "overdue", "late", "without a date", "next run")
    return _table(
        head,
        [_waiting_row(one.table, one, _next(one)) for one in statistics.tables],
        _waiting_row("all", statistics.total, ""),
    )


def _waiting_row(name: str, one: Figures, following: str) -> tuple[str, ...]:
    size = "–" if one.hot_bytes is None else _size(one.hot_bytes)
    return (
        name,
        _number(one.hot_rows),
        size,
        *map(_number, (one.overdue_rows, one.late_rows, one.undated_rows)),
        following,
    )


def _tier_table(total: Figures) -> str:
    rows = [(cost.tier, _size(cost.size_bytes), _usd(cost.usd_per_month)) for cost in total.costs]
    size_bytes = sum(cost.size_bytes for cost in total.costs)
    return _table(
        ("tier", "size", "a month"),
        rows,
        ("all", _size(size_bytes), _usd(sum(cost.usd_per_month for cost in total.costs))),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if position == 0 else ' class=n'}>{escape(cell)}</{tag}>" for position, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="card"><table><thead><tr>{line(head, "th")}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot><tr>{line(foot, 'td')}</tr></tfoot></table></div>"
    )


def _card(title: str, chart: str, css: str = "card") -> str:
    return f'<div class="{css}"><h2>{escape(title)}</h2>{chart}</div>'


# ------------------------------------------------------------------------------------------------------------- charts


def _bars(points: Sequence[tuple[str, int]], words: Callable[[int], str], unit: int) -> str:
    """One bar per month, each with its value as a tooltip; unit is the factor between the units of the words."""
    if not points:
        return "<p>There is no archive yet.</p>"
    top = _round_up(max(value for _, value in points), unit)
    step = (_WIDTH - _LEFT) / len(points)
    drawn = [_grid(top, words)]
    every = -(-len(points) // 8)
    for position, (month, value) in enumerate(points):
        left, height = _LEFT + position * step, (_HEIGHT - _TOP - _BOTTOM) * value / top
        drawn.append(
            f'<rect class="first" x="{left + step * 0.12:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" width="{step * 0.76:.1f}" '
            f'height="{height:.1f}" rx="2"><title>{month}: {escape(words(value))}</title></rect>'
        )
        if position % every == 0:
            drawn.append(
                f'<text x="{min(left + step / 2, _WIDTH - 24):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{month}</text>'
            )
    return _svg("".join(drawn), _HEIGHT)


def _grid(top: int, words: Callable[[int], str]) -> str:
    lines = []
    for quarter in range(5):
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * quarter / 4
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(words(top * quarter // 4))}</text>'
        )
    return "".join(lines)


def _cost_bars(tables: Sequence[TableStatistics]) -> str:
    """One bar per table: what its rows cost in the database, and what its archives cost on S3."""
    costs = [(table.table, *_hot_and_cold(table)) for table in tables]
    most = max((hot + cold for _, hot, cold in costs), default=0)
    if not most:
        return "<p>Nothing costs anything yet.</p>"
    row, room = 40, _WIDTH - 110
    drawn = []
    for position, (name, hot, cold) in enumerate(costs):
        y, split, end = position * row, room * hot / most, room * (hot + cold) / most
        drawn.append(
            f'<text x="0" y="{y + 13}">{escape(name)}</text>'
            f'<rect class="second" x="0" y="{y + 18}" width="{split:.1f}" height="12"><title>in the database: {_usd(hot)}</title></rect>'
            f'<rect class="first" x="{split:.1f}" y="{y + 18}" width="{end - split:.1f}" height="12">'
            f"<title>archives: {_usd(cold)}</title></rect>"
            f'<text x="{end + 6:.1f}" y="{y + 28}">{_usd(hot + cold)}</text>'
        )
    key = '<p class="key"><i class="second"></i>hot and warm, in the database<i class="first"></i>archives, on S3</p>'
    return key + _svg("".join(drawn), row * len(costs))


def _hot_and_cold(table: TableStatistics) -> tuple[float, float]:
    hot = sum(cost.usd_per_month for cost in table.costs if cost.tier in ("hot", "warm"))
    return hot, sum(cost.usd_per_month for cost in table.costs) - hot


def _svg(inside: str, height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{inside}</svg>'


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


# -------------------------------------------------------------------------------------------------------------- words


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _short(value: int) -> str:
    for size, sign in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return str(value)


def _size(size_bytes: int) -> str:
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def _usd(amount: float) -> str:
    """An amount with two decimals, or with four if it is small but not zero."""
    digits = 2 if amount == 0 or abs(amount) >= 0.995 else 4
    sign = "-" if amount < 0 else ""
    return (
        f"{sign}${abs(amount):,.{digits}f}" if amount == 0 or abs(amount) >= 0.00005 else f"{sign}< $0.0001".lstrip("-")
    )


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d}" if instant else "never"


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
