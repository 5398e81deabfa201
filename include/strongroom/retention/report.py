"""What one run of the retention purge did: one summary for the store and the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import AwareDatetime

from strongroom.ledger.entries import Act, Facts
from strongroom.ledger.journal import enter, record
from strongroom.object_keys.reports import purge_report_key
from strongroom.records import Record
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import Judged
from strongroom.retention.drop_detached import DetachedResult
from strongroom.retention.drop_warm import WarmResult
from strongroom.retention.purge import PurgeResult
from strongroom.retention.sweep import Swept
from strongroom.storage.store import Store


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
    """What became of each partition of each warm table; none in reports of the first versions."""
    detached: tuple[DetachedResult, ...] = ()
    """What became of each detached partition; none in reports of the first versions."""

    @property
    def counts(self) -> Counter[str]:
        """How many archives had which result."""
        return Counter(result.result for result in self.results)

    @property
    def swept_counts(self) -> Counter[str]:
        """How many leftovers of each kind were removed."""
        return Counter(one.kind for one in self.swept if one.result == "removed")

    @property
    def warm_counts(self) -> Counter[str]:
        """How many warm partitions had which result."""
        return Counter(one.result for one in self.warm)

    @property
    def detached_counts(self) -> Counter[str]:
        """How many detached partitions had which result."""
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


_REFUSED = ("refused", "self_approved", "held", "locked", "unverifiable")
_MOST_NAMED = 20


def enter_refusals(store: Store, table: str, results: Iterable[PurgeResult]) -> None:
    """Enter that archives which were about to be destroyed were not, with the reasons: one entry for a table and run.

    Archives that were not even asked about, such as those under a hold, are counted in the run's report.
    """
    refused = [one for one in results if one.result in _REFUSED]
    if not refused:
        return
    facts: Facts = {"what": "purge", **Counter(one.result for one in refused)}
    facts["archives"] = ", ".join(one.archive_id for one in refused[:_MOST_NAMED])
    enter(store, Act(kind="refused", table=table, facts=facts))


def keep_report(stores: Iterable[Store], report: PurgeReport) -> None:
    """Write the summary into each store, under a key of its own each time the run ends."""
    key, body = purge_report_key(report.run_id, report.finished_at), report.to_bytes()
    for store in stores:
        judged = {f"judged_{reason}": number for reason, number in report.judged.counts.items()}
        record(store, key, body, Act(kind="purge reported", facts={**report.counts, **judged}))


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
