"""The table of every type, its empty copy, and two independent ways to compare their rows."""

from __future__ import annotations

import re

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from strongroom.database.inspect import inspect_table
from strongroom.database.rows import json_line, row_columns
from strongroom.database.session import open_source
from strongroom.formats.line_reader import LineReader
from strongroom.formats.reading_back import ReadingBack
from strongroom.ledger.manifest_record import Manifest
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from tests.support import restoring
from tests.support.chain import Chain
from tests.support.every_type import DATE, EVERY_TYPE, INTERVALS, LITERALS, MAY, SCHEMA, TABLE


class Bench:
    """The table of all types, its empty copy, and the chain that archives the first so that we can fill the second."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.columns = dict(
            self.ask(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                "AND NOT attisdropped AND attgenerated = '' AND attidentity = '' AND attname <> %s ORDER BY attnum",
                self.name().as_string(),
                DATE,
            )
        )
        self.literals = {name: LITERALS[name] for name in self.columns}
        [(version,)] = self.ask("SELECT current_setting('server_version_num')::integer")
        if version >= 170000:
            self.literals["v_interval"] = [*INTERVALS, "infinity", "-infinity"]
        elif version < 150000:
            self.literals["v_interval"] = [literal for literal in INTERVALS if "2562047788:" not in literal]
        for name in ("v_numeric", "v_numrange", "a_numeric") if version < 140000 else ():
            self.literals[name] = [literal for literal in self.literals[name] if "Infinity" not in literal]

    @staticmethod
    def name(table: str = TABLE) -> sql.Identifier:
        return sql.Identifier(SCHEMA, table)

    def ask(self, query, *parameters):
        with open_source(self.chain.conninfo, application_name="test") as connection:
            return connection.execute(query, parameters or None).fetchall()

    def insert(self, rows):
        """Insert rows, given as a literal or None for each column."""
        names = sql.SQL(", ").join(map(sql.Identifier, [DATE, *self.columns]))
        values = [
            [sql.Literal(MAY)]
            + [sql.SQL("{}::{}").format(row[name], sql.SQL(type_)) for name, type_ in self.columns.items()]
            for row in rows
        ]
        tuples = sql.SQL(", ").join(sql.SQL("({})").format(sql.SQL(", ").join(row)) for row in values)
        with open_source(self.chain.conninfo, application_name="test") as connection:
            connection.execute(sql.SQL("TRUNCATE {}, {}").format(self.name(), self.name("restored")))
            connection.execute(sql.SQL("INSERT INTO {} ({}) VALUES {}").format(self.name(), names, tuples))

    def contents(self, table):
        """Both forms of a table's rows, in key order, plus the text of XML columns.

        Row text and binary form both omit the encoding that an XML document declares.
        """
        with open_source(self.chain.conninfo, application_name="test") as connection:
            xml = (
                connection.execute(sql.SQL("SELECT v_xml::text FROM {} ORDER BY 1").format(self.name(table))).fetchall()
                if "v_xml" in self.columns
                else []
            )
            return *witnesses(connection, self.name(table), '"I D"'), xml

    def restore(self, archive_id):
        restore(self.chain, archive_id, f"{SCHEMA}.restored")


def witnesses(connection, table: sql.Composable, order: str):
    texts = connection.execute(
        sql.SQL("SELECT (t.*)::text FROM {} AS t ORDER BY {}").format(table, sql.SQL(order))
    ).fetchall()
    copy = sql.SQL("COPY (SELECT * FROM {} ORDER BY {}) TO STDOUT (FORMAT binary)").format(table, sql.SQL(order))
    with connection.cursor() as cursor, cursor.copy(copy) as stream:
        return texts, b"".join(map(bytes, stream))


def download(chain: Chain, manifest: Manifest):
    """The JSON lines of an archive, read directly from the store."""
    for part in manifest.parts:
        chunks = chain.store.chunks(part.object_key, part.version_id)
        yield from ReadingBack(manifest.verified_part(part.number), chunks).lines(manifest.table)


def archived_lines(chain: Chain, archive_id: str) -> list[bytes]:
    manifest = require_manifest(chain.store, ArchiveId.parse(archive_id))
    return sorted(download(chain, manifest))


def server_lines(chain: Chain) -> list[bytes]:
    """The JSON lines of a table's rows as the server writes them with row_to_json."""
    with open_source(chain.conninfo, application_name="test") as connection:
        table = inspect_table(connection, chain.settings)
        query = sql.SQL("SELECT {} FROM {} AS t").format(json_line(table.shape), table.name)
        with connection.cursor(binary=False) as cursor:
            cursor.adapters.register_loader("json", TextLoader)
            return sorted(line.encode() for (line,) in cursor.execute(query))


def server_texts(chain: Chain) -> list[bytes]:
    """The canonical texts of a table's rows, as COPY writes them."""
    with open_source(chain.conninfo, application_name="test") as connection:
        table = inspect_table(connection, chain.settings)
        query = sql.SQL("COPY (SELECT {} FROM {} AS t) TO STDOUT").format(row_columns(table.shape, "t"), table.name)
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            return sorted(map(bytes, copy))


def archived_texts(chain: Chain, archive_id: str) -> list[bytes]:
    """The canonical texts that the JSON lines of an archive give back."""
    manifest = require_manifest(chain.store, ArchiveId.parse(archive_id))
    texts = b"".join(LineReader(manifest.table.columns).texts(download(chain, manifest)))
    return sorted(texts.splitlines(keepends=True))


def restore(chain: Chain, archive_id: str, target: str) -> None:
    """Restore an archive into a table with the same columns, as a user would."""
    report = restoring.restore(chain, archive_id, archives=[archive_id], target=target)
    assert (report.outcome, report.inserted) == ("restored", report.rows)


def every_type(conninfo) -> str:
    """The table of all types that this server supports. PostgreSQL 13 has no multiranges."""
    with psycopg.connect(conninfo) as connection:
        if connection.info.server_version >= 140000:
            return EVERY_TYPE
    return re.sub(r"^ *v_\w+multirange .*\n", "", EVERY_TYPE, flags=re.MULTILINE)


FORMATS = ["jsonl", "parquet"]


def odd_rows(chain, table="odd", order="k, at"):
    with open_source(chain.conninfo, application_name="test") as connection:
        return witnesses(connection, sql.Identifier("public", table), order)
