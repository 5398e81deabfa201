"""The errors of a load. They name the trigger, the constraint or the column, and quote no row: the server's message may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors

from strongroom.database.session import Connection, fetch_rows, named_by_server, pin
from strongroom.errors import RestoreError
from strongroom.records import Column
from strongroom.restore.fit import SIDE_COLUMN, type_in_words
from strongroom.restore.statements import REFERRED_TABLE, TRIGGERS
from strongroom.restore.target import Target

if TYPE_CHECKING:
    from strongroom.restore.target_rows import FoundRow, TargetReader

_ROW_ERRORS = (psycopg.IntegrityError, psycopg.DataError, errors.RaiseException)
_SAFE = "Nothing of this batch was loaded; batches before it stay and are not loaded twice."
_ELSEWHERE = "or restore into a table of its own."

TYPE_CHANGED = (
    "Nothing of this batch was loaded. The bytes are those that were archived; a type has changed since, such as an enum "
    "without one of its labels or a domain with a stricter check: restore the type first."
)
"""The hint where archived rows do not read back into the types of their columns."""


class Refusals:
    """Explains why the target does not hold the rows that were archived."""

    def __init__(self, connection: Connection, target: Target, reader: TargetReader) -> None:
        self._connection, self._target, self._reader = connection, target, reader

    def refused(self, error: psycopg.Error) -> RestoreError | None:
        """The server refused a row. None if its error is about something else."""
        where = error.diag.context or ""
        raising = [name for name, function, _ in self._triggers() if function in where] if where else []
        if raising:
            return RestoreError(
                f"a trigger of {self._target} raised an error when archived rows were inserted",
                found=f"{', '.join(raising)}: {type(error).__name__} (SQLSTATE {error.sqlstate})",
                hint=f"{_SAFE} Disable the trigger for the restore, {_ELSEWHERE}",
            )
        return self._refused_by_rule(error) if isinstance(error, _ROW_ERRORS) else None

    def _refused_by_rule(self, error: psycopg.Error) -> RestoreError:
        named = named_by_server(error.diag) or "unknown"
        if isinstance(error, errors.ForeignKeyViolation):
            return RestoreError(
                f"rows for {self._target} refer to rows of {self._referred(named)} that are not there (foreign key {named})",
                hint=f"{_SAFE} Restore those rows first, then clear this task; {_ELSEWHERE}",
            )
        if isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None:
            return RestoreError(
                f"{self._target} has no partition for an archived row",
                hint=f"{_SAFE} If the partition was detached and waits in schema strongroom_detached, attach it again and no "
                "restore is needed (docs/howto/partitions.md). Otherwise create a partition for that time, then clear this "
                f"task; {_ELSEWHERE}",
            )
        if isinstance(error, (errors.UniqueViolation, errors.ExclusionViolation)):
            return RestoreError(
                f"another row of {self._target} has a value of an archived row that must be unique",
                found=named,
                hint=f"{_SAFE} Such rows are counted and left out where the constraint is not deferrable. Change the other "
                f"row, or drop the constraint for the restore, then clear this task; {_ELSEWHERE}",
            )
        return RestoreError(
            f"{self._target} does not take an archived row",
            found=f"{type(error).__name__} of {named}",
            hint=f"{_SAFE} A rule of the table or of a type came after the rows were archived: lift it for the restore, "
            f"{_ELSEWHERE}",
        )

    def _referred(self, constraint: str) -> str:
        rows = fetch_rows(self._connection, REFERRED_TABLE, constraint, self._target.oid)
        return str(rows[0][0]) if rows else "another table"

    def altered(self, archived: Mapping[int, bytes], rows: Sequence[FoundRow], count: int) -> RestoreError:
        """Inserted rows are not in the table as they were archived.

        Args:
            archived: Texts of the batch, by number.
            rows: What the table holds instead.
            count: How many rows that concerns.
        """
        triggers = [name for name, *_ in self._triggers()]
        return RestoreError(
            f"{count} rows are not what was archived once they are in {self._target}",
            expected="rows that are in the table as they were archived",
            found="; ".join(self._differences(archived, rows)) or "rows that are gone again, or lie beside the table",
            hint="Nothing of this batch was loaded; batches before it were compared and stay. "
            + (f"If it is a trigger ({', '.join(triggers)}), disable it for the restore. " if triggers else "")
            + "What a type, a domain or a generated column changes can be restored into a table of its own (a new target, "
            "created from the archive's columns).",
        )

    def _differences(self, archived: Mapping[int, bytes], rows: Sequence[FoundRow]) -> list[str]:
        columns: dict[str, Column] = {}
        for row in rows:
            if row.there and row.number in archived:
                columns |= self._reader.differing(archived[row.number], row.text)
        aside = any(row.there and not row.aside for row in rows)
        return [*map(self._difference, columns.values()), *([f"its column {SIDE_COLUMN}"] if aside else [])]

    def _difference(self, before: Column) -> str:
        now = self._target.columns[before.name]
        types = f"archived as {type_in_words(before, now)}, {type_in_words(now, before)} now"
        return f"its column {before.name} ({types}{', generated' if now.generated else ''})"

    def guards(self) -> list[str]:
        """Triggers that can keep single rows out of the table."""
        return [name for name, _, before_each_row in self._triggers() if before_each_row]

    def kept_out(self, count: int, guards: Sequence[str]) -> RestoreError:
        """A trigger kept rows out without an error."""
        return RestoreError(
            f"a trigger kept {count} rows out of {self._target}",
            found=", ".join(guards),
            hint=f"{_SAFE} Disable the trigger for the restore, {_ELSEWHERE}",
        )

    def _triggers(self) -> list[tuple[Any, ...]]:
        with self._connection.transaction():
            pin(self._connection)
            return fetch_rows(self._connection, TRIGGERS, self._target.oid, self._target.oid)
