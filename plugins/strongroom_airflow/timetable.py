"""When the run of a partition starts: at the first tick of a cron at or after the end of its hot retention.

Airflow's own `CronPartitionTimetable` derives the partition from the tick. Here the partition comes first and the tick
follows from it, so a month has its full hot retention whatever its length, and two partitions may share one tick.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow._shared.timezones.timezone import coerce_datetime, parse_timezone, utcnow
from airflow.exceptions import InvalidPartitionKeyError
from airflow.timetables.base import DagRunInfo
from airflow.timetables.trigger import CronPartitionTimetable

from strongroom.calendar import Frequency, Partition, Term, hot_until, newest_due, partitions_between, refuse_if_hot
from strongroom.errors import PartitionError

if TYPE_CHECKING:
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.utils.types import DagRunType
    from pendulum import DateTime
    from pendulum.tz.timezone import FixedTimezone, Timezone


class RetentionPartitionTimetable(CronPartitionTimetable):
    """One run per partition, once its hot retention is over.

    A run's `partition_date` is the first instant of its partition, and its key is the partition's key. Windows are in UTC; only
    the cron is read in `timezone`. The scheduler walks from partition to partition, in order:

    - With `catchup=True` it begins with the first partition that starts at or after the DAG's `start_date` and goes
      through all of them. Nothing is left out after Airflow was down or the DAG was paused.
    - With `catchup=False`, or without a `start_date`, it begins with the partitions of the newest tick, and takes no older ones.
      After a pause, partitions of missed ticks are left to a backfill.

    The scheduler continues after the newest partition that has a scheduled or backfilled run, so it does not repeat a backfill
    of later partitions. A partition inside hot retention gets no run from the scheduler, from a backfill, or from a
    trigger with its key; a trigger without a key is refused as well.

    :param cron: Cron expression of the ticks.
    :param frequency: The length of a partition: monthly, weekly (ISO weeks) or daily.
    :param hot_retention: How long a partition stays in the live table after its end, such as `P90D`.
    :param timezone: Time zone of the cron.
    """

    run_ordering = ("partition_date", "run_after")

    def __init__(
        self,
        cron: str,
        *,
        frequency: Frequency | str,
        hot_retention: Term | str,
        timezone: str | Timezone | FixedTimezone = "UTC",
    ) -> None:
        super().__init__(cron, timezone=timezone)
        self.frequency = Frequency(frequency)
        self.hot_retention = hot_retention if isinstance(hot_retention, Term) else Term.parse(hot_retention)
        in_zone = f"{self.description or 'no valid cron'} ({self._timezone.name})"
        self.description = f"{self._rule.capitalize()}. Ticks of {self._expression}: {in_zone}"

    def serialize(self) -> dict[str, Any]:
        from airflow.serialization.encoders import encode_timezone

        return {
            "expression": self._expression,
            "timezone": encode_timezone(self._timezone),
            "frequency": self.frequency.value,
            "hot_retention": str(self.hot_retention),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> RetentionPartitionTimetable:
        return cls(
            data["expression"],
            timezone=parse_timezone(data["timezone"]),
            frequency=data["frequency"],
            hot_retention=data["hot_retention"],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RetentionPartitionTimetable):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self._expression, self._timezone, self.frequency, self.hot_retention))

    @property
    def summary(self) -> str:
        """The schedule as the UI shows it: `monthly, 90 days after the month ends, at 02:00 UTC`."""
        return f"{self._rule}, {self._ticks}"

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after `last_dagrun_info`, or the first run; None if it begins after the DAG's end date."""
        candidates = []
        if last_dagrun_info is not None and last_dagrun_info.partition_date is not None:
            candidates.append(Partition.containing(self.frequency, last_dagrun_info.partition_date).next())
        elif restriction.earliest is not None:
            candidates.append(self._first_from(restriction.earliest))
        if not restriction.catchup or not candidates:
            candidates.append(self._first_of_newest_tick(utcnow()))
        partition = max(candidates, key=lambda candidate: candidate.window.start)
        if restriction.latest is not None and partition.window.start > restriction.latest:
            return None
        return self._run_of(partition, self._tick_of(partition))

    def iter_partition_dagrun_infos(
        self, *, earliest: datetime.datetime, latest: datetime.datetime
    ) -> Iterable[DagRunInfo]:
        """Yield a run for each due partition that begins in `[earliest, latest]`, oldest first; backfills call this.

        A due partition does not wait for its tick here, because somebody asked for it.
        """
        now = utcnow()
        for partition in self._partitions_between(earliest, latest):
            due_at = hot_until(partition.window, self.hot_retention)
            if due_at <= now:
                yield self._run_of(partition, due_at)

    def iter_hot_partitions(
        self, *, earliest: datetime.datetime, latest: datetime.datetime
    ) -> Iterable[tuple[Partition, datetime.datetime]]:
        """Yield the partitions that `iter_partition_dagrun_infos` leaves out, each with the instant it becomes due.

        Partitions that have not begun are not listed, because a backfill may name the end of the year.
        """
        now = utcnow()
        for partition in self._partitions_between(earliest, latest):
            due_at = hot_until(partition.window, self.hot_retention)
            if due_at > now:
                yield partition, due_at

    def localize_partition_datetime(self, dt: datetime.datetime) -> DateTime:
        """Read the wall clock of a bound as UTC, so that `2025-12-01` means December in every time zone."""
        return coerce_datetime(dt.replace(tzinfo=datetime.timezone.utc))

    def resolve_partition_date(self, partition_key: str | None) -> datetime.datetime:
        """The first instant of the partition that a run is triggered for.

        Raises:
            InvalidPartitionKeyError: For a missing or malformed key, or a partition that is not due; Airflow answers
                the trigger with this message and makes no run.
        """
        try:
            partition = Partition.parse(self.frequency, partition_key)
            refuse_if_hot(partition, self.hot_retention, utcnow())
        except PartitionError as error:
            raise InvalidPartitionKeyError(str(error)) from error
        return coerce_datetime(partition.window.start)

    def generate_run_id(
        self, *, run_type: DagRunType, run_after: DateTime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """`2026-07__scheduled__<instant>__<random>`: a list of runs shows the partition of each first.

        Airflow does not pass the key of a run that somebody triggers. Such an id begins with `manual`.
        """
        key = extra.pop("partition_key", None)
        run_id = super().generate_run_id(run_type=run_type, run_after=run_after, data_interval=data_interval, **extra)
        return f"{key}__{run_id}" if key else run_id

    def _partitions_between(self, earliest: datetime.datetime, latest: datetime.datetime) -> Iterable[Partition]:
        bounds = self.localize_partition_datetime(earliest), self.localize_partition_datetime(latest)
        return partitions_between(self.frequency, bounds[0], min(bounds[1], utcnow()))

    def _run_of(self, partition: Partition, run_after: datetime.datetime) -> DagRunInfo:
        return DagRunInfo(
            run_after=coerce_datetime(run_after),
            data_interval=None,
            partition_date=coerce_datetime(partition.window.start),
            partition_key=partition.key,
        )

    def _tick_of(self, partition: Partition) -> DateTime:
        return self._align_to_next(coerce_datetime(hot_until(partition.window, self.hot_retention)))

    def _first_from(self, earliest: datetime.datetime) -> Partition:
        partition = Partition.containing(self.frequency, earliest)
        return partition if partition.window.start >= earliest else partition.next()

    def _first_of_newest_tick(self, now: DateTime) -> Partition:
        """The oldest of the partitions that share their tick with the newest one whose tick has come."""
        newest = newest_due(self.frequency, self.hot_retention, self._align_to_prev(now))
        if newest is None:
            return Partition.containing(self.frequency, datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc))
        tick, first = self._tick_of(newest), newest
        while self._tick_of(first.previous()) == tick:
            first = first.previous()
        return first

    @property
    def _rule(self) -> str:
        return f"{self.frequency.value}, {self.hot_retention.in_words} after the {self.frequency.period} ends"

    @property
    def _ticks(self) -> str:
        if time := re.match(r"(\d+) (\d+) ", self._expression):
            return f"at {int(time[2]):02d}:{int(time[1]):02d} {self._timezone.name}"
        return f"at the next tick of {self._expression} {self._timezone.name}"
