"""How figures read on a page: numbers, sizes, amounts and dates as short texts. A dash stands for what is not known."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def number(value: int | None) -> str:
    """A whole number: `12,345`."""
    return "–" if value is None else f"{value:,}"


def short(value: int) -> str:
    """A number for an axis: `1.2 M`."""
    for unit, sign in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{sign}"
    return str(value)


def size(size_bytes: int | None) -> str:
    """Bytes in the unit that a person reads; a kibibyte has 1,024."""
    if size_bytes is None:
        return "–"
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def usd(amount: float) -> str:
    """An amount with two decimals, or with four if it is small but not zero."""
    if amount != 0 and abs(amount) < 0.00005:
        return "< $0.0001"
    digits = 2 if amount == 0 or abs(amount) >= 0.995 else 4
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def ratio(original_size_bytes: int, compressed_size_bytes: int) -> str:
    """How many times smaller something became: `10.3x`."""
    return f"{original_size_bytes / compressed_size_bytes:.1f}x" if compressed_size_bytes else "–"


def day(instant: datetime | None) -> str:
    """A date."""
    return f"{instant:%Y-%m-%d}" if instant else "–"


def minute(instant: datetime) -> str:
    """A date and time in UTC."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"
