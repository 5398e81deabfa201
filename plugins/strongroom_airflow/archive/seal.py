"""Step 7 of an archive run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strongroom.archive.seal import seal_archive, seal_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ArchivePlan, SealedArchive, VerifiedPart
from strongroom_airflow.archive.base import StrongroomOperator
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.connections import persons_for
from strongroom_airflow.pages.addresses import archive_page

MANIFEST_XCOM = "manifest_sha256"
"""XCom key of the SHA-256 of the manifest, for the report."""

SUMS_XCOM = "members_sha256"
"""XCom key of the SHA-256 of the manifests of a unit's members, by their archives."""


class SealOperator(StrongroomOperator):
    """Write SHA256SUMS and the manifest. From then on the archive exists.

    Returns the verification records, for Airflow to map over.

    :param plan: Record of the run's plan. (templated)
    :param parts: Verification records of all parts. (templated)
    """

    template_fields: Sequence[str] = ("plan", "parts")

    def __init__(self, *, plan: Any, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.parts = parts

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        plan = ArchivePlan.model_validate(self.plan)
        # Airflow passes a list of the mapped tasks' results, but the result itself when there is one task.
        records = [self.parts] if isinstance(self.parts, dict) else self.parts
        parts = [VerifiedPart.model_validate(part) for part in records]
        self.page = archive_page(str(plan.archive_id))
        if run.members:
            return self._seal_unit(run, plan, parts)
        persons = persons_for(run.settings, run.store)
        sealed = seal_archive(run.store, run.settings, plan, parts, run=run.identity, now=run.now(), persons=persons)
        run.context["ti"].xcom_push(key=MANIFEST_XCOM, value=sealed.manifest_sha256)
        facts = {
            "archive_id": sealed.archive_id,
            "manifest_key": sealed.manifest_key,
            "manifest_sha256": sealed.manifest_sha256,
            "parts": len(sealed.parts),
            "rows": sum(part.rows for part in sealed.parts),
        }
        return (
            f"Sealed {sealed.archive_id}: the archive exists",
            facts,
            [part.model_dump(mode="json") for part in sealed.parts],
        )

    def _seal_unit(
        self, run: ArchiveRun, plan: ArchivePlan, parts: list[VerifiedPart]
    ) -> tuple[str, dict[str, Any], Any]:
        tables = [
            (run.of(ArchiveId.parse(one.archive_id)).settings, one)
            for one in plan.all_tables
            if one.archive_id is not None
        ]
        *members, root = seal_unit(run.store, tables, parts, run=run.identity, now=run.now())
        run.context["ti"].xcom_push(key=MANIFEST_XCOM, value=root.manifest_sha256)
        sums = {one.archive_id: one.manifest_sha256 for one in members}
        run.context["ti"].xcom_push(key=SUMS_XCOM, value=sums)
        for one in members:
            self.log.info("Sealed %s", one.archive_id, rows=_rows(one), manifest_sha256=one.manifest_sha256)
        every = [*members, root]
        facts = {
            "archive_id": root.archive_id,
            "manifest_key": root.manifest_key,
            "manifest_sha256": root.manifest_sha256,
            "parts": sum(len(one.parts) for one in every),
            "rows": sum(map(_rows, every)),
        }
        return (
            f"Sealed {root.archive_id} together with {len(members)} archives of other tables: they exist",
            facts,
            [part.model_dump(mode="json") for one in every for part in one.parts],
        )


def _rows(sealed: SealedArchive) -> int:
    return sum(part.rows for part in sealed.parts)
