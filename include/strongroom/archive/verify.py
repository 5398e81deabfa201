"""Step 6, verify: download exactly the version that was uploaded, and prove that it is the part.

There are three proofs: the bytes have the same sums, the number of rows is the same, and rows that the server rebuilds from
the archived lines have the digests of the live rows. The third proof takes a sample, or all rows if a type is not PostgreSQL's
own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice, zip_longest

from strongroom.database.rebuild import rebuilt_keys
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError
from strongroom.formats.line_reader import split_lines
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.records import TableShape, UploadedPart, VerifiedPart, narrow
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.archived_keys import open_keys


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

    Nothing is reused from an earlier try: each verification reads the part again.

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
    # The compressed file is no longer needed; from here on the store's version is the only one.
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
