"""The statements that delete archived rows one by one, a batch at a time, or move them to the warm tier.

The DELETE itself compares the SHA-256 of the row's JSON line with that of the archived line. Under READ COMMITTED the server repeats that comparison on the newest version of a row that another session changed meanwhile, so
there is no moment between looking and deleting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.key_batch import BATCH, BY_INDEX, batch_table, fill_batch, same_key
from strongroom.database.rows import dated_inside, line_digest, references_that_keep
from strongroom.database.session import Connection, pin
from strongroom.database.triggers import delete_triggers
from strongroom.errors import IntegrityError
from strongroom.ledger.evidence import KeptRow
from strongroom.settings import TableSettings
from strongroom.tables.warm import WarmTable


@dataclass(frozen=True)
class BatchResult:
    """What became of the rows of one batch; those that are not counted here were already gone.

    Attributes:
        deleted: Rows that were deleted or moved.
        detached: Rows that left the table in a detached partition.
        kept: Rows that are still in the table, each with the reason.
    """

    deleted: int
    detached: int
    kept: tuple[KeptRow, ...]


@dataclass(frozen=True)
class BatchDelete:
    """Deletes rows of one table, batch by batch.

    Attributes:
        connection: The session that deletes, under READ COMMITTED.
        settings: The table's settings.
        table: The table, as it is now.
        warm: Where the rows move to; None means that they are only deleted.
        detached: Windows of the partitions that were detached.
    """

    connection: Connection
    settings: TableSettings
    table: InspectedTable
    warm: WarmTable | None
    detached: Sequence[Window]

    def prepare(self) -> None:
        """Create the session's temporary table for batches; does nothing if it is there."""
        self.connection.execute(batch_table(self.table.key_types, "IF NOT EXISTS {} ON COMMIT DELETE ROWS"))

    def delete(self, batch: list[bytes]) -> BatchResult:
        """Delete the rows of a batch that still equal their archived form. The caller opens and commits the transaction."""
        pin(self.connection, locally=BY_INDEX)  # a deferred trigger of the batch before may have run at its commit
        fill_batch(self.connection, batch)
        detached = self._leave_out_detached() if self.detached else 0
        deleted = (
            self._move(self.warm) if self.warm is not None else self.connection.execute(key_delete(self.table)).rowcount
        )
        pin(self.connection)
        return BatchResult(deleted, detached, tuple(self._kept_rows()) if deleted < len(batch) else ())

    def _leave_out_detached(self) -> int:
        """Take the rows of detached partitions out of the batch; returns how many they are."""
        condition = dated_inside(self.table.shape, self.detached)
        return self.connection.execute(sql.SQL("DELETE FROM {} AS b WHERE {}").format(BATCH, condition)).rowcount

    def _move(self, warm: WarmTable) -> int:
        """Delete rows and insert exactly those into the warm table, in one statement."""
        row: Any = self.connection.execute(key_move(self.table, warm)).fetchone()
        deleted, moved = map(int, row)
        require_moved(warm, deleted, moved)
        return deleted

    def _kept_rows(self) -> Iterator[KeptRow]:
        """The rows of the batch that are still in the table after the DELETE, each with the reason.

        A row that equals its archived form and that no row refers to may have become so only after the DELETE looked.
        """
        rows: list[Any] = self.connection.execute(_kept_query(self.table)).fetchall()
        keeping = any(one.may_keep for one in delete_triggers(self.connection, self.settings))
        for key, unchanged, is_referred in rows:
            if not unchanged:
                reason = "changed"
            elif is_referred or (references_that_keep(self.table) and not keeping):
                reason = "referenced"
            else:
                reason = "trigger" if keeping else "changed"
            yield KeptRow(reason=reason, key=tuple(key))


def key_delete(table: InspectedTable, batch: sql.Composable = BATCH) -> sql.Composed:
    """Delete each row of a batch that equals its archived form and that no other row refers to.

    Args:
        table: What the rows are deleted from.
        batch: Holds their keys and digests.
    """
    conditions = [
        same_key(table.shape, "b"),
        sql.SQL("{} = b.digest").format(line_digest(table.shape, "t")),
        *(sql.SQL("NOT ") + one for one in references_that_keep(table)),
    ]
    return sql.SQL("DELETE FROM {} AS t USING {} AS b WHERE {}").format(
        table.name, batch, sql.SQL(" AND ").join(conditions)
    )


def key_move(table: InspectedTable, warm: WarmTable, batch: sql.Composable = BATCH) -> sql.Composed:
    """The same with a warm table, into which the rows move. It selects how many went, and how many arrived."""
    counted = sql.SQL("(SELECT count(*) FROM gone), (SELECT count(*) FROM moved)")
    return move_statement(key_delete(table, batch), warm, counted)


def move_statement(delete: sql.Composed, warm: WarmTable, selected: sql.Composable) -> sql.Composed:
    """Delete rows, insert them into the warm table, and select something of both: ``gone`` and ``moved``.

    A row that was warm before is replaced.
    """
    names = [sql.Identifier(name) for name in warm.columns]
    return sql.SQL(
        "WITH gone AS ({delete} RETURNING {returned}), moved AS (INSERT INTO {warm} ({columns}) SELECT {columns} FROM gone "
        "ON CONFLICT ({key}) DO UPDATE SET {replaced} RETURNING 1) SELECT {selected}"
    ).format(
        delete=delete,
        selected=selected,
        returned=sql.SQL(", ").join(sql.SQL("t.{}").format(name) for name in names),
        warm=warm.identifier,
        columns=sql.SQL(", ").join(names),
        key=sql.SQL(", ").join(map(sql.Identifier, warm.key)),
        replaced=sql.SQL(", ").join(sql.SQL("{name} = excluded.{name}").format(name=name) for name in names),
    )


def require_moved(warm: WarmTable, deleted: int, moved: int) -> None:
    """Check that all rows that a statement deleted have arrived in the warm table: a trigger there can swallow rows.

    Raises:
        IntegrityError: They have not.
    """
    if moved != deleted:
        raise IntegrityError(
            f"rows did not arrive in {warm}",
            expected=f"{deleted} rows",
            found=f"{moved} rows",
            hint="The batch was rolled back: its rows are in the live table. Look for triggers on the warm table, "
            "then clear this task.",
        )


def _kept_query(table: InspectedTable) -> sql.Composed:
    keys = sql.SQL(", ").join(
        # concat() calls the type's own output function; ::text would follow a user-defined cast.
        sql.SQL("concat(b.{})").format(sql.Identifier(f"k{p}"))
        for p in range(len(table.key_types))
    )
    referred = sql.SQL(" OR ").join([sql.SQL("false"), *references_that_keep(table)])
    return sql.SQL("SELECT ARRAY[{}], {} = b.digest, {} FROM {} AS b JOIN {} AS t ON {}").format(
        keys, line_digest(table.shape, "t"), referred, BATCH, table.name, same_key(table.shape, "b")
    )
