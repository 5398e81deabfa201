"""What rows of a table look like in an archive: the SQL that writes them.

Four encodings say how a JSON line holds a value (``docs/archive-format.md`` tells the reader's side):

``json``   the value as ``to_json`` writes it: numbers with all their digits, text, ISO 8601 dates and times.
``jsonb``  an object or array as it stands; a bare string, number, boolean or null as a string that holds its JSON text,
           so that a JSON null and an SQL NULL stay apart.
``array``  a JSON array; a string with PostgreSQL's literal when a lower bound is not 1.
``text``   a string with PostgreSQL's literal, for everything else.

:mod:`strongroom.database.column_types` decides which one a column takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import sql

from strongroom.records import Column, TableShape


def shape_sha256(shape: TableShape) -> str:
    """Digest of a shape; two equal digests mean that rows read then and now have the same columns and types."""
    return hashlib.sha256(shape.model_dump_json().encode()).hexdigest()


def row_text(alias: sql.Composable, xml: Sequence[sql.Composable] = ()) -> sql.Composed:
    """The text of a whole row: every column that the table has at that moment, in order, then the exact text of its xml.

    Args:
        alias: What the statement calls the row.
        xml: Names of the columns that :func:`xml_columns` finds.
    """
    # Not alias::text: a column of that name would be taken for the row, and a cast of the row's type be followed.
    if not xml:
        return sql.SQL("concat({}.*)").format(alias)
    texts = sql.SQL(", ").join(sql.SQL("{}.{}::text").format(alias, name) for name in xml)
    return sql.SQL("concat(ROW({}.*, {}))").format(alias, texts)


def row_digest(alias: sql.Composable, xml: Sequence[sql.Composable] = ()) -> sql.Composed:
    """SHA-256, in hex, over :func:`row_text` in UTF-8."""
    return sql.SQL("encode(sha256(convert_to({}, 'UTF8')), 'hex')").format(row_text(alias, xml))


def digest_of_row(shape: TableShape, alias: str) -> sql.Composed:
    """:func:`row_digest` of a row of the table itself."""
    xml = [sql.Identifier(shape.columns[position].name) for position in xml_columns(shape.columns)]
    return row_digest(sql.Identifier(alias), xml)


def digest_of_columns(shape: TableShape, alias: str) -> sql.Composed:
    """:func:`row_digest` over the columns of a shape, in its order, whatever else or in whatever order the row has them.

    Args:
        shape: What was archived.
        alias: What the statement calls the row.
    """
    columns = sql.SQL(", ").join(sql.Identifier(alias, column.name) for column in shape.columns)
    return sql.SQL("(SELECT {} FROM (SELECT {}) AS archived)").format(digest_of_row(shape, "archived"), columns)


def json_line(shape: TableShape) -> sql.Composed:
    """An expression over the row ``t`` that gives its JSON line; :mod:`strongroom.formats.line_writer` writes the same, cheaper."""
    fields = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(json_value(column), sql.Identifier(column.name)) for column in shape.columns
    )
    return sql.SQL("(SELECT row_to_json(line.*) FROM (SELECT {}) AS line)").format(fields)


def json_value(column: Column) -> sql.Composed:
    """An expression over the row ``t`` that gives what a column's JSON is made of."""
    value = sql.SQL("t.{}").format(sql.Identifier(column.name))
    # concat() calls the type's own output function; ::text would follow a cast that somebody made, and xml's output
    # function would leave out the encoding that the document declares.
    text = "{v}::text" if column.base_type == "xml" else "CASE WHEN {v} IS DISTINCT FROM NULL THEN concat({v}) END"
    forms = {
        "json": "{v}",
        "text": text,
        "jsonb": "CASE WHEN jsonb_typeof({v}) IN ('object', 'array') THEN {v} ELSE to_jsonb({v}::text) END",
        "array": "CASE WHEN left(concat({v}), 1) = '[' THEN to_json(concat({v})) ELSE to_json({v}) END",
    }
    return sql.SQL(forms[column.encoding]).format(v=value)


def xml_columns(columns: Sequence[Column]) -> list[int]:
    """Positions of the columns whose exact text the row's own text does not have: xml's output function leaves out the
    encoding that a document declares, and with it the whole declaration."""
    return [position for position, column in enumerate(columns) if column.base_type == "xml"]
