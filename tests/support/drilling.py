"""Restore drills without Airflow, under the role that a real drill has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.database.session import open_source
from strongroom.drill.drill import Drill
from strongroom.drill.records import ArchiveDrill, Choice
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import parse_drill_key
from strongroom.storage.staging import OF_RESTORES
from tests.support.chain import NOW, Chain
from tests.support.repository import REPOSITORY

SCRATCH = "strongroom_drill"
DRILL_SQL = REPOSITORY / "deploy" / "sql" / "drill.sql"
PASSWORD = "a drill's"


def make_role(connection: psycopg.Connection, role: str) -> None:
    """Run the script that a user runs with psql."""
    values = {"drill": role, "schema": SCRATCH}
    script = re.sub(r":'(\w+)'", lambda found: sql.Literal(values[found[1]]).as_string(), DRILL_SQL.read_text())
    connection.execute(script.encode())


@contextmanager
def drill_role(conninfo: str) -> Iterator[str]:
    """The connection string of a role of drills in a database of one test; the role goes with the test."""
    role = f"drill of {conninfo_to_dict(conninfo)['dbname']}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        make_role(connection, role)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
        yield make_conninfo(conninfo, user=role, password=PASSWORD)
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(role)))


@contextmanager
def drilling(chain: Chain, role: str, name: str = "drill-1") -> Iterator[Drill]:
    """A session of drills on the archives of a chain's store."""
    with (
        open_source(role, application_name=name) as connection,
        chain.staging(OF_RESTORES, name) as staging,
    ):
        yield Drill(connection, chain.store, staging, schema_name=SCRATCH, chosen_in="a choice", who="ada")


def drill(chain: Chain, role: str, archive: ArchiveId, *, now: datetime = NOW) -> ArchiveDrill:
    """Restore one archive as a drill."""
    with drilling(chain, role) as session:
        return session.restore_and_record(Choice(archive_id=str(archive), reasons=("newest",)), now=now)


def records(chain: Chain, at: datetime) -> Mapping[str, ArchiveDrill]:
    """What was recorded of drills at an instant, by key."""
    found = {}
    for key in chain.store.keys("reports/drills/"):
        if (parsed := parse_drill_key(key)) is None or parsed.at != at:
            continue
        present = chain.store.read(key)
        assert present is not None
        found[key] = ArchiveDrill.model_validate_json(present[0])
    return found


def scratch_tables(conninfo: str) -> list[str]:
    """The tables that drills have left."""
    with psycopg.connect(conninfo) as connection:
        query = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
        return [name for (name,) in connection.execute(query, [SCRATCH])]
