"""How long, or at which hours, work may be done."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, OutOfTimeError
from strongroom.settings.time_budget import TimeBudget, require_time

DAY = timedelta(days=1)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))
clocks = st.times().map(lambda each: f"{each:%H:%M}")


def at(clock: str, day: int = 23) -> datetime:
    return datetime.fromisoformat(f"2026-11-{day}T{clock}+00:00")


@pytest.mark.parametrize(
    ("text", "hours"), [("PT4H", 4), ("PT30M", 0.5), ("PT1H30M", 1.5), ("PT90M", 1.5), ("PT0H30M", 0.5)]
)
def test_a_time_is_counted_from_the_start_of_the_run(text, hours):
    assert TimeBudget.parse(text).ends_at(at("22:00"), at("23:00")) == at("22:00") + timedelta(hours=hours)
    assert str(TimeBudget.parse(text)) == text


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        ("22:00-06:00", at("22:00"), at("06:00", 24)),
        ("22:00-06:00", at("23:59"), at("06:00", 24)),
        ("22:00-06:00", at("00:00"), at("06:00")),
        ("22:00-06:00", at("05:59"), at("06:00")),
        ("22:00-06:00", at("06:00"), at("06:00")),
        ("22:00-06:00", at("21:59"), at("06:00")),
        ("02:00-06:00", at("02:00"), at("06:00")),
        ("02:00-06:00", at("01:59"), at("06:00", 22)),
        ("02:00-06:00", at("06:00"), at("06:00")),
        ("02:00-06:00", at("23:00"), at("06:00")),
        ("12:00-00:00", at("23:59"), at("00:00", 24)),
        ("00:00-12:00", at("00:00"), at("12:00")),
    ],
)
def test_hours_end_at_their_end_or_are_over(hours, now, end):
    assert TimeBudget.parse(hours).ends_at(at("00:00", 20), now) == end


@given(clocks, clocks, instants)
def test_outside_its_hours_work_is_over_and_inside_it_is_not(first, last, now):
    if first == last:
        return
    clock = f"{now:%H:%M}"
    inside = first <= clock < last if first < last else clock >= first or clock < last

    end = TimeBudget.parse(f"{first}-{last}").ends_at(now, now)

    assert (end > now) == inside
    assert abs(end - now) <= DAY
    assert f"{end:%H:%M}" == last


@pytest.mark.parametrize(
    "text",
    ["", "PT", "PT0H", "PT0M", "P1D", "PT4S", "4h", "06:00", "22:00-22:00", "24:00-06:00", "22:00-06:60", "2:00-6:00", "PT٤H"],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigurationError, match="is not a time budget: expected a time such as PT4H"):
        TimeBudget.parse(text)


def test_work_goes_on_before_the_end_and_not_from_there_on():
    require_time("it", None, at("12:00"))
    require_time("it", at("12:01"), at("12:00"))

    with pytest.raises(
        OutOfTimeError, match=r"out of time: it stops here.*expected work until 2026-11-23 12:00 UTC"
    ) as error:
        require_time("it", at("12:00"), at("12:00"))
    assert not error.value.retryable
