"""Step 2."""

from __future__ import annotations

from strongroom.extract_to_staging import extract_part
from strongroom.records import ExtractedPart, PlannedPart
from strongroom_airflow.operators.base import PartOperator
from strongroom_airflow.run import ArchiveRun


class ExtractToStagingOperator(PartOperator):
    """Stream a part's rows, keys and digests out of the table, in one snapshot."""

    takes, makes, done = PlannedPart, ExtractedPart, "Extracted"

    def work(self, run: ArchiveRun, part: PlannedPart) -> ExtractedPart:
        with run.reading() as connection, run.staging(part.archive_id) as staging:
            return extract_part(connection, staging, run.settings, part, now=run.now(), stop_at=run.stop_at)
