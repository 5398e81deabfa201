"""Restore one archive as a drill: each part into a table of its own, read back, compared, and dropped.

What restores the rows is the code of a real restore. Then all rows are read once more from the table, and their digest must be
that of the rows in the store, whose bytes must be those that the manifest names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import IO, NamedTuple

from psycopg import sql

from strongroom.database.copy_out import copied_rows
from strongroom.database.session import Connection, pin, read_identity
from strongroom.drill.digests import RowDigests
from strongroom.drill.records import ArchiveDrill, Choice, PartDrill, Result
from strongroom.drill.scratch import drop_leftovers, missing_types, scratch_table
from strongroom.errors import FrozenError, IntegrityError, RestoreError, StrongroomError
from strongroom.ledger import journal
from strongroom.ledger.entries import Kind, of_archive, subject_of
from strongroom.ledger.journal import doubt_of_entry
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.records import proof_key
from strongroom.object_keys.reports import drill_key
from strongroom.records import Sha256, TableShape, VerifiedPart
from strongroom.restore.download import download_part
from strongroom.restore.fit import Fit, fit_columns
from strongroom.restore.load import BATCH_BYTES, BATCH_ROWS, COMPARED_ROWS
from strongroom.restore.loader import Loader
from strongroom.restore.part_batches import PartBatches
from strongroom.restore.records import RestoreRequest
from strongroom.restore.target import Target, require_schema, require_writable
from strongroom.restore.target_rows import TargetReader
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store


class Stopwatch:
    """How long a restore takes, without what only a drill does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since, self._before = clock, 0.0, 0.0
        self.first_row_seconds: float | None = None
        self.last_row_seconds: float | None = None

    def start(self) -> None:
        """Count from now on."""
        self._since = self._clock()

    def rows_are_there(self) -> None:
        """Some rows were committed."""
        self.last_row_seconds = self._before + self._clock() - self._since
        if self.first_row_seconds is None:
            self.first_row_seconds = self.last_row_seconds

    def stop(self) -> None:
        """Count no further until the next start."""
        self._before += self._clock() - self._since


class _Found(NamedTuple):
    result: Result
    reason: str
    original_size_bytes: int = 0
    parts: tuple[PartDrill, ...] = ()


class Drill:
    """Restores archives of one store as a drill, in one session on the scratch database.

    Args:
        connection: In autocommit mode, under a role that can do nothing else.
        staging: For the file of a part. It is removed after each.
        schema_name: Where the tables go.
        chosen_in: Key of the record of the choice.
        who: Who has them restored.

    Raises:
        RestoreError: There is no such schema, or the session cannot write.
        SourceAccessError: The role may not create tables in it.
    """

    def __init__(
        self, connection: Connection, store: Store, staging: Staging, *, schema_name: str, chosen_in: str, who: str
    ) -> None:
        require_writable(connection)
        require_schema(connection, schema_name)
        self._connection, self._store, self._staging = connection, store, staging.local
        self._schema_name, self._chosen_in, self._who = schema_name, chosen_in, who
        self._server_version = read_identity(connection).server_version
        drop_leftovers(connection, schema_name)

    def restore_and_record(self, choice: Choice, *, now: datetime) -> ArchiveDrill:
        """Restore an archive, compare it, and record what was found.

        Args:
            choice: Which one, and why it.
            now: Aware UTC instant of the record.

        Raises:
            SourceError: The database failed: nothing is known, so nothing is recorded.
            StoreError: The store failed: the same.
        """
        archive, watch = ArchiveId.parse(choice.archive_id), Stopwatch()
        found = self._found(archive, watch)
        rows, seconds = sum(part.restored_rows for part in found.parts), watch.last_row_seconds
        drilled = ArchiveDrill(
            archive_id=str(archive),
            result=found.result,
            reason=found.reason,
            reasons=choice.reasons,
            chosen_in=self._chosen_in,
            rows=rows,
            original_size_bytes=found.original_size_bytes,
            parts=found.parts,
            first_row_seconds=_rounded(watch.first_row_seconds),
            last_row_seconds=_rounded(seconds),
            rows_per_second=_rounded(rows / seconds) if seconds else None,
            server_version=self._server_version,
            who=self._who,
            drilled_at=now,
        )
        act = of_archive(archive, "drilled", who=self._who, facts={"result": drilled.result, "rows": rows})
        journal.record(self._store, drill_key(archive, now, drilled.result), drilled.to_bytes(), act)
        return drilled

    def _found(self, archive: ArchiveId, watch: Stopwatch) -> _Found:
        try:
            manifest = require_manifest(self._store, archive)
        except IntegrityError as error:
            return _Found(*self._fault_of(archive, [_told(error)]))
        if lacking := missing_types(self._connection, manifest.table):
            return _Found("skipped", f"the scratch database has no type {', '.join(lacking)}", manifest.original_size)
        parts, faults = [], []
        for number in range(len(manifest.parts)):
            part = manifest.verified_part(number)
            try:
                parts.append(self._restore(manifest.table, part, watch))
            except FrozenError as error:
                return _Found("skipped", error.what, manifest.original_size, tuple(parts))
            except (IntegrityError, RestoreError) as error:
                faults.append(f"part {number}: {_told(error)}")
        faults += [_difference(part) for part in parts if not part.equal]
        result, reason = self._fault_of(archive, faults) if faults else ("sound", "")
        return _Found(result, reason, manifest.original_size, tuple(parts))

    def _fault_of(self, archive: ArchiveId, faults: list[str]) -> tuple[Result, str]:
        """An archive whose purge began after it was chosen did not fail."""
        begun = self._is_entered(archive.purge_intent_key, "purge intended")
        if begun or self._is_entered(archive.destruction_key, "purged"):
            return "skipped", "its purge has begun since it was chosen"
        return "failed", "; ".join(faults)

    def _is_entered(self, key: str, kind: Kind) -> bool:
        """Whether a record is there, and the store's log has it, if the store has a log: anybody can plant a record."""
        present = self._store.read(key)
        subject = None if present is None else subject_of(key, present[0])
        return subject is not None and doubt_of_entry(self._store, subject, proof_key(key), [kind]) is None

    def _restore(self, shape: TableShape, part: VerifiedPart, watch: Stopwatch) -> PartDrill:
        watch.start()
        path = download_part(self._store, self._staging, part)
        try:
            with scratch_table(self._connection, shape, self._schema_name) as target:
                fit = fit_columns(self._connection, shape, target)
                with path.open("rb") as handle:
                    rows, archived = self._load(target, fit, shape, part, handle, watch)
                watch.stop()
                restored = self._read_back(target, fit, shape)
                return PartDrill(
                    number=part.number,
                    rows=rows,
                    archived_sha256=archived,
                    restored_rows=restored.rows,
                    restored_sha256=restored.sha256(),
                )
        finally:
            self._staging.discard(path)

    def _load(
        self, target: Target, fit: Fit, shape: TableShape, part: VerifiedPart, handle: IO[bytes], watch: Stopwatch
    ) -> tuple[int, Sha256]:
        """Load the rows of a proved file, and return how many there are, and the digest of what the file holds."""
        request = RestoreRequest(archives=(part.archive_id,), who=self._who, why="a restore drill")
        loader = Loader(self._connection, target, fit, shape, request, _hold_nothing)
        archived = RowDigests()
        batches = PartBatches(part, shape, handle, 0, most_rows=BATCH_ROWS, most_bytes=BATCH_BYTES)
        with closing(batches):
            for batch in batches:
                if loader.copy(batch, batches.read_ahead) is None:
                    for first in range(0, len(batch.rows), COMPARED_ROWS):
                        loader.compare(batch.rows[first : first + COMPARED_ROWS], room=0)
                watch.rows_are_there()
                archived.add(batch.rows)
        return archived.rows, archived.sha256()

    def _read_back(self, target: Target, fit: Fit, shape: TableShape) -> RowDigests:
        restored = RowDigests()
        values = TargetReader(self._connection, shape, fit.compared).values()
        every = sql.SQL("COPY (SELECT {} FROM {} AS t) TO STDOUT").format(values, target.name)
        with self._connection.transaction():
            pin(self._connection)
            with self._connection.cursor() as cursor, cursor.copy(every) as copy:
                for rows in copied_rows(copy):
                    restored.add(rows.split(b"\n"))
        return restored


def _difference(part: PartDrill) -> str:
    return (
        f"part {part.number}: the table held other rows than the archive: expected {part.rows:,} with digest "
        f"{part.archived_sha256}, found {part.restored_rows:,} with digest {part.restored_sha256}"
    )


def _told(error: StrongroomError) -> str:
    return str(error).partition("\nHINT: ")[0]


def _hold_nothing() -> None:
    """A scratch table needs no claim: no other run can know it."""


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
