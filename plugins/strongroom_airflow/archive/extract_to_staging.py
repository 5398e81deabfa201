"""Step 2."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from strongroom.archive.extract_to_staging import extract_part
from strongroom.records import ExtractedPart, PlannedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.pausing import pause
from strongroom_airflow.archive.run import ArchiveRun


class ExtractToStagingOperator(PartOperator):
    """Stream a part's rows out of the table, in one snapshot, and cut them into blocks.

    A part starts when fewer than ``max_parallel_parts`` parts before it are unfinished, so that staging holds no more than that
    many. Until then the task gives up its slot (``up_for_reschedule``) and checks again later. A part whose tasks have failed
    for good does not keep others waiting.

    :param last_step: Id of the last task of a part.
    """

    takes, makes, done = PlannedPart, ExtractedPart, "Extracted"

    def __init__(self, *, last_step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.last_step = last_step

    def work(self, run: ArchiveRun, part: PlannedPart) -> ExtractedPart:
        number = part.number if run.settings.unit is None else run.context["ti"].map_index
        unfinished = run.earlier_unfinished_parts(number, self.last_step)
        too_many = len(unfinished) - run.settings.max_parallel_parts + 1
        if too_many > 0:
            self.log.info("Waits for earlier parts", part=part.number, unfinished=len(unfinished), too_many=too_many)
            raise AirflowRescheduleException(datetime.now(timezone.utc) + pause(too_many))
        with (
            run.reading() as connection,
            run.staging(part.archive_id) as staging,
            run.steered(staging, part.archive_id, number=part.number, rows=part.expected_rows) as steering,
        ):
            return extract_part(
                connection,
                staging,
                run.settings,
                part,
                now=run.now(),
                stop_at=run.stop_at,
                keep_claim=run.keep_claim,
                steering=steering,
            )
