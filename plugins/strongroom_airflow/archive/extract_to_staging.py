"""Step 2."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from strongroom.archive.extract_to_staging import extract_part
from strongroom.records import ExtractedPart, PlannedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun

_LOOK_AGAIN = timedelta(seconds=5)
_A_PART = timedelta(seconds=2)
"""Less than a part takes to be through, so that who stands behind many looks seldom and still not too late."""


class ExtractToStagingOperator(PartOperator):
    """Stream a part's rows, keys and digests out of the table, in one snapshot.

    A part begins when fewer than ``max_parallel_parts`` before it are under way: each makes room in staging before the next
    takes some. Until then the task gives its slot back (``up_for_reschedule``) and looks again later. A part that failed for
    good keeps nobody waiting.

    :param last_step: Id of the task after which a part is through.
    """

    takes, makes, done = PlannedPart, ExtractedPart, "Extracted"

    def __init__(self, *, last_step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.last_step = last_step

    def work(self, run: ArchiveRun, part: PlannedPart) -> ExtractedPart:
        ahead = run.parts_ahead(part.number, self.last_step)
        too_many = len(ahead) - run.settings.max_parallel_parts + 1
        if too_many > 0:
            self.log.info("Waits until others are through", part=part.number, ahead=len(ahead), too_many=too_many)
            raise AirflowRescheduleException(datetime.now(timezone.utc) + pause(too_many))
        with run.reading() as connection, run.staging(part.archive_id) as staging:
            return extract_part(connection, staging, run.settings, part, now=run.now(), stop_at=run.stop_at)


def pause(too_many: int) -> timedelta:
    """How long a part waits before it looks again.

    :param too_many: How many parts must be through before it may begin.
    """
    return max(_LOOK_AGAIN, _A_PART * too_many)
