"""Rows of the target as they are in the table after the load, in the form that archives have.

The row that is compared with the archive is made of the table's text alone, by the code that wrote the archive. No value
passes through a type of today before the comparison, and nothing that a trigger set in the session can change the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring as _quote
from typing import NamedTuple

import msgspec
from psycopg import sql

from strongroom.database.copy_out import copied_blocks
from strongroom.database.rows import row_columns
from strongroom.database.session import Connection
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.row_texts import Texts, read_copy
from strongroom.records import Column, TableShape

_MESSAGES, _BYTES = 2000, 1 << 22

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class FoundRow(NamedTuple):
    """What the table holds under the key of an archived row.

    Attributes:
        number: The archived row's number in its batch.
        added: Whether this batch inserted it.
        there: Whether there is a row of that key. If not, the line holds only NULLs.
        aside: Whether the values of dropped columns are in its side column.
        line: Its JSON line, with the columns that are compared.
    """

    number: int
    added: bool
    there: bool
    aside: bool
    line: bytes


class TargetReader:
    """Reads rows of the target back.

    Args:
        shape: The archive's shape of the table.
        columns: The archived columns that the table still has, as they were archived.
    """

    def __init__(self, connection: Connection, shape: TableShape, columns: Sequence[Column]) -> None:
        self._connection, self._columns = connection, columns
        self._has_all_columns = tuple(columns) == shape.columns
        self._shape = shape.model_copy(update={"columns": tuple(columns)})
        self.writer = LineWriter(self._shape)

    def values(self) -> sql.Composed:
        """What a query selects of the row ``t``, after the four other fields of a :class:`FoundRow`."""
        return row_columns(self._shape, "t")

    def texts(self, query: sql.Composable) -> tuple[list[list[bytes]], Texts]:
        """Run a query.

        Args:
            query: Selects the four first fields of a :class:`FoundRow`, then :meth:`values`.

        Returns:
            The four fields of each row, and the columns.
        """
        copying = sql.SQL("COPY ({}) TO STDOUT").format(query)
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            answer = b"".join(copied_blocks(copy, most_messages=_MESSAGES, most_bytes=_BYTES))
        if not answer:
            return [], []
        rows = [line.split(b"\t", 4) for line in answer[:-1].split(b"\n")]
        texts = read_copy(len(self._columns), b"\n".join([row.pop() for row in rows]), len(rows))
        return rows, texts

    def rows(self, query: sql.Composable) -> list[FoundRow]:
        """Run a query as :meth:`texts` does, and return its rows."""
        marks, texts = self.texts(query)
        lines = self.writer.lines(texts).split(b"\n")[:-1] if marks else []
        return [
            FoundRow(int(number), added == b"t", there == b"t", aside == b"t", line)
            for (number, added, there, aside), line in zip(marks, lines, strict=True)
        ]

    def archived(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Archived lines with only the columns that are compared."""
        if self._has_all_columns:
            return lines
        names = [(_quote(column.name).encode(), column.name) for column in self._columns]
        return [self._reduced(names, _FIELDS.decode(line)) for line in lines]

    def _reduced(self, names: Sequence[tuple[bytes, str]], fields: dict[str, msgspec.Raw]) -> bytes:
        return b"{" + b",".join([quoted + b":" + bytes(fields[name]) for quoted, name in names]) + b"}"

    def differing(self, archived: bytes, found: bytes) -> list[Column]:
        """The columns in which two lines differ."""
        before, now = _FIELDS.decode(archived), _FIELDS.decode(found)
        return [column for column in self._columns if bytes(before[column.name]) != bytes(now[column.name])]
