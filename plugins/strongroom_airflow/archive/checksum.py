"""Step 4."""

from __future__ import annotations

from strongroom.archive.checksum import checksum_part
from strongroom.records import ChecksummedPart, CompressedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun


class ChecksumOperator(PartOperator):
    """Sum a part's compressed file, and see that it gives the rows back."""

    takes, makes, done = CompressedPart, ChecksummedPart, "Summed, and decompressed to the same bytes"

    def work(self, run: ArchiveRun, part: CompressedPart) -> ChecksummedPart:
        with run.staging(part.archive_id) as staging:
            return checksum_part(staging, part)
