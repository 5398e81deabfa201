"""Step 4, checksum: read the compressed file again, and check that it is what was written, before anything is uploaded."""

from __future__ import annotations

from strongroom.errors import IntegrityError
from strongroom.formats.reading_back import unequal
from strongroom.records import ChecksummedPart, CompressedPart
from strongroom.storage.staging import Staging


def checksum_part(staging: Staging, part: CompressedPart) -> ChecksummedPart:
    """Sum a part's compressed file; then remove from staging what it was made of.

    That it gives the rows back is proved once, by verify, with the bytes that the store returns.

    Raises:
        IntegrityError: The file is gone, or is no longer what was written.
    """
    finished = staging.finished(ChecksummedPart, part)
    if finished is not None:
        return finished
    written = staging.compressed(part)
    path = staging.fetch(written, part.compressed_sha256)
    if path is None:
        raise IntegrityError(f"{written} is gone", hint="No row was deleted. Clear 'compress' and the tasks after it.")
    found = staging.sha256_of(path)
    if found != part.compressed_sha256:
        raise unequal(part, "SHA-256", part.compressed_sha256, found)
    checksummed = ChecksummedPart(**part.model_dump(), sha256=found)
    staging.save(checksummed)
    if part.packed is not None:
        extracted = staging.extracted(part.number, part.packed.compression_type, part.format)
        if extracted != path:
            staging.discard(extracted)
    return checksummed
