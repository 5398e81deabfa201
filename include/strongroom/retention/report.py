"""What one run of the retention purge did: one summary for the store and the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import AwareDatetime

from strongroom.object_keys import purge_report_key
from strongroom.records import Record, RunIdentity
from strongroom.retention.drop_detached import DetachedResult
from strongroom.retention.drop_warm import WarmResult
from strongroom.retention.purge import Approval, Decision, PurgeResult
from strongroom.retention.sweep import Swept
from strongroom.storage.store import Store


class Judged(Record):
    """How the archives of all stores were judged; those whose term still runs are only counted."""

    counts: dict[str, int]
    stay: tuple[Decision, ...]
    postponed: int = 0
    next_expiry_at: AwareDatetime | None = None


class PurgeReport(Record):
    """The summary of a run."""

    dag_id: str
    run_id: str
    finished_at: AwareDatetime
    judged: Judged
    approval: Approval
    results: tuple[PurgeResult, ...]
    swept: tuple[Swept, ...]
    warm: tuple[WarmResult, ...] = ()
    """What became of each partition of each warm table; reports of the first versions have none."""
    detached: tuple[DetachedResult, ...] = ()
    """What became of each detached partition; reports of the first versions have none."""

    @property
    def counts(self) -> Counter[str]:
        """How many archives came to which result."""
        return Counter(result.result for result in self.results)

    @property
    def swept_counts(self) -> Counter[str]:
        """How many leftovers of each kind were removed."""
        return Counter(one.kind for one in self.swept if one.result == "removed")

    @property
    def warm_counts(self) -> Counter[str]:
        """How many warm partitions came to which result."""
        return Counter(one.result for one in self.warm)

    @property
    def detached_counts(self) -> Counter[str]:
        """How many detached partitions came to which result."""
        return Counter(one.result for one in self.detached)

    def sentence(self) -> str:
        """The one line that a reader of the log needs."""
        archives = _in_words(self.counts) or "no archive to purge"
        swept = _in_words(self.swept_counts) or "nothing"
        kept = sum(one.result != "removed" for one in self.swept)
        return (
            f"{archives} (approved: {self.approval.by}); {self.judged.counts.get('kept', 0)} archives within their term; "
            f"swept away: {swept}"
            + (f"; {kept} leftovers stay, each with its reason" if kept else "")
            + (f"; warm partitions: {_in_words(self.warm_counts)}" if self.warm else "")
            + (f"; detached partitions: {_in_words(self.detached_counts)}" if self.detached else "")
        )


def sum_up(decisions: Iterable[Decision], *, postponed: int = 0) -> Judged:
    """Sum decisions up: counts by reason, what stays although its term may be over, and when the next term ends."""
    decisions = list(decisions)
    running = (one.retention_until for one in decisions if one.reason == "kept" and one.retention_until is not None)
    return Judged(
        counts=dict(Counter(one.reason for one in decisions)),
        stay=tuple(one for one in decisions if not one.purge and one.reason != "kept"),
        postponed=postponed,
        next_expiry_at=min(running, default=None),
    )


def keep_report(
    stores: Sequence[Store],
    judged: Judged,
    approval: Approval,
    results: Sequence[PurgeResult],
    swept: Sequence[Swept],
    warm: Sequence[WarmResult],
    detached: Sequence[DetachedResult],
    *,
    run: RunIdentity,
    now: datetime,
) -> PurgeReport:
    """Write the summary into each store, under a key of its own for each time that the run comes to its end."""
    report = PurgeReport(
        dag_id=run.dag_id,
        run_id=run.run_id,
        finished_at=now,
        judged=judged,
        approval=approval,
        results=tuple(results),
        swept=tuple(swept),
        warm=tuple(warm),
        detached=tuple(detached),
    )
    body = report.to_bytes()
    for store in stores:
        store.put_bytes(purge_report_key(run.run_id, now), body)
    return report


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
