"""The course that every contender runs: the same month of call records, on one stack, and what each one's run cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from bench.usage import Meter, Step, Usage
from strongroom.calendar import Partition
from strongroom.settings import TableSettings, load_settings
from strongroom_local.servers.airflow import inherited_environment
from strongroom_local.servers.stack import Stack
from strongroom_local.servers.stack_folder import BUCKET, SOURCE_DATABASE

TABLE = "call_detail_records"


@dataclass(frozen=True)
class Result:
    """The result of one contender.

    Attributes:
        count: How many rows or archives it processed.
        stored_mb: What it left in the store; 0 if it stores nothing.
        of: What ``count`` counts: ``rows`` or ``archives``.
        steps: How its time is divided, if that is known.
        brings_back: Whether it brings rows back into the table; all others take them out.
    """

    name: str
    count: int
    usage: Usage
    stored_mb: float = 0.0
    of: str = "rows"
    steps: tuple[Step, ...] = ()
    brings_back: bool = False

    @property
    def is_step(self) -> bool:
        """Whether this is a single step of Strongroom's chain. Tables indent those."""
        return self.name.startswith(" ")


@dataclass
class Course:
    """The same month of call records for every contender, on one stack.

    Attributes:
        rows: Call records in the month.
        original_mb: Their size as JSON lines.
    """

    stack: Stack
    month: Partition
    rows: int
    original_mb: float = 0.0
    results: list[Result] = field(default_factory=list)

    @property
    def window(self) -> str:
        """The month as an SQL condition."""
        start, end = self.month.window.start, self.month.window.end
        return f"call_start_time >= '{start:%Y-%m-%d}' AND call_start_time < '{end:%Y-%m-%d}'"

    def meter(self, clients: Callable[[], list[int]] = list) -> Meter:
        """A meter for this stack."""
        server, store = self.stack.postgres.pid, self.stack.object_store.pid
        assert server is not None
        assert store is not None
        return Meter(server, store, self.stack.staging, clients)

    @contextmanager
    def copy_of_rows(self, name: str) -> Iterator[str]:
        """Create a database with the rows for one contender, flush it to disk before the clock starts, and yield its name."""
        database = f"bench_{name}"
        with psycopg.connect(self.stack.postgres.conninfo(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                    sql.Identifier(database), sql.Identifier(SOURCE_DATABASE)
                )
            )
            connection.execute("CHECKPOINT")
            yield database
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def settings(self, **store: str) -> TableSettings:
        """The table's settings for use in this process, with the given store settings replaced."""
        table = load_settings().table(TABLE)
        where = {"bucket": BUCKET, "endpoint_url": self.stack.object_store.endpoint_url}
        return table.model_copy(
            update={"staging": str(self.stack.staging), "store": table.store.model_copy(update=where | store)}
        )

    def stored_mb(self, prefix: str) -> float:
        """The size of all objects under a prefix of the bucket."""
        client = self.stack.object_store.client("admin")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(float(entry["Size"]) for page in pages for entry in page.get("Contents", ())) / 1e6

    def environment(self, database: str) -> dict[str, str]:
        """Environment variables for psql and the AWS CLI."""
        return {
            **inherited_environment(),
            **self.stack.environment(),
            "PGDATABASE": database,
            "WINDOW": self.window,
            "SCRATCH": str(self.stack.folder),
        }
