"""Step 4 of an archive run."""

from __future__ import annotations

from strongroom.archive.checksum import checksum_part
from strongroom.records import ChecksummedPart, CompressedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun


class ChecksumOperator(PartOperator):
    """Compute the checksum of a part's compressed file, and check that it is as it was written."""

    takes, makes, done = CompressedPart, ChecksummedPart, "Read again, and computed the checksum"

    def work(self, run: ArchiveRun, part: CompressedPart) -> ChecksummedPart:
        with run.staging(part.archive_id) as staging:
            return checksum_part(staging, part)
