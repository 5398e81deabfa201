"""The keys and digests of a part in staging: opened only when sound, and made anew from the archive when not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from strongroom.database.rebuild import rebuilt_keys
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError
from strongroom.formats.codecs import blocks
from strongroom.formats.line_reader import split_lines
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.records import TableShape, UploadedPart, VerifiedPart
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


@contextmanager
def open_keys(staging: Staging, part: UploadedPart) -> Iterator[IO[bytes]]:
    """Open the keys and digests in staging, and see that they are those of the extraction.

    What is read afterwards is what was summed here, even if another file takes the name meanwhile.

    Raises:
        IntegrityError: They are missing or damaged.
    """
    path = staging.fetch(staging.keys(part.number), part.keys_sha256)
    if path is None:
        raise _unsound_keys(part, "nothing")
    with path.open("rb") as keys:
        found = _sum(keys)
        if found != part.keys_sha256:
            raise _unsound_keys(part, found)
        keys.seek(0)
        yield keys


def _unsound_keys(part: UploadedPart, found: str) -> IntegrityError:
    return IntegrityError(
        f"the keys of {part.archive_id} part {part.number} in staging do not match",
        expected=part.keys_sha256,
        found=found,
        hint="No row was deleted because of them. Clear this task: keys of a sealed archive are made anew from the "
        "archive; for one that is not sealed, clear 'plan' and the tasks after it.",
    )


def restore_keys(store: Store, staging: Staging, connection: Connection, shape: TableShape, part: VerifiedPart) -> None:
    """Make a part's keys in staging anew from the archive, if they are not there or not sound.

    The server rebuilds each row from its archived line; the result must be, byte for byte, what the extraction wrote.

    Raises:
        IntegrityError: The archive does not give the same keys and digests.
    """
    try:
        with open_keys(staging, part):
            return
    except IntegrityError:
        pass  # made anew
    reading = ReadingBack(part, store.chunks(part.object_key, part.version_id), staging.folder)
    with staging.writing(staging.keys(part.number)) as [handle]:
        for key in rebuilt_keys(connection, shape, split_lines(reading.blocks())):
            handle.write(key)
    require_equal(part, reading.result())
    with open_keys(staging, part):
        pass


def _sum(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks(handle):
        digest.update(block)
    return digest.hexdigest()
