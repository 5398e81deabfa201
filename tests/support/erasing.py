"""Cases of persons without Airflow: the steps of a run of subject_erasure, in their order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.erasure.approve import keep_answer, keep_found, read_found, require_approved
from strongroom.erasure.cases import Case, Closing, open_case, read_case
from strongroom.erasure.close import close_case
from strongroom.erasure.erase import Erased, Erasing, intend
from strongroom.erasure.find import Found, find_person
from strongroom.erasure.remove import left_to_remove, remove_superseded
from strongroom.erasure.rows import Wanted, read_wanted
from strongroom.erasure.successions import SuccessionRecord
from strongroom.erasure.supersede import Superseding
from strongroom.formats.persons import Persons
from strongroom.ledger.claims import running_clock
from strongroom.ledger.holds import covered, place_hold
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.suppressed import tokens_of
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import RunIdentity
from strongroom.retention.certificate import Issuer
from strongroom.retention.purge import PurgeResult
from strongroom.settings import Subjects, TableSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.tables.archived_rows import archived_texts
from strongroom_local.servers.s3 import ObjectStore
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute
from tests.support.logs import SUBJECT_KEY, with_log
from tests.support.repository import REPOSITORY

ERASURE_SQL = REPOSITORY / "deploy" / "sql" / "erasure.sql"

CALLS = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, caller text NOT NULL, callee text, name text, cost numeric
);
INSERT INTO audit (at, caller, callee, name, cost)
SELECT '2026-05-01'::timestamptz + n * interval '1 hour', '+23480' || lpad((n % 50)::text, 4, '0'), '+23481' || lpad((n % 70)::text, 4, '0'),
       'subscriber ' || n % 50 || E' \\\\ "x" \t', n / 7.0
FROM generate_series(0, 699) AS n;
"""
"""700 calls of 50 callers with 70 others, all of one month."""

ADA, BOB, CARL = "+234800007", "+234810011", "+234800008"
OTHER_HOLD = "20260101T000000Z-00000003"
COLUMNS = {"caller": "msisdn", "callee": "msisdn"}
RUN = RunIdentity(dag_id="subject_erasure", run_id="manual__case", triggered_by="dpo")
LATER = NOW + timedelta(days=8)


def person_settings(bucket: str, staging: Any, **changes: Any) -> TableSettings:
    """Settings of the calls, whose numbers identify persons; in a store with a log."""
    subjects = {
        "columns": COLUMNS,
        "obligation": False,
        "recipients": ["The billing partner"],
        **changes.pop("subjects", {}),
    }
    return with_log(some_settings(bucket, staging, subjects=subjects, **changes))


@dataclass
class Person:
    """A case and the steps of its run."""

    chain: Chain
    purge_client: Any
    case_id: str = "DSR-1"
    now: datetime = NOW
    before: list[Any] = field(default_factory=list)

    def open(self, *values: str, kind: str = "erasure", of_class: str = "msisdn") -> Case:
        """The person asks."""
        return open_case(
            self.chain.store,
            SUBJECT_KEY,
            self.case_id,
            kind="erasure" if kind == "erasure" else "access",
            identifiers={of_class: values},
            received_at=self.now - timedelta(days=1),
            identity_check="passport seen in the shop",
            who="clerk",
            now=self.now,
        )

    @property
    def wanted(self) -> Wanted:
        store, settings = self.chain.store, self.chain.settings
        case = read_case(store, self.case_id).case
        return read_wanted(store, SUBJECT_KEY, case, tokens_of(store, settings, self.case_id))

    def find(self, at: datetime | None = None) -> Found:
        """Find and record."""
        with self.chain.source() as connection:
            places, searched = find_person(connection, self.chain.store, self.chain.settings, self.wanted, folder=None)
        found = Found(case_id=self.case_id, run=RUN, found_at=at or self.now, places=tuple(places), searched=searched)
        keep_found(self.chain.store, found)
        return found

    def answer(self, *, approved: bool = True, by: str = "boss") -> None:
        key, _ = read_found(self.chain.store, self.case_id, RUN)
        keep_answer(
            self.chain.store,
            self.case_id,
            key,
            approved=approved,
            by=by,
            at=self.now,
            not_by=frozenset({"clerk", "dpo"}),
        )

    def erase(self) -> tuple[list[Erased], list[SuccessionRecord]]:
        """Erase what was approved."""
        store = self.chain.store
        key, found = read_found(store, self.case_id, RUN)
        answer = require_approved(store, self.case_id, key)
        intent = intend(store, self.case_id, key, found_at=found.found_at, approved_by=answer.by, run=RUN, now=self.now)
        erasing = Erasing(store, self.chain.staging, self.wanted, intent, run=RUN, clock=running_clock(self.now))
        with self.chain.source() as connection:
            return erasing.erase(connection, self.chain.settings, folder=None)

    def remove(self, now: datetime = LATER) -> list[PurgeResult]:
        """Destroy what was superseded."""
        return [
            remove_superseded(
                self.chain.store, self.purge_store, self.chain.settings, one, run=RUN, now=now, issuer=Issuer()
            )
            for one in left_to_remove(self.chain.store, self.case_id)
        ]

    def close(self, now: datetime = LATER) -> Closing:
        with self.chain.source() as connection:
            places, _ = find_person(connection, self.chain.store, self.chain.settings, self.wanted, folder=None)
        return close_case(
            self.chain.store, self.purge_store, self.case_id, places, [self.chain.settings], run=RUN, now=now
        )

    def run(self) -> Closing:
        """All steps from find to close."""
        self.find()
        self.answer()
        self.erase()
        self.remove()
        return self.close()

    @property
    def purge_store(self) -> PurgeStore:
        return PurgeStore(self.purge_client, self.chain.settings.store)


def fill_erased_store(
    source: str, object_store: ObjectStore, bucket: str, folder: Any, format: str = "jsonl"
) -> Person:
    """Erase one person from a table and its archive, to the end of the case, and a second one up to the cooling-off.

    Calls are blanked, so some rows leave the archive and others are blanked. Returns the second case.
    """
    now = datetime.now(timezone.utc)
    execute(source, CALLS + "UPDATE audit SET callee = NULL WHERE id % 3 = 0;")
    subjects = {"about_two": "blank", "also_blank": ["name"]}
    settings = person_settings(bucket, folder, part_rows=400, cold_retention="P5Y", subjects=subjects, format=format)
    chain = Chain(source, object_store.client("archiver"), settings, now=now)
    chain.run()
    place_hold(
        chain.store, covered("public", "texts"), why="w", who="eve", reference="R/1", now=now, hold_id=OTHER_HOLD
    )
    execute(source, f"INSERT INTO audit (at, caller) VALUES (now() - interval '1 day', '{ADA}')")
    purger = object_store.client("purger")
    first = Person(chain, purger, now=now)
    first.open(ADA)
    first.find()
    first.answer()
    first.erase()
    later = now + timedelta(days=8)
    first.remove(now=later)
    first.close(now=later)
    second = Person(chain, purger, case_id="DSR-2", now=now)
    second.open(CARL)
    second.find()
    second.answer()
    second.erase()
    return second


def archived(person: Person, archive: ArchiveId) -> list[bytes]:
    """The canonical texts of an archive's rows, in their order."""
    store = person.chain.store
    manifest = require_manifest(store, archive)
    parts = map(manifest.verified_part, range(len(manifest.parts)))
    texts = (b"".join(archived_texts(store, None, manifest.table, part, hint="a test")) for part in parts)
    return b"".join(texts).splitlines()


@contextmanager
def an_erased_store(postgres: Any, object_store: ObjectStore, folder: Path, name: str) -> Iterator[Person]:
    """A database and a bucket of their own with :func:`fill_erased_store`."""
    bucket = f"{name}-{os.getpid()}"
    database = bucket.replace("-", "_")
    object_store.create_bucket(bucket)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    yield fill_erased_store(postgres.conninfo(database), object_store, bucket, folder / "staging")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


def supersede(chain: Chain, archive: ArchiveId, column: str, value: str, case_id: str = "DSR-7") -> SuccessionRecord:
    """Give an archive a successor without the rows that have a value, and nothing else of a case."""
    subjects = Subjects(columns={column: "number"}, obligation=False)
    settings = chain.settings.model_copy(update={"subjects": subjects})
    wanted = Wanted.of(SUBJECT_KEY, {"number": frozenset({value})})
    superseding = Superseding(
        chain.store,
        chain.staging,
        settings,
        wanted,
        Persons(subjects.columns, SUBJECT_KEY, {}),
        case_id=case_id,
        run=RUN,
        clock=running_clock(chain.now),
    )
    return superseding.supersede(archive, lambda: None)


def without(rows: Sequence[Any], *values: str) -> list[Any]:
    """Rows that none of some numbers called or was called by."""
    return [row for row in rows if row[2] not in values and row[3] not in values]


@contextmanager
def eraser_role(conninfo: str, *tables: str) -> Iterator[str]:
    """The connection string of a role that may erase in a database of one test, made by the script that a user runs with psql."""
    role = f"eraser of {conninfo_to_dict(conninfo)['dbname']}"
    values = {"eraser": role, "restorer": "nobody at all", "tables": ", ".join(tables)}
    script = re.sub(r":'(\w+)'", lambda found: sql.Literal(values[found[1]]).as_string(), ERASURE_SQL.read_text())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(script.encode())
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD 'an eraser''s'").format(sql.Identifier(role)))
        yield make_conninfo(conninfo, user=role, password="an eraser's")  # pragma: allowlist secret
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(role)))
