"""How the values of a column compare: on their archived text alone, and as PostgreSQL compares them.

A value is shown and compared as the text that the archive gives back, which is PostgreSQL's own. For types whose order or
equality that text does not give, and that would need the server (a collation, the order of an enum's labels, jsonb), an
operator is refused rather than answered differently.
"""

from __future__ import annotations

import re
import struct
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_interface, ip_network
from typing import Any
from uuid import UUID

from strongroom.formats.type_names import is_builtin, without_modifier
from strongroom.query.records import Operator
from strongroom.records import Column

_ON_TEXT: tuple[Operator, ...] = ("contains", "begins with")
_ON_NULL: tuple[Operator, ...] = ("is null", "is not null")
_EQUAL: tuple[Operator, ...] = ("=", "!=", "in")
_ORDER: tuple[Operator, ...] = ("<", "<=", ">", ">=")


@dataclass(frozen=True)
class Kind:
    """How values of some types compare.

    Attributes:
        name: For :mod:`strongroom.query.sieve`, which has a first comparison for some of them.
        expected: What a value in a condition looks like, for errors.
        key: Makes of the archived text what compares as PostgreSQL compares the value.
        read: Makes the archived text of what somebody wrote; raises ValueError if the type has no such value.
        equal: Whether equality can be told from keys.
        ordered: Whether order can.
        why_not: Why not, for errors.
    """

    name: str
    expected: str
    key: Callable[[str], Any] = str
    read: Callable[[str], str] = str
    equal: bool = True
    ordered: bool = False
    why_not: str = ""

    @property
    def strips(self) -> bool:
        """Whether blanks around a value mean nothing."""
        return self.read is not _read_text

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What a condition on such a column may use."""
        return (*(_EQUAL if self.equal else ()), *(_ORDER if self.ordered else ()), *_ON_TEXT, *_ON_NULL)


def operators_of(column: Column) -> tuple[Operator, ...]:
    """What a condition on a column may use: for forms."""
    return kind_of(column).operators


def kind_of(column: Column) -> Kind:
    """How the values of a column compare."""
    if column.encoding in ("array", "jsonb"):
        return _OPAQUE
    name = without_modifier(column.base_type)
    if not is_builtin(column.base_type):
        return _LABEL if column.encoding == "json" else _OPAQUE
    return _KINDS.get(name, _OPAQUE)


# -- numbers


def _integer(lowest: int, highest: int, what: str) -> Kind:
    def read(text: str) -> str:
        if re.fullmatch(r"[+-]?[0-9]{1,20}", text) is None or not lowest <= int(text) <= highest:
            raise ValueError
        return str(int(text))

    return Kind("integer", f"a whole number of type {what}", int, read, ordered=True)


def _numeric_key(text: str) -> tuple[bool, Decimal]:
    """NaN is greater than all other numbers, and equals itself."""
    return (True, Decimal(0)) if text == "NaN" else (False, Decimal(text))


def _read_numeric(text: str) -> str:
    word = _words_of_numbers(text)
    if word is not None:
        return word
    found = _NUMBER.fullmatch(text)
    if found is None or len(text) > _LONGEST_NUMBER or abs(int(found[1] or 0)) > _LONGEST_NUMBER:
        raise ValueError
    return text


def _words_of_numbers(text: str) -> str | None:
    return {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity", "-infinity": "-Infinity", "-inf": "-Infinity"}.get(
        text.lower()
    )


def _float_key(text: str) -> tuple[bool, float]:
    value = float(text)
    return (True, 0.0) if value != value else (False, value)


def _real_key(text: str) -> tuple[bool, float]:
    unordered, value = _float_key(text)
    return unordered, struct.unpack("f", struct.pack("f", value))[0]


def _reading_float(key: Callable[[str], tuple[bool, float]]) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = _words_of_numbers(text)
        if word is not None:
            return word
        if _NUMBER.fullmatch(text) is None or len(text) > _LONGEST_NUMBER:
            raise ValueError
        try:
            _, value = key(text)
        except OverflowError:
            raise ValueError from None
        if abs(value) == float("inf") or (value == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0])):
            raise ValueError  # PostgreSQL says that it is out of range
        return text

    return read


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,6}))?")
_LONGEST_NUMBER = 20_000


# -- dates and times


def _date_key(text: str) -> tuple[int, ...]:
    """Year (1 BC is 0), month, day and the rest in order; infinity beyond all years."""
    if text in _ENDLESS:
        return (_ENDLESS[text],)
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, before_christ = found.groups()
    year = 1 - int(year) if before_christ else int(year)
    time = (int(hour or 0), int(minute or 0), int(second or 0), int((fraction or "").ljust(6, "0")))
    return (year, int(month), int(day), *time)


def _reading_date(*, time: bool, zone: bool) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() in _ENDLESS:
            return text.lower()
        found = _WRITTEN_DATE.fullmatch(text)
        if found is None:
            raise ValueError
        date, clock, offset, before_christ = found.groups()
        year, month, day = map(int, date.split("-"))
        date = f"{year:04d}-{month:02d}-{day:02d}"
        _check_day(1 - year if before_christ else year, month, day)
        if (clock is not None and not time) or (offset is not None and not zone) or year == 0:
            raise ValueError
        if clock is not None:
            clock = _read_time(clock)
            if clock.startswith("24"):
                raise ValueError
        if offset not in (None, "Z", "+00", "+00:00", "-00", "-00:00"):
            if before_christ or year > 9999:
                raise ValueError
            date, clock = _shifted(f"{date} {clock}", str(offset))
        shown = date if not time else f"{date} {clock or '00:00:00'}{'+00' if zone else ''}"
        return f"{shown} BC" if before_christ else shown

    return read


def _check_day(year: int, month: int, day: int) -> None:
    """The calendar repeats after 400 years; Python's knows only years from 1 to 9999."""
    if not 1 <= month <= 12 or not 1 <= day <= monthrange(year % 400 + 2000, month)[1]:
        raise ValueError


def _shifted(local: str, offset: str) -> tuple[str, str]:
    """Date and time in UTC of a time in another zone."""
    sign, digits = (-1 if offset[0] == "-" else 1), offset[1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 15 or int(digits[2:]) > 59:
        raise ValueError
    zone = timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
    try:
        instant = datetime.fromisoformat(local[:19]).replace(tzinfo=zone).astimezone(timezone.utc)
    except OverflowError:
        raise ValueError from None
    return f"{instant.year:04d}-{instant:%m-%d}", f"{instant:%H:%M:%S}{local[19:]}"


def _read_time(text: str) -> str:
    """A time as PostgreSQL writes it; its order is that of the texts."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError
    hour, minute, second, fraction = found.groups()
    second = second or "00"
    fraction = (fraction or "").rstrip("0")
    if int(minute) > 59 or int(second) > 59 or (hour, minute, second, fraction) > ("24", "00", "00", ""):
        raise ValueError
    return f"{hour}:{minute}:{second}{f'.{fraction}' if fraction else ''}"


_ENDLESS = {"infinity": 10**9, "-infinity": -(10**9)}
_DATE = re.compile(
    r"([0-9]{4,7})-([0-9]{2})-([0-9]{2})(?: ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?)?(?:\+00)?( BC)?"
)
_WRITTEN_DATE = re.compile(
    r"([0-9]{4,7}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9:.]+)(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?( BC)?", re.ASCII
)
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?")


# -- all others


def _read_boolean(text: str) -> str:
    word = text.lower()
    if word in ("t", "true", "y", "yes", "on", "1"):
        return "t"
    if word in ("f", "false", "n", "no", "off", "0"):
        return "f"
    raise ValueError


def _read_text(text: str) -> str:
    if "\0" in text:
        raise ValueError
    return text


def _read_uuid(text: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}", text) is None:
        raise ValueError
    return str(UUID(text))


def _read_bytea(text: str) -> str:
    if re.fullmatch(r"\\x(?:[0-9A-Fa-f]{2})*", text) is None:
        raise ValueError
    return text.lower()


def _address_key(text: str) -> tuple[int, int, int]:
    address = ip_interface(text)
    return address.version, int(address.ip), address.network.prefixlen


def _read_address(text: str) -> str:
    if "%" in text:
        raise ValueError
    _address_key(text)
    return text


def _read_network(text: str) -> str:
    if "%" in text:
        raise ValueError
    return str(ip_network(text))


def _reading_mac(pairs: int) -> Callable[[str], str]:
    form = re.compile(rf"[0-9A-Fa-f]{{2}}(?::[0-9A-Fa-f]{{2}}){{{pairs - 1}}}")

    def read(text: str) -> str:
        if form.fullmatch(text) is None:
            raise ValueError
        return text.lower()

    return read


def _read_bits(text: str) -> str:
    if re.fullmatch("[01]*", text) is None:
        raise ValueError
    return text


def _unpadded(text: str) -> str:
    """Blanks at the end of a char(n) do not count."""
    return text.rstrip(" ")


_COLLATION = "the order of text depends on the database's collation, which an archive does not have"
_ADDRESS = "addresses are compared for equality only; use `begins with` on their text"
_TEXT = Kind("text", "any text", read=_read_text, why_not=_COLLATION)
_LABEL = Kind(
    "text", "one of its labels", read=_read_text, why_not="an archive does not have the order of an enum's labels"
)
_OPAQUE = Kind(
    "opaque",
    "",
    equal=False,
    why_not="values of this type compare by rules that only the database has; look into the text",
)
_FLOAT = Kind("float", "a number such as 0.5", _float_key, _reading_float(_float_key), ordered=True)
_REAL = Kind("real", "a number such as 0.5", _real_key, _reading_float(_real_key), ordered=True)
_KINDS = {
    "boolean": Kind("boolean", "true or false", read=_read_boolean, why_not="true and false have no order that helps"),
    "smallint": _integer(-(1 << 15), (1 << 15) - 1, "smallint"),
    "integer": _integer(-(1 << 31), (1 << 31) - 1, "integer"),
    "bigint": _integer(-(1 << 63), (1 << 63) - 1, "bigint"),
    "oid": _integer(0, (1 << 32) - 1, "oid"),
    "xid8": _integer(0, (1 << 64) - 1, "xid8"),
    "numeric": Kind("numeric", "a number such as 66.40", _numeric_key, _read_numeric, ordered=True),
    "double precision": _FLOAT,
    "real": _REAL,
    "text": _TEXT,
    "character varying": _TEXT,
    "name": _TEXT,
    '"char"': _TEXT,
    "character": Kind("padded", "any text", _unpadded, _read_text, why_not=_COLLATION),
    "bpchar": Kind("padded", "any text", _unpadded, _read_text, why_not=_COLLATION),
    "date": Kind("date", "a date such as 2026-05-31", _date_key, _reading_date(time=False, zone=False), ordered=True),
    "timestamp without time zone": Kind(
        "date", "a time such as 2026-05-31 12:00:00", _date_key, _reading_date(time=True, zone=False), ordered=True
    ),
    "timestamp with time zone": Kind(
        "date",
        "a time such as 2026-05-31T12:00:00+01:00; without a zone it is UTC",
        _date_key,
        _reading_date(time=True, zone=True),
        ordered=True,
    ),
    "time without time zone": Kind("text", "a time such as 12:30:00", read=_read_time, ordered=True),
    "uuid": Kind("text", "a UUID", read=_read_uuid, ordered=True),
    "bytea": Kind("text", "bytes in hex such as \\x00ff", read=_read_bytea, ordered=True),
    "inet": Kind("address", "an address such as 10.0.0.1 or 10.0.0.1/8", _address_key, _read_address, why_not=_ADDRESS),
    "cidr": Kind("address", "a network such as 10.0.0.0/8", _address_key, _read_network, why_not=_ADDRESS),
    "macaddr": Kind("text", "an address such as 08:00:2b:01:02:03", read=_reading_mac(6), ordered=True),
    "macaddr8": Kind("text", "an address such as 08:00:2b:01:02:03:04:05", read=_reading_mac(8), ordered=True),
    "bit": Kind("text", "bits such as 0101", read=_read_bits, why_not="bits are compared for equality only"),
    "bit varying": Kind("text", "bits such as 0101", read=_read_bits, why_not="bits are compared for equality only"),
}
"""By the name that format_type() writes, without its modifier. Types that are not here are opaque."""
