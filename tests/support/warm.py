"""A chain with a warm tier, whose archiver owns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.calendar import Frequency, Partition
from strongroom.retention.drop_warm import WarmResult, purge_warm
from strongroom.tables.warm_script import warm_script
from tests.support.chain import RUN, Chain, some_settings
from tests.support.database import AUDIT, execute

UNTIL = Partition.parse(Frequency.MONTHLY, "2027-12")
FIGURES = "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM warm.audit), (SELECT count(*) FROM audit_all)"
LAST_WARM = datetime(2027, 5, 31, 23, 59, tzinfo=timezone.utc)
OVER = datetime(2027, 6, 1, tzinfo=timezone.utc)
"""365 days after the end of May 2026."""


class WarmChain(Chain):
    """A chain whose source role is the archiver's; `owner` owns the tables."""

    owner: str

    def apply(self) -> None:
        with self.source() as connection:
            script = warm_script(connection, self.settings, now=self.now, until=UNTIL)
        with psycopg.connect(self.owner) as connection:
            for statement in script:
                connection.execute(statement)

    def figures(self) -> tuple[int, int, int]:
        """Rows in the live table, in the warm one, and in the view of both."""
        with psycopg.connect(self.owner) as connection:
            return connection.execute(FIGURES).fetchone()


@contextmanager
def an_archiver(source: str) -> Iterator[str]:
    """A connection string of a role with the archiver's rights, on a test's own database."""
    role = f"archiver_{conninfo_to_dict(source)['dbname']}"
    execute(source, f"CREATE ROLE {role} LOGIN PASSWORD 'for-a-test'")
    execute(source, f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, DELETE ON TABLES TO {role}")
    yield make_conninfo(source, user=role, password="for-a-test")  # pragma: allowlist secret
    execute(source, f"DROP OWNED BY {role}; DROP ROLE {role}")


def a_warm_chain(
    source: str,
    archiver: str,
    client: Any,
    bucket: str,
    folder: Path,
    ddl: str = AUDIT,
    key: str = "2026-05",
    **changes: Any,
) -> WarmChain:
    """A chain on a database where some statements have run."""
    execute(source, ddl)
    given = {"warm": True, "part_rows": 300, "delete_batch_rows": 50} | changes
    chain = WarmChain(archiver, client, some_settings(bucket, folder, **given), key)
    chain.owner = source
    return chain


def purge(chain: WarmChain, now: datetime = OVER) -> dict[str, WarmResult]:
    """Drop the partitions whose term is over; what became of each month."""
    with chain.source() as connection:
        results = purge_warm(connection, chain.store, chain.settings, run=RUN, now=now)
    return {result.month: result for result in results}
