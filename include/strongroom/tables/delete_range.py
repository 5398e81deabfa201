"""Delete the rows of a block by the range of their dates: the server returns their texts, which must have the block's digest.

No row is looked up, and no row's digest is known to the server. If the texts differ in anything, the caller takes the
statement back.
"""

from __future__ import annotations

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.copy_out import copied_rows
from strongroom.database.inspect import InspectedTable
from strongroom.database.rows import due_rows, row_columns
from strongroom.database.session import Connection
from strongroom.formats.blocks import digest
from strongroom.tables.block_ranges import BlockRange
from strongroom.tables.delete_batch import move_statement, require_moved
from strongroom.tables.warm import WarmTable

NEAREST_INDEX = {"enable_seqscan": "off"}
"""A range is small beside the table, whatever the planner thinks."""


def range_delete(table: InspectedTable, warm: WarmTable | None, window: Window) -> sql.Composed:
    """The statement that deletes the rows of a block, or moves them to the warm table.

    It selects their texts; with a warm table, and behind each how many arrived there.
    """
    delete = sql.SQL("DELETE FROM {} AS t WHERE {}").format(table.name, due_rows(table, window))
    if warm is None:
        return sql.SQL("{} RETURNING {}").format(delete, row_columns(table.shape, "t"))
    texts = sql.SQL("{}, (SELECT count(*) FROM moved) FROM gone").format(row_columns(table.shape, "gone"))
    return move_statement(delete, warm, texts)


def delete_range(connection: Connection, table: InspectedTable, warm: WarmTable | None, wanted: BlockRange) -> bool:
    """Delete the rows of a block, or move them to the warm table.

    Returns:
        Whether they are those that were archived, each letter of each row. If not, the caller rolls back to its savepoint.

    Raises:
        IntegrityError: Not all rows arrived in the warm table.
    """
    rows: list[bytes] = []
    more = False
    statement = range_delete(table, warm, wanted.window)
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(statement)) as copy:
        for batch in copied_rows(copy):
            rows += batch.split(b"\n")
            if len(rows) > wanted.block.rows:  # rows of others, however many
                more = True
                rows.clear()
    if warm is not None and rows and not more:
        _, _, moved = rows[0].rpartition(b"\t")
        require_moved(warm, len(rows), int(moved))
        rows = [row.rpartition(b"\t")[0] for row in rows]
    return not more and len(rows) == wanted.block.rows and digest(rows) == wanted.block.sha256
