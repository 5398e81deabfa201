"""Step 2."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from strongroom.extract_to_staging import extract_part
from strongroom.records import ExtractedPart, PlannedPart
from strongroom_airflow.operators.base import PartOperator
from strongroom_airflow.run import ArchiveRun

_LOOK_AGAIN = timedelta(seconds=5)


class ExtractToStagingOperator(PartOperator):
    """Stream a part's rows, keys and digests out of the table, in one snapshot.

    A part begins when fewer than ``max_parallel_parts`` before it are under way: each makes room in staging before the next
    takes some. Until then the task gives its slot back (``up_for_reschedule``) and looks again after a few seconds. A part
    that failed for good keeps nobody waiting.

    :param last_step: Id of the task after which a part is through.
    """

    takes, makes, done = PlannedPart, ExtractedPart, "Extracted"

    def __init__(self, *, last_step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.last_step = last_step

    def work(self, run: ArchiveRun, part: PlannedPart) -> ExtractedPart:
        ahead = run.parts_ahead(part.number, self.last_step)
        if len(ahead) >= run.settings.max_parallel_parts:
            self.log.info("Waits until a part is through", part=part.number, under_way=ahead)
            raise AirflowRescheduleException(datetime.now(timezone.utc) + _LOOK_AGAIN)
        with run.reading() as connection, run.staging(part.archive_id) as staging:
            return extract_part(connection, staging, run.settings, part, now=run.now(), stop_at=run.stop_at)
