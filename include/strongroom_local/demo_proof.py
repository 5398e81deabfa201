"""What the demo claims, looked at with SQL and S3 alone: no module of the archiver takes part in it.

A month of a table is looked at before and after. Each look counts and digests the rows in the table, downloads the
month's archives, has the server make rows of their lines again, and digests those too. The digest of a set of rows is
the sum of the rows' own hashes, so it does not depend on order and adds up like a count does.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import zstandard
from psycopg import sql

from strongroom.partitions import Partition
from strongroom.settings import TableSettings

if TYPE_CHECKING:
    from botocore.client import BaseClient

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Rows:
    """A set of rows: how many they are, and the sum of their hashes."""

    count: int = 0
    digest: int = 0

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.count + other.count, self.digest + other.digest)

    def __sub__(self, other: Rows) -> Rows:
        return Rows(self.count - other.count, self.digest - other.digest)


@dataclass(frozen=True)
class ArchivedObject:
    """One part as it was downloaded."""

    key: str
    size_bytes: int
    lines: int
    sha256: str
    expected_sha256: str | None

    @property
    def sound(self) -> bool:
        """Whether its bytes give the sum that SHA256SUMS beside it names."""
        return self.sha256 == self.expected_sha256


@dataclass(frozen=True)
class Look:
    """What there is of one month of one table.

    Args:
        table: Its name.
        month: The partition.
        in_table: Rows dated in the month.
        archived: Rows made again from the lines of the month's archives.
        in_both: Those of the archived rows whose primary key is still in the table.
        outside: How many archived rows are not dated in the month.
        objects: The parts that were downloaded, in the order of their keys.
    """

    table: str
    month: str
    in_table: Rows
    archived: Rows
    in_both: Rows
    outside: int
    objects: tuple[ArchivedObject, ...]

    @property
    def all(self) -> Rows:
        """Every row that is somewhere, once."""
        return self.in_table + self.archived - self.in_both


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and the numbers behind it.

    Args:
        claim: A sentence.
        faults: Where it does not hold; empty when it does.
        numbers: What a reader can compute again, in words.
    """

    claim: str
    faults: tuple[str, ...]
    numbers: str

    @property
    def holds(self) -> bool:
        return not self.faults


RowsByMonth = Mapping[str, Mapping[date | None, int]]
"""Rows by table name and first day of the month; None stands for rows without a date."""


def look_at(
    connection: psycopg.Connection, client: BaseClient, settings: TableSettings, partition: Partition, *, bucket: str
) -> Look:
    """Count and digest what there is of one month of one table, in the table and in its archives."""
    window = {"start": partition.window.start, "end": partition.window.end}
    dated = sql.SQL("{column} >= %(start)s AND {column} < %(end)s").format(
        column=sql.SQL("t.{}").format(sql.Identifier(settings.date_column))
    )
    count, digest = _fetch_one(
        connection,
        sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} AS t WHERE {}").format(
            _name(settings), dated
        ),
        window,
    )
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE archived_line (line text) ON COMMIT DROP")
        objects = tuple(
            _load(connection, client, bucket, key) for key in _sealed_parts(client, bucket, settings, partition)
        )
        archived = _fetch_one(connection, _compare_lines(connection, settings), window)
    return Look(
        table=settings.table_name,
        month=partition.key,
        in_table=Rows(count, digest),
        archived=Rows(archived[0], archived[1]),
        in_both=Rows(archived[2], archived[3]),
        outside=archived[4],
        objects=objects,
    )


def count_months(connection: psycopg.Connection, settings: TableSettings) -> dict[date | None, int]:
    """Count a table's rows by month (UTC); None is the month of rows without a date."""
    query = sql.SQL("SELECT date_trunc('month', {} AT TIME ZONE 'UTC')::date, count(*) FROM {} GROUP BY 1").format(
        sql.Identifier(settings.date_column), _name(settings)
    )
    return {month: int(rows) for month, rows in connection.execute(query)}


def check(
    before: Iterable[Look], after: Iterable[Look], months_before: RowsByMonth, months_after: RowsByMonth
) -> list[Check]:
    """Compare two looks at the same months of the same tables, and the counts of all other months.

    Args:
        before: Looks from before the archiving.
        after: Looks at the same months from after it, in the same order.
        months_before: Rows of every month of every table before.
        months_after: The same after.
    """
    pairs = list(zip(before, after, strict=True))
    looks = [new for _, new in pairs]
    months = {date.fromisoformat(f"{look.month}-01") for look in looks}
    objects = [(look, one) for look in looks for one in look.objects]
    left, archived = sum(look.in_table.count for look in looks), sum(look.archived.count for look in looks)
    others = sum(_count_others(rows, months) for rows in months_before.values())
    return [
        Check(
            "every row is accounted for",
            tuple(
                f"{_where(new)}: {old.all.count:,} rows before, {new.in_table.count:,} left, "
                f"{new.archived.count:,} in archives"
                for old, new in pairs
                if old.all.count != new.in_table.count + new.archived.count
            ),
            f"{sum(old.all.count for old, _ in pairs):,} before = {left:,} left + {archived:,} in archives",
        ),
        Check(
            "each archived row, made again from its archive, equals the row that was in the table",
            tuple(f"{_where(new)}: other rows than before" for old, new in pairs if old.all != new.all),
            f"{archived:,} rows compared by digest",
        ),
        Check(
            "no archived row is still in its table",
            tuple(f"{_where(look)}: {look.in_both.count:,} rows" for look in looks if look.in_both.count),
            f"{archived:,} primary keys looked up",
        ),
        Check(
            "no row of another month is gone, in hot retention or before",
            tuple(_compare_others(months_before, months_after, months))
            + tuple(
                f"{_where(look)}: {look.outside:,} archived rows of other months" for look in looks if look.outside
            ),
            f"{others:,} rows",
        ),
        Check(
            "the objects in the store give the sums in SHA256SUMS",
            tuple(f"{_where(look)}: {one.key}" for look, one in objects if not one.sound),
            f"{len(objects)} objects downloaded",
        ),
    ]


def _where(look: Look) -> str:
    return f"{look.table} {look.month}"


def _count_others(rows: Mapping[date | None, int], months: set[date]) -> int:
    return sum(count for month, count in rows.items() if month not in months)


def _compare_others(before: RowsByMonth, after: RowsByMonth, months: set[date]) -> Iterator[str]:
    for table, rows in before.items():
        for month, count in rows.items():
            left = after[table].get(month, 0)
            if month not in months and left != count:
                name = f"{month:%Y-%m}" if month else "rows without a date"
                yield f"{table} {name}: {count:,} rows before, {left:,} after"


def _name(settings: TableSettings) -> sql.Identifier:
    return sql.Identifier(settings.schema_name, settings.table_name)


def _compare_lines(connection: psycopg.Connection, settings: TableSettings) -> sql.Composed:
    """A query that makes rows of the lines again and looks for their keys in the table.

    It gives the number and digest of all of them, the same of those whose key is there, and how many are not dated in
    the window.
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
    """The value of a column in the table's own type. A jsonb that is no object or array stands in a line as its text."""
    form = "CASE WHEN jsonb_typeof(raw.{0}) = 'string' THEN (raw.{0} #>> '{{}}')::jsonb ELSE raw.{0} END AS {0}"
    return sql.SQL(form if kind == "jsonb" else "raw.{0}").format(sql.Identifier(column))


def _read_columns(connection: psycopg.Connection, settings: TableSettings) -> dict[str, str]:
    """Give a table's columns in their order, with their types."""
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
    """Give the numbers of a query's one row; sums of bigint come as Decimal, and are whole."""
    [row] = connection.execute(query, values).fetchall()
    return [int(value) if isinstance(value, Decimal) else value for value in row]


def _sealed_parts(client: BaseClient, bucket: str, settings: TableSettings, partition: Partition) -> list[str]:
    """List the part objects of a month's archives, those with a manifest; the layout is docs/archive-format.md's."""
    table, prefix = settings.qualified_name, f"{settings.store.prefix}/" if settings.store.prefix else ""
    manifests = list_keys(client, bucket, f"{prefix}metadata/{table}/{partition.key}/")
    archives = (key.rpartition("/")[2].removesuffix(".json") for key in manifests)
    folders = (f"{prefix}archives/{table}/partition={partition.key}/{archive}/" for archive in archives)
    keys = (key for folder in folders for key in list_keys(client, bucket, folder))
    return [key for key in keys if key.rpartition("/")[2].startswith("part-")]


def list_keys(client: BaseClient, bucket: str, prefix: str) -> list[str]:
    """List the keys of current objects under a prefix, in their order."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [str(entry["Key"]) for page in pages for entry in page.get("Contents", ())]


def _load(connection: psycopg.Connection, client: BaseClient, bucket: str, key: str) -> ArchivedObject:
    """Download one part into the temporary table, line by line as it stands; hash and count it on the way."""
    folder, _, name = key.rpartition("/")
    sums = client.get_object(Bucket=bucket, Key=f"{folder}/SHA256SUMS")["Body"].read().decode()
    expected = {file: digest for digest, file in (line.split("  ", 1) for line in sums.splitlines())}
    lines = 0
    with closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body, connection.cursor() as cursor:
        hashed = _Hashed(body)
        # JSON escapes all control characters, so with two of them as quote and delimiter each line is one value.
        statement = "COPY archived_line FROM STDIN WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')"
        with cursor.copy(statement) as copy:
            for block in _decompress(name, hashed):
                lines += block.count(b"\n")
                copy.write(block)
        hashed.drain()
    return ArchivedObject(key, hashed.size_bytes, lines, hashed.sha256, expected.get(name))


class _Hashed(io.RawIOBase):
    """A stream that hashes and counts what is read through it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The sum of what was read, in lower-case hex."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block: bytes = self._stream.read(None if size < 0 else size)
        self._hash.update(block)
        self.size_bytes += len(block)
        return block

    def drain(self) -> None:
        """Read what a decompressor left at the end."""
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
