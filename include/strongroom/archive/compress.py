"""Step 3, compress: write the compressed form of a part to staging. A parquet file is compressed inside, and is passed on."""

from __future__ import annotations

from strongroom.errors import IntegrityError
from strongroom.formats.codecs import Codec, compress_stream
from strongroom.records import CompressedPart, ExtractedPart
from strongroom.storage.staging import Staging


def compress_part(staging: Staging, part: ExtractedPart, codec: Codec) -> CompressedPart:
    """Compress a part's JSON lines; a repeat finds the finished file.

    Args:
        codec: For JSON lines. The pages of a parquet file were compressed as it was written, and the file says how.

    Raises:
        IntegrityError: The extracted file is no longer in staging, or is not a parquet file.
        StagingError: The disk is full.
    """
    finished = staging.finished(CompressedPart, part)
    if finished is not None:
        return finished
    written = staging.original(part.number, part.format)
    sum_of_original = part.packed_sha256 or part.original_sha256
    original = staging.fetch(written, sum_of_original)
    if original is None:
        raise IntegrityError(
            f"{written} is gone",
            hint="No row was deleted. Clear 'plan' and the tasks after it to read the rows again.",
        )
    if part.format == "parquet":
        from strongroom.formats.parquet import codec_of  # and with it Arrow: 46 MB that JSON lines do without

        with original.open("rb") as source:
            codec = codec_of(source)
    target = staging.compressed(part.number, codec.type, part.format)
    if target != written:
        with original.open("rb") as source, staging.writing(target) as [handle]:
            compress_stream(codec, source, handle)
    compressed = CompressedPart(
        **part.model_dump(),
        compression_type=codec.type,
        compression_level=codec.level,
        compressed_size_bytes=target.stat().st_size,
        compressed_sha256=sum_of_original if target == written else staging.sha256_of(target),
    )
    staging.save(compressed)
    return compressed
