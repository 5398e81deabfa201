"""The keys and digests of a part in staging: opened only if they are sound, rebuilt from the archive if not."""

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
    """Open the keys and digests in staging, and check that they are those of the extraction.

    The caller reads the very file whose sum was checked, even if another file takes its name meanwhile.

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
        hint="No row was deleted because of them. Clear this task: the keys of a sealed archive are rebuilt from the "
        "archive. If the archive is not sealed, clear 'plan' and the tasks after it.",
    )


def restore_keys(store: Store, staging: Staging, connection: Connection, shape: TableShape, part: VerifiedPart) -> None:
    """Rebuild a part's keys in staging from the archive, if they are missing or damaged.

    The server rebuilds each row from its archived line; the result must be, byte for byte, what the extraction wrote.

    Raises:
        IntegrityError: The archive does not give the same keys and digests.
    """
    try:
        with open_keys(staging, part):
            return
    except IntegrityError:
        pass  # rebuild them
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
