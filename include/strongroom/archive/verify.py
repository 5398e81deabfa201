"""Step 6, verify: download the very version that was uploaded, and prove that it is the part.

Three proofs: the bytes hash to the same sums, the rows count the same, and rows that the server rebuilds from the
archived lines have the digest that the live rows had. The third takes a sample, or all rows where a type is not
PostgreSQL's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice, zip_longest
from typing import IO

from strongroom.archive.checksum import ReadingBack, require_equal
from strongroom.database.rebuild import rebuilt_keys
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError
from strongroom.formats.codecs import blocks
from strongroom.records import TableShape, UploadedPart, VerifiedPart, narrow
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


def verify_part(
    store: Store,
    staging: Staging,
    connection: Connection,
    shape: TableShape,
    part: UploadedPart,
    *,
    proof_rows: int | str,
    now: datetime,
) -> VerifiedPart:
    """Read a part back from the store and compare it with what was extracted.

    Nothing is taken from an earlier try: a verification is made anew each time.

    Args:
        proof_rows: How many rows to rebuild and compare, evenly spread, or ``"all"``.

    Raises:
        IntegrityError: Says what differs.
    """
    stride = 1 if proof_rows == "all" or not shape.well_known_types else max(1, part.rows // max(1, int(proof_rows)))
    reading = ReadingBack(part, store.chunks(part.object_key, part.version_id), staging.folder)
    sampled = islice(split_lines(reading.blocks()), 0, None, stride)
    with open_keys(staging, part) as keys:
        proved = _prove(connection, shape, part, sampled, islice(keys, 0, None, stride))
    require_equal(part, reading.result())
    # The compressed file has done its work; from here on the store's version is the only one.
    staging.discard(staging.compressed(part.number, part.compression_type, part.format))
    return VerifiedPart(**narrow(part, UploadedPart).model_dump(), verified_at=now, proved_rows=proved)


def _prove(
    connection: Connection, shape: TableShape, part: UploadedPart, lines: Iterable[bytes], keys: Iterable[bytes]
) -> int:
    proved = 0
    for rebuilt, recorded in zip_longest(rebuilt_keys(connection, shape, lines), keys):
        if rebuilt != recorded:
            raise IntegrityError(
                f"{part.archive_id} part {part.number} does not give its rows back",
                expected="each rebuilt row to have the digest of the live row",
                found=f"another at sampled row {proved}",
                hint="No row was deleted. A column's type is not archived exactly, or the table changed in mid-run: "
                "clear 'plan' and the tasks after it; if it happens again, please report the column types.",
            )
        proved += 1
    return proved


def split_lines(source: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a stream of blocks, without their newlines."""
    begun: list[bytes] = []  # of a line that goes on: joined once, however many blocks it has
    for block in source:
        first, *further = block.split(b"\n")
        begun.append(first)
        if further:
            yield b"".join(begun)
            *lines, rest = further
            yield from lines
            begun = [rest]
    if rest := b"".join(begun):
        yield rest


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
