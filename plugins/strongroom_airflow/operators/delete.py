"""Step 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strongroom.delete import delete_part
from strongroom.records import VerifiedPart
from strongroom_airflow.operators.base import StrongroomOperator
from strongroom_airflow.run import ArchiveRun


class DeleteOperator(StrongroomOperator):
    """Delete the rows of one verified part, those that still equal their archived form.

    :param part: Verification record of the part; without one nothing can be deleted. (templated)
    """

    template_fields: Sequence[str] = ("part",)

    def __init__(self, *, part: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        part = VerifiedPart.model_validate(self.part)
        with run.source() as connection, run.staging(part.archive_id) as staging:
            deleted = delete_part(
                connection,
                run.store,
                staging,
                run.settings,
                run.partition,
                part,
                run=run.identity,
                keep_claim=run.keep_claim,
                now=run.now(),
                stop_at=run.stop_at,
            )
        stayed = deleted.changed + deleted.referenced
        if stayed:
            self.log.warning(
                "%d rows are not what was archived, or are referred to: they stay, listed in %s",
                stayed,
                deleted.evidence_key,
            )
        facts = {
            ("part" if name == "number" else name): value for name, value in deleted.model_dump(mode="json").items()
        }
        record = deleted.model_dump(mode="json")
        return f"Deleted {deleted.deleted} of {deleted.rows} rows: {part.archive_id} part {part.number}", facts, record
