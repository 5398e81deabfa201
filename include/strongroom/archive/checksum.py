"""Step 4, checksum: sum the compressed file, and check that it gives the original back, before anything is uploaded."""

from __future__ import annotations

from strongroom.errors import IntegrityError
from strongroom.formats.codecs import blocks
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.records import ChecksummedPart, CompressedPart
from strongroom.storage.staging import Staging


def checksum_part(staging: Staging, part: CompressedPart) -> ChecksummedPart:
    """Sum a part's compressed file and compare its decompressed content; then remove the original from staging.

    Raises:
        IntegrityError: The compressed file does not give the original back.
    """
    finished = staging.finished(ChecksummedPart, part)
    if finished is not None:
        return finished
    written = staging.compressed(part.number, part.compression_type, part.format)
    path = staging.fetch(written, part.compressed_sha256)
    if path is None:
        raise IntegrityError(f"{written} is gone", hint="No row was deleted. Clear 'compress' and the tasks after it.")
    with path.open("rb") as handle:
        reading = ReadingBack(part, blocks(handle), staging.folder)
        for _ in reading.blocks():
            pass
    found = reading.result()
    require_equal(part, found)
    checksummed = ChecksummedPart(**part.model_dump(), sha256=found.sha256)
    staging.save(checksummed)
    if (original := staging.original(part.number, part.format)) != path:
        staging.discard(original)
    return checksummed
