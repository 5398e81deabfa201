"""Step 3 of an archive run."""

from __future__ import annotations

from strongroom.archive.compress import compress_part
from strongroom.formats.codecs import choose_codec
from strongroom.records import CompressedPart, ExtractedPart
from strongroom_airflow.archive.base import PartOperator
from strongroom_airflow.archive.run import ArchiveRun


class CompressOperator(PartOperator):
    """Compress a part's JSON lines as the settings say. A file that is compressed so already is passed on."""

    takes, makes, done = ExtractedPart, CompressedPart, "Compressed"

    def work(self, run: ArchiveRun, part: ExtractedPart) -> CompressedPart:
        with run.staging(part.archive_id) as staging:
            return compress_part(staging, part, choose_codec(run.settings.compression))
