"""The run of each partition starts once its hot retention is over: exactly once, in order, and never before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from unittest.mock import patch

import pendulum
import pytest
from airflow.exceptions import InvalidPartitionKeyError
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo, TimeRestriction
from airflow.utils.types import DagRunType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.calendar import Frequency, Partition, hot_until
from strongroom.errors import ConfigurationError
from strongroom_airflow.timetable import RetentionPartitionTimetable

MONTHLY_CRON = "0 2 1 * *"
ZONES = ("UTC", "Africa/Lagos", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")


def utc(*parts: int) -> pendulum.DateTime:
    return pendulum.datetime(*parts, tz="UTC")


def a_timetable(cron=MONTHLY_CRON, frequency="monthly", hot_retention="P90D", timezone="UTC"):
    return RetentionPartitionTimetable(cron, frequency=frequency, hot_retention=hot_retention, timezone=timezone)


@contextmanager
def the_time_is(now: datetime) -> Iterator[None]:
    with patch("strongroom_airflow.timetable.utcnow", lambda: now):
        yield


def restricted(earliest=None, latest=None, catchup=True) -> TimeRestriction:
    return TimeRestriction(earliest, latest, catchup)


def runs_of_a_scheduler(timetable, restriction, begin: datetime, days: int) -> list[tuple[datetime, DagRunInfo]]:
    """What a scheduler creates that looks every day, or every six hours if partitions are days: when, and which run."""
    created, last = [], None
    for hours in range(0, days * 24, 6 if timetable.frequency is Frequency.DAILY else 24):
        now = begin + timedelta(hours=hours)
        with the_time_is(now):
            while (
                info := timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
            ).run_after <= now:
                created.append((now, info))
                last = info
    return created


def keys_of(infos) -> list[str]:
    return [info.partition_key for info in infos]


def due_between(timetable, first: datetime, last: datetime, now: datetime) -> list[DagRunInfo]:
    with the_time_is(now):
        return list(timetable.iter_partition_dagrun_infos(earliest=first, latest=last))


class TestTicks:
    @pytest.mark.parametrize(
        ("key", "tick"),
        [
            ("2025-12", utc(2026, 4, 1, 2)),  # 90 days after New Year are 1 April 00:00, and its tick is still to come
            ("2026-01", utc(2026, 6, 1, 2)),  # due on 2 May, after that month's tick
            ("2026-02", utc(2026, 6, 1, 2)),  # due on 30 May: shares the tick with January
            ("2026-03", utc(2026, 7, 1, 2)),
            ("2027-12", utc(2028, 4, 1, 2)),  # due on 30 March in the leap year
        ],
    )
    def test_a_run_waits_for_the_first_tick_after_hot_retention(self, key, tick):
        timetable = a_timetable()
        before = Partition.parse(Frequency.MONTHLY, key).previous()
        last = DagRunInfo(utc(2000, 1, 1), None, pendulum.instance(before.window.start), before.key)

        info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restricted())

        assert (info.partition_key, info.run_after, info.data_interval) == (key, tick, None)

    def test_a_tick_is_read_in_the_zone_of_the_cron_and_windows_stay_in_utc(self):
        restriction = restricted(earliest=utc(2026, 3, 1))

        info = a_timetable(timezone="Africa/Lagos").next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)

        assert info.run_after == utc(2026, 7, 1, 1)
        assert info.partition_date == utc(2026, 3, 1)

    @settings(suppress_health_check=[HealthCheck.too_slow])  # the first instant of a process takes seconds to draw
    @given(
        st.sampled_from(Frequency),
        st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(timezone.utc)),
        st.sampled_from(["P1D", "P90D", "P1M", "P1Y6M"]),
        st.sampled_from([MONTHLY_CRON, "30 2 * * *", "0 0 * * 1", "15 */6 * * *", "*/20 * * * *"]),
        st.sampled_from(ZONES),
    )
    def test_no_run_is_ever_inside_hot_retention_and_ticks_never_run_backwards(self, frequency, at, hot, cron, zone):
        timetable = a_timetable(cron, frequency, hot, zone)
        last = DagRunInfo(at, None, pendulum.instance(Partition.containing(frequency, at).window.start), None)

        first = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restricted())
        second = timetable.next_dagrun_info_v2(last_dagrun_info=first, restriction=restricted())

        assert first.run_after <= second.run_after
        for info in (first, second):
            window = Partition.parse(frequency, info.partition_key).window
            assert info.partition_date == window.start
            assert info.run_after >= hot_until(window, timetable.hot_retention)


class TestScheduler:
    @pytest.mark.parametrize(
        ("frequency", "cron", "hot"),
        [("monthly", MONTHLY_CRON, "P90D"), ("weekly", "0 4 * * 1", "P13W"), ("daily", "30 3 * * *", "P1M")],
    )
    def test_three_years_give_each_partition_exactly_once_and_in_order(self, frequency, cron, hot):
        timetable = a_timetable(cron, frequency, hot)
        start = utc(2023, 12, 1)

        created = runs_of_a_scheduler(timetable, restricted(earliest=start), utc(2024, 2, 1), days=3 * 366)

        partitions = [Partition.parse(Frequency(frequency), info.partition_key) for _, info in created]
        assert partitions[0].previous().window.start < start <= partitions[0].window.start
        assert all(older.next() == newer for older, newer in pairwise(partitions))
        assert all(
            now >= hot_until(p.window, timetable.hot_retention) for (now, _), p in zip(created, partitions, strict=True)
        )
        assert created[-1][0] >= utc(2027, 1, 1)

    def test_january_and_february_2026_both_run_on_the_first_of_june(self):
        created = runs_of_a_scheduler(
            a_timetable(), restricted(earliest=utc(2025, 12, 1)), utc(2026, 3, 1, 3), days=130
        )

        assert [(info.partition_key, now.date().isoformat()) for now, info in created] == [
            ("2025-12", "2026-04-01"),
            ("2026-01", "2026-06-01"),
            ("2026-02", "2026-06-01"),
            ("2026-03", "2026-07-01"),
        ]

    def test_with_catchup_it_begins_at_the_start_date(self):
        with the_time_is(utc(2026, 11, 23)):
            info = a_timetable().next_dagrun_info_v2(
                last_dagrun_info=None, restriction=restricted(earliest=utc(2025, 1, 15))
            )

        assert info.partition_key == "2025-02"

    @pytest.mark.parametrize(
        ("now", "begins_with"),
        [
            (utc(2026, 11, 23), "2026-07"),
            (utc(2026, 6, 1, 2), "2026-01"),
            (utc(2026, 6, 1, 1, 59), "2025-12"),
            (utc(2026, 5, 31), "2025-12"),
        ],
    )
    def test_without_catchup_it_begins_with_all_partitions_of_the_newest_tick(self, now, begins_with):
        with the_time_is(now):
            for start_date in (None, utc(2020, 1, 1)):
                info = a_timetable().next_dagrun_info_v2(
                    last_dagrun_info=None, restriction=restricted(earliest=start_date, catchup=False)
                )
                assert info.partition_key == begins_with

    def test_without_catchup_no_partition_is_lost_while_the_scheduler_is_up(self):
        restriction = restricted(earliest=utc(2020, 1, 1), catchup=False)

        created = runs_of_a_scheduler(a_timetable(), restriction, utc(2025, 4, 1), days=3 * 366)

        partitions = [Partition.parse(Frequency.MONTHLY, info.partition_key) for _, info in created]
        assert all(older.next() == newer for older, newer in pairwise(partitions))

    def test_without_catchup_a_start_date_ahead_is_waited_for(self):
        with the_time_is(utc(2026, 11, 23)):
            info = a_timetable().next_dagrun_info_v2(
                last_dagrun_info=None, restriction=restricted(earliest=utc(2027, 1, 1), catchup=False)
            )

        assert (info.partition_key, info.run_after) == ("2027-01", utc(2027, 6, 1, 2))

    def test_after_the_end_date_there_is_no_run(self):
        last = DagRunInfo(utc(2026, 6, 1), None, utc(2026, 3, 1), "2026-03")

        for end_date, expected in ((utc(2026, 4, 1), "2026-04"), (utc(2026, 3, 31), None)):
            info = a_timetable().next_dagrun_info_v2(last_dagrun_info=last, restriction=restricted(latest=end_date))
            assert (info and info.partition_key) == expected

    @pytest.mark.parametrize("catchup", [True, False])
    def test_after_a_backfill_that_ran_ahead_it_goes_on_behind_it(self, catchup):
        """A backfill's run may start before its tick; the scheduler must go by the partition, not by that."""
        timetable, now = a_timetable(), utc(2026, 11, 29, 12)
        [*_, newest] = due_between(timetable, utc(2026, 1, 1), utc(2026, 12, 31), now)

        with the_time_is(now):
            info = timetable.next_dagrun_info_v2(
                last_dagrun_info=newest, restriction=restricted(earliest=utc(2020, 1, 1), catchup=catchup)
            )

        assert newest.partition_key == "2026-07"
        assert (info.partition_key, info.run_after) == ("2026-08", utc(2026, 12, 1, 2))


class TestBackfill:
    now = utc(2026, 11, 23)

    def test_it_reaches_up_to_hot_retention_and_not_into_it(self):
        infos = due_between(a_timetable(), utc(2025, 11, 1), utc(2026, 12, 31), self.now)

        assert keys_of(infos) == ["2025-11", "2025-12", *(f"2026-0{month}" for month in range(1, 8))]
        assert all(info.run_after <= self.now and info.partition_date.day == 1 for info in infos)

    def test_the_others_are_listed_with_the_day_they_become_due(self):
        with the_time_is(self.now):
            hot = list(a_timetable().iter_hot_partitions(earliest=utc(2026, 7, 1), latest=utc(2026, 12, 31)))

        assert [(partition.key, due_at.date().isoformat()) for partition, due_at in hot] == [
            ("2026-08", "2026-11-30"),
            ("2026-09", "2026-12-30"),
            ("2026-10", "2027-01-30"),
            ("2026-11", "2027-03-01"),
        ]

    def test_a_partition_is_due_at_the_very_end_of_hot_retention(self):
        bounds = utc(2026, 8, 1), utc(2026, 8, 1)

        assert due_between(a_timetable(), *bounds, now=utc(2026, 11, 29, 23, 59)) == []
        assert keys_of(due_between(a_timetable(), *bounds, now=utc(2026, 11, 30))) == ["2026-08"]

    def test_both_ends_count_and_december_is_not_lost(self):
        infos = due_between(a_timetable(), utc(2025, 1, 1), utc(2025, 12, 1), self.now)

        assert len(infos) == 12

    def test_a_date_means_the_same_month_wherever_it_was_typed(self):
        lagos = pendulum.datetime(2025, 1, 1, tz="Africa/Lagos"), pendulum.datetime(2025, 12, 1, tz="Africa/Lagos")

        infos = due_between(a_timetable(timezone="Africa/Lagos"), *lagos, self.now)

        assert keys_of(infos) == [f"2025-{month:02d}" for month in range(1, 13)]

    def test_weeks_cross_the_year_with_week_53(self):
        infos = due_between(a_timetable(frequency="weekly"), utc(2026, 12, 20), utc(2027, 1, 12), utc(2028, 1, 1))

        assert keys_of(infos) == ["2026-W52", "2026-W53", "2027-W01", "2027-W02"]

    def test_days_cross_the_leap_day(self):
        infos = due_between(a_timetable(frequency="daily"), utc(2024, 2, 28), utc(2024, 3, 1), self.now)

        assert keys_of(infos) == ["2024-02-28", "2024-02-29", "2024-03-01"]


class TestTrigger:
    @pytest.mark.parametrize(
        ("frequency", "key", "start"),
        [
            ("monthly", "2025-10", utc(2025, 10, 1)),
            ("weekly", "2020-W53", utc(2020, 12, 28)),
            ("daily", "2024-02-29", utc(2024, 2, 29)),
        ],
    )
    def test_a_key_gives_the_start_of_its_partition(self, frequency, key, start):
        assert a_timetable(frequency=frequency).resolve_partition_date(key) == start

    @pytest.mark.parametrize(
        ("key", "answer"),
        [
            (None, "no partition key"),
            ("2026-W31", "not a monthly partition key but a weekly one"),
            ("2026-08", "inside hot retention until 2026-11-30 00:00 UTC"),
            ("2026-11", "open until 2026-12-01 00:00 UTC and inside hot retention until 2027-03-01"),
        ],
    )
    def test_a_trigger_that_may_not_run_is_refused_in_words(self, key, answer):
        with the_time_is(utc(2026, 11, 23)), pytest.raises(InvalidPartitionKeyError, match=answer):
            a_timetable().resolve_partition_date(key)


class TestRunIds:
    @pytest.mark.parametrize("frequency", Frequency)
    def test_the_id_of_a_run_begins_with_its_partition(self, frequency):
        timetable = a_timetable(frequency=frequency)
        info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restricted(earliest=utc(2026, 3, 1)))

        made = {
            timetable.generate_run_id(
                run_type=DagRunType.SCHEDULED,
                run_after=info.run_after,
                data_interval=None,
                partition_key=info.partition_key,
            )
            for _ in range(2)
        }

        assert len(made) == 2, "the same partition may run again"
        assert {run_id.rpartition("__")[0] for run_id in made} == {
            f"{info.partition_key}__scheduled__{info.run_after.isoformat()}"
        }

    def test_a_run_whose_partition_airflow_does_not_tell_has_the_id_that_it_always_had(self):
        run_id = a_timetable().generate_run_id(
            run_type=DagRunType.MANUAL, run_after=utc(2026, 11, 1, 2), data_interval=None
        )

        assert run_id.startswith("manual__2026-11-01T02:00:00+00:00__")


class TestSerialisation:
    @pytest.mark.parametrize(
        "timetable",
        [
            a_timetable(),
            a_timetable("30 3 * * *", "daily", "P1Y6M", "Africa/Lagos"),
            a_timetable("@weekly", "weekly", "P13W", pendulum.fixed_timezone(20_700)),
        ],
    )
    def test_a_dag_comes_out_of_the_metadata_database_with_an_equal_timetable(self, timetable):
        with DAG("archive__sample", schedule=timetable, start_date=utc(2020, 1, 1)) as dag:
            EmptyOperator(task_id="plan")

        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        restored = DagSerialization.from_dict(stored).timetable

        assert type(restored) is RetentionPartitionTimetable
        assert restored == timetable
        assert hash(restored) == hash(timetable)
        assert (restored.summary, restored.description) == (timetable.summary, timetable.description)

    def test_any_difference_makes_timetables_unequal(self):
        others = [
            a_timetable("0 3 1 * *"),
            a_timetable(frequency="daily"),
            a_timetable(hot_retention="P91D"),
            a_timetable(timezone="Africa/Lagos"),
        ]

        assert all(a_timetable() != other for other in others)
        assert a_timetable() != MONTHLY_CRON

    def test_a_wrong_retention_is_refused_where_the_dag_is_written(self):
        with pytest.raises(ConfigurationError, match="'PT1H' has a time part"):
            a_timetable(hot_retention="PT1H")


class TestWords:
    @pytest.mark.parametrize(
        ("timetable", "summary"),
        [
            (a_timetable(), "monthly, 90 days after the month ends, at 02:00 UTC"),
            (
                a_timetable("5 14 * * *", "daily", "P1Y6M", "Africa/Lagos"),
                "daily, 1 year 6 months after the day ends, at 14:05 Africa/Lagos",
            ),
            (
                a_timetable("*/20 * * * *", "weekly"),
                "weekly, 90 days after the week ends, at the next tick of */20 * * * * UTC",
            ),
        ],
    )
    def test_the_ui_shows_the_schedule_as_people_say_it(self, timetable, summary):
        assert timetable.summary == summary

    def test_the_description_explains_the_ticks(self):
        assert a_timetable().description == (
            "Monthly, 90 days after the month ends. Ticks of 0 2 1 * *: At 02:00, on day 1 of the month (UTC)"
        )
