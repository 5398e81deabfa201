"""Restore, middle step: load one part into the table, after its whole object was proved.

Rows go into the table a batch at a time, in one short transaction each. As long as none of them is in the table they are
copied straight into it. Otherwise the server rebuilds the batch in a temporary table and inserts the rows that are missing.
In both cases the batch is read back from the table before the transaction commits, and compared with what was archived.
What is loaded and compared are canonical texts. While the server loads one batch, the next one is read. Memory does not grow
with the part. A try after a failure continues after the last batch that was committed.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from strongroom.database.session import Connection
from strongroom.errors import IntegrityError, RestoreError
from strongroom.ledger.claims import KeepClaim
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_readable
from strongroom.ledger.reread import what_hides
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import TableShape, VerifiedPart
from strongroom.restore.download import download_either
from strongroom.restore.fit import Fit, fit_columns
from strongroom.restore.loader import Loader
from strongroom.restore.part_batches import PartBatches
from strongroom.restore.progress import RestoreProgress
from strongroom.restore.records import LISTED_KEYS, DifferentRow, RestoredPart, RestorePart, RestorePlan
from strongroom.restore.target import Target, find_target, require_writable
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store

BATCH_ROWS, COMPARED_ROWS = 20_000, 5000
"""The most rows of one transaction that copies them, and of one that compares them."""

BATCH_BYTES = 4 << 20
"""About the most bytes of canonical text of one transaction. As many are read ahead."""


def restore_part(
    connection: Connection,
    store: Store,
    staging: Staging,
    plan: RestorePlan,
    part: RestorePart,
    *,
    keep_claim: KeepClaim,
) -> RestoredPart:
    """Restore the rows of one part. A repeat inserts nothing twice, and continues where an earlier try stopped.

    If the object is missing or is not what was archived, its copy in the replica is loaded and the result says so. Without a sound
    copy nothing is loaded from it.

    Args:
        connection: A session in autocommit mode that may insert into the target.
        staging: Scratch space of this archive in this restore.
        keep_claim: Called in each transaction; raises when this run no longer holds the partition's claims.

    Raises:
        ContendedError: Another run took a claim; nothing more was loaded.
        RestoreError: The target refuses a row, or no longer fits; names the constraint or the columns.
        IntegrityError: The manifest is damaged, or proved lines do not read back into their types.
    """
    require_writable(connection)
    manifest = require_readable(store, ArchiveId.parse(part.archive_id))
    plan = plan.of_table(manifest.table_name)
    archived = manifest.verified_part(part.number)
    target, fit = _require_fit(connection, manifest, plan)
    try:
        path, fallback = download_either(store, staging.local, archived)
    except IntegrityError as error:
        return _unsound(store, archived, error)
    loader = Loader(connection, target, fit, manifest.table, plan.request, keep_claim)
    progress = _load(loader, staging, manifest.table, path, archived)
    staging.local.discard(path)
    return RestoredPart(
        archive_id=archived.archive_id,
        number=archived.number,
        result="different" if progress.different else "restored" if progress.inserted else "unchanged",
        rows=archived.rows,
        detail=fallback or what_hides(store, archived) or "",
        from_replica=fallback is not None,
        **progress.model_dump(include={"wanted", "inserted", "unchanged", "different", "listed", "highest"}),
    )


def listed_rows(staging: Staging, part: RestoredPart) -> tuple[DifferentRow, ...]:
    """The rows of a part that were in the table but different. Their keys are in staging only; they do not travel between tasks."""
    progress = staging.load(RestoreProgress, part.number)
    return () if progress is None else progress.listed


def _require_fit(connection: Connection, manifest: Manifest, plan: RestorePlan) -> tuple[Target, Fit]:
    target = find_target(connection, *split_table(plan.target))
    if target is None:
        raise RestoreError(
            f"the table {plan.target} is gone",
            hint="Nothing was loaded by this try. Clear 'locate' and the tasks after it.",
        )
    return target, fit_columns(connection, manifest.table, target, plan.request.dropped_columns)


def _unsound(store: Store, archived: VerifiedPart, error: IntegrityError) -> RestoredPart:
    gone = store.head(archived.object_key, archived.version_id) is None
    compared = f": expected {error.expected}, found {error.found}" if error.found is not None else ""
    return RestoredPart(
        archive_id=archived.archive_id,
        number=archived.number,
        result="missing" if gone else "corrupted",
        rows=archived.rows,
        detail=f"{error.what}{compared}",
    )


def _load(loader: Loader, staging: Staging, shape: TableShape, path: Path, part: VerifiedPart) -> RestoreProgress:
    progress = _earlier_progress(staging, part, loader.life)
    with (
        path.open("rb") as handle,
        closing(
            PartBatches(part, shape, handle, progress.done_rows, most_rows=BATCH_ROWS, most_bytes=BATCH_BYTES)
        ) as batches,
    ):
        for batch in batches:
            outcome = loader.copy(batch, batches.read_ahead)
            if outcome is None:
                progress = _compare(loader, staging, progress, batch.rows)
            else:
                progress = progress.advanced(outcome)
                staging.save(progress)
    return progress


def _earlier_progress(staging: Staging, part: VerifiedPart, life: str) -> RestoreProgress:
    """What an earlier try noted; nothing if it loaded another object, or into a database that was since restored or rebuilt."""
    progress = staging.load(RestoreProgress, part.number)
    if progress is None or progress.sha256 != part.sha256 or progress.life != life:
        return RestoreProgress(**part.model_dump(), life=life)
    return progress


def _compare(loader: Loader, staging: Staging, progress: RestoreProgress, rows: list[bytes]) -> RestoreProgress:
    for first in range(0, len(rows), COMPARED_ROWS):
        outcome = loader.compare(rows[first : first + COMPARED_ROWS], room=LISTED_KEYS - len(progress.listed))
        progress = progress.advanced(outcome)
        staging.save(progress)
    return progress
