"""What rows of a table look like in an archive: the SQL that writes them.

Four encodings say how a JSON line holds a value (``docs/reference/archive-format.md`` tells the reader's side):

``json``   the value as ``to_json`` writes it: numbers with all their digits, text, ISO 8601 dates and times.
``jsonb``  an object or array as it stands; a bare string, number, boolean or null as a string that holds its JSON text,
           so that a JSON null and an SQL NULL stay apart.
``array``  a JSON array; a string with PostgreSQL's literal when a lower bound is not 1.
``text``   a string with PostgreSQL's literal, for everything else.

:mod:`strongroom.database.column_types` decides which one a column takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from strongroom.calendar import Window
from strongroom.database.inspect import InspectedTable
from strongroom.database.paths import object_references, refers, way_up
from strongroom.database.session import Connection, type_name
from strongroom.formats.type_names import xml_columns
from strongroom.records import Column, PlannedPart, TableShape


def row_columns(shape: TableShape, alias: str) -> sql.Composed:
    """What COPY must select of a row, for its text format to be the row's canonical text: :mod:`strongroom.formats.row_texts`.

    Args:
        shape: What is archived of the table. Its order of the columns counts, whichever the table has.
        alias: What the statement calls the row.
    """
    # xml's own output function leaves out the encoding that the document declares.
    xml = xml_columns(shape.columns)
    names = [
        sql.SQL("{}::text" if position in xml else "{}").format(sql.Identifier(alias, column.name))
        for position, column in enumerate(shape.columns)
    ]
    return sql.SQL(", ").join(names)


def line_digest(shape: TableShape, alias: str) -> sql.Composed:
    """SHA-256, in hex, of the JSON line in which an archive holds a row.

    Args:
        shape: What was archived.
        alias: What the statement calls the row.
    """
    return sql.SQL("encode(sha256(convert_to({}::text, 'UTF8')), 'hex')").format(json_line(shape, alias))


def json_line(shape: TableShape, alias: str = "t") -> sql.Composed:
    """An expression that gives a row's JSON line; :mod:`strongroom.formats.line_writer` writes the same, cheaper."""
    fields = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(json_value(column, alias), sql.Identifier(column.name)) for column in shape.columns
    )
    return sql.SQL("(SELECT row_to_json(line.*) FROM (SELECT {}) AS line)").format(fields)


def json_value(column: Column, alias: str = "t") -> sql.Composed:
    """An expression that gives what the JSON of a row's column is made of."""
    value = sql.Identifier(alias, column.name)
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


def due_rows(table: InspectedTable, window: Window) -> sql.Composed:
    """A condition on the row ``t``: dated inside the window, nothing refers to it, and its text reads back as itself."""
    return _due(table, window, references_that_keep(table))


def rows_to_archive(table: InspectedTable, window: Window) -> sql.Composed:
    """:func:`due_rows`; of a table of a unit, the rows of whole objects: references from inside the unit do not count."""
    return _due(table, window, references_that_exclude(table))


def references_that_keep(table: InspectedTable) -> list[sql.Composed]:
    """Conditions on the row ``t``: for each of them that it meets, it must not be deleted now."""
    return [
        *map(refers, table.references),
        *(object_references(table.unit, table.place) if table.unit else {}).values(),
    ]


def references_that_exclude(table: InspectedTable) -> list[sql.Composed]:
    """Conditions on the row ``t``: for each of them that it meets, it does not go into an archive."""
    return [condition for _, condition in exclusions_by_reference(table)]


def exclusions_by_reference(table: InspectedTable) -> list[tuple[str, sql.Composed]]:
    """:func:`references_that_exclude`, each with what it says, in words."""
    if table.unit is None:
        return [
            (f"{one.schema_name}.{one.table_name} refers to them ({one.name})", refers(one)) for one in table.references
        ]
    return [
        (
            f"{one.schema_name}.{one.table_name} refers to rows of {'.'.join(place)} ({one.name}); the whole objects stay",
            condition,
        )
        for (place, one), condition in object_references(table.unit, table.place).items()
    ]


def _due(table: InspectedTable, window: Window, references: Sequence[sql.Composed]) -> sql.Composed:
    conditions = [
        in_window(table, window),
        *(sql.SQL("NOT ") + one for one in references),
        *(reads_back(column) for column in table.text_to_try),
    ]
    return sql.SQL(" AND ").join(conditions)


def rows_of_part(table: InspectedTable, part: PlannedPart) -> sql.Composed:
    """A condition on the row ``t``: to be archived, and in the part's slice, and in its share of that."""
    due = rows_to_archive(table, part.window)
    if part.shares == 1:
        return due
    return sql.SQL("{} AND {} = {}").format(due, share_of(table, part.shares), sql.Literal(part.share))


def share_of(table: InspectedTable, shares: int) -> sql.Composed:
    """An expression over the row ``t``: the number of its share, which its key alone decides."""
    key = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in table.shape.primary_key)
    return sql.SQL('(hashtextextended(concat({}) COLLATE "C", 0) & 2147483647) % {}').format(key, sql.Literal(shares))


def in_window(table: InspectedTable, window: Window) -> sql.Composed:
    """A condition on the row ``t``: it, or the row that dates it, is dated inside the half-open window."""
    start, end = (dated(instant, table.shape.date_type) for instant in (window.start, window.end))
    tables, conditions, last = way_up(table.path)
    inside = sql.SQL("({column} >= {start} AND {column} < {end})").format(
        column=sql.Identifier(last, table.shape.date_column) if tables else _date_of(table), start=start, end=end
    )
    if not tables:
        return inside
    return sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(
        sql.SQL(", ").join(tables), sql.SQL(" AND ").join([*conditions, inside])
    )


def date_value(table: InspectedTable) -> sql.Composed:
    """An expression over the row ``t``: the date that decides which partition it belongs to."""
    tables, conditions, last = way_up(table.path)
    if not tables:
        return _date_of(table)
    return sql.SQL("(SELECT {} FROM {} WHERE {})").format(
        sql.Identifier(last, table.shape.date_column), sql.SQL(", ").join(tables), sql.SQL(" AND ").join(conditions)
    )


def _date_of(table: InspectedTable) -> sql.Composed:
    return sql.SQL("t.{}").format(sql.Identifier(table.shape.date_column))


def reads_back(column: Column) -> sql.Composed:
    return sql.SQL(
        "CASE WHEN t.{name} IS DISTINCT FROM NULL THEN t.{name} IS NOT DISTINCT FROM concat(t.{name})::{type} ELSE true END"
    ).format(name=sql.Identifier(column.name), type=type_name(column.base_type))


def dated(instant: datetime, date_type: str) -> sql.Composed:
    """An aware instant as a literal of a date column's type."""
    if date_type == "date":
        return sql.SQL("{}::date").format(sql.Literal(instant.date().isoformat()))
    if date_type == "timestamp":
        return sql.SQL("{}::timestamp").format(sql.Literal(instant.replace(tzinfo=None).isoformat()))
    return sql.SQL("{}::timestamptz").format(sql.Literal(instant.isoformat()))


def dated_inside(shape: TableShape, windows: Sequence[Window]) -> sql.Composed:
    """A condition on the row ``b`` of a batch of keys: it is dated inside one of some windows, of which there is at least one."""
    date = sql.Identifier("b", f"k{shape.primary_key.index(shape.date_column)}")
    return sql.SQL(" OR ").join(
        sql.SQL("({date} >= {start} AND {date} < {end})").format(
            date=date, start=dated(window.start, shape.date_type), end=dated(window.end, shape.date_type)
        )
        for window in windows
    )


def count_rows_where(connection: Connection, table: InspectedTable, condition: sql.Composed) -> int:
    """How many rows of a table (``t`` in the condition) meet a condition."""
    query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(table.name, condition)
    row: Any = connection.execute(query).fetchone()
    return int(row[0])
