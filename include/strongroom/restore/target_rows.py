"""Rows of the target as they are in the table after the load: their canonical texts, which are compared with the archived ones.

What is compared is the server's text alone. No value passes through a type of today before the comparison, and nothing that
a trigger set in the session can change the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from psycopg import sql

from strongroom.database.copy_out import copied_blocks
from strongroom.database.rows import row_columns
from strongroom.database.session import Connection
from strongroom.formats.copy_text import picked
from strongroom.records import Column, TableShape

_MESSAGES, _BYTES = 2000, 1 << 22


class FoundRow(NamedTuple):
    """What the table holds under the key of an archived row.

    Attributes:
        number: The archived row's number in its batch.
        added: Whether this batch inserted it.
        there: Whether there is a row of that key. If not, the text holds only NULLs.
        aside: Whether the values of dropped columns are in its side column.
        text: Its canonical text, with the columns that are compared.
    """

    number: int
    added: bool
    there: bool
    aside: bool
    text: bytes


class TargetReader:
    """Reads rows of the target back.

    Args:
        shape: The archive's shape of the table.
        columns: The archived columns that the table still has, as they were archived.
    """

    def __init__(self, connection: Connection, shape: TableShape, columns: Sequence[Column]) -> None:
        self._connection, self._columns = connection, columns
        self._width = len(shape.columns)
        self._positions = [position for position, column in enumerate(shape.columns) if column in columns]
        self._shape = shape.model_copy(update={"columns": tuple(columns)})

    def values(self) -> sql.Composed:
        """What a query selects of the row ``t``: its canonical text."""
        return row_columns(self._shape, "t")

    def texts(self, query: sql.Composable) -> bytes:
        """The rows of a query as COPY writes them, each with its newline."""
        copying = sql.SQL("COPY ({}) TO STDOUT").format(query)
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            return b"".join(copied_blocks(copy, most_messages=_MESSAGES, most_bytes=_BYTES))

    def rows(self, query: sql.Composable) -> list[FoundRow]:
        """The rows of a query that selects the four first fields of a :class:`FoundRow`, then :meth:`values`."""
        found = (row.split(b"\t", 4) for row in self.texts(query).split(b"\n")[:-1])
        return [
            FoundRow(int(number), added == b"t", there == b"t", aside == b"t", text)
            for number, added, there, aside, text in found
        ]

    def archived(self, texts: Sequence[bytes]) -> Sequence[bytes]:
        """Archived texts with only the columns that are compared."""
        return picked(texts, self._width, self._positions)

    def differing(self, archived: bytes, found: bytes) -> Mapping[str, Column]:
        """The columns in which two texts differ, by name."""
        fields = zip(self._columns, archived.split(b"\t"), found.split(b"\t"), strict=True)
        return {column.name: column for column, before, now in fields if before != now}
