"""How long, or at which hours, a run may work on the source database (setting ``stop_after``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from strongroom.errors import ConfigurationError, OutOfTimeError

_DURATION = re.compile(r"PT(?:([0-9]{1,4})H)?(?:([0-9]{1,6})M)?")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_HOURS = re.compile(f"{_CLOCK}-{_CLOCK}")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TimeBudget:
    """A time from the start of a run (``PT4H``), or hours of each day (``22:00-06:00``, UTC)."""

    text: str
    longest: timedelta | None = None
    hours: tuple[time, time] | None = None

    @classmethod
    def parse(cls, text: str) -> TimeBudget:
        """Read hours and minutes from the run's start, or two times of the day.

        Raises:
            ConfigurationError: It is neither, or its length is zero.
        """
        if found := _DURATION.fullmatch(text):
            hours, minutes = (int(digits or 0) for digits in found.groups())
            longest = timedelta(hours=hours, minutes=minutes)
            if longest:
                return cls(text, longest=longest)
        if found := _HOURS.fullmatch(text):
            first, last, *_ = (time(int(found[number]), int(found[number + 1])) for number in (1, 3))
            if first != last:
                return cls(text, hours=(first, last))
        raise ConfigurationError(
            f"{text!r} is not a time budget",
            expected="a time such as PT4H, counted from the run's start, or hours of the day such as 22:00-06:00, in UTC",
            hint="Nothing was started.",
        )

    def ends_at(self, began_at: datetime, now: datetime) -> datetime:
        """The instant at which work must stop. It is not after ``now`` if work may not continue.

        Args:
            began_at: When the run began, aware.
            now: Aware UTC instant.
        """
        if self.longest is not None:
            return began_at + self.longest
        assert self.hours is not None  # noqa: S101 - it is one of the two
        first, last = self.hours
        ending = datetime.combine(now.date(), last, now.tzinfo)
        ending += _DAY if ending <= now else timedelta(0)
        beginning = datetime.combine(ending.date(), first, now.tzinfo)
        beginning -= _DAY if beginning >= ending else timedelta(0)
        return ending if beginning <= now else ending - _DAY

    def __str__(self) -> str:
        return self.text


def require_time(what: str, stop_at: datetime | None, now: datetime) -> None:
    """Check that work may begin or continue.

    Args:
        what: The work, for the message.
        stop_at: When it must stop. None means no limit.
        now: Aware instant.

    Raises:
        OutOfTimeError: The time is over.
    """
    if stop_at is not None and now >= stop_at:
        raise OutOfTimeError(
            f"out of time: {what} stops here, as stop_after asks",
            expected=f"work until {stop_at:%Y-%m-%d %H:%M} UTC",
            found=f"{now:%Y-%m-%d %H:%M} UTC",
            hint="Nothing is lost: what was deleted is in a verified archive, everything else is in the table. Clear this task "
            "when work on the database is allowed again: it continues after its last batch.",
        )
