"""The statements of a run, and how the server plans them. EXPLAIN without ANALYZE: nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from strongroom.archive.extract_to_staging import extract_query
from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.key_batch import BATCH, BY_INDEX
from strongroom.database.session import NOTHING, Connection, qualified, set_locally
from strongroom.formats.blocks import BLOCK_ROWS
from strongroom.preview.records import Statement
from strongroom.records import PlannedPart
from strongroom.settings import TableSettings
from strongroom.tables.delete_batch import key_delete, key_move
from strongroom.tables.delete_range import NEAREST_INDEX, range_delete
from strongroom.tables.partitions import Leaf, detach_statement
from strongroom.tables.warm import WarmTable

_COPY, _TO_STDOUT = "COPY (", ") TO STDOUT"


def statements_of(
    connection: Connection,
    settings: TableSettings,
    table: InspectedTable,
    warm: WarmTable | None,
    part: PlannedPart,
    leaves: list[Leaf],
) -> tuple[Statement, ...]:
    """How one part is read and deleted.

    Args:
        connection: In a transaction that is read only.
        settings: Of the table.
        table: The table, as it is now.
        warm: Where its rows move to.
        part: The part.
        leaves: Table partitions that are detached whole.
    """
    found = [_of_extract(connection, extract_query(table, part))]
    parent = qualified(settings.schema_name, settings.table_name)
    for leaf in leaves:
        text = detach_statement(parent, leaf.name).as_string(connection)
        found.append(Statement(what=f"detach {leaf}", sql=text, plan=("a change of definitions has no plan",)))
    if part.ordered and settings.delete_by != "key":
        found.append(_by_range(connection, table, warm, part))
    found.append(_by_key(connection, table, warm, settings))
    return tuple(found)


def _of_extract(connection: Connection, query: sql.Composed) -> Statement:
    text = query.as_string(connection)
    plan = _explained(connection, text.removeprefix(_COPY).removesuffix(_TO_STDOUT))
    return Statement(what="extract_to_staging", sql=text, plan=plan)


def _by_range(connection: Connection, table: InspectedTable, warm: WarmTable | None, part: PlannedPart) -> Statement:
    """The delete of one block. How long its range is, is known only once the rows are read: it is guessed from their number."""
    blocks = max(1, part.expected_rows // BLOCK_ROWS)
    window = Window(part.start_at, part.start_at + (part.end_at - part.start_at) / blocks)
    text = range_delete(table, warm, window).as_string(connection)
    return Statement(
        what="delete by range, one block", sql=text, plan=_explained(connection, text, planner=NEAREST_INDEX)
    )


def _by_key(
    connection: Connection, table: InspectedTable, warm: WarmTable | None, settings: TableSettings
) -> Statement:
    """The delete of a batch of keys. The plan is made with a stand-in for the temporary table of the batch."""
    text = _by_keys(table, warm, BATCH).as_string(connection)
    rows = min(settings.delete_batch_rows, 1000)
    names = [sql.Identifier(f"k{position}") for position in range(len(table.key_types))]
    arrays = [
        sql.SQL("array_fill(NULL::{}, ARRAY[{}])").format(sql.SQL(type_), sql.Literal(rows))
        for type_ in (*table.key_types, "varchar(64)")
    ]
    stand_in = sql.SQL("(SELECT * FROM unnest({}) AS keys ({}, digest))").format(
        sql.SQL(", ").join(arrays), sql.SQL(", ").join(names)
    )
    explained = _by_keys(table, warm, stand_in).as_string(connection)
    return Statement(
        what="delete one by one, a batch", sql=text, plan=_explained(connection, explained, planner=BY_INDEX)
    )


def _by_keys(table: InspectedTable, warm: WarmTable | None, batch: sql.Composable) -> sql.Composed:
    return key_delete(table, batch) if warm is None else key_move(table, warm, batch)


def _explained(connection: Connection, text: str, *, planner: Mapping[str, str] = NOTHING) -> tuple[str, ...]:
    """Lines of EXPLAIN; or one that says why there are none."""
    try:
        with connection.transaction(force_rollback=True):
            set_locally(connection, planner)
            rows = connection.execute(f"EXPLAIN {text}".encode()).fetchall()
    except psycopg.Error as error:
        return (f"the server does not explain it: {type(error).__name__}",)
    return tuple(str(row[0]) for row in rows)
