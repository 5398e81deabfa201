"""The calendar: which periods a table is cut into, and when each of them is due.

A partition is one month, ISO week or day in UTC. Its window `[start, end)` touches its neighbours' without gap or
overlap, so every instant belongs to exactly one partition. Retention terms are calendar durations counted from the end
of a window: 7 years are 7 years, whether they hold 2,556 days or 2,557.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from functools import cached_property
from typing import Any

import pendulum
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from strongroom.errors import ConfigurationError, PartitionError

FIRST_YEAR, LAST_YEAR = 1970, 9998
"""Years that a partition key may name: from the Unix epoch to the last one whose window ends before the year 10000."""

EPOCH = datetime(FIRST_YEAR, 1, 1, tzinfo=timezone.utc)

LONGEST_TERM_DAYS = 366_000
"""No term is longer than a thousand years: a longer one is a typing error."""


class Frequency(str, Enum):
    """How a table is cut into partitions."""

    MONTHLY = "monthly"
    WEEKLY = "weekly"
    DAILY = "daily"

    @property
    def period(self) -> str:
        return {"monthly": "month", "weekly": "week", "daily": "day"}[self.value]

    @property
    def key_example(self) -> str:
        return {"monthly": "2026-07", "weekly": "2026-W31", "daily": "2026-07-31"}[self.value]


@dataclass(frozen=True)
class Window:
    """The half-open time range `[start, end)`.

    Args:
        start: Aware UTC instant, the first that belongs to the window.
        end: Aware UTC instant after start, the first that no longer belongs to it.

    Raises:
        PartitionError: For an instant without zone or in another zone than UTC, or an empty or reversed range.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, instant in (("start", self.start), ("end", self.end)):
            if instant.utcoffset() != timedelta(0):
                raise PartitionError(
                    f"the {name} of a window must be an aware UTC instant",
                    found=instant.isoformat(),
                    hint="Nothing was read or changed; convert the instant to UTC first.",
                )
        if self.start >= self.end:
            raise PartitionError(
                "a window must start before it ends",
                found=f"[{self.start.isoformat()}, {self.end.isoformat()})",
                hint="Nothing was read or changed; swap or widen the bounds.",
            )

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: Window) -> bool:
        """Whether the two windows share an instant."""
        return self.start < other.end and other.start < self.end

    def covers(self, other: Window) -> bool:
        """Whether this window contains every instant of the other."""
        return self.start <= other.start and other.end <= self.end

    def __str__(self) -> str:
        return f"[{_minute(self.start)}, {_minute(self.end)})"


@dataclass(frozen=True)
class Term:
    """A calendar duration such as a retention: years and months, weeks, or days, never hours."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0

    def __post_init__(self) -> None:
        if fault := _fault_of(self.years, self.months, self.weeks, self.days):
            raise _bad_term(str(self), fault)

    @classmethod
    def parse(cls, text: str) -> Term:
        """Read an ISO 8601 duration made of whole years, months and days, or of whole weeks.

        Raises:
            ConfigurationError: Names the text, and why it is no term: hours, a sign, a fraction, nothing at all.
        """
        if not isinstance(text, str):
            raise _bad_term(text, "is not text")
        if re.fullmatch(r"P[^T]*T.*", text):
            raise _bad_term(text, "has a time part, and a term is counted in whole days")
        found = re.fullmatch(r"P(?:([0-9]{1,6})W|(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})D)?)", text)
        if not found or not any(found.groups()):
            raise _bad_term(text, "is not an ISO 8601 duration of whole years, months and days, or of weeks")
        weeks, years, months, days = (int(digits or 0) for digits in found.groups())
        if fault := _fault_of(years, months, weeks, days):
            raise _bad_term(text, fault)
        return cls(years=years, months=months, weeks=weeks, days=days)

    def __str__(self) -> str:
        parts = ((self.years, "Y"), (self.months, "M"), (self.weeks, "W"), (self.days, "D"))
        return "P" + ("".join(f"{count}{unit}" for count, unit in parts if count) or "0D")

    @property
    def in_words(self) -> str:
        """The term as people say it: `90 days`, `1 year 6 months`."""
        parts = ((self.years, "year"), (self.months, "month"), (self.weeks, "week"), (self.days, "day"))
        return " ".join(f"{count} {unit}{'s' if count > 1 else ''}" for count, unit in parts if count)

    def after(self, instant: datetime) -> datetime:
        """The instant at which the term ends if it begins at an aware instant.

        Years and months are added first, then weeks and days, in UTC. Where the month has no such day (29 February plus
        a year, 31 January plus a month) the term ends with the end of that month, at 00:00 of the first day of the
        next: a window ends at the midnight *after* its last day, so ending a term on the month's last day would cost
        it that day.

        Raises:
            PartitionError: For an instant without zone, or a term that ends after the year 9999.
        """
        begin = pendulum.instance(_in_utc(instant))
        try:
            moved = begin.add(years=self.years, months=self.months)
            if moved.day != begin.day:
                moved = moved.add(months=1).start_of("month")
            return _plain(moved.add(weeks=self.weeks, days=self.days))
        except (OverflowError, ValueError) as error:
            raise PartitionError(
                f"{self} after {_minute(begin)} is beyond the calendar",
                hint="Nothing was read or changed; a shorter term or an earlier partition was probably meant.",
            ) from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """A pydantic field of this type accepts a term or its text, and is written as text."""
        from_text = core_schema.no_info_after_validator_function(_parse_for_pydantic, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), from_text], mode="left_to_right"
            ),
            serialization=core_schema.to_string_ser_schema(),
        )


@dataclass(frozen=True)
class Partition:
    """One calendar period of a table, named by its key. `parse` and `containing` return valid ones."""

    frequency: Frequency
    key: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "frequency", Frequency(self.frequency))
        _start_of(self.frequency, self.key)

    @classmethod
    def parse(cls, frequency: Frequency, key: str | None) -> Partition:
        """Read a key exactly as it is written: `2026-07`, `2026-W31` or `2026-07-31`.

        Raises:
            PartitionError: For a missing or malformed key, one of another frequency, a month, week or day that the
                calendar lacks, or a year outside 1970 to 9998.
        """
        return cls(frequency, key)  # type: ignore[arg-type]  # a missing key is refused with its own words

    @classmethod
    def containing(cls, frequency: Frequency, instant: datetime) -> Partition:
        """The partition whose window holds an aware instant.

        Raises:
            PartitionError: For an instant without zone, or outside the years 1970 to 9998.
        """
        return cls(frequency, _format_key(Frequency(frequency), _in_utc(instant).date()))

    @classmethod
    def named(cls, key: str) -> Partition:
        """Read a key whose form alone tells its frequency.

        Raises:
            PartitionError: It is no key of any frequency.
        """
        weekly, monthly = "W" in key, len(key) == len(Frequency.MONTHLY.key_example)
        return cls.parse(Frequency.WEEKLY if weekly else Frequency.MONTHLY if monthly else Frequency.DAILY, key)

    @cached_property
    def window(self) -> Window:
        start = _start_of(self.frequency, self.key)
        return Window(_midnight(start), _midnight(_start_after(self.frequency, start)))

    def next(self) -> Partition:
        return Partition.containing(self.frequency, self.window.end)

    def previous(self) -> Partition:
        return Partition.containing(self.frequency, self.window.start - timedelta(days=1))

    def __str__(self) -> str:
        return self.key


def partitions_between(frequency: Frequency, first: datetime, last: datetime) -> Iterator[Partition]:
    """Yield the partitions that begin between two aware instants, both inclusive, oldest first.

    This is how Airflow reads the bounds of a backfill: `2025-01-01` to `2025-12-31` are the twelve months of 2025, and
    so are `2025-01-01` to `2025-12-01`. Before 1970 there are no partitions.
    """
    first, last = max(_in_utc(first), EPOCH), _in_utc(last)
    partition = Partition.containing(frequency, first)
    if partition.window.start < first:
        partition = partition.next()
    while partition.window.start <= last:
        yield partition
        partition = partition.next()


def hot_until(window: Window, hot: Term) -> datetime:
    """The instant from which a window may be archived: its end plus the hot retention, in UTC."""
    return hot.after(window.end)


def refuse_if_hot(partition: Partition, hot: Term, now: datetime) -> None:
    """Refuse a partition that may not be archived yet at an aware instant `now`.

    Raises:
        PartitionError: While the window is open or inside hot retention; says when it will be due.
    """
    window = partition.window
    due_at = hot_until(window, hot)
    if now >= due_at:
        return
    state = f"is open until {_minute(window.end)} and" if window.end > now else "is"
    raise PartitionError(
        f"{partition.frequency.value} partition {partition.key} {state} inside hot retention until {_minute(due_at)}",
        hint=f"No row was read or deleted; run it from {_minute(due_at)} on ({hot.in_words} after its end).",
    )


SHORTEST_REST = timedelta(days=30)
"""How long an archive rests at least before its term ends. One that ends sooner would be destroyed before anybody looks."""


def refuse_if_spent(partition: Partition, cold: Term, confirmed: Term | None, now: datetime) -> None:
    """Refuse to archive what would be destroyed within 30 days, unless the settings say the term twice.

    Rows leave the table for an archive whose term counts from the end of their partition. With a term that is a slip, or with rows that are
    older than anybody thought, the next purge would destroy them.

    Args:
        partition: What is to be archived.
        cold: How long its archive is to be kept.
        confirmed: The same term again, from the settings; None if it is not there.
        now: Aware instant.

    Raises:
        ConfigurationError: The archive's term ends within 30 days, and is not confirmed.
    """
    until = cold.after(partition.window.end)
    if until - SHORTEST_REST > now or confirmed == cold:
        return
    raise ConfigurationError(
        f"an archive of {partition.key} would be destroyed on {until:%Y-%m-%d}, within {SHORTEST_REST.days} days of being made",
        expected=f"`confirmed: {cold}` beside `cold_retention: {cold}`, or a longer term",
        found=f"cold_retention {cold}, {f'confirmed {confirmed}' if confirmed else 'not confirmed'}",
        hint="Nothing was read and no row was deleted. If these rows are to be destroyed so soon, say the term twice in archive.yaml; then "
        "run the partition again.",
    )


def newest_due(frequency: Frequency, hot: Term, at: datetime) -> Partition | None:
    """The newest partition that may be archived at an aware instant; None if there is none."""
    oldest = Partition.containing(frequency, EPOCH)
    partition = Partition.containing(frequency, _roughly_before(hot, _in_utc(at)))
    while hot_until(partition.window, hot) <= at:
        partition = partition.next()
    while hot_until(partition.window, hot) > at:
        if partition == oldest:
            return None
        partition = partition.previous()
    return partition


def _roughly_before(term: Term, instant: datetime) -> datetime:
    """An instant about one term earlier, not before 1970. The search for the newest due partition begins there."""
    days = term.years * 365.2425 + term.months * 30.436875 + term.weeks * 7 + term.days
    return max(instant, EPOCH + timedelta(days=days)) - timedelta(days=days)


def _start_of(frequency: Frequency, key: object) -> date:
    """The first day of the period that a key names; refuses every other text."""
    if key is None or key == "":
        raise PartitionError(
            "the run has no partition key",
            expected=f"a {frequency.period} such as {frequency.key_example}",
            hint="No row was read or deleted; start the run with a partition key, or backfill the period. In the form of Airflow's "
            "UI the key is under Advanced Options.",
        )
    if not isinstance(key, str) or not _SHAPES[frequency].fullmatch(key):
        raise PartitionError(
            f"{key!r} is not a {frequency.value} partition key{_other_frequency(frequency, key)}",
            expected=f"a {frequency.period} such as {frequency.key_example}",
            hint="No row was read or deleted; give the key in the form of the table's frequency.",
        )
    year = int(key[:4])
    try:
        if not FIRST_YEAR <= year <= LAST_YEAR:
            raise ValueError(f"the year must be between {FIRST_YEAR} and {LAST_YEAR}")
        return _STARTS[frequency](key)
    except ValueError as error:
        raise PartitionError(
            f"{key!r} names no {frequency.period} of the calendar ({error})",
            hint="No row was read or deleted; correct the partition key.",
        ) from None


def _other_frequency(frequency: Frequency, key: object) -> str:
    shapes = [other.value for other in Frequency if other is not frequency and _SHAPES[other].fullmatch(str(key))]
    return f" but a {shapes[0]} one" if shapes else ""


_SHAPES = {
    Frequency.MONTHLY: re.compile(r"[0-9]{4}-[0-9]{2}"),
    Frequency.WEEKLY: re.compile(r"[0-9]{4}-W[0-9]{2}"),
    Frequency.DAILY: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
}

_STARTS: dict[Frequency, Callable[[str], date]] = {
    Frequency.MONTHLY: lambda key: date(int(key[:4]), int(key[5:]), 1),
    Frequency.WEEKLY: lambda key: date.fromisocalendar(int(key[:4]), int(key[6:]), 1),
    Frequency.DAILY: date.fromisoformat,
}


def _format_key(frequency: Frequency, day: date) -> str:
    if frequency is Frequency.MONTHLY:
        return f"{day.year:04d}-{day.month:02d}"
    if frequency is Frequency.WEEKLY:
        year, week, _ = day.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return day.isoformat()


def _start_after(frequency: Frequency, start: date) -> date:
    if frequency is Frequency.MONTHLY:
        return date(start.year + start.month // 12, start.month % 12 + 1, 1)
    return start + timedelta(days=7 if frequency is Frequency.WEEKLY else 1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _in_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise PartitionError(
            "an instant without a time zone says nothing about partitions",
            found=instant.isoformat(),
            hint="Nothing was read or changed; give the instant with its zone.",
        )
    return _plain(instant.astimezone(timezone.utc))


def _plain(instant: datetime) -> datetime:
    """The same UTC instant as a plain datetime, which every library accepts, instead of pendulum's own kind."""
    return datetime(
        instant.year, instant.month, instant.day, instant.hour, instant.minute, instant.second, instant.microsecond,
        tzinfo=timezone.utc,
    )  # fmt: skip


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _fault_of(years: int, months: int, weeks: int, days: int) -> str | None:
    if min(years, months, weeks, days) < 0 or not any((years, months, weeks, days)):
        return "is not longer than nothing"
    if years * 366 + months * 31 + weeks * 7 + days > LONGEST_TERM_DAYS:
        return "is longer than a thousand years"
    return None


def _bad_term(text: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the retention term {text!r} {why}",
        expected="a term such as P90D, P7Y, P1Y6M or P2W",
        hint="Nothing was started; write whole years, months and days, or whole weeks.",
    )


def _parse_for_pydantic(text: str) -> Term:
    try:
        return Term.parse(text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
