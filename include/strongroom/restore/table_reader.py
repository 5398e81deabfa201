"""Rows of a table as they lie there after archived rows went in, in the form that archives have.

What is compared with an archive is made of the table's text alone, by the code that wrote the archive: no value passes
through a type of today on its way to the comparison, and nothing that a trigger left in the session has a say in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring as _quote
from typing import NamedTuple

import msgspec
from psycopg import sql

from strongroom.database.copy_out import copied_blocks
from strongroom.database.session import Connection
from strongroom.formats.line_writer import LineWriter
from strongroom.formats.row_texts import Texts, read_copy
from strongroom.formats.type_names import xml_columns
from strongroom.records import Column, TableShape

_MESSAGES, _BYTES = 2000, 1 << 22

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class FoundRow(NamedTuple):
    """What lies in the table under the key of an archived row.

    Attributes:
        number: Of the archived row in its batch.
        added: Whether the batch brought it.
        there: Whether there is any; if not, the line is one of NULLs.
        aside: Whether what was put aside lies beside it.
        line: Its JSON line, of the columns that are compared.
    """

    number: int
    added: bool
    there: bool
    aside: bool
    line: bytes


class TableReader:
    """Reads rows of a table back.

    Args:
        shape: Of the archive.
        columns: Those of its columns that the table has, as they were archived.
    """

    def __init__(self, connection: Connection, shape: TableShape, columns: Sequence[Column]) -> None:
        self._connection, self._columns = connection, columns
        self._whole = tuple(columns) == shape.columns
        self.writer = LineWriter(shape.model_copy(update={"columns": tuple(columns)}))

    def values(self) -> sql.Composed:
        """What a query says of the row ``t``, behind the four other fields of a :class:`FoundRow`: as
        :func:`shape.row_text` does, of these columns."""
        fields: list[sql.Composable] = [sql.Identifier("t", column.name) for column in self._columns]
        fields += [sql.SQL("{}::text").format(fields[position]) for position in xml_columns(self._columns)]
        return sql.SQL("concat(ROW({}))").format(sql.SQL(", ").join(fields))

    def texts(self, query: sql.Composable) -> tuple[list[list[bytes]], Texts]:
        """Run a query.

        Args:
            query: Gives the fields of a :class:`FoundRow`, and the values for its line.

        Returns:
            The four first fields of each row, and the columns.
        """
        copying = sql.SQL("COPY ({}) TO STDOUT").format(query)
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            answer = b"".join(copied_blocks(copy, most_messages=_MESSAGES, most_bytes=_BYTES))
        if not answer:
            return [], []
        rows = [line.split(b"\t", 4) for line in answer[:-1].split(b"\n")]
        _, texts = read_copy(self._columns, b"\n".join([row.pop() for row in rows]))
        return rows, texts

    def rows(self, query: sql.Composable) -> list[FoundRow]:
        """The same as rows."""
        marks, texts = self.texts(query)
        lines = self.writer.lines(texts).split(b"\n")[:-1] if marks else []
        return [
            FoundRow(int(number), added == b"t", there == b"t", aside == b"t", line)
            for (number, added, there, aside), line in zip(marks, lines, strict=True)
        ]

    def archived(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Archived lines with only those columns that are compared."""
        if self._whole:
            return lines
        names = [(_quote(column.name).encode(), column.name) for column in self._columns]
        return [self._reduced(names, _FIELDS.decode(line)) for line in lines]

    def _reduced(self, names: Sequence[tuple[bytes, str]], fields: dict[str, msgspec.Raw]) -> bytes:
        return b"{" + b",".join([quoted + b":" + bytes(fields[name]) for quoted, name in names]) + b"}"

    def differing(self, archived: bytes, found: bytes) -> list[Column]:
        """The columns in which two lines differ."""
        before, now = _FIELDS.decode(archived), _FIELDS.decode(found)
        return [column for column in self._columns if bytes(before[column.name]) != bytes(now[column.name])]
