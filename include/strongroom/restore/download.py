"""Download one part into staging and prove it, before any of its rows is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.records import VerifiedPart
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


def download_part(store: Store, staging: Staging, part: VerifiedPart) -> Path:
    """Download the very version that was verified, and check sums, sizes and row count of the whole object.

    Returns:
        The compressed file in staging.

    Raises:
        IntegrityError: The object is gone, or is not what was archived.
    """
    path = staging.compressed(part)
    with staging.writing(path) as [handle]:

        def written() -> Iterator[bytes]:
            for chunk in store.chunks(part.object_key, part.version_id):
                handle.write(chunk)
                yield chunk

        reading = ReadingBack(part, written(), staging.folder)
        for _ in reading.blocks():
            pass
        require_equal(part, reading.result())
    return path
