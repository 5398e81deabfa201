"""Load batches of archived rows into one target, each in one transaction that commits only what equals the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import IsolationLevel, errors, sql

from strongroom.database.copy_in import copy_in
from strongroom.database.key_batch import BY_INDEX
from strongroom.database.rebuild import UNREADABLE, RebuiltRows, told
from strongroom.database.retry import retry_transient
from strongroom.database.session import Connection, fetch_rows, pin, read_life
from strongroom.errors import RestoreError
from strongroom.formats.blocks import CutRows
from strongroom.formats.copy_text import escape, picked
from strongroom.formats.line_reader import unreadable
from strongroom.ledger.claims import KeepClaim
from strongroom.records import Column, TableShape
from strongroom.restore.fit import Fit
from strongroom.restore.progress import Outcome
from strongroom.restore.records import DifferentRow, RestoreRequest
from strongroom.restore.refusals import TYPE_CHANGED, Refusals
from strongroom.restore.statements import HAS_DEFERRABLE, WANTED, LoadStatements, temporary_table
from strongroom.restore.straight_copy import StraightCopy
from strongroom.restore.target import Target
from strongroom.restore.target_rows import FoundRow, TargetReader

_DATES = {"date": "date", "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}


class Loader:
    """Loads batches of archived rows into one target in one session.

    Args:
        fit: How the archive's columns go into the target.
        shape: The archive's shape of the table.
        request: Which rows are wanted.
        keep_claim: Called in each transaction; raises when this run no longer holds the partition's claims.
    """

    def __init__(
        self,
        connection: Connection,
        target: Target,
        fit: Fit,
        shape: TableShape,
        request: RestoreRequest,
        keep_claim: KeepClaim,
    ) -> None:
        self._connection, self._keep_claim = connection, keep_claim
        self._target, self._fit, self._shape, self._request = target, fit, shape, request
        self.life = read_life(connection)
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        self._rebuilt = _rebuilt_rows(connection, target, fit, shape, request)
        self._reader = TargetReader(connection, shape, fit.compared)
        self._refusals = Refusals(connection, target, self._reader)
        [(deferrable,)] = fetch_rows(connection, HAS_DEFERRABLE, target.oid, target.oid)
        self._statements = LoadStatements(
            target, fit, shape, self._rebuilt.names, self._reader.values(), has_deferrable=deferrable
        )
        self._counted = [name for name in fit.loaded if name in target.sequences]
        self._copies = not (request.keys or request.since or request.before or fit.kept_aside)
        self._straight = StraightCopy(connection, target, fit, shape, self._statements, self._reader)
        self._create_temporary_tables()

    def copy(self, batch: CutRows, meanwhile: Callable[[], None]) -> Outcome | None:
        """Copy one batch into the table, in one transaction.

        Args:
            meanwhile: Called now and then while the server is busy.

        Returns:
            None if nothing was copied, for whatever reason: comparing the batch row by row then finds the reason.
        """
        if not self._copies:
            return None
        highest = retry_transient(lambda: self._copy_all(batch, meanwhile))
        # Once a batch cannot be copied, other rows of the part may be in the table, too: the rest is compared.
        self._copies = highest is not None
        if highest is None:
            return None
        rows = len(batch.rows)
        return Outcome(rows, wanted=rows, inserted=rows, unchanged=0, different=[], more_different=0, highest=highest)

    def compare(self, rows: Sequence[bytes], *, room: int) -> Outcome:
        """Insert the missing rows of a batch, and compare all of its rows with the table, in one transaction.

        Args:
            rows: Canonical texts without their newlines.
            room: How many more different rows may be listed.
        """
        try:
            return retry_transient(lambda: self._insert_and_compare(rows, room))
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            refusal = self._refusals.refused(error)
            if refusal is None:
                raise
            raise refusal from None

    def _create_temporary_tables(self) -> None:
        key = [self._rebuilt.described[name] for name in self._shape.primary_key]
        for statement in self._statements.temporary_tables(key):
            self._connection.execute(statement)
        if self._request.keys:
            for statement in temporary_table(WANTED, key, sql.SQL("")):
                self._connection.execute(statement)
            self._fill_wanted()

    def _fill_wanted(self) -> None:
        try:
            copy_in(self._connection, WANTED, _wanted_keys(self._request))
        except psycopg.DataError as error:
            types = {column.name: column.type for column in self._shape.columns}
            raise RestoreError(
                f"a key of the request is not a primary key of {self._target}",
                expected=", ".join(f"{name} ({types[name]})" for name in self._shape.primary_key),
                found=type(error).__name__,
                hint="Nothing was loaded. Write the keys as PostgreSQL prints them.",
            ) from None

    def _copy_all(self, batch: CutRows, meanwhile: Callable[[], None]) -> dict[str, int] | None:
        """Copy the batch, and read it back; commit only if the table then holds what was archived.

        Returns:
            The highest value of each column that a sequence counts; None if nothing was copied.
        """
        highest: dict[str, int] = {}
        equal = False
        try:
            with self._connection.transaction():
                self._set_up()
                self._keep_claim()
                highest = self._straight.copy(batch.rows, meanwhile)
                self._settle()
                equal = self._straight.is_there(batch)
                if not equal:
                    raise psycopg.Rollback
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            return None
        return highest if equal else None

    def _insert_and_compare(self, rows: Sequence[bytes], room: int) -> Outcome:
        with self._connection.transaction():
            self._set_up()
            self._keep_claim()
            wanted = self._rebuild(rows)
            inserted = self._connection.execute(self._statements.insert).rowcount
            self._settle()
            found = self._reader.rows(self._statements.look_at_rebuilt)
            archived = dict(enumerate(self._reader.archived(rows)))
            self._require_unaltered(found, archived, wanted=wanted, inserted=inserted)
            different = [row for row in found if not row.added and archived.get(row.number) != row.text]
            self._require_conflicts([row.number for row in different if not row.there])
            listed = list(self._describe({row.number: row.there for row in different[: max(room, 0)]}))
            return Outcome(
                rows=len(rows),
                wanted=wanted,
                inserted=inserted,
                unchanged=wanted - inserted - len(different),
                different=listed,
                more_different=len(different) - len(listed),
                highest=self._highest_rebuilt(),
            )

    def _set_up(self) -> None:
        pin(self._connection, locally=BY_INDEX)

    def _settle(self) -> None:
        """Fire everything that waits for the end of the transaction, and reset what triggers set in the session."""
        self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self._set_up()

    def _rebuild(self, rows: Sequence[bytes]) -> int:
        """Have the server read the rows into the temporary table; returns how many are wanted."""
        try:
            self._rebuilt.fill(self._rebuilt_texts(rows))
        except UNREADABLE as error:
            raise unreadable(self._shape, told(error), hint=TYPE_CHANGED) from None
        unwanted = self._statements.delete_unwanted(self._request)
        return len(rows) - (self._connection.execute(unwanted).rowcount if unwanted is not None else 0)

    def _rebuilt_texts(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        texts = self._picked(rows, self._rebuilt.names)
        if not self._fit.kept_aside:
            return texts
        return [b"%b\t%b" % both for both in zip(texts, self._set_aside(rows), strict=True)]

    def _set_aside(self, rows: Sequence[bytes]) -> Iterator[bytes]:
        """The values of columns that the table no longer has: a JSON object for each row, as they stand in a JSON line."""
        from strongroom.formats.line_writer import LineWriter  # imports Arrow, which other restores do not need
        from strongroom.formats.row_texts import read_copy

        gone = [column for column in self._shape.columns if column.name in self._fit.kept_aside]
        texts = self._picked(rows, [column.name for column in gone])
        objects = LineWriter(self._shape.model_copy(update={"columns": tuple(gone)})).lines(
            read_copy(len(gone), b"\n".join(texts), len(texts))
        )
        return (escape(one.decode()).encode() for one in objects.split(b"\n")[:-1])

    def _picked(self, rows: Sequence[bytes], names: Iterable[str]) -> Sequence[bytes]:
        archived = [column.name for column in self._shape.columns]
        return picked(rows, len(archived), [*map(archived.index, names)])

    def _require_unaltered(
        self, found: Sequence[FoundRow], archived: Mapping[int, bytes], *, wanted: int, inserted: int
    ) -> None:
        """Check that each inserted row is in the table as it was archived, and that each wanted row was looked at once.

        Raises:
            RestoreError: Names the columns that differ.
        """
        altered = [row for row in found if row.added and (not row.aside or archived.get(row.number) != row.text)]
        added = sum(row.added for row in found)
        if altered or added != inserted or not len({row.number for row in found}) == len(found) == wanted:
            raise self._refusals.altered(archived, altered, len(altered) or inserted)

    def _require_conflicts(self, numbers: Sequence[int]) -> None:
        """Check that rows that were not inserted, though the table has no row of their key, conflict with another row.

        Raises:
            RestoreError: A trigger kept them out.
        """
        guards = self._refusals.guards() if numbers else []
        if not guards:
            return
        kept_out = sum(not self._conflicts(number) for number in numbers)
        if kept_out:
            raise self._refusals.kept_out(kept_out, guards)

    def _conflicts(self, number: int) -> bool:
        """Whether one row of the batch cannot be inserted because another has a value that must be unique."""
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(self._statements.insert_one(number))
        except (errors.UniqueViolation, errors.ExclusionViolation):
            return True
        return False

    def _highest_rebuilt(self) -> dict[str, int]:
        """The highest value of each column that a sequence counts."""
        if not self._counted:
            return {}
        row: Any = self._connection.execute(self._statements.highest_values(self._counted)).fetchone()
        return {name: value for name, value in zip(self._counted, row, strict=True) if value is not None}

    def _describe(self, there: Mapping[int, bool]) -> Iterator[DifferentRow]:
        """Rows that were not loaded, by their numbers, with whether the table has a row of their key."""
        rows: list[Any] = self._connection.execute(self._statements.keys_of([*there])).fetchall() if there else []
        for number, key_texts in rows:
            yield DifferentRow(key=tuple(key_texts), why="changed" if there[number] else "taken")


def _rebuilt_rows(
    connection: Connection, target: Target, fit: Fit, shape: TableShape, request: RestoreRequest
) -> RebuiltRows:
    columns = {column.name: column for column in fit.rebuilt}
    if request.since is not None or request.before is not None:
        columns = {shape.date_column: _date_column(shape)} | columns
    collations = {name: _collation(target, name) for name in columns}
    return RebuiltRows(connection, [*columns.values()], collations=collations, aside=bool(fit.kept_aside))


def _date_column(shape: TableShape) -> Column:
    """The column that dates a row, with a type that does not come from the manifest: the table may no longer have it."""
    [column] = [column for column in shape.columns if column.name == shape.date_column]
    return column.model_copy(update={"base_type": _DATES[shape.date_type]})


def _collation(target: Target, name: str) -> sql.Composable:
    """The target's own collation, without which two columns could not be compared."""
    collation = target.collations.get(name)
    return sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL("")


def _wanted_keys(request: RestoreRequest) -> bytes:
    """The keys of the request for COPY."""
    return "".join("\t".join(map(escape, key)) + "\n" for key in request.keys).encode()
