"""Step 9 of an archive run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.observability.stats import Stats

from strongroom.archive.report import RunReport, report_run
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ArchivePlan, DeletedPart, VerifiedPart
from strongroom.tables.vacuum import Vacuum, vacuum_after
from strongroom_airflow.archive.base import StrongroomOperator
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.archive.seal import MANIFEST_XCOM, SUMS_XCOM
from strongroom_airflow.assets import of_archive_run
from strongroom_airflow.pages.addresses import archive_page
from strongroom_airflow.step import MEMBERS_XCOM, conclude


class ReportOperator(StrongroomOperator):
    """Summarize the run: a report in the store, an asset event, metrics, a line in the log. Releases the claim.

    :param plan: Record of the run's plan. (templated)
    :param parts: Verification records of the sealed parts, or None when nothing was due. (templated)
    :param deleted: Records of the deleted parts, or None. (templated)
    :param sealed_by: Id of the task that sealed the archive.
    :param asset: Gets an event that carries the summary as its extra.
    """

    template_fields: Sequence[str] = ("plan", "parts", "deleted")

    def __init__(self, *, plan: Any, parts: Any, deleted: Any, sealed_by: str, asset: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.plan = plan
        self.parts = parts
        self.deleted = deleted
        self.sealed_by = sealed_by
        self.asset = asset

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        plan = ArchivePlan.model_validate(self.plan)
        parts = [VerifiedPart.model_validate(part) for part in self.parts or ()]
        deleted = [DeletedPart.model_validate(part) for part in self.deleted or ()]
        if plan.archive_id is not None:
            self.page = archive_page(plan.archive_id)
        members = [self._report_member(run, one, parts, deleted) for one in plan.members]
        vacuum = self._vacuum(run, [part for part in deleted if part.archive_id == plan.archive_id])
        with run.staging(plan.archive_id) if plan.archive_id else nullcontext() as staging:
            now = run.now()
            sealed = (
                run.context["ti"].xcom_pull(task_ids=self.sealed_by, key=MANIFEST_XCOM) if plan.archive_id else None
            )
            report = report_run(
                run.store, staging, plan, parts, deleted, now=now, vacuum=vacuum, manifest_sha256=sealed
            )
        run.release()
        summary = report.model_dump(mode="json")
        of_members = {MEMBERS_XCOM: [one.model_dump(mode="json") for one in members]} if members else {}
        run.context["outlet_events"][self.asset].extra = of_archive_run(report) | of_members
        conclude(run.context, " ".join([report.headline(), *(f"With it {_in_short(one)}." for one in members)]))
        for key, reports in of_members.items():
            run.context["ti"].xcom_push(key=key, value=reports)
        for one in members:
            self.log.info(one.sentence())
        # Not "earlier than": the store's clock has whole seconds, so two tries within one second may seem to swap.
        if report.finished_at != now:
            return (
                f"Reported at {report.finished_at:%Y-%m-%d %H:%M} UTC already: {report.sentence()}",
                summary,
                summary,
            )
        _count(self.table, report)
        return report.sentence(), summary, summary

    def _vacuum(self, run: ArchiveRun, deleted: Sequence[DeletedPart]) -> Vacuum | None:
        if any(part.deleted and part.deleted_by in (None, str(run.identity)) for part in deleted):
            return vacuum_after(run.source, run.settings, stop_at=run.stop_at, now=run.now())
        return None

    def _report_member(
        self, run: ArchiveRun, plan: ArchivePlan, parts: Sequence[VerifiedPart], deleted: Sequence[DeletedPart]
    ) -> RunReport:
        """Report what became of the rows of another table of the unit."""
        if plan.archive_id is None:
            return report_run(run.store, None, plan, [], [], now=run.now())
        own = run.of(ArchiveId.parse(plan.archive_id))
        vacuum = self._vacuum(own, [part for part in deleted if part.archive_id == plan.archive_id])
        sums = run.context["ti"].xcom_pull(task_ids=self.sealed_by, key=SUMS_XCOM) or {}
        with run.staging(plan.archive_id) as staging:
            now, sealed = run.now(), sums.get(plan.archive_id)
            report = report_run(
                run.store, staging, plan, parts, deleted, now=now, vacuum=vacuum, manifest_sha256=sealed
            )
        if report.finished_at == now:
            _count(own.settings.table, report)
        return report


def _in_short(report: RunReport) -> str:
    return f"{report.archived_rows:,} rows of {report.table}, deleted {report.deleted_rows:,}"


def _count(table: str, report: RunReport) -> None:
    for name, value in (
        ("archived_rows", report.archived_rows),
        ("deleted_rows", report.deleted_rows),
        ("changed_rows", report.changed_rows),
        ("archived_bytes", report.compressed_size_bytes),
    ):
        Stats.incr(f"strongroom.{table}.{name}", value)
    Stats.timing(f"strongroom.{table}.run", report.seconds * 1000)
