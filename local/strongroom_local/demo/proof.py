"""The demo's evidence, gathered with SQL and S3 alone. None of the archiver's code takes part.

A month of a table is looked at before and after. Each look counts and digests the rows in the table, downloads the
month's archives, has the server turn their lines back into rows, and digests those too. The digest of a set of rows is
the sum of the rows' hashes. So it does not depend on order, and digests add up as counts do.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import zstandard
from psycopg import sql

from strongroom.calendar import Partition
from strongroom.settings import TableSettings
from strongroom_local.demo.api import read_instant

if TYPE_CHECKING:
    from botocore.client import BaseClient

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Rows:
    """A set of rows: their number, and the sum of their hashes."""

    count: int = 0
    digest: int = 0

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.count + other.count, self.digest + other.digest)

    def __sub__(self, other: Rows) -> Rows:
        return Rows(self.count - other.count, self.digest - other.digest)


@dataclass(frozen=True)
class ArchivedObject:
    """One downloaded part."""

    key: str
    size_bytes: int
    lines: int
    sha256: str
    expected_sha256: str | None

    @property
    def sound(self) -> bool:
        """Whether its SHA-256 equals its line in the SHA256SUMS beside it."""
        return self.sha256 == self.expected_sha256


@dataclass(frozen=True)
class Look:
    """The rows of one month of one table, in the table and in its archives.

    Args:
        table: The table's name.
        month: The month's partition key.
        in_table: Rows in the table that are dated in the month.
        archived: Rows rebuilt from the lines of the month's archives.
        in_both: Archived rows whose primary key is still in the table.
        outside: How many archived rows are not dated in the month.
        objects: The downloaded parts, in key order.
        needed: Whether a restore that still applies keeps rows of the month in the table.
    """

    table: str
    month: str
    in_table: Rows
    archived: Rows
    in_both: Rows
    outside: int
    objects: tuple[ArchivedObject, ...]
    needed: bool = False

    @property
    def all(self) -> Rows:
        """All rows, those in both places counted once."""
        return self.in_table + self.archived - self.in_both


def look_at(
    connection: psycopg.Connection, client: BaseClient, settings: TableSettings, partition: Partition, *, bucket: str
) -> Look:
    """Count and digest the rows of one month of one table, in the table and in its archives."""
    in_table = digest_rows(connection, settings, partition)
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE archived_line (line text) ON COMMIT DROP")
        objects = tuple(
            _load(connection, client, bucket, key) for key in _sealed_parts(client, bucket, settings, partition)
        )
        archived = _fetch_one(connection, _compare_lines(connection, settings), _window_of(partition))
    return Look(
        table=settings.table_name,
        month=partition.key,
        in_table=in_table,
        archived=Rows(archived[0], archived[1]),
        in_both=Rows(archived[2], archived[3]),
        outside=archived[4],
        objects=objects,
        needed=_is_needed(client, bucket, settings, partition),
    )


def digest_rows(connection: psycopg.Connection, settings: TableSettings, partition: Partition) -> Rows:
    """Count and digest the rows of a table that are dated in one month."""
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {table} AS t"
        " WHERE t.{date} >= %(start)s AND t.{date} < %(end)s"
    ).format(table=_name(settings), date=sql.Identifier(settings.date_column))
    count, digest = _fetch_one(connection, query, _window_of(partition))
    return Rows(count, digest)


def count_months(connection: psycopg.Connection, settings: TableSettings) -> dict[date | None, int]:
    """Count a table's rows by month (UTC); None stands for rows without a date."""
    query = sql.SQL("SELECT date_trunc('month', {} AT TIME ZONE 'UTC')::date, count(*) FROM {} GROUP BY 1").format(
        sql.Identifier(settings.date_column), _name(settings)
    )
    return {month: int(rows) for month, rows in connection.execute(query)}


def _window_of(partition: Partition) -> dict[str, datetime]:
    return {"start": partition.window.start, "end": partition.window.end}


def _is_needed(client: BaseClient, bucket: str, settings: TableSettings, partition: Partition) -> bool:
    """Whether the store has a restore record for the month that has not expired; see docs/howto/restore.md."""
    folder = f"{_prefix(settings)}restores/{settings.qualified_name}/"
    bodies = (client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in list_keys(client, bucket, folder))
    now = datetime.now(timezone.utc)
    return any(
        partition.key in record["partition_keys"] and read_instant(record["until"]) > now
        for record in map(json.loads, bodies)
    )


def _prefix(settings: TableSettings) -> str:
    return f"{settings.store.prefix}/" if settings.store.prefix else ""


def _name(settings: TableSettings) -> sql.Identifier:
    return sql.Identifier(settings.schema_name, settings.table_name)


def _compare_lines(connection: psycopg.Connection, settings: TableSettings) -> sql.Composed:
    """Build a query that turns the lines back into rows and looks up their keys in the table.

    It returns the count and digest of all of them, the count and digest of those whose key is in the table, and how many
    are not dated in the window.
    """
    columns = _read_columns(connection, settings)
    return sql.SQL(
        "SELECT count(*), coalesce(sum(hash), 0), count(*) FILTER (WHERE present),"
        " coalesce(sum(hash) FILTER (WHERE present), 0), count(*) FILTER (WHERE NOT coalesce(dated, false))"
        " FROM (SELECT hashtextextended(r::text, 0) AS hash,"
        " r.{date} >= %(start)s AND r.{date} < %(end)s AS dated,"
        " EXISTS (SELECT FROM {table} AS t WHERE {same_key}) AS present"
        " FROM archived_line, LATERAL json_populate_record(NULL::{table}, line::json) AS raw,"
        " LATERAL (SELECT {values}) AS r) AS compared"
    ).format(
        table=_name(settings),
        date=sql.Identifier(settings.date_column),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("t.{0} = r.{0}").format(sql.Identifier(column)) for column in _primary_key(connection, settings)
        ),
        values=sql.SQL(", ").join(_value_of(name, kind) for name, kind in columns.items()),
    )


def _value_of(column: str, kind: str) -> sql.Composed:
    """A column's value in the table's own type. In a line, a jsonb other than an object or array is written as its text."""
    form = "CASE WHEN jsonb_typeof(raw.{0}) = 'string' THEN (raw.{0} #>> '{{}}')::jsonb ELSE raw.{0} END AS {0}"
    return sql.SQL(form if kind == "jsonb" else "raw.{0}").format(sql.Identifier(column))


def _read_columns(connection: psycopg.Connection, settings: TableSettings) -> dict[str, str]:
    """Return a table's columns in order, with their types."""
    rows = connection.execute(
        "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
        " AND attrelid = format('%%I.%%I', %s::text, %s::text)::regclass ORDER BY attnum",
        (settings.schema_name, settings.table_name),
    )
    return dict(rows.fetchall())


def _primary_key(connection: psycopg.Connection, settings: TableSettings) -> list[str]:
    rows = connection.execute(
        "SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " WHERE i.indisprimary AND i.indrelid = format('%%I.%%I', %s::text, %s::text)::regclass",
        (settings.schema_name, settings.table_name),
    )
    return [column for (column,) in rows]


def _fetch_one(connection: psycopg.Connection, query: sql.Composed, values: Mapping[str, object]) -> list[int]:
    """Return the numbers in a query's only row. Sums of bigint arrive as Decimal and are whole numbers."""
    [row] = connection.execute(query, values).fetchall()
    return [int(value) if isinstance(value, Decimal) else value for value in row]


def _sealed_parts(client: BaseClient, bucket: str, settings: TableSettings, partition: Partition) -> list[str]:
    """List the parts of a month's archives that have a manifest; for the layout see docs/reference/archive-format.md."""
    table, prefix = settings.qualified_name, _prefix(settings)
    manifests = list_keys(client, bucket, f"{prefix}metadata/{table}/{partition.key}/")
    archives = (key.rpartition("/")[2].removesuffix(".json") for key in manifests)
    folders = (f"{prefix}archives/{table}/partition={partition.key}/{archive}/" for archive in archives)
    keys = (key for folder in folders for key in list_keys(client, bucket, folder))
    return [key for key in keys if key.rpartition("/")[2].startswith("part-")]


def list_keys(client: BaseClient, bucket: str, prefix: str) -> list[str]:
    """List the keys of the current objects under a prefix, in order."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [str(entry["Key"]) for page in pages for entry in page.get("Contents", ())]


def _load(connection: psycopg.Connection, client: BaseClient, bucket: str, key: str) -> ArchivedObject:
    """Download one part into the temporary table, each line unchanged; hash and count it on the way."""
    folder, _, name = key.rpartition("/")
    sums = client.get_object(Bucket=bucket, Key=f"{folder}/SHA256SUMS")["Body"].read().decode()
    expected = {file: digest for digest, file in (line.split("  ", 1) for line in sums.splitlines())}
    lines = 0
    with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body, connection.cursor() as cursor:
        hashed = _Hashed(body)
        # JSON escapes control characters. With two of them as quote and delimiter, each line is one value.
        statement = "COPY archived_line FROM STDIN WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')"
        with cursor.copy(statement) as copy:
            for block in _decompress(name, hashed):
                lines += block.count(b"\n")
                copy.write(block)
        hashed.drain()
    return ArchivedObject(key, hashed.size_bytes, lines, hashed.sha256, expected.get(name))


class _Hashed(io.RawIOBase):
    """A stream that hashes and counts the bytes read through it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes read so far, in lower-case hex."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block: bytes = self._stream.read(None if size < 0 else size)
        self._hash.update(block)
        self.size_bytes += len(block)
        return block

    def drain(self) -> None:
        """Read the bytes that a decompressor left at the end."""
        while self.read(_BLOCK_BYTES):
            pass


def _decompress(name: str, stream: Any) -> Iterator[bytes]:
    reader = stream
    if name.endswith(".zst"):
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    elif name.endswith(".gz"):
        reader = gzip.GzipFile(fileobj=stream)
    while block := reader.read(_BLOCK_BYTES):
        yield block
