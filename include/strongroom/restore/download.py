"""Download one part into staging and prove it, before any of its rows is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.records import VerifiedPart
from strongroom.storage.either import read_either, read_own
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


def download_part(store: Store, staging: Staging, part: VerifiedPart) -> Path:
    """Download the version that was verified, or one with the same content where that is gone, and check sums, sizes and row count of the whole object.

    Returns:
        The compressed file in staging.

    Raises:
        IntegrityError: The object is gone, or is not what was archived.
    """
    return read_own(store, part.object_key, part.version_id, lambda chunks: _write(staging, part, chunks))


def download_either(store: Store, staging: Staging, part: VerifiedPart) -> tuple[Path, str | None]:
    """:func:`download_part`, from the store's replica if the store's own object is gone, damaged or unreadable.

    Returns:
        The compressed file in staging; and why the replica was read, or None if it was not.
    """
    return read_either(store, part.object_key, part.version_id, lambda chunks: _write(staging, part, chunks))


def _write(staging: Staging, part: VerifiedPart, chunks: Iterator[bytes]) -> Path:
    path = staging.compressed(part)
    with staging.writing(path) as [handle]:

        def written() -> Iterator[bytes]:
            for chunk in chunks:
                handle.write(chunk)
                yield chunk

        reading = ReadingBack(part, written(), staging.folder)
        for _ in reading.blocks():
            pass
        require_equal(part, reading.result())
    return path
