"""Step 3, compress: write the compressed form of a part to staging, or pass on what extract_to_staging wrote.

Extraction compresses JSON lines with zstd's fastest level, so that they take little room and the server does not wait. If the table's
settings ask for just that, or for parquet, whose pages are compressed as they are written, the file goes to the store as it is.
"""

from __future__ import annotations

import hashlib

from strongroom.errors import IntegrityError
from strongroom.formats.codecs import Codec, Summed, blocks, compress_stream, decompress
from strongroom.records import CompressedPart, ExtractedPart, Packed
from strongroom.storage.staging import Staging


def compress_part(staging: Staging, part: ExtractedPart, codec: Codec) -> CompressedPart:
    """Compress a part; a repeat finds the finished file.

    Args:
        codec: For JSON lines.

    Raises:
        IntegrityError: The extracted file is no longer in staging, or is damaged.
        StagingError: The disk is full.
    """
    finished = staging.finished(CompressedPart, part)
    if finished is not None:
        return finished
    packed = part.packed
    if packed is None:
        raise IntegrityError(f"the extracted file of {part.archive_id} part {part.number} is unknown", hint=_AGAIN)
    if part.format == "parquet" or (packed.compression_type, packed.compression_level) == (codec.type, codec.level):
        compressed = _compressed(part, packed)
        written = staging.compressed(compressed)
        if not staging.has(written, packed.sha256):
            raise IntegrityError(f"{written} is gone", hint=_AGAIN)
    else:
        compressed = _compressed(part, _compress(staging, part, packed, codec))
    staging.save(compressed)
    return compressed


_AGAIN = "No row was deleted. Clear 'plan' and the tasks after it to read the rows again."


def _compress(staging: Staging, part: ExtractedPart, packed: Packed, codec: Codec) -> Packed:
    """Compress the extracted lines, which must be as they were written."""
    written = staging.extracted(part.number, packed.compression_type, part.format)
    extracted = staging.fetch(written, packed.sha256)
    if extracted is None:
        raise IntegrityError(f"{written} is gone", hint=_AGAIN)
    found = hashlib.sha256()
    with (
        extracted.open("rb") as source,
        staging.writing(staging.of_store(part.number, codec.type, part.format)) as [handle],
    ):
        target = Summed(handle)
        compress_stream(codec, decompress(packed.compression_type, blocks(source), on_chunk=found.update), target)
        if found.hexdigest() != packed.sha256:
            raise IntegrityError(f"{written} is damaged", expected=packed.sha256, found=found.hexdigest(), hint=_AGAIN)
    return Packed(
        compression_type=codec.type,
        compression_level=codec.level,
        size_bytes=target.size_bytes,
        sha256=target.sha256,
    )


def _compressed(part: ExtractedPart, file: Packed) -> CompressedPart:
    return CompressedPart(
        **part.model_dump(),
        compression_type=file.compression_type,
        compression_level=file.compression_level,
        compressed_size_bytes=file.size_bytes,
        compressed_sha256=file.sha256,
    )
