"""What the demo shows after archiving: statistics, a restore, and what a purge would destroy.

Statistics and restores are runs of the real DAGs. The purge decisions are those of `airflow strongroom purge --dry-run`,
for today and for the day when the last retention term of the demo's archives ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from strongroom.calendar import Partition
from strongroom.restore.records import RestoreReport
from strongroom.retention.decide import Decision, judge
from strongroom.settings import TableSettings
from strongroom.statistics.records import Statistics
from strongroom_local.demo.api import Airflow, await_run, trigger
from strongroom_local.demo.checks import Check, check_restored
from strongroom_local.demo.evidence import Verdict
from strongroom_local.demo.proof import Look, digest_rows
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET

RESTORE_DAG, STATISTICS_DAG = "restore_archive", "archive_statistics"

RESTORED_TABLE = "gateway_blacklist_history"
"""The smallest table whose rows refer to no other table. An investigation would need its alert restored first."""

_REPORTED = {"outcome", "archive_ids", "inserted", "unchanged", "different", "until"}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Count:
    """The statistics from the demo's run, and where their page is in the store."""

    statistics: Statistics
    page: str
    run_id: str


@dataclass(frozen=True)
class Restoration:
    """One month that was restored twice.

    Args:
        table: The table's name.
        month: The month's partition key.
        reports: The reports of the two runs.
        run_ids: The ids of the two runs.
        checks: What SQL shows about the result.
    """

    table: str
    month: str
    reports: tuple[RestoreReport, RestoreReport]
    run_ids: tuple[str, str]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class PurgeDay:
    """What a purge would do on one day, archive by archive."""

    at: datetime
    decisions: tuple[Decision, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """Number of archives for each reason."""
        return dict(Counter(one.reason for one in self.decisions))

    @property
    def destroyed(self) -> list[Decision]:
        """The archives that the purge would destroy."""
        return [one for one in self.decisions if one.purge]

    @property
    def kept_until(self) -> list[datetime]:
        """The ends of the retention terms that are still running, in order."""
        return sorted(one.retention_until for one in self.decisions if not one.purge and one.retention_until)


@dataclass(frozen=True)
class Later:
    """Everything that the demo shows after archiving."""

    count: Count
    restoration: Restoration
    days: tuple[PurgeDay, ...]
    verdict: Verdict


def name_run(at: datetime, what: str) -> str:
    """Return a run id for the demo that started at `at`."""
    return f"demo__{at:%Y-%m-%dT%H:%M:%S}__{what}"


def start_count(airflow: Airflow, run_id: str) -> None:
    """Start a statistics run. It needs few resources, so the demo continues meanwhile."""
    trigger(airflow, STATISTICS_DAG, run_id, {})


def read_count(airflow: Airflow, run_id: str, progress: Progress) -> Count:
    """Wait for the statistics run, and read its result from the store.

    Raises:
        RunFailedError: The run failed.
    """
    await_run(airflow, STATISTICS_DAG, run_id, progress)
    document, page = airflow.xcom(STATISTICS_DAG, run_id, "statistics")["written"]
    key = str(document).removeprefix(f"s3://{BUCKET}/")
    body = airflow.stack.object_store.client("archiver").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return Count(Statistics.model_validate_json(body), str(page), run_id)


def restore_twice(
    airflow: Airflow,
    connection: psycopg.Connection,
    settings: TableSettings,
    partition: Partition,
    before: Look,
    *,
    run_ids: tuple[str, str],
    progress: Progress,
) -> Restoration:
    """Restore a month into its table and check it with SQL, twice.

    Args:
        airflow: The API.
        connection: A connection to the table's database.
        settings: The table.
        partition: The month.
        before: The look from before it was archived.
        run_ids: Ids for the two runs.
        progress: Called with the current step in a few words.

    Raises:
        RunFailedError: A run failed.
    """
    reports, rows = [], []
    for run_id in run_ids:
        conf = {
            "table": settings.table_name,
            "first_partition": partition.key,
            "last_partition": partition.key,
            "why": "To show in the demo that archived rows come back",
        }
        trigger(airflow, RESTORE_DAG, run_id, conf)
        await_run(airflow, RESTORE_DAG, run_id, progress)
        reports.append(RestoreReport.model_validate(airflow.xcom(RESTORE_DAG, run_id, "report")))
        rows.append(digest_rows(connection, settings, partition))
    (first, second), (restored, again) = reports, rows
    return Restoration(
        table=settings.table_name,
        month=partition.key,
        reports=(first, second),
        run_ids=run_ids,
        checks=tuple(check_restored(before, restored, again, second.inserted)),
    )


def preview_purge(stack: Stack, archive_ids: Iterable[str], now: datetime) -> tuple[PurgeDay, ...]:
    """Decide what a purge would destroy now, and on the day when the last term of these archives ends. Changes nothing."""
    store = stack.archive_store("the demo")
    today = judge(store, now=now)
    wanted = set(archive_ids)
    ends = [one.retention_until for one in today if one.archive_id in wanted and one.retention_until]
    days = [PurgeDay(now, tuple(today))]
    if ends:
        days.append(PurgeDay(max(ends), tuple(judge(store, now=max(ends)))))
    return tuple(days)


def describe(later: Later) -> dict[str, Any]:
    """Describe the statistics, the restore and the purge for ``demo.json``."""
    statistics, restoration = later.count.statistics, later.restoration
    return {
        "statistics": {
            "run_id": later.count.run_id,
            "page": later.count.page,
            "total": statistics.total.model_dump(mode="json"),
            "tables": [one.model_dump(mode="json") for one in statistics.tables],
        },
        "restore": {
            "table": restoration.table,
            "month": restoration.month,
            "runs": [
                {"run_id": run_id, **report.model_dump(mode="json", include=_REPORTED)}
                for run_id, report in zip(restoration.run_ids, restoration.reports, strict=True)
            ],
        },
        "purge_dry_run": [
            {
                "at": day.at.isoformat(),
                "reasons": day.reasons,
                "would_destroy": [one.archive_id for one in day.destroyed],
            }
            for day in later.days
        ],
        "evidence": {"verdict": later.verdict.words, "findings": list(later.verdict.findings)},
    }
