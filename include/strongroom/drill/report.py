"""What a run of drills found, and whether each archive came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from strongroom.drill.records import ArchiveDrill, DrillLane, DrillReport, Skip
from strongroom.errors import IntegrityError

NOT_PROVED = (
    "Delete nothing before you know why. docs/howto/restore-drills.md says what to do; `airflow strongroom verify` reads the "
    "archive's objects again."
)
"""What to do about an archive that did not come back."""


def require_restored(drilled: Sequence[ArchiveDrill]) -> None:
    """Check that no archive failed.

    Raises:
        IntegrityError: Names those that did.
    """
    failed = [one.sentence() for one in drilled if one.result == "failed"]
    if failed:
        raise IntegrityError("; ".join(failed), hint=NOT_PROVED)


def sum_up(
    lanes: Iterable[DrillLane], skips: Iterable[Skip], drilled: Iterable[ArchiveDrill], *, who: str, now: datetime
) -> DrillReport:
    """Sum up a run.

    Args:
        lanes: What was chosen.
        skips: What was not, and why.
        drilled: What became of the archives whose tasks ended.
        who: Who had them drilled.
        now: Aware UTC instant.
    """
    lanes, drilled = list(lanes), sorted(drilled, key=lambda one: one.archive_id)
    wanted = sum(len(lane.choices) for lane in lanes)
    results = Counter(str(one.result) for one in drilled)
    results["unfinished"] = wanted - len(drilled)
    return DrillReport(
        archives=wanted,
        rows=sum(one.rows for one in drilled),
        results={result: number for result, number in results.items() if number},
        failed=tuple(one.sentence() for one in drilled if one.result == "failed"),
        skipped=(
            *skips,
            *(Skip(archive_id=one.archive_id, reason=one.reason) for one in drilled if one.result == "skipped"),
        ),
        chosen_in=tuple(dict.fromkeys(lane.chosen_in for lane in lanes)),
        who=who,
        finished_at=now,
    )


def require_complete(report: DrillReport) -> None:
    """Check that each archive of a run came back, or was skipped for a reason.

    Raises:
        IntegrityError: Says how many did not, and names them.
    """
    if set(report.results) <= {"sound", "skipped"}:
        return
    lost = report.results.get("failed", 0) + report.results.get("unfinished", 0)
    raise IntegrityError(
        f"{lost:,} of {report.archives:,} archives did not come back",
        expected="each sound, or skipped with a reason",
        found=report.sentence(),
        hint=f"{NOT_PROVED} Clear the failed tasks to restore their archives again.",
    )
