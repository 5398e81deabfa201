"""Step 6, verify: download exactly the version that was uploaded, and prove that it is the part.

There are three proofs: the bytes have the same sums, the number of rows is the same, and blocks of rows have the digests of the
live rows. The third proof takes whole blocks, evenly spread, whose rows the server rebuilds from what was archived; or all of
them if a type is not PostgreSQL's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from strongroom.database.rebuild import Rebuilder
from strongroom.database.session import Connection
from strongroom.errors import IntegrityError
from strongroom.formats.blocks import Block, digest
from strongroom.formats.reading_back import ReadingBack, RowStream, require_equal
from strongroom.records import TableShape, UploadedPart, VerifiedPart, narrow
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store
from strongroom.tables.archived_rows import read_blocks

if TYPE_CHECKING:
    from strongroom.formats.persons import LocatorWriter, Persons

_FEWEST_BLOCKS = 3


def verify_part(
    store: Store,
    staging: Staging,
    connection: Connection,
    shape: TableShape,
    part: UploadedPart,
    *,
    proof_rows: int | str,
    now: datetime,
    persons: Persons | None = None,
) -> VerifiedPart:
    """Read a part back from the store and compare it with what was extracted.

    Nothing is reused from an earlier try: each verification reads the part again.

    Args:
        proof_rows: How many rows to rebuild and compare, evenly spread, or ``"all"``.
        persons: Makes the part's locator; None where the table's settings name no columns of persons.

    Raises:
        IntegrityError: Says what differs.
        ErasedError: There are rows of a person who was erased.
    """
    blocks = read_blocks(staging, part)
    if blocks is None and part.blocks_sha256 is not None:
        raise _without_blocks(part)
    every = proof_rows == "all" or not shape.well_known_types
    wanted = _spread(blocks or [], part.rows if every else int(proof_rows))
    reading = ReadingBack(part, store.chunks(part.object_key, part.version_id), staging.folder)
    rebuilder = Rebuilder(connection, shape, texts=part.format == "parquet")
    locating = _locating(shape, part, persons) if persons is not None else None
    rows, proved = RowStream(reading.blocks() if locating is None else locating.watch(reading.blocks())), 0
    for number, block in enumerate(blocks or []):
        if part.format != "parquet" and number not in wanted:
            rows.skip(block.rows)
            continue
        of_block = rows.take(block.rows)
        if part.format == "parquet":  # these are texts, which are compared as they are
            _require_equal(part, number, block, of_block)
        if number in wanted:
            _require_equal(part, number, block, b"".join(rebuilder.texts_of(of_block)).split(b"\n")[:-1])
            proved += block.rows
    rows.skip(part.rows)
    require_equal(part, reading.result())
    # The compressed file is no longer needed; from here on the store's version is the only one.
    staging.discard(staging.compressed(part))
    sha256 = _keep_locator(store, part, locating) if locating is not None else None
    return VerifiedPart(
        **narrow(part, UploadedPart).model_dump(), verified_at=now, proved_rows=proved, locator_sha256=sha256
    )


def _locating(shape: TableShape, part: UploadedPart, persons: Persons) -> LocatorWriter:
    from strongroom.formats.persons import LocatorWriter  # and with it cryptography, which most tables can do without

    return LocatorWriter(shape, part.format, persons, rows=part.rows)


def _keep_locator(store: Store, part: UploadedPart, locating: LocatorWriter) -> str:
    """Write the locator into the archive's folder, and return its SHA-256."""
    locating.require_none_suppressed(f"{part.archive_id} part {part.number}")
    body = locating.locator.to_bytes()
    store.put_bytes(part.archive.locator_key(part.number), body, content_type="application/zstd")
    return hashlib.sha256(body).hexdigest()


def _spread(blocks: Sequence[Block], rows: int) -> set[int]:
    """Numbers of blocks that have about so many rows together, evenly spread: the first, the last, and one between at least."""
    last, total = len(blocks) - 1, sum(block.rows for block in blocks)
    count = max(_FEWEST_BLOCKS, math.ceil(len(blocks) * rows / max(1, total)))
    if count > last:
        return set(range(last + 1))
    return {place * last // (count - 1) for place in range(count)}


def _require_equal(part: UploadedPart, number: int, block: Block, rows: Sequence[bytes]) -> None:
    if len(rows) != block.rows or digest(rows) != block.sha256:
        raise IntegrityError(
            f"{part.archive_id} part {part.number} does not give its rows back",
            expected=f"block {number}, of {block.rows} rows, to have the digest of the live rows",
            found=f"{len(rows)} rows with another",
            hint="No row was deleted. A column's type is not archived exactly, or the table changed during the run: "
            "clear 'plan' and the tasks after it; if it happens again, please report the column types.",
        )


def _without_blocks(part: UploadedPart) -> IntegrityError:
    return IntegrityError(
        f"the blocks of {part.archive_id} part {part.number} in staging are missing or damaged",
        expected=part.blocks_sha256,
        hint="No row was deleted because of them. If the archive is sealed, clear this task: they are rebuilt from the "
        "archive. If it is not, clear 'plan' and the tasks after it.",
    )
