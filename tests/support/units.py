"""A business object in four tables, and the chain of a unit without Airflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from strongroom.archive.plan import plan_archive
from strongroom.archive.report import RunReport, report_run
from strongroom.archive.seal import seal_unit
from strongroom.database.session import read_identity
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import ArchivePlan, DeletedPart, PlannedPart, SealedArchive, VerifiedPart
from strongroom.settings import Settings, TableSettings
from strongroom.settings.units import UnitSettings
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.database import ask
from tests.support.sealing import claim_if_unowned

SECTION = {"orders": {"date_column": "at", "with": ["order_lines", "line_notes", "order_alerts"]}}
"""The unit, as a section of archive.yaml."""

ORDERS = """
CREATE TABLE orders (id integer PRIMARY KEY, at timestamptz NOT NULL, buyer text);
CREATE INDEX ON orders (at);
CREATE TABLE order_lines (
    order_id integer NOT NULL REFERENCES orders, line integer, article text, PRIMARY KEY (order_id, line)
);
CREATE TABLE line_notes (
    id integer PRIMARY KEY, order_id integer, line integer, words text, FOREIGN KEY (order_id, line) REFERENCES order_lines
);
CREATE TABLE order_alerts (id integer PRIMARY KEY, order_id integer REFERENCES orders, at timestamptz);
CREATE INDEX ON order_alerts (at);
CREATE TABLE complaints (order_id integer REFERENCES orders, note_id integer REFERENCES line_notes);
INSERT INTO orders SELECT n, '2026-05-01'::timestamptz + n * interval '1 hour', 'buyer ' || n FROM generate_series(1, 100) AS n;
INSERT INTO orders VALUES (900, '2026-04-30 23:59:59+00', 'April'), (901, '2026-06-01 00:00:00+00', 'June');
INSERT INTO order_lines SELECT o.id, n, 'article ' || n FROM orders o, generate_series(1, 3) AS n WHERE o.id % 10 <> 0;
INSERT INTO line_notes SELECT row_number() OVER (), order_id, line, 'note' FROM order_lines WHERE order_id % 2 = 0;
INSERT INTO line_notes VALUES (5000, NULL, NULL, 'of no line');
INSERT INTO order_alerts SELECT n, n, '2026-08-01' FROM generate_series(1, 30) AS n;
"""
"""Orders of May 2026, and one each of April and June: with lines, notes on lines, and alerts that are dated outside of May."""

TABLES = ("orders", "order_lines", "line_notes", "order_alerts")

OF_MAY = {
    "orders": "at >= '2026-05-01' AND at < '2026-06-01'",
    "order_lines": "order_id <= 100",
    "line_notes": "order_id <= 100",
    "order_alerts": "true",
}
"""Which rows of each table belong to orders of May."""


def rows_of(conninfo: str) -> dict[str, list[Any]]:
    """All rows of all tables, sorted."""
    return {table: sorted(row[0] for row in ask(conninfo, f"SELECT t::text FROM {table} AS t")) for table in TABLES}


def rows_of_may(conninfo: str) -> dict[str, list[Any]]:
    """The rows of each table that belong to orders of May."""
    return {
        table: sorted(row[0] for row in ask(conninfo, f"SELECT t::text FROM {table} AS t WHERE {where}"))
        for table, where in OF_MAY.items()
    }


def unit_settings(bucket: str, staging: Path, *tables: str, **changes: Any) -> list[TableSettings]:
    """Settings of a unit, the root's first."""
    unit = UnitSettings(tables or TABLES)
    return [some_settings(bucket, staging, table, **changes).in_unit(unit) for table in unit.tables]


@dataclass
class UnitChain:
    """The steps of one run of a unit, in order."""

    conninfo: str
    client: Any
    settings: list[TableSettings]
    key: str = "2026-05"
    now: datetime = NOW
    chains: dict[str, Chain] = field(init=False)

    def __post_init__(self) -> None:
        self.chains = {
            one.qualified_name: Chain(self.conninfo, self.client, one, self.key, self.now) for one in self.settings
        }

    @property
    def root(self) -> Chain:
        return next(iter(self.chains.values()))

    @property
    def store(self) -> Any:
        return self.root.store

    @property
    def every(self) -> Settings:
        return Settings(tables={one.table: one for one in self.settings})

    def chain_of(self, part: PlannedPart) -> Chain:
        return self.chains[f"{part.archive.schema_name}.{part.archive.table_name}"]

    def plan(self) -> ArchivePlan:
        root, *members = self.settings
        with self.root.source() as connection:
            claim_if_unowned(self.store, read_identity(connection))
            return plan_archive(connection, self.store, root, self.root.partition, members=members, now=self.now)

    def verified(self, plan: ArchivePlan) -> list[VerifiedPart]:
        return [self.chain_of(part).verified(one, part) for one in plan.all_tables for part in one.parts]

    def seal_parts(self, plan: ArchivePlan, parts: list[VerifiedPart]) -> list[SealedArchive]:
        tables = [(self.chains[one.table].settings, one) for one in plan.all_tables if one.archive_id is not None]
        return seal_unit(self.store, tables, parts, run=RUN, now=self.now)

    def seal(self, plan: ArchivePlan) -> list[VerifiedPart]:
        """Run the steps from extract to seal; the parts, children first."""
        return [part for sealed in self.seal_parts(plan, self.verified(plan)) for part in sealed.parts]

    def sealed(self, plan: ArchivePlan) -> list[VerifiedPart]:
        """The parts of a plan that was resumed."""
        return [
            require_manifest(self.store, part.archive).verified_part(part.number)
            for one in plan.all_tables
            for part in one.parts
        ]

    def delete(self, part: VerifiedPart) -> DeletedPart:
        return self.chain_of(part).delete(part)

    def run(self) -> dict[str, RunReport]:
        """All steps from plan to report; the report of each table."""
        plan = self.plan()
        parts = self.seal(plan) if plan.outcome == "planned" else self.sealed(plan)
        return self.finish(plan, parts)

    def finish(self, plan: ArchivePlan, parts: list[VerifiedPart]) -> dict[str, RunReport]:
        deleted = [self.delete(part) for part in parts]
        reports = {}
        for one in plan.all_tables:
            chain = self.chains[one.table]
            if one.archive_id is None:
                reports[one.table] = report_run(self.store, None, one, [], [], now=self.now)
                continue
            with chain.staging(one.archive_id) as staging:
                reports[one.table] = report_run(self.store, staging, one, parts, deleted, now=self.now)
        return reports


def archive_named(table: str, sequence: int = 1, key: str = "2026-05") -> ArchiveId:
    return ArchiveId("public", table, key, sequence)


class DiedError(Exception):
    """The process was killed."""


def die_at_manifest(monkeypatch, unit, number: int) -> None:
    """Die before a manifest is written, the so many-th one."""
    die_at_put(monkeypatch, unit, number, lambda key: key.startswith("metadata/") and "2026-05" in key)


def die_at_put(monkeypatch, unit, number: int, wanted: Callable[[str], bool]) -> None:
    """Die before an object is written whose key is wanted, the so many-th one."""
    seen = []
    put = type(unit.store).put_bytes

    def dying(store, key, body, **kwargs):
        if wanted(key):
            seen.append(key)
            if len(seen) == number:
                raise DiedError
        return put(store, key, body, **kwargs)

    monkeypatch.setattr(type(unit.store), "put_bytes", dying)
