"""Step 5 of an archive run."""

from __future__ import annotations

from strongroom.archive.upload import upload_part
from strongroom.records import ChecksummedPart, UploadedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun


class UploadOperator(PartOperator):
    """Write a part to a key that does not exist in the store yet."""

    takes, makes, done = ChecksummedPart, UploadedPart, "Uploaded"

    def work(self, run: ArchiveRun, part: ChecksummedPart) -> UploadedPart:
        with run.staging(part.archive_id) as staging:
            return upload_part(staging, run.store, part)
