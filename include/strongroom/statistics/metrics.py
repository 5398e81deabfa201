"""The statistics as metrics for Prometheus, which wants instants in Unix seconds and sizes in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from strongroom.erasure.clock import StoreCases
from strongroom.ledger.watching import LogFigures, WitnessFigures
from strongroom.statistics.records import Statistics, TableStatistics


@dataclass(frozen=True)
class StepFigures:
    """How one step of one DAG went, as far back as Airflow remembers.

    Attributes:
        dag_id: The DAG.
        step: The task without its group.
        successes: Tasks that succeeded.
        seconds: What these took together.
        failures: Tries that failed, whether or not another one followed.
    """

    dag_id: str
    step: str
    successes: int
    seconds: float
    failures: int


_TABLE_GAUGES = (
    ("archives", "Sealed archives.", lambda one: one.archives),
    ("archived_rows", "Rows in sealed archives.", lambda one: one.rows),
    ("archived_original_bytes", "Bytes of the archived rows before compression.", lambda one: one.original_size_bytes),
    ("archived_bytes", "Bytes of the archives in the store.", lambda one: one.compressed_size_bytes),
    ("compression_ratio", "Original over compressed size.", lambda one: one.ratio if one.archives else None),
    ("hot_rows", "Rows of the table, estimated by the database.", lambda one: one.hot_rows),
    ("hot_bytes", "Bytes of the table with its indexes.", lambda one: one.hot_bytes),
    ("overdue_rows", "Rows past hot retention, in partitions without an archive.", lambda one: one.overdue_rows),
    ("late_rows", "Rows past hot retention, in partitions with an archive.", lambda one: one.late_rows),
    ("undated_rows", "Rows that belong to no partition.", lambda one: one.undated_rows),
    ("saved_usd_per_month", "What archiving saves a month, estimated.", lambda one: one.saved_usd_per_month),
    ("failed_drills", "Archives whose latest drill failed.", lambda one: one.failed_drills),
    ("uncopied_archives", "Archives whose second copy was never found the same.", lambda one: one.uncopied),
    (
        "longest_uncompared_timestamp_seconds",
        "When that second copy was last compared whose comparison is longest ago.",
        lambda one: _unix(one.longest_uncompared_at),
    ),
    ("held_archives", "Archives under a legal hold.", lambda one: one.held_archives),
    ("next_expiry_timestamp_seconds", "When the next archive expires.", lambda one: _unix(one.next_expiry_at)),
    (
        "last_verified_timestamp_seconds",
        "When an archive was last read again and found sound.",
        lambda one: _unix(one.last_verified_at),
    ),
    (
        "longest_unverified_timestamp_seconds",
        "When that archive was last read whose reading is longest ago.",
        lambda one: _unix(one.longest_unverified_at),
    ),
    (
        "next_run_timestamp_seconds",
        "When the schedule starts the next run.",
        lambda one: _unix(one.next_run.at if one.next_run else None),
    ),
)
"""Name, help and value of each table's metrics; a table has no sample if the value is None."""


def make_metrics(
    statistics: Statistics, steps: Sequence[StepFigures], approvals: Mapping[str, int], logs: Iterable[LogFigures]
) -> Iterator[Metric]:
    """All metric families.

    Args:
        statistics: Of all tables.
        steps: How the steps of all DAGs went.
        approvals: How many requests for an approval wait for an answer, by DAG.
        logs: What the last look at the transparency log of each store found.
    """
    for name, words, read in _TABLE_GAUGES:
        family = GaugeMetricFamily(f"strongroom_{name}", words, labels=("table",))
        for table in statistics.tables:
            value = read(table)
            if value is not None:
                family.add_metric((table.table,), value)
        yield family
    yield _undrilled(statistics)
    yield _costs(statistics.tables)
    yield from _whole(statistics)
    yield from _cases(statistics)
    yield from _logs(logs, statistics.made_at)
    yield from _steps(steps)
    waiting = GaugeMetricFamily(
        "strongroom_waiting_approvals", "Requests for a person's approval that have no answer yet.", labels=("dag_id",)
    )
    for dag_id, count in approvals.items():
        waiting.add_metric((dag_id,), count)
    yield waiting


def _undrilled(statistics: Statistics) -> Metric:
    family = GaugeMetricFamily(
        "strongroom_days_since_drill",
        "Days since a drill last proved an archive of the table; if none ever did, since its oldest archive was sealed.",
        labels=("table",),
    )
    for table in statistics.tables:
        days = _days(table.undrilled_since, statistics.made_at)
        if days is not None:
            family.add_metric((table.table,), days)
    return family


def _costs(tables: Iterable[TableStatistics]) -> Metric:
    family = GaugeMetricFamily("strongroom_usd_per_month", "What a tier costs a month.", labels=("table", "tier"))
    for table in tables:
        for cost in table.costs:
            family.add_metric((table.table, cost.tier), cost.usd_per_month)
    return family


def _whole(statistics: Statistics) -> Iterator[Metric]:
    total, now = statistics.total, statistics.made_at
    uncounted = sum(table.uncounted is not None for table in statistics.tables)
    for name, words, value in (
        ("damaged_manifests", "Manifests of which nothing can be said.", len(statistics.damaged)),
        ("holds", "Legal holds in force.", statistics.holds),
        ("uncounted_tables", "Tables whose rows could not be counted.", uncounted),
        (
            "days_since_verified",
            "Days since an archive was last read again and found sound.",
            _days(total.last_verified_at, now),
        ),
        (
            "days_since_restored",
            "Days since a restore, or a drill, last ended proved.",
            _days(statistics.last_restored_at, now),
        ),
        (
            "days_since_oldest_proof",
            "Days since that archive was last proved whose proof is oldest.",
            _days(total.longest_unverified_at, now),
        ),
        (
            "days_until_expiry",
            "Days until the next archive expires; negative when it is over.",
            _days(now, total.next_expiry_at),
        ),
    ):
        family = GaugeMetricFamily(f"strongroom_{name}", words)
        if value is not None:
            family.add_metric((), value)
        yield family


_CASE_GAUGES: tuple[tuple[str, str, Callable[[StoreCases, datetime], float | None]], ...] = (
    ("open_cases", "Requests of persons that have not ended.", lambda one, _: one.open),
    (
        "overdue_cases",
        "Requests of persons that are past their day, or of which nobody can tell.",
        lambda one, _: one.overdue,
    ),
    (
        "seconds_until_case_due",
        "Seconds until the first open request of a person is due; negative when it is over.",
        lambda one, now: (one.next_due_at - now).total_seconds() if one.next_due_at else None,
    ),
    (
        "superseded_archives",
        "Archives that were superseded because a person was erased, and are not removed yet.",
        lambda one, _: one.superseded,
    ),
)
"""Name, help and value of each store's metrics about requests of persons."""


def _cases(statistics: Statistics) -> Iterator[Metric]:
    for name, words, read in _CASE_GAUGES:
        family = GaugeMetricFamily(f"strongroom_{name}", words, labels=("store",))
        for one in statistics.cases:
            value = read(one, statistics.made_at)
            if value is not None:
                family.add_metric((one.store,), value)
        yield family


_LOG_GAUGES: tuple[tuple[str, str, Callable[[LogFigures, datetime], float | None]], ...] = (
    (
        "log_up",
        "Whether the transparency log, its entries and what witnesses wrote could be read, signed by a trusted key.",
        lambda one, _: one.problem is None,
    ),
    (
        "log_grew",
        "Whether the head of the log extends each head that this exporter or a witness saw before.",
        lambda one, _: one.grew,
    ),
    ("log_entries", "Entries of the log.", lambda one, _: one.entries),
    (
        "log_newest_entry_timestamp_seconds",
        "When the newest entry of the log was made.",
        lambda one, _: _unix(one.newest_at),
    ),
    ("log_unentered_records", "Records that the log does not have.", lambda one, _: one.unentered),
    (
        "log_unentered_seconds",
        "Age of the oldest record that the log does not have; 0 if it has all of them.",
        lambda one, now: None if one.unentered is None else _age(one.unentered_since, now),
    ),
)
"""Name, help and value of each metric about the transparency log of a store, at an instant."""

_WITNESS_GAUGES: tuple[tuple[str, str, Callable[[WitnessFigures, datetime], float | None]], ...] = (
    (
        "witness_cosigned_timestamp_seconds",
        "When the witness last cosigned a head of the log.",
        lambda one, _: _unix(one.cosigned_at),
    ),
    (
        "witness_unseen_entries",
        "Entries of the log that the newest cosignature of the witness does not cover.",
        lambda one, _: one.unseen,
    ),
    (
        "witness_unseen_seconds",
        "Age of the oldest of these entries; 0 if there is none.",
        lambda one, now: None if one.unseen and one.unseen_since is None else _age(one.unseen_since, now),
    ),
    (
        "witness_refuses",
        "Whether the witness refused a head of the log and has cosigned none since.",
        lambda one, _: one.refuses,
    ),
)
"""Name, help and value of each metric about what a witness left in a store, at an instant."""


def _logs(logs: Iterable[LogFigures], now: datetime) -> Iterator[Metric]:
    by_store = {one.store: one for one in logs}  # two connections may lead to one
    for name, words, read in _LOG_GAUGES:
        family = GaugeMetricFamily(f"strongroom_{name}", words, labels=("store",))
        for store, log in by_store.items():
            if (value := read(log, now)) is not None:
                family.add_metric((store,), value)
        yield family
    for name, words, read_one in _WITNESS_GAUGES:
        family = GaugeMetricFamily(f"strongroom_{name}", words, labels=("store", "witness"))
        for store, log in by_store.items():
            for one in log.witnesses:
                if (value := read_one(one, now)) is not None:
                    family.add_metric((store, one.name), value)
        yield family


def _steps(steps: Iterable[StepFigures]) -> Iterator[Metric]:
    labels = ("dag_id", "step")
    seconds = SummaryMetricFamily(
        "strongroom_step_seconds", "Tasks that succeeded, and how long they took.", labels=labels
    )
    failures = CounterMetricFamily("strongroom_step_failures", "Tries of tasks that failed.", labels=labels)
    for one in steps:
        seconds.add_metric((one.dag_id, one.step), count_value=one.successes, sum_value=one.seconds)
        failures.add_metric((one.dag_id, one.step), one.failures)
    yield seconds
    yield failures


def _unix(instant: datetime | None) -> float | None:
    return instant.timestamp() if instant else None


def _age(since: datetime | None, now: datetime) -> float:
    """Seconds since an instant; 0 if there was none."""
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def _days(since: datetime | None, until: datetime | None) -> float | None:
    return (until - since).total_seconds() / 86_400 if since and until else None
