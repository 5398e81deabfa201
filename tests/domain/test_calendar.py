"""The calendar tiles time, keys are read strictly, and terms are calendar durations."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from strongroom.calendar import (
    LAST_YEAR,
    Frequency,
    Partition,
    Term,
    Window,
    hot_until,
    newest_due,
    partitions_between,
    refuse_if_hot,
    refuse_if_spent,
)
from strongroom.errors import ConfigurationError, PartitionError

frequencies = st.sampled_from(Frequency)
instants = st.datetimes(
    datetime(1970, 1, 1),
    datetime(9998, 12, 20),
    timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=1))]),
).filter(lambda instant: instant.astimezone(timezone.utc).year >= 1970)
terms = st.one_of(
    st.builds(Term, years=st.integers(0, 10), months=st.integers(0, 30), days=st.integers(1, 400)),
    st.builds(Term, years=st.integers(1, 10), months=st.integers(0, 30)),
    st.builds(Term, weeks=st.integers(1, 60)),
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


def month(key: str) -> Partition:
    return Partition.parse(Frequency.MONTHLY, key)


class TestPartitions:
    @given(frequencies, instants)
    def test_an_instant_lies_in_the_window_of_its_partition(self, frequency, instant):
        assert instant in Partition.containing(frequency, instant).window

    @given(frequencies, instants.filter(lambda instant: instant.year < LAST_YEAR))
    def test_neighbours_touch_without_gap_or_overlap(self, frequency, instant):
        partition = Partition.containing(frequency, instant)

        assert partition.window.end == partition.next().window.start
        assert partition.next().previous() == partition

    @given(frequencies, instants)
    def test_a_key_is_read_back_as_it_was_written(self, frequency, instant):
        partition = Partition.containing(frequency, instant)

        assert Partition.parse(frequency, partition.key) == partition
        assert Partition.containing(frequency, partition.window.start) == partition
        assert Partition.containing(frequency, partition.window.end - timedelta(microseconds=1)) == partition

    @given(frequencies, instants)
    def test_later_keys_sort_later(self, frequency, instant):
        partition = Partition.containing(frequency, min(instant, utc(9998, 11, 30)))

        assert partition.key < partition.next().key

    @pytest.mark.parametrize(
        ("frequency", "key", "start", "end"),
        [
            ("monthly", "2026-07", utc(2026, 7, 1), utc(2026, 8, 1)),
            ("monthly", "2024-02", utc(2024, 2, 1), utc(2024, 3, 1)),
            ("monthly", "2026-12", utc(2026, 12, 1), utc(2027, 1, 1)),
            ("daily", "2024-02-29", utc(2024, 2, 29), utc(2024, 3, 1)),
            ("daily", "2026-12-31", utc(2026, 12, 31), utc(2027, 1, 1)),
            ("weekly", "2026-W31", utc(2026, 7, 27), utc(2026, 8, 3)),
            ("weekly", "2026-W53", utc(2026, 12, 28), utc(2027, 1, 4)),
            ("weekly", "2025-W01", utc(2024, 12, 30), utc(2025, 1, 6)),
            ("weekly", "1970-W01", utc(1969, 12, 29), utc(1970, 1, 5)),
        ],
    )
    def test_windows_follow_the_calendar(self, frequency, key, start, end):
        assert Partition.parse(Frequency(frequency), key).window == Window(start, end)

    def test_the_week_after_week_53_is_week_1_of_the_next_year(self):
        assert Partition.parse(Frequency.WEEKLY, "2026-W53").next().key == "2027-W01"
        assert Partition.containing(Frequency.WEEKLY, utc(2027, 1, 3)).key == "2026-W53"

    def test_an_instant_of_another_zone_is_taken_in_utc(self):
        just_after_midnight_in_lagos = datetime(2026, 8, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))

        assert Partition.containing(Frequency.MONTHLY, just_after_midnight_in_lagos).key == "2026-07"

    @pytest.mark.parametrize(
        ("frequency", "key", "complaint"),
        [
            ("monthly", None, "no partition key"),
            ("weekly", "", "no partition key"),
            ("monthly", "2026-7", "not a monthly partition key"),
            ("monthly", "2026-07-31", "not a monthly partition key but a daily one"),
            ("monthly", "2026-W31", "not a monthly partition key but a weekly one"),
            ("daily", "2026-07", "not a daily partition key but a monthly one"),
            ("weekly", "2026-07", "not a weekly partition key but a monthly one"),
            ("monthly", "2026-07 ", "not a monthly partition key"),
            ("monthly", "2026-07\n", "not a monthly partition key"),
            ("monthly", "٢٠٢٦-٠٧", "not a monthly partition key"),
            ("monthly", 202607, "not a monthly partition key"),
            ("monthly", "2026-13", "names no month"),
            ("monthly", "2026-00", "names no month"),
            ("weekly", "2025-W53", "names no week"),
            ("weekly", "2026-W00", "names no week"),
            ("daily", "2026-02-29", "names no day"),
            ("monthly", "1969-12", "between 1970 and 9998"),
            ("monthly", "9999-01", "between 1970 and 9998"),
        ],
    )
    def test_other_keys_are_refused_in_words(self, frequency, key, complaint):
        with pytest.raises(PartitionError, match=complaint) as refused:
            Partition.parse(Frequency(frequency), key)

        assert refused.value.hint.startswith("No row was read or deleted")

    def test_an_instant_without_zone_has_no_partition(self):
        with pytest.raises(PartitionError, match="without a time zone"):
            Partition.containing(Frequency.DAILY, datetime(2026, 7, 31))

    @given(frequencies, instants, st.integers(0, 60))
    def test_partitions_between_two_instants_follow_each_other(self, frequency, first, days):
        first = min(first, utc(9998, 9, 30))
        last = first + timedelta(days=days)

        found = list(partitions_between(frequency, first, last))

        assert all(first <= partition.window.start <= last for partition in found)
        assert all(older.next() == newer for older, newer in pairwise(found))
        if found:
            assert found[0].previous().window.start < first if found[0].window.start > utc(1970, 1, 1) else True
            assert found[-1].next().window.start > last

    def test_a_year_of_months_ends_with_december_whichever_day_of_it_is_named(self):
        months = [f"2025-{number:02d}" for number in range(1, 13)]

        for last in (utc(2025, 12, 1), utc(2025, 12, 31)):
            assert [p.key for p in partitions_between(Frequency.MONTHLY, utc(2025, 1, 1), last)] == months


class TestWindow:
    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (utc(2026, 2, 1), utc(2026, 1, 1)),
            (utc(2026, 1, 1), utc(2026, 1, 1)),
            (datetime(2026, 1, 1), datetime(2026, 2, 1)),
            (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), utc(2026, 2, 1)),
        ],
    )
    def test_a_window_is_a_forward_range_in_utc(self, start, end):
        with pytest.raises(PartitionError):
            Window(start, end)

    @pytest.mark.parametrize(
        ("start", "end", "overlaps", "covers"),
        [
            (5, 10, True, True),
            (6, 9, True, True),
            (5, 9, True, True),
            (6, 10, True, True),
            (4, 10, True, False),
            (5, 11, True, False),
            (4, 6, True, False),
            (9, 11, True, False),
            (1, 5, False, False),
            (10, 12, False, False),
        ],
    )
    def test_a_window_overlaps_what_shares_an_instant_and_covers_what_lies_inside(self, start, end, overlaps, covers):
        window, other = Window(utc(2026, 5, 5), utc(2026, 5, 10)), Window(utc(2026, 5, start), utc(2026, 5, end))

        assert (window.overlaps(other), other.overlaps(window)) == (overlaps, overlaps)
        assert window.covers(other) == covers


class TestTerm:
    @given(terms)
    def test_a_term_is_read_back_as_it_was_written(self, term):
        assert Term.parse(str(term)) == term

    @pytest.mark.parametrize("text", ["P90D", "P7Y", "P1Y6M", "P2W", "P1Y6M10D"])
    def test_iso_durations_keep_their_text(self, text):
        assert str(Term.parse(text)) == text

    @pytest.mark.parametrize(
        "text", ["PT1H", "P1DT12H", "P0D", "P", "", "-P1D", "P-1D", "90", "P1.5Y", "p90d", "P1Y2W"]
    )
    def test_other_texts_are_refused_by_name(self, text):
        with pytest.raises(ConfigurationError, match="the retention term") as refused:
            Term.parse(text)

        assert repr(text) in str(refused.value)

    def test_a_time_part_is_refused_in_its_own_words(self):
        with pytest.raises(ConfigurationError, match="'PT1H' has a time part"):
            Term.parse("PT1H")

    @pytest.mark.parametrize("text", ["P999999D", "P2000Y"])
    def test_a_term_of_millennia_is_a_slip(self, text):
        with pytest.raises(ConfigurationError, match="thousand years"):
            Term.parse(text)

    @pytest.mark.parametrize(
        ("begin", "days"), [(utc(2026, 8, 1), 2557), (utc(2025, 2, 1), 2556), (utc(2024, 2, 1), 2557)]
    )
    def test_seven_years_are_seven_years_however_many_days_they_hold(self, begin, days):
        assert (Term.parse("P7Y").after(begin) - begin).days == days
        assert Term.parse("P7Y").after(begin) == begin.replace(year=begin.year + 7)

    @pytest.mark.parametrize(
        ("text", "begin", "end"),
        [
            ("P1Y", utc(2024, 2, 29), utc(2025, 3, 1)),
            ("P4Y", utc(2024, 2, 29), utc(2028, 2, 29)),
            ("P1M", utc(2026, 1, 31), utc(2026, 3, 1)),
            ("P1M", utc(2026, 1, 29, 12), utc(2026, 3, 1)),
            ("P1M", utc(2026, 3, 31), utc(2026, 5, 1)),
            ("P1M", utc(2026, 2, 28), utc(2026, 3, 28)),
            ("P1M1D", utc(2026, 1, 31), utc(2026, 3, 2)),
            ("P90D", utc(2026, 2, 1), utc(2026, 5, 2)),
            ("P90D", utc(2026, 3, 1), utc(2026, 5, 30)),
            ("P2W", utc(2026, 12, 28), utc(2027, 1, 11)),
            ("P1Y6M", utc(2025, 9, 1), utc(2027, 3, 1)),
        ],
    )
    def test_a_term_ends_by_the_calendar_and_never_a_day_early(self, text, begin, end):
        assert Term.parse(text).after(begin) == end

    @given(
        terms, st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=70))
    )
    def test_what_begins_later_never_ends_earlier(self, term, begin, later):
        begin = begin.replace(tzinfo=timezone.utc)

        assert begin < term.after(begin) <= term.after(begin + later)

    def test_a_term_beyond_the_calendar_is_refused(self):
        with pytest.raises(PartitionError, match="beyond the calendar"):
            Term.parse("P7Y").after(utc(9997, 1, 1))

    def test_a_term_is_a_setting(self):
        class Policy(BaseModel):
            cold: Term

        policy = Policy.model_validate({"cold": "P7Y"})

        assert policy == Policy(cold=Term(years=7)) == Policy.model_validate_json(policy.model_dump_json())
        assert policy.model_dump_json() == '{"cold":"P7Y"}'
        with pytest.raises(ValidationError, match="'PT1H' has a time part"):
            Policy.model_validate({"cold": "PT1H"})

    def test_words_for_people(self):
        assert [Term.parse(text).in_words for text in ("P90D", "P1Y6M", "P1W")] == [
            "90 days",
            "1 year 6 months",
            "1 week",
        ]


class TestHotRetention:
    hot = Term.parse("P90D")

    def test_a_partition_inside_hot_retention_is_refused_with_its_day(self):
        with pytest.raises(PartitionError, match="2026-08 is inside hot retention until 2026-11-30 00:00 UTC"):
            refuse_if_hot(month("2026-08"), self.hot, now=utc(2026, 11, 29, 23, 59))

    def test_an_open_window_is_called_open(self):
        with pytest.raises(PartitionError, match="2026-08 is open until 2026-09-01 00:00 UTC and inside hot retention"):
            refuse_if_hot(month("2026-08"), self.hot, now=utc(2026, 8, 15))

    def test_from_its_day_on_it_passes(self):
        assert hot_until(month("2026-08").window, self.hot) == utc(2026, 11, 30)

        refuse_if_hot(month("2026-08"), self.hot, now=utc(2026, 11, 30))

    @given(frequencies, terms, st.datetimes(datetime(1985, 1, 1), datetime(2100, 1, 1)))
    def test_the_newest_due_partition_is_due_and_the_next_is_not(self, frequency, hot, at):
        at = at.replace(tzinfo=timezone.utc)

        newest = newest_due(frequency, hot, at)

        assert hot_until(newest.window, hot) <= at < hot_until(newest.next().window, hot)

    def test_nothing_is_due_before_the_first_partition_is(self):
        assert newest_due(Frequency.MONTHLY, Term.parse("P7Y"), utc(1975, 1, 1)) is None


class TestShortestRest:
    cold = Term.parse("P1Y")

    def test_what_would_be_destroyed_within_thirty_days_is_refused_with_its_day(self):
        with pytest.raises(
            ConfigurationError, match="an archive of 2025-11 would be destroyed on 2026-12-01, within 30 days"
        ):
            refuse_if_spent(month("2025-11"), self.cold, None, now=utc(2026, 11, 1))
        with pytest.raises(ConfigurationError, match="found cold_retention P1Y, confirmed P2Y"):
            refuse_if_spent(month("2020-01"), self.cold, Term.parse("P2Y"), now=utc(2026, 11, 1))

    def test_said_twice_or_with_thirty_days_to_go_it_passes(self):
        refuse_if_spent(month("2025-11"), self.cold, self.cold, now=utc(2026, 11, 30))
        refuse_if_spent(month("2025-11"), self.cold, None, now=utc(2026, 10, 31, 23, 59))
