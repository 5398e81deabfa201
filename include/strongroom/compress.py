"""Step 3, compress: make the compressed form of a part in staging."""

from __future__ import annotations

from strongroom.codecs import Codec, compress_stream
from strongroom.errors import IntegrityError
from strongroom.records import CompressedPart, ExtractedPart
from strongroom.staging import Staging


def compress_part(staging: Staging, part: ExtractedPart, codec: Codec) -> CompressedPart:
    """Compress a part's JSON lines; a repeat finds the finished file.

    Raises:
        IntegrityError: The JSON lines are no longer in staging.
        StagingError: The disk is full.
    """
    finished = staging.finished(CompressedPart, part)
    if finished is not None:
        return finished
    original = staging.original(part.number)
    if not original.exists():
        raise IntegrityError(
            f"{original} is gone",
            hint="No row was deleted. Clear 'plan' and the tasks after it to read the rows again.",
        )
    target = staging.compressed(part.number, codec.type)
    if codec.type != "none":  # else the original is the compressed form
        with original.open("rb") as source, staging.writing(target) as [handle]:
            compress_stream(codec, source, handle)
    compressed = CompressedPart(
        **part.model_dump(),
        compression_type=codec.type,
        compression_level=codec.level,
        compressed_size_bytes=target.stat().st_size,
    )
    staging.save(compressed)
    return compressed
