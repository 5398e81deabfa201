"""Restore, middle step: load one part, and only after every sum of its object was found right.

The object is downloaded to staging and proved first. Then its rows go into the table a batch at a time, in one short
transaction each: copied straight into it as long as none of them is there; else the server rebuilds the batch beside the
table and inserts what is not there. Either way the batch is read back out of the table before the transaction ends, and
compared here with what was archived. While the server works on a batch of JSON lines the next one is read.
Memory does not grow with the part. A try that broke off is gone on with behind its last batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import psycopg
from psycopg import IsolationLevel, errors, sql

from strongroom.database.rebuild import UNREADABLE, RebuiltRows, told
from strongroom.database.rows import dated
from strongroom.database.session import Connection, fetch_rows, named_by_server, pin, read_life
from strongroom.database.triggers import SOMEBODYS_TRIGGER
from strongroom.errors import IntegrityError, RestoreError
from strongroom.formats.line_reader import NULL, copy_rows
from strongroom.formats.reading_back import ReadingBack, require_equal
from strongroom.ledger.claims import KeepClaim
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.reread import what_hides
from strongroom.ledger.restore_records import split_table
from strongroom.object_keys import ArchiveId
from strongroom.records import Column, TableShape, VerifiedPart
from strongroom.restore.batch import Batch, Piece
from strongroom.restore.records import LISTED_KEYS, DifferentRow, RestoredPart, RestorePart, RestorePlan, RestoreRequest
from strongroom.restore.rows import restored_rows
from strongroom.restore.target import (
    SIDE_COLUMN,
    Fit,
    Target,
    find_target,
    fit_columns,
    require_writable,
    type_in_words,
)
from strongroom.storage.staging import Staging
from strongroom.storage.store import Store

if TYPE_CHECKING:
    from strongroom.restore.table_reader import FoundRow

BATCH_ROWS, COMPARED_ROWS = 10_000, 5000
"""The most rows of one transaction that copies them, and of one that compares them."""

BATCH_BYTES = 4 << 20
"""About the most bytes of one transaction; of JSON lines the next one's are read while it is under way."""

_ADDED = sql.Identifier("pg_temp", "strongroom_added")
_WANTED = sql.Identifier("pg_temp", "strongroom_wanted")
_KEYS = sql.Identifier("pg_temp", "strongroom_keys")
_TREE = """(
    SELECT %s::oid UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree(%s::oid::regclass)
)"""
_TRIGGERS = f"""
    SELECT DISTINCT g.tgname::text, f.proname::text, g.tgtype & 3 = 3
    FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS f ON f.oid = g.tgfoid
    WHERE g.tgrelid IN {_TREE} AND {SOMEBODYS_TRIGGER} AND g.tgtype & 4 <> 0 AND g.tgenabled <> 'D' ORDER BY 1, 2
"""  # noqa: S608 - constants
"""Somebody's triggers that see rows inserted into a table or its partitions: name, function, and whether each row first."""
_DEFERRABLE = f"""
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid IN {_TREE} AND NOT i.indimmediate AND (i.indisunique OR i.indisexclusion)
    )
"""  # noqa: S608 - a constant
_DATES = {"date": "date", "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}

_Result = TypeVar("_Result")

_TRIES = 5
_REFUSALS = (psycopg.IntegrityError, psycopg.DataError, errors.RaiseException)
_TRANSIENT = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)


class RestoreProgress(VerifiedPart):
    """How far the restore of a part has come; kept in staging after each batch."""

    life: str = ""
    """Of the database that the rows were brought back to: source.read_life()."""
    done_rows: int = 0
    wanted: int = 0
    inserted: int = 0
    unchanged: int = 0
    different: int = 0
    listed: tuple[DifferentRow, ...] = ()
    highest: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it


class _Outcome(NamedTuple):
    wanted: int
    inserted: int
    unchanged: int
    different: list[DifferentRow]
    more_different: int
    highest: dict[str, int]


def restore_part(
    connection: Connection,
    store: Store,
    staging: Staging,
    plan: RestorePlan,
    part: RestorePart,
    *,
    keep_claim: KeepClaim,
) -> RestoredPart:
    """Bring the rows of one part back; a repeat adds nothing and goes on where a try broke off.

    An object that is missing, or is not what was archived, is a result: nothing is loaded from it then.

    Args:
        connection: A session in autocommit mode that may insert into the target.
        staging: Scratch space of this archive in this restore.
        keep_claim: Called in each batch's transaction; raises when the partition's claims are no longer ours.

    Raises:
        ContendedError: Another run has had a claim; nothing more was loaded.
        RestoreError: The target does not take a row, or no longer fits; names the constraint or the columns.
        IntegrityError: The manifest is damaged, or proved lines do not read back.
    """
    require_writable(connection)
    manifest = require_manifest(store, ArchiveId.parse(part.archive_id))
    archived = manifest.verified_part(part.number)
    target = find_target(connection, *split_table(plan.target))
    if target is None:
        raise RestoreError(
            f"the table {plan.target} is gone",
            hint="Nothing was loaded by this try. Clear 'locate' and the tasks after it.",
        )
    fit = fit_columns(connection, manifest.table, target, plan.request.dropped_columns)
    try:
        path = _download(store, staging.local, archived)
    except IntegrityError as error:
        gone = store.head(archived.object_key, archived.version_id) is None
        compared = f": expected {error.expected}, found {error.found}" if error.found is not None else ""
        return RestoredPart(
            archive_id=part.archive_id,
            number=part.number,
            result="missing" if gone else "corrupted",
            rows=archived.rows,
            detail=f"{error.what}{compared}",
        )
    loader = _Loader(connection, target, fit, manifest.table, plan.request, keep_claim)
    progress = _load(loader, staging, path, archived)
    staging.local.discard(path)
    return RestoredPart(
        archive_id=part.archive_id,
        number=part.number,
        result="different" if progress.different else "restored" if progress.inserted else "unchanged",
        rows=archived.rows,
        detail=what_hides(store, archived) or "",
        **progress.model_dump(include={"wanted", "inserted", "unchanged", "different", "listed", "highest"}),
    )


def listed_rows(staging: Staging, part: RestoredPart) -> tuple[DifferentRow, ...]:
    """The rows of a part that are there but different, by their keys, which lie in staging and nowhere between the tasks."""
    progress = staging.load(RestoreProgress, part.number)
    return () if progress is None else progress.listed


def _download(store: Store, staging: Staging, part: VerifiedPart) -> Path:
    """Put the very version that was verified into staging, and prove it: sums, sizes and rows of the whole object."""
    path = staging.compressed(part.number, part.compression_type, part.format)
    with staging.writing(path) as [handle]:

        def kept() -> Iterator[bytes]:
            for chunk in store.chunks(part.object_key, part.version_id):
                handle.write(chunk)
                yield chunk

        reading = ReadingBack(part, kept(), staging.folder)
        for _ in reading.blocks():
            pass
        require_equal(part, reading.result())
    return path


def _load(loader: _Loader, staging: Staging, path: Path, part: VerifiedPart) -> RestoreProgress:
    progress = staging.load(RestoreProgress, part.number)
    if progress is None or progress.sha256 != part.sha256 or progress.life != loader.life:
        progress = RestoreProgress(**part.model_dump(), life=loader.life)
    with path.open("rb") as handle:
        rows = restored_rows(part, handle, progress.done_rows, most_rows=BATCH_ROWS, most_bytes=BATCH_BYTES)
        with closing(rows) as remaining:
            for batch in remaining:
                outcome = loader.copy(batch)
                if outcome is not None:
                    progress = _advance(progress, len(batch), outcome)
                    staging.save(progress)
                    continue
                lines = batch.lines()
                for first in range(0, len(lines), COMPARED_ROWS):
                    compared = lines[first : first + COMPARED_ROWS]
                    outcome = loader.compare(compared, room=LISTED_KEYS - len(progress.listed))
                    progress = _advance(progress, len(compared), outcome)
                    staging.save(progress)
    return progress


def _advance(progress: RestoreProgress, rows: int, outcome: _Outcome) -> RestoreProgress:
    highest = {
        name: max(values[name] for values in (progress.highest, outcome.highest) if name in values)
        for name in progress.highest | outcome.highest
    }
    return progress.model_copy(
        update={
            "done_rows": progress.done_rows + rows,
            "wanted": progress.wanted + outcome.wanted,
            "inserted": progress.inserted + outcome.inserted,
            "unchanged": progress.unchanged + outcome.unchanged,
            "different": progress.different + len(outcome.different) + outcome.more_different,
            "listed": (*progress.listed, *outcome.different),
            "highest": highest,
        }
    )


class _Loader:
    """Loads batches of archived lines into one target in one session."""

    def __init__(
        self,
        connection: Connection,
        target: Target,
        fit: Fit,
        shape: TableShape,
        request: RestoreRequest,
        keep_claim: KeepClaim,
    ) -> None:
        from strongroom.restore.table_reader import TableReader  # and with it Arrow, which few steps need

        self._connection, self._keep_claim = connection, keep_claim
        self.life = read_life(connection)
        self._target, self._fit, self._shape, self._request = target, fit, shape, request
        self._counted = {name: place for place, name in enumerate(fit.loaded) if name in target.sequences}
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        columns = {column.name: column for column in fit.rebuilt}
        if request.since is not None or request.before is not None:
            columns = {shape.date_column: _date_column(shape)} | columns
        collations = {name: self._collation(name) for name in columns}
        self._rebuilt = RebuiltRows(connection, [*columns.values()], collations=collations, aside=fit.kept_aside)
        self._names = self._rebuilt.names
        self._reader = TableReader(connection, shape, fit.compared)
        # What is in the batch is what goes into the table, column by column.
        whole = not (request.keys or request.since or request.before or fit.kept_aside)
        self._straight = whole and tuple(column.name for column in fit.rebuilt) == fit.loaded
        self._copying = sql.SQL("COPY {} ({}) FROM STDIN").format(
            target.name, sql.SQL(", ").join(map(sql.Identifier, fit.loaded))
        )
        [(deferrable,)] = fetch_rows(connection, _DEFERRABLE, target.oid, target.oid)
        # The server lets no deferrable constraint decide whether there is a conflict, and without a choice takes all.
        key = sql.SQL(", ").join(map(sql.Identifier, shape.primary_key))
        self._arbiter = sql.SQL("({})").format(key) if deferrable else sql.SQL("")
        self._prepare()

    def copy(self, batch: Batch) -> _Outcome | None:
        """Copy one batch into the table, in one transaction, if that is all there is to do.

        Returns:
            None if nothing was copied, whatever the reason: then the batch is compared row by row, and that tells.
        """
        if not self._straight:
            return None
        highest = self._again(lambda: self._all_copied(batch))
        # Or some rows of the part may be there already, and which ones is noted.
        self._straight = highest is not None
        return None if highest is None else _Outcome(len(batch), len(batch), 0, [], 0, highest)

    def compare(self, lines: list[bytes], *, room: int) -> _Outcome:
        """Load those rows of a batch that are not there, and compare all of it with the table, in one transaction.

        Args:
            lines: JSON lines without their newlines.
            room: How many rows that are there but different may still be listed.
        """
        try:
            return self._again(lambda: self._compared(lines, room))
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            refusal = self._refused(error)
            if refusal is None:
                raise
            raise refusal from None

    def _again(self, work: Callable[[], _Result]) -> _Result:
        """Do it, a few times if others are in the way."""
        tries = 0
        while True:
            tries += 1
            try:
                return work()
            except _TRANSIENT:
                if tries == _TRIES:
                    raise
                time.sleep(0.2 * tries)

    def _prepare(self) -> None:
        key = [self._rebuilt.described[name] for name in self._shape.primary_key]
        added = sql.SQL("added boolean NOT NULL DEFAULT true")
        self._create(_ADDED, [*key, added], sql.SQL(" ON COMMIT DELETE ROWS"))
        # Or looking at a batch would compare each of its rows with each row that was added.
        self._connection.execute(
            sql.SQL("CREATE INDEX ON {} ({})").format(
                _ADDED, sql.SQL(", ").join(self._names[name] for name in self._shape.primary_key)
            )
        )
        self._create(_KEYS, [sql.SQL("n bigint NOT NULL"), *key], sql.SQL(" ON COMMIT DELETE ROWS"))
        if self._request.keys:
            self._create(_WANTED, key, sql.SQL(""))
            try:
                with (
                    self._connection.cursor() as cursor,
                    cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_WANTED)) as copy,
                ):
                    copy.write(_wanted_keys(self._request))
            except psycopg.DataError as error:
                raise RestoreError(
                    f"a key of the request is no primary key of {self._target}",
                    expected=", ".join(f"{name} ({self._type_of(name)})" for name in self._shape.primary_key),
                    found=type(error).__name__,
                    hint="Nothing was loaded. Write the keys as PostgreSQL prints them.",
                ) from None

    def _create(self, table: sql.Identifier, columns: Sequence[sql.Composable], ending: sql.SQL) -> None:
        self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        self._connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ({}){}").format(table, sql.SQL(", ").join(columns), ending)
        )

    def _collation(self, name: str) -> sql.Composable:
        """The target's own, or two columns could not be compared."""
        collation = self._target.collations.get(name)
        return sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL("")

    def _type_of(self, name: str) -> str:
        return next(column.type for column in self._shape.columns if column.name == name)

    def _compared(self, lines: list[bytes], room: int) -> _Outcome:
        with self._connection.transaction():
            self._set_up()
            self._keep_claim()
            wanted = self._rebuild(lines)
            inserted = self._insert()
            self._settle()
            found, archived = self._look(), dict(enumerate(self._reader.archived(lines)))
            unequal = [row for row in found if archived.get(row.number) != row.line]
            altered = [row for row in found if row.added and (not row.aside or archived.get(row.number) != row.line)]
            added = sum(row.added for row in found)
            if altered or added != inserted or not len({row.number for row in found}) == len(found) == wanted:
                raise self._altered(archived, altered, len(altered) or inserted)
            different = [row for row in unequal if not row.added]
            self._require_taken([row.number for row in different if not row.there])
            listed = list(self._different({row.number: row.there for row in different[: max(room, 0)]}))
            unchanged = wanted - inserted - len(different)
            return _Outcome(wanted, inserted, unchanged, listed, len(different) - len(listed), self._extremes())

    def _set_up(self) -> None:
        pin(self._connection)
        # A batch is small beside the table, whatever the planner believes of it: always by the index of the key.
        self._connection.execute("SET LOCAL enable_seqscan = off")
        self._connection.execute("SET LOCAL enable_hashjoin = off")
        self._connection.execute("SET LOCAL enable_mergejoin = off")

    def _settle(self) -> None:
        """Let everything happen that waits for the end of the transaction, and undo what triggers set in the session."""
        self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self._set_up()

    def _altered(self, archived: Mapping[int, bytes], rows: Sequence[FoundRow], count: int) -> RestoreError:
        columns: dict[str, Column] = {}
        for row in rows:
            if row.there and row.number in archived:
                columns |= {one.name: one for one in self._reader.differing(archived[row.number], row.line)}
        differing = [self._difference(column) for column in columns.values()]
        differing += [f"its column {SIDE_COLUMN}"] if any(row.there and not row.aside for row in rows) else []
        triggers = [name for name, *_ in self._triggers()]
        return RestoreError(
            f"{count} rows are not what was archived once they are in {self._target}",
            expected="rows that lie in the table as they were archived",
            found="; ".join(differing) or "rows that are gone again, or lie beside the table",
            hint="Nothing of this batch was loaded; batches before it were compared and stay. "
            + (f"If it is a trigger ({', '.join(triggers)}), disable it for the restore. " if triggers else "")
            + "What a type, a domain or a generated column changes comes back into a table of its own (a new target, "
            "created from the archive's columns).",
        )

    def _difference(self, before: Column) -> str:
        now = self._target.columns[before.name]
        types = f"archived as {type_in_words(before, now)}, {type_in_words(now, before)} now"
        return f"its column {before.name} ({types}{', generated' if now.generated else ''})"

    def _require_taken(self, numbers: Sequence[int]) -> None:
        """See that rows which were not inserted, though no row of their key is there, met another row.

        Raises:
            RestoreError: A trigger kept them out.
        """
        guards = [name for name, _, each_row_first in self._triggers() if each_row_first] if numbers else []
        if not guards:
            return
        kept_out = sum(not self._meets_another(number) for number in numbers)
        if kept_out:
            raise RestoreError(
                f"a trigger kept {kept_out} rows out of {self._target}",
                found=", ".join(guards),
                hint="Nothing of this batch was loaded; batches before it stay and are not loaded twice. Disable the trigger "
                "for the restore, or restore into a table of its own.",
            )

    def _meets_another(self, number: int) -> bool:
        """Whether one row of the batch cannot go in because another has a value that must be unique."""
        statement = sql.SQL("{} WHERE n = {}").format(self._inserting, sql.Literal(number))
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(statement)
        except (errors.UniqueViolation, errors.ExclusionViolation):
            return True
        return False

    def _all_copied(self, batch: Batch) -> dict[str, int] | None:
        """Copy the batch into the table if none of its rows is there, and read it back.

        Returns:
            The highest values in columns that a sequence counts; None if nothing was copied.
        """
        highest: dict[str, int] = {}
        keys: list[bytes] = []
        places = [self._fit.loaded.index(name) for name in self._shape.primary_key]
        complete, number = False, 0
        try:
            with self._connection.transaction():
                self._set_up()
                self._keep_claim()
                with self._connection.cursor() as cursor:
                    with cursor.copy(self._copying) as copy:
                        for piece in batch.pieces(self._rebuilt.reader):
                            copy.write(piece.text)
                            _note_highest(highest, self._counted, piece)
                            columns = [piece.column(place) for place in places]
                            numbers = map(str, range(number, number + len(columns[0])))
                            keys.append(copy_rows([numbers, *columns]))
                            number += len(columns[0])
                    complete = cursor.rowcount == len(batch) and self._lies_there(batch, keys)
                if not complete:
                    raise psycopg.Rollback
        except psycopg.OperationalError:
            raise
        except (msgspec.MsgspecError, psycopg.Error):
            return None
        return highest if complete else None

    def _lies_there(self, batch: Batch, keys: Sequence[bytes]) -> bool:
        """Whether the table has the rows of a batch as they were archived."""
        self._settle()
        with (
            self._connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_KEYS)) as copy,
        ):
            copy.write(b"".join(keys))
        joined = sql.SQL("{} AS r LEFT JOIN {} AS t ON {}").format(_KEYS, self._target.name, self._on_key(sql.SQL("r")))
        rows, texts = self._reader.texts(self._looking(joined, sql.SQL("true"), sql.SQL("true")))
        return len(rows) == len(batch) and batch.equals(texts, self._reader.writer)

    def _triggers(self) -> list[tuple[Any, ...]]:
        with self._connection.transaction():
            pin(self._connection)
            return fetch_rows(self._connection, _TRIGGERS, self._target.oid, self._target.oid)

    def _rebuild(self, lines: list[bytes]) -> int:
        """Have the server read the lines; returns how many rows are wanted."""
        shape = self._shape
        conditions = list(_in_range(self._request, self._names.get(shape.date_column), shape))
        if self._request.keys:
            same = sql.SQL(" AND ").join(
                sql.SQL("w.{name} = r.{name}").format(name=self._names[name]) for name in shape.primary_key
            )
            conditions.append(sql.SQL("EXISTS (SELECT FROM {} AS w WHERE {})").format(_WANTED, same))
        try:
            self._rebuilt.fill(lines)
        except UNREADABLE as error:
            raise IntegrityError(
                f"archived rows of {shape.schema_name}.{shape.table_name} do not read back into their column types",
                found=told(error),
                hint="Nothing of this batch was loaded. The bytes are those that were archived; a type has changed since, "
                "such as an enum without one of its labels or a domain with a stricter check: restore the type first.",
            ) from None
        if not conditions:
            return len(lines)
        unwanted = sql.SQL("DELETE FROM {} AS r WHERE ({}) IS NOT TRUE").format(
            self._rebuilt.table, sql.SQL(" AND ").join(conditions)
        )
        return len(lines) - self._connection.execute(unwanted).rowcount

    @property
    def _inserting(self) -> sql.Composed:
        columns = [sql.Identifier(name) for name in self._fit.loaded]
        values: list[sql.Composable] = [self._names[name] for name in self._fit.loaded]
        if self._fit.kept_aside:
            columns.append(sql.Identifier(SIDE_COLUMN))
            values.append(sql.SQL("dropped"))
        return sql.SQL("INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            self._target.name, sql.SQL(", ").join(columns), sql.SQL(", ").join(values), self._rebuilt.table
        )

    def _insert(self) -> int:
        """Insert what is not there, and note its keys; returns how many rows that were."""
        key = self._shape.primary_key
        statement = sql.SQL(
            "WITH loaded AS ({} ORDER BY n ON CONFLICT {} DO NOTHING RETURNING {}) INSERT INTO {} ({}) SELECT * FROM loaded"
        ).format(
            self._inserting,
            self._arbiter,
            sql.SQL(", ").join(sql.Identifier("t", name) for name in key),
            _ADDED,
            sql.SQL(", ").join(self._names[name] for name in key),
        )
        return self._connection.execute(statement).rowcount

    def _refused(self, error: psycopg.Error) -> RestoreError | None:
        """What the server said of a row, without its message: that may quote the row. None if it spoke of something else."""
        diagnosis = error.diag
        named = named_by_server(diagnosis) or "unknown"
        kind = f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
        hint = "Nothing of this batch was loaded; batches before it stay and are not loaded twice. "
        where = diagnosis.context or ""
        raising = [name for name, function, _ in self._triggers() if function in where] if where else []
        if raising:
            return RestoreError(
                f"a trigger of {self._target} raised an error when archived rows were inserted",
                found=f"{', '.join(raising)}: {kind}",
                hint=f"{hint}Disable the trigger for the restore, or restore into a table of its own.",
            )
        if not isinstance(error, _REFUSALS):
            return None
        if isinstance(error, errors.ForeignKeyViolation):
            return RestoreError(
                f"rows for {self._target} refer to rows of {self._referred(named)} that are not there (foreign key {named})",
                hint=f"{hint}Restore those rows first, then clear this task; or restore into a table of its own.",
            )
        if isinstance(error, errors.CheckViolation) and diagnosis.constraint_name is None:
            return RestoreError(
                f"{self._target} has no partition for an archived row",
                hint=f"{hint}Where the partition was detached and waits in schema strongroom_detached, bring it back and no restore "
                "is needed (docs/partitions.md); else make one for that time, then clear this task; or restore into a table of its "
                "own.",
            )
        if isinstance(error, (errors.UniqueViolation, errors.ExclusionViolation)):
            return RestoreError(
                f"another row of {self._target} has a value of an archived row that must be unique",
                found=named,
                hint=f"{hint}Such rows are counted and left out where the constraint is not deferrable. Change the other row, or "
                "drop the constraint for the restore, then clear this task; or restore into a table of its own.",
            )
        return RestoreError(
            f"{self._target} does not take an archived row",
            found=f"{type(error).__name__} of {named}",
            hint=f"{hint}A rule of the table or of a type came after the rows were archived: lift it for the restore, or "
            "restore into a table of its own.",
        )

    def _referred(self, constraint: str) -> str:
        rows = fetch_rows(
            self._connection,
            "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_constraint f "
            "JOIN pg_catalog.pg_class c ON c.oid = f.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE f.contype = 'f' AND f.conname = %s AND f.conrelid = %s",
            constraint,
            self._target.oid,
        )
        return str(rows[0][0]) if rows else "another table"

    def _look(self) -> list[FoundRow]:
        """What lies in the table under the keys of the batch."""
        return self._reader.rows(self.looking)

    @property
    def looking(self) -> sql.Composed:
        """The query for what lies in the table; other joins than by index must be switched off."""
        aside: sql.Composable = sql.SQL("true")
        if self._fit.kept_aside:
            aside = sql.SQL("concat(t.{}) = concat(r.dropped)").format(sql.Identifier(SIDE_COLUMN))
        on_added = sql.SQL(" AND ").join(
            sql.SQL("a.{name} = r.{name}").format(name=self._names[name]) for name in self._shape.primary_key
        )
        joined = sql.SQL("{} AS r LEFT JOIN {} AS t ON {} LEFT JOIN {} AS a ON {}").format(
            self._rebuilt.table, self._target.name, self._on_key(sql.SQL("r")), _ADDED, on_added
        )
        return self._looking(joined, sql.SQL("a.added IS NOT NULL"), aside)

    def _looking(self, joined: sql.Composed, added: sql.Composable, aside: sql.Composable) -> sql.Composed:
        there = sql.SQL("t.{} IS DISTINCT FROM NULL").format(sql.Identifier(self._shape.primary_key[0]))
        return sql.SQL("SELECT r.n, {}, {}, {}, {} FROM {} ORDER BY r.n").format(
            added, there, aside, self._reader.values(), joined
        )

    def _on_key(self, other: sql.SQL) -> sql.Composed:
        """The condition that the target's row has the key of another one, whose columns have names of ours."""
        return sql.SQL(" AND ").join(
            sql.SQL("t.{} = {}.{}").format(sql.Identifier(name), other, self._names[name])
            for name in self._shape.primary_key
        )

    def _extremes(self) -> dict[str, int]:
        """The highest values of the batch in columns that a sequence counts."""
        if not self._counted:
            return {}
        highest = (sql.SQL("max(r.{})").format(self._names[name]) for name in self._counted)
        query = sql.SQL("SELECT {} FROM {} AS r").format(sql.SQL(", ").join(highest), self._rebuilt.table)
        row: Any = self._connection.execute(query).fetchone()
        return {name: value for name, value in zip(self._counted, row, strict=True) if value is not None}

    def _different(self, there: Mapping[int, bool]) -> Iterator[DifferentRow]:
        """Rows of the batch by their numbers, and whether there is a row of their key."""
        key = sql.SQL(", ").join(sql.SQL("concat(r.{})").format(self._names[name]) for name in self._shape.primary_key)
        query = sql.SQL("SELECT n, ARRAY[{}] FROM {} AS r WHERE n = ANY ({}) ORDER BY n").format(
            key, self._rebuilt.table, sql.Literal([*there])
        )
        rows: list[Any] = self._connection.execute(query).fetchall() if there else []
        for number, key_texts in rows:
            yield DifferentRow(key=tuple(key_texts), why="changed" if there[number] else "taken")


def _note_highest(highest: dict[str, int], places: Mapping[str, int], piece: Piece) -> None:
    """Keep the highest values of some columns of integers, by their places."""
    for name, place in places.items():
        values = [int(text) for text in piece.column(place) if text != NULL]
        if values:
            highest[name] = max(*values, highest.get(name, values[0]))


def _date_column(shape: TableShape) -> Column:
    """The column that dates a row, of a type that needs no word of the manifest's: the table may have it no more."""
    [column] = [column for column in shape.columns if column.name == shape.date_column]
    return column.model_copy(update={"base_type": _DATES[shape.date_type]})


def _in_range(request: RestoreRequest, column: sql.Identifier | None, shape: TableShape) -> Iterator[sql.Composable]:
    """Conditions on the rebuilt row ``r``: inside the time range of the request."""
    for bound, operator in ((request.since, ">="), (request.before, "<")):
        if bound is not None:
            yield sql.SQL("r.{} {} {}").format(column, sql.SQL(operator), dated(bound, shape.date_type))


def _wanted_keys(request: RestoreRequest) -> bytes:
    """The key list as COPY reads it."""
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return "".join("\t".join(value.translate(escapes) for value in key) + "\n" for key in request.keys).encode()
