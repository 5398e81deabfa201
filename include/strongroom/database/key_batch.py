"""A batch of archived keys and digests as a temporary table, to look up the rows with these keys."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from strongroom.database.copy_in import copy_in
from strongroom.database.session import Connection, set_locally
from strongroom.records import TableShape

BATCH = sql.Identifier("pg_temp", "strongroom_batch")
"""Columns ``k0``, ``k1``, … of the primary key, and ``digest``."""


def batch_table(key_types: Sequence[str], form: str) -> sql.Composed:
    """The statement that creates the table.

    Args:
        key_types: Types of the primary key's columns.
        form: The rest of the statement around name and columns: ``IF NOT EXISTS {} ON COMMIT DELETE ROWS``.
    """
    keys = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(f"k{position}"), sql.SQL(type_))
        for position, type_ in enumerate(key_types)
    )
    # A digest of any length would give the table a second one for long values, which the server then empties after each batch too.
    described = sql.SQL("strongroom_batch ({}, digest varchar(64))").format(keys)
    return sql.SQL("CREATE TEMPORARY TABLE " + form).format(described)


def fill_batch(connection: Connection, lines: Sequence[bytes]) -> None:
    """Add lines of keys and digests to the batch: :class:`strongroom.tables.archived_rows.ArchivedKeys`."""
    copy_in(connection, BATCH, b"".join(lines))


def same_key(shape: TableShape, alias: str) -> sql.Composed:
    """A condition on the row ``t``: it has the key of a row of the batch.

    Args:
        shape: Of the table.
        alias: What the statement calls the row of the batch.
    """
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = {}.{}").format(sql.Identifier(name), sql.Identifier(alias), sql.Identifier(f"k{position}"))
        for position, name in enumerate(shape.primary_key)
    )


BY_INDEX = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""Settings with which the server finds rows by the index of the key: a batch is small beside the table, whatever the planner
thinks."""


def join_by_index(connection: Connection) -> None:
    """Set :data:`BY_INDEX` for this transaction."""
    set_locally(connection, BY_INDEX)
