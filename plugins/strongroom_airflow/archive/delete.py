"""Step 8 of an archive run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from strongroom.archive.delete import delete_part
from strongroom.errors import ChildrenLeftError
from strongroom.records import DeletedPart, VerifiedPart
from strongroom_airflow.archive.base import StrongroomOperator
from strongroom_airflow.archive.pausing import pause
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.pages.addresses import archive_page


class DeleteOperator(StrongroomOperator):
    """Delete the rows of a verified part that still equal their archived form.

    :param part: Verification record of the part. Without one nothing can be deleted. (templated)
    """

    template_fields: Sequence[str] = ("part",)

    def __init__(self, *, part: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        part = VerifiedPart.model_validate(self.part)
        run = run.of(part.archive)
        self.page = archive_page(part.archive_id)
        try:
            with (
                run.source() as connection,
                run.staging(part.archive_id) as staging,
                run.steered(staging, part.archive_id, number=part.number, rows=part.rows) as steering,
            ):
                deleted = delete_part(connection, part, run.deleting_step(staging, steering))
        except ChildrenLeftError as error:
            self._wait(run, error)
            raise
        stayed = deleted.changed + deleted.referenced + deleted.kept_by_trigger
        if stayed:
            self.log.warning(
                "%d rows stay in the table, because they changed, other rows refer to them, or a trigger kept them; %s lists them",
                stayed,
                deleted.evidence_key,
            )
        if deleted.in_table and deleted.in_table > stayed:
            self.log.warning("Rows of the archive are in the table again. To archive them, run the partition again.")
        record = deleted.model_dump(mode="json")
        facts = {
            ("part" if name == "number" else name): value
            for name, value in record.items()
            if deleted.deleted_by is None or name in _OF_A_REPEAT
        }
        return _sentence(deleted), facts, record

    def _wait(self, run: ArchiveRun, error: ChildrenLeftError) -> None:
        """Give the slot up while the deletes of children, which come first in the list of parts, are under way."""
        if run.earlier_unfinished(run.context["ti"].map_index, self.task_id):
            self.log.info("Waits for rows of other tables: %s", error.what)
            raise AirflowRescheduleException(datetime.now(timezone.utc) + pause())


_OF_A_REPEAT = ("archive_id", "number", "rows", "in_table", "evidence_key", "deleted_at", "deleted_by")


def _sentence(deleted: DeletedPart) -> str:
    part, rows = f"{deleted.archive_id} part {deleted.number}", f"{deleted.deleted} of {deleted.rows} rows"
    if deleted.deleted_by is None:
        return f"Deleted {rows}: {part}"
    before = f"{rows} were deleted at {deleted.deleted_at:%Y-%m-%d %H:%M} UTC by {deleted.deleted_by}"
    if deleted.in_table is None:
        now = "how many of its rows are in the table now was not counted"
    else:
        now = f"{deleted.in_table} rows of it are in the table now"
    return f"Nothing deleted now: {part}: {before}; {now}"
