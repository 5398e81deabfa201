"""Whether the rows of a table can be read and deleted by ranges of their date, without a sort or a scan of the whole table."""

from __future__ import annotations

from strongroom.database.session import Connection, fetch_rows

_INDEX = """
SELECT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND a.attname = %s
      AND m.amname IN ('btree', 'lsm') AND i.indisvalid AND i.indpred IS NULL
)
"""
"""``lsm`` is what YugabyteDB calls its ordered index."""


def has_date_index(connection: Connection, schema_name: str, table_name: str, date_column: str) -> bool:
    """Whether an ordered index of a table begins with its date column."""
    [(found,)] = fetch_rows(connection, _INDEX, schema_name, table_name, date_column)
    return bool(found)
