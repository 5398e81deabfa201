"""Step 6 of an archive run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strongroom.archive.verify import verify_part
from strongroom.records import TableShape, UploadedPart, VerifiedPart
from strongroom.tables.archived_rows import restore_blocks
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.connections import persons_for

if TYPE_CHECKING:
    from strongroom.formats.persons import Persons


class VerifyOperator(PartOperator):
    """Download the version that was uploaded, and prove that it holds the part. Every try reads it again.

    :param plan: Record of the run's plan. (templated)
    """

    template_fields = ("part", "plan")
    takes, makes, done = UploadedPart, VerifiedPart, "Read back and matched"

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def work(self, run: ArchiveRun, part: UploadedPart) -> VerifiedPart:
        return self._verify(run, part, persons_for(run.settings, run.store))

    def _verify(self, run: ArchiveRun, part: UploadedPart, persons: Persons | None) -> VerifiedPart:
        with run.source() as connection, run.staging(part.archive_id) as staging:
            return verify_part(
                run.store,
                staging,
                connection,
                self._shape(part),
                part,
                proof_rows=run.settings.proof_rows,
                now=run.now(),
                persons=persons,
            )

    def work_on_sealed(self, run: ArchiveRun, part: UploadedPart, sealed: VerifiedPart) -> VerifiedPart:
        if sealed.blocks_sha256 is not None:
            with run.staging(part.archive_id) as staging:
                restore_blocks(run.store, staging, self._shape(part), sealed)
        return self._verify(run, part, None)  # its locator lies in the archive already

    def _shape(self, part: UploadedPart) -> TableShape:
        of_members = (one for one in self.plan.get("members", ()) if one["archive_id"] == part.archive_id)
        return TableShape.model_validate(next(of_members, self.plan)["shape"])
