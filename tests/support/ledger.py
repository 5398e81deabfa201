"""A ledger: the test records every row ever written to a table, and compares table and archives with that record.

The comparison uses SQL, boto3, zstandard and a JSON parser. It does not rely on Strongroom to say what Strongroom did.
Only :meth:`Ledger.bring_back` lets Strongroom restore everything, and checks the restored rows.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
import zstandard
from psycopg import sql

from strongroom.settings import TableSettings
from tests.support import restoring
from tests.support.chain import Chain


class Row(NamedTuple):
    """One state of one row. Every write gives it a unique stamp."""

    id: int
    at: str
    stamp: int
    who: str
    amount: Decimal


class Ended(NamedTuple):
    """A state that the application replaced or deleted, and the transaction that did it."""

    row: Row
    transaction: int


class ArchivedRow(NamedTuple):
    """A state of a row in a sealed archive, and the snapshot in which it was read."""

    row: Row
    archive_id: str
    snapshot: str


@dataclass(frozen=True)
class Tally:
    """What a comparison found. All lists must be empty.

    Attributes:
        at_risk: How many rows were in the window when the ledger was filled.
        kept: How many rows are still in the table.
        lost: Rows that should exist, but are neither in the table nor, with exactly these contents, in an archive.
        altered: Rows of the table that differ from what the application last wrote.
        resurrected: States in the table or in an archive that the application had ended before they could be read.
        doubled: Rows that were restored more than once, not at all, or with other contents.
    """

    at_risk: int
    kept: int
    lost: list[Row] = field(default_factory=list)
    altered: list[Row] = field(default_factory=list)
    resurrected: list[Row] = field(default_factory=list)
    doubled: list[Row] = field(default_factory=list)

    def require_sound(self) -> None:
        """Fail with the first few rows that are wrong."""
        wrong = {
            name: rows[:3] for name in ("lost", "altered", "resurrected", "doubled") if (rows := getattr(self, name))
        }
        assert not wrong, wrong


class Ledger:
    """One table and the expected state of its rows. Several threads may write through it.

    Args:
        conninfo: The source database, without a proxy.
        table: Name of the table in ``public``.
    """

    def __init__(self, conninfo: str, table: str = "audit") -> None:
        self.conninfo = conninfo
        self.table = table
        self._lock = threading.Lock()
        self._stamp = 0
        self.rows: dict[int, Row] = {}
        """The rows as the application last wrote them, by id. These must exist."""
        self.ended: list[Ended] = []
        self.at_risk = 0

    # What the application does.

    def create(self) -> None:
        """Create the table. Its dates have an index, so rows are deleted by ranges of them."""
        with self._session() as session:
            session.execute(
                self._statement(
                    "CREATE TABLE {} (id bigint PRIMARY KEY, at timestamptz NOT NULL, stamp bigint NOT NULL, "
                    "who text NOT NULL, amount numeric(12,2) NOT NULL)"
                )
            )
            session.execute(self._statement("CREATE INDEX ON {} (at)"))

    def fill(self, rows: int = 300, outside: int = 20) -> None:
        """Insert rows spread evenly over May 2026, and some before and after it."""
        step = 31 * 24 * 3600 // rows
        inside = [f"2026-05-01T00:00:00+00:00 + {number * step} s" for number in range(rows)]
        around = [
            f"{'2026-04-30' if number % 2 else '2026-06-01'}T00:00:00+00:00 + {number} s" for number in range(outside)
        ]
        with self._session() as session:
            self.insert(session, range(1, rows + outside + 1), inside + around)
        self.at_risk += rows

    def insert(self, session: psycopg.Connection[Any], ids: Sequence[int], instants: Sequence[str]) -> None:
        """Insert rows. An instant is a timestamp, or a timestamp plus a number of seconds: ``T + N s``."""
        stamps = self._stamps(len(ids))
        times, _, seconds = zip(*(instant.partition(" + ") for instant in instants), strict=True)
        with session.transaction():
            written = session.execute(
                self._statement(
                    "INSERT INTO {} SELECT id, at::timestamptz + seconds * interval '1 second', stamp, "
                    "md5(stamp::text) || ' \u2028 \"quoted\\\" ' || id, (stamp * 7 %% 100000) / 100.0 "
                    "FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[]) AS new (id, at, seconds, stamp) "
                    "RETURNING " + _COLUMNS
                ),
                (list(ids), list(times), [int(one.removesuffix(" s") or 0) for one in seconds], stamps),
            ).fetchall()
        with self._lock:
            self.rows |= {row.id: row for row in map(_row, written)}

    def update(self, session: psycopg.Connection[Any], id_: int, seconds: int = 0) -> bool:
        """Change a row and move it in time. Return False if it is not in the table."""
        [stamp] = self._stamps(1)
        with session.transaction():
            written = session.execute(
                self._statement(
                    "UPDATE {} SET stamp = %s, who = md5(%s::text), at = at + %s * interval '1 second' WHERE id = %s "
                    "RETURNING " + _COLUMNS + ", pg_current_xact_id()::text"
                ),
                (stamp, stamp, seconds, id_),
            ).fetchone()
        if written is None:
            return False
        with self._lock:
            self.ended.append(Ended(self.rows[id_], int(written[-1])))
            self.rows[id_] = _row(written[:-1])
        return True

    def delete(self, session: psycopg.Connection[Any], id_: int) -> bool:
        """Delete a row. Return False if it is not in the table."""
        with session.transaction():
            gone = session.execute(
                self._statement("DELETE FROM {} WHERE id = %s RETURNING pg_current_xact_id()::text"), (id_,)
            ).fetchone()
        if gone is None:
            return False
        with self._lock:
            self.ended.append(Ended(self.rows.pop(id_), int(gone[0])))
        return True

    # The comparison.

    def live(self) -> list[Row]:
        """The rows in the table."""
        with self._session() as session:
            return list(map(_row, session.execute(self._statement("SELECT " + _COLUMNS + " FROM {}")).fetchall()))

    def compare(self, archived: Iterable[ArchivedRow], *, restored: bool = False) -> Tally:
        """Compare table and archives with what should exist.

        Args:
            archived: The result of :func:`read_archives`.
            restored: Whether rows were restored into the table. If so, it may hold states that ended after they were archived.
        """
        archived = list(archived)
        live = self.live()
        known = {one.row for one in archived}
        present = {row.id: row for row in live}
        lost = [row for row in self.rows.values() if present.get(row.id) != row and row not in known]
        strange = [row for row in live if self.rows.get(row.id) != row]
        if restored:
            strange = [row for row in strange if row not in known]
        ended = {one.row for one in self.ended}
        return Tally(
            at_risk=self.at_risk,
            kept=len(live),
            lost=lost,
            altered=[row for row in strange if row not in ended],
            resurrected=[row for row in strange if row in ended] + list(self._read_too_late(archived)),
        )

    def bring_back(self, chain: Chain, archived: Iterable[ArchivedRow], number: int = 1) -> list[Row]:
        """Restore all archives into a new table. Return the rows that did not come back exactly once and as archived.

        If a row was archived several times, its last state counts.
        """
        target = f"{self.table}_back_{number}"
        newest = {one.row.id: one.row for one in sorted(archived, key=lambda one: one.row.stamp)}
        if newest:
            restoring.restore(
                chain, f"back-{self.table}-{number}", now=chain.now, target=f"public.{target}", create_target=True
            )
        with self._session() as session:
            back = (
                session.execute(
                    sql.SQL("SELECT " + _COLUMNS + " FROM {}").format(sql.Identifier("public", target))
                ).fetchall()
                if newest
                else []
            )
        counted = Counter(map(_row, back))
        wrong = (counted - Counter(newest.values())) + (Counter(newest.values()) - counted)
        return sorted(wrong)

    def _read_too_late(self, archived: Sequence[ArchivedRow]) -> Iterator[Row]:
        """Archived states that had already ended in the snapshot in which they were read."""
        ended = {one.row: one.transaction for one in self.ended}
        suspects = [(one, ended[one.row]) for one in archived if one.row in ended]
        if not suspects:
            return
        with self._session() as session:
            for one, transaction in suspects:
                [visible] = session.execute(  # type: ignore[misc]
                    "SELECT pg_visible_in_snapshot(%s::text::xid8, %s::pg_snapshot)", (transaction, one.snapshot)
                ).fetchone()
                if visible:
                    yield one.row

    def _stamps(self, number: int) -> list[int]:
        with self._lock:
            first = self._stamp + 1
            self._stamp += number
            return list(range(first, self._stamp + 1))

    def _session(self) -> psycopg.Connection[Any]:
        session = psycopg.connect(self.conninfo, autocommit=True)
        session.execute("SET timezone TO 'UTC'")
        return session

    def _statement(self, template: str) -> sql.Composed:
        return sql.SQL(template).format(sql.Identifier("public", self.table))


_COLUMNS = "id, to_json(at)#>>'{{}}', stamp, who, amount"


def _row(values: Sequence[Any]) -> Row:
    return Row(int(values[0]), str(values[1]), int(values[2]), str(values[3]), Decimal(str(values[4])))


def read_archives(client: Any, settings: TableSettings) -> list[ArchivedRow]:
    """Each row of each sealed archive of a table, as an auditor would read it."""
    bucket, prefix = settings.store.bucket, f"{settings.store.prefix}/" if settings.store.prefix else ""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}metadata/{settings.qualified_name}/"
    )
    found = []
    for key in [entry["Key"] for page in pages for entry in page.get("Contents", ())]:
        manifest = json.loads(_read(client, bucket, key))
        for part in manifest["parts"]:
            packed = _read(client, bucket, prefix + part["object_key"], part["version_id"])
            rows = _lines(packed)
            assert len(rows) == part["record_count"]
            found += [ArchivedRow(row, manifest["archive_id"], part["snapshot"]) for row in rows]
        assert manifest["record_count"] == sum(part["record_count"] for part in manifest["parts"])
    return found


def _lines(packed: bytes) -> list[Row]:
    lines = zstandard.ZstdDecompressor().stream_reader(packed).read().split(b"\n")[:-1]
    documents = [json.loads(line, parse_float=Decimal) for line in lines]
    return [_row([document[name] for name in Row._fields]) for document in documents]


def _read(client: Any, bucket: str, key: str, version_id: str | None = None) -> bytes:
    named = {"Bucket": bucket, "Key": key} | ({"VersionId": version_id} if version_id else {})
    content: bytes = client.get_object(**named)["Body"].read()
    return content


def examine(ledger: Ledger, chain: Chain, *, restored: bool = False) -> Tally:
    """Compare everything: the table, the archives, and the rows from a restore of all archives."""
    archived = read_archives(chain.client, chain.settings)
    tally = ledger.compare(archived, restored=restored)
    tally.doubled.extend(ledger.bring_back(chain, archived))
    return tally


def opened(conninfo: str, table: str = "audit", rows: int = 300) -> Ledger:
    """A ledger with a filled table."""
    ledger = Ledger(conninfo, table)
    ledger.create()
    ledger.fill(rows)
    return ledger
