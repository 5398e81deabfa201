"""Step 5, upload: stream the compressed file to a key that does not exist yet."""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import IntegrityError
from strongroom.records import ChecksummedPart, UploadedPart
from strongroom.storage.staging import Staging
from strongroom.storage.store import ObjectVersion, Store

CONTENT_TYPES = {"zstd": "application/zstd", "gzip": "application/gzip", "none": "application/x-ndjson"}
PARQUET = "application/vnd.apache.parquet"


def upload_part(staging: Staging, store: Store, part: ChecksummedPart) -> UploadedPart:
    """Write a part to the store; a repeat finds the version that is there.

    The store checks the SHA-256 on arrival. That proves nothing yet: verify reads the version back.

    Raises:
        IntegrityError: The key holds other content, or staging lost the file.
        StoreError: The store failed.
    """
    finished = staging.finished(UploadedPart, part)
    if finished is not None:
        return finished
    written = staging.compressed(part)
    path = staging.fetch(written, part.sha256)
    if path is None:
        raise IntegrityError(f"{written} is gone", hint="No row was deleted. Clear 'plan' and the tasks after it.")
    version = put_part(store, path, part)
    uploaded = UploadedPart(
        **part.model_dump(), object_key=version.key, version_id=version.version_id, etag=version.etag
    )
    staging.save(uploaded)
    return uploaded


def put_part(store: Store, path: Path, part: ChecksummedPart) -> ObjectVersion:
    """Write the file of a part under its key. Raises as :func:`upload_part`."""
    key = part.archive.part_key(part.number, part.compression_type, part.format)
    metadata = {
        "archive-id": part.archive_id,
        "part": str(part.number),
        "rows": str(part.rows),
        "original-size": str(part.original_size_bytes),
        "original-sha256": part.original_sha256,
    }
    content_type = PARQUET if part.format == "parquet" else CONTENT_TYPES[part.compression_type]
    return store.put_file(key, path, sha256=part.sha256, content_type=content_type, metadata=metadata)
