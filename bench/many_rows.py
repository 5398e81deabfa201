"""Millions of call records: the sample generates some, and the server copies them with new keys and times.

Each copy covers one slice of the month, and the slices follow each other. So the rows are in time order, as in a real table,
and no row is near the one it was copied from.
"""

from __future__ import annotations

import math
from datetime import timedelta

import psycopg
from psycopg import sql

from strongroom.calendar import Partition
from strongroom_local.demo import sample

TABLE = "call_detail_records"
_MOST_MADE = 250_000
_COPIED = (
    "duration_seconds, direction, calling_number, called_number, presented_number, imsi, cell_id, gateway_ip, codecs, charge, "
    "currency, hangup_cause, quality, remark"
)


class ManyRows:
    """A source database that holds the call records of one month at a time.

    Args:
        conninfo: Connects as the owner of the tables. The sample's schema must exist.
        month: The month whose call records are generated and copied.
        most: How many rows the largest month has.
    """

    def __init__(self, conninfo: str, month: Partition, most: int) -> None:
        self._conninfo = conninfo
        self._made = min(most, _MOST_MADE)
        last = month.window.end - timedelta(seconds=1)
        sample.load(conninfo, call_records_per_month=self._made, months=1, now=last)
        with self._connect() as connection:
            connection.execute("DROP TABLE IF EXISTS made_calls")
            connection.execute(
                f"CREATE UNLOGGED TABLE made_calls AS SELECT extract(epoch FROM call_start_time - {_literal(month.window.start)}) "
                f"/ {month.window.end.timestamp() - month.window.start.timestamp()} AS place, row_number() OVER () AS number, "
                f"answer_time - call_start_time AS rang, {_COPIED} FROM {TABLE} ORDER BY call_start_time"
            )
            connection.execute("ANALYZE made_calls")

    def fill(self, month: Partition, rows: int) -> int:
        """Replace the call records by about this many, all in one month, and return their number."""
        copies = math.ceil(rows / self._made)
        start, end = month.window.start, month.window.end
        with self._connect() as connection:
            connection.execute(f"TRUNCATE {TABLE}")
            indexes = connection.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = %s "
                "AND indexdef NOT LIKE 'CREATE UNIQUE %%'",
                (TABLE,),
            ).fetchall()
            for name, _ in indexes:
                connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
            for copy in range(copies):
                connection.execute(
                    f"INSERT INTO {TABLE} (call_reference, call_start_time, answer_time, {_COPIED}) "
                    f"SELECT gen_random_uuid(), at, at + rang, {_COPIED} FROM (SELECT *, least("
                    f"{_literal(start)} + interval '{(end - start).total_seconds()} seconds' * ((place + {copy}) / {copies}), "
                    f"{_literal(end)} - interval '1 microsecond') AS at FROM made_calls "
                    f"WHERE number <= {self._share(rows, copy, copies)}) AS c ORDER BY at"
                )
            for _, definition in indexes:
                connection.execute(definition)
            connection.execute(f"VACUUM ANALYZE {TABLE}")
            connection.execute("CHECKPOINT")
            [(made,)] = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
        return int(made)

    @staticmethod
    def _share(rows: int, copy: int, copies: int) -> int:
        """How many rows each copy needs to reach the requested total."""
        return rows * (copy + 1) // copies - rows * copy // copies

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET work_mem = '256MB'")
        return connection


def _literal(instant: object) -> str:
    return f"timestamptz '{instant}'"
