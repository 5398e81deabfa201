"""Whole partitions leave the table: proved, detached, cooled off, proved again, dropped, by an owner who is no superuser.

`make mutants` runs this file for each mutant of what it tests, so all tests share one database and one bucket.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.archive import detach
from strongroom.archive.report import report_run
from strongroom.database.session import qualified
from strongroom.errors import HeldError, IdentityError, IntegrityError, NeededError, SourceAccessError, SourceError
from strongroom.ledger.evidence import DeleteEvidence, DetachEvidence
from strongroom.ledger.holds import EVERYTHING, place_hold, release_hold
from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys import ArchiveId, claim_key
from strongroom.records import VerifiedPart
from strongroom.retention import drop_detached as detached_purge
from strongroom.retention.condemn import condemn_archive
from strongroom.retention.drop_detached import DropEvidence
from strongroom.settings import StoreSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.staging_folder import FolderStaging
from strongroom.storage.store import Store
from strongroom.tables import compare as comparing
from strongroom.tables import locks
from tests.support import restoring
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute, scalar

COOLED = NOW + timedelta(days=1, minutes=1)
HELD = "strongroom_detached"

_numbers = itertools.count(1)

TABLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE audit_2026_04 PARTITION OF audit FOR VALUES FROM ('2026-04-01+00') TO ('2026-05-01+00');
CREATE TABLE audit_2026_05 PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE audit_2026_06 PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
"""
ROWS = """
INSERT INTO audit SELECT n, '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0
FROM generate_series(1, 800) AS n;
"""
DEFAULT = "CREATE TABLE audit_rest PARTITION OF audit DEFAULT;"
WEEKS = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE w17 PARTITION OF audit FOR VALUES FROM ('2026-04-20+00') TO ('2026-05-04+00');
CREATE TABLE w19 PARTITION OF audit FOR VALUES FROM ('2026-05-04+00') TO ('2026-05-11+00');
CREATE TABLE w20 PARTITION OF audit FOR VALUES FROM ('2026-05-11+00') TO ('2026-05-18+00');
CREATE TABLE w21 PARTITION OF audit FOR VALUES FROM ('2026-05-18+00') TO ('2026-06-08+00');
"""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(locks, "_PAUSES_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(locks, "STATEMENT_MILLISECONDS", 10_000)  # a busy machine is nobody's lock


@pytest.fixture(scope="module")
def room(postgres, object_store) -> Iterator[tuple[str, str, str, str]]:
    """A database, a bucket, and the names of two roles: the archiver, and the owner of the tables."""
    name = f"detach_{os.getpid()}"
    archiver, owner = f"archiver_{name}", f"owner_{name}"
    execute(postgres.conninfo(), f"CREATE DATABASE {name}")
    for role in (archiver, owner):
        execute(postgres.conninfo(), f"CREATE ROLE {role} LOGIN PASSWORD '{name}'")
    object_store.create_bucket("detach")
    yield postgres.conninfo(name), "detach", archiver, owner
    execute(postgres.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")
    execute(postgres.conninfo(), f"DROP ROLE {owner}, {archiver}")


@pytest.fixture
def source(room) -> str:
    """The database, empty: a connection string of its superuser."""
    conninfo, _, archiver, owner = room
    execute(
        conninfo,
        f"""
        DROP SCHEMA IF EXISTS warm, public, {HELD} CASCADE;
        CREATE SCHEMA public;
        GRANT USAGE ON SCHEMA public TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO {owner};
        CREATE SCHEMA {HELD} AUTHORIZATION {owner};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT, DELETE ON TABLES TO {archiver};
        """,
    )
    return conninfo


@pytest.fixture
def roles(source, room) -> tuple[str, str]:
    """Connection strings of the archiver, who may read and delete, and of the owner, who owns table and schema and no more."""
    _, _, archiver, owner = room
    password = conninfo_to_dict(source)["dbname"]
    return (
        make_conninfo(source, user=archiver, password=password),
        make_conninfo(source, user=owner, password=password, options="-c timezone=UTC"),
    )


@pytest.fixture
def make_chain(room, roles, object_store, tmp_path) -> Callable[..., Chain]:
    def make(ddl: str = TABLE + ROWS, **changes: Any) -> Chain:
        archiver, owner = roles
        execute(owner, ddl)
        bucket, staging = room[1], changes.pop("staging", tmp_path)
        given = {
            "part_rows": 400,
            "delete_batch_rows": 200,
            "partition_delete": {"enabled": True},
            "lock_timeout_seconds": 1,
            "store": StoreSettings(bucket=bucket, prefix=f"{os.getpid()}/{next(_numbers)}"),
        }
        settings = some_settings(bucket, staging, **(given | changes))
        return Chain(archiver, object_store.client("archiver"), settings, owner=owner)

    return make


@pytest.fixture
def chain(make_chain) -> Chain:
    return make_chain()


def owning(chain: Chain) -> Chain:
    """The same with the owner's rights, for restores."""
    return replace(chain, conninfo=chain.owner)


def tables(chain: Chain) -> dict[str, list[str]]:
    """Partitions of the table, and what waits detached."""
    return scalar(
        chain.owner,
        "SELECT json_build_object('partitions', (SELECT json_agg(relid::regclass::text ORDER BY 1) FROM "
        "(SELECT relid::regclass::text AS relid FROM pg_partition_tree('audit') WHERE isleaf) AS p), 'detached', (SELECT "
        "coalesce(json_agg(relname ORDER BY relname), '[]') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relkind = 'r'))",
        HELD,
    )


def left(evidence: DetachEvidence) -> dict[str, str]:
    return {one.partition.removeprefix("public."): one.reason for one in evidence.left}


def remove(object_store: Any, chain: Chain, key: str) -> None:
    """An object with all its versions."""
    admin, where = object_store.client("admin"), chain.settings.store
    named = {"Bucket": where.bucket, "Key": f"{where.prefix}/{key}"}
    for version in chain.store.versions(key):
        admin.delete_object(**named, VersionId=version.version_id)


def guards(chain: Chain) -> int:
    """Triggers of guards that have an effect."""
    return scalar(
        chain.owner, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strongroom_guard%%' AND tgenabled <> 'D'"
    )


def is_refused(conninfo: str, statement: str) -> bool:
    try:
        execute(conninfo, statement)
    except errors.ObjectNotInPrerequisiteState as error:
        return "are archived as public.audit.2026-05.0001 and are about to be deleted" in str(error)
    return False


# A whole run.


def test_a_partition_that_is_just_what_was_archived_is_detached_waits_and_is_dropped(chain):
    before = scalar(chain.owner, "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM audit_2026_05 AS t")

    report = chain.run()

    assert (report.archived_rows, report.deleted_rows, report.gone_rows, report.detached_rows) == (744, 0, 0, 744)
    assert report.sentence().endswith("744 wait in detached partitions until 2026-11-24 12:00 UTC")
    assert tables(chain) == {"partitions": ["audit_2026_04", "audit_2026_06"], "detached": ["audit_2026_05"]}
    waiting = scalar(chain.owner, f"SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM {HELD}.audit_2026_05 AS t")
    assert waiting == before
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 56

    [early] = chain.drop_detached(now=COOLED - timedelta(minutes=2))
    [dropped] = chain.drop_detached(now=COOLED)

    assert (early.result, early.rows, early.detail) == ("kept", 0, "its cooling-off runs until 2026-11-24 12:00 UTC")
    assert (dropped.result, dropped.rows) == ("dropped", 744)
    assert tables(chain)["detached"] == []
    evidence = DropEvidence.model_validate_json(chain.store.read(dropped.evidence_key)[0])
    assert (evidence.partition, evidence.rows, evidence.record_count) == ("public.audit_2026_05", 744, 744)
    assert chain.drop_detached(now=COOLED) == []
    restoring.restore(owning(chain), now=COOLED, target="public.audit_back", create_target=True)
    assert scalar(chain.owner, "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM audit_back AS t") == before


def test_without_the_setting_rows_of_a_partition_go_by_key_as_before(make_chain):
    chain = make_chain(partition_delete={})

    report = chain.run()

    assert (report.deleted_rows, report.detached_rows) == (744, 0)
    assert len(tables(chain)["partitions"]) == 3
    assert chain.store.read(ArchiveId.parse(report.archive_id).detach_evidence_key) is None


def test_a_window_takes_the_partitions_that_it_covers_and_deletes_the_other_rows_by_key(make_chain):
    """Parts lie across partitions, and partitions across the window: all counts must still add up."""
    chain = make_chain(WEEKS + ROWS)

    report = chain.run()

    assert (report.archived_rows, report.detached_rows, report.deleted_rows, report.gone_rows) == (744, 336, 408, 0)
    assert tables(chain) == {"partitions": ["w17", "w21"], "detached": ["w19", "w20"]}
    archive = ArchiveId.parse(report.archive_id)
    evidence = DetachEvidence.model_validate_json(chain.store.read(archive.detach_evidence_key)[0])
    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.w19", 168), ("public.w20", 168)]
    assert set(left(evidence).values()) == {"the window covers only a part of it"}
    for number in range(report.parts):
        part = DeleteEvidence.model_validate_json(chain.store.read(archive.delete_evidence_key(number))[0])
        assert part.deleted + part.detached == part.rows
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 56
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    assert tables(chain) == {"partitions": ["w17", "w21"], "detached": []}


def test_a_repeat_after_success_changes_nothing_and_says_the_same(chain):
    sealed = chain.seal(chain.plan())

    first, second = chain.detach(sealed.parts), chain.detach(sealed.parts)

    assert first == second
    assert tables(chain)["detached"] == ["audit_2026_05"]


@pytest.mark.parametrize("date_type", ["date", "timestamp"])
def test_columns_in_another_order_dropped_columns_and_other_date_types_are_compared_as_archived(make_chain, date_type):
    chain = make_chain(
        f"""
        CREATE TABLE audit (id bigint, at {date_type} NOT NULL, who text, cost numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE audit_2026_05 (who text, gone integer, at {date_type} NOT NULL, cost numeric, id bigint NOT NULL);
        ALTER TABLE audit_2026_05 DROP gone;
        ALTER TABLE audit ATTACH PARTITION audit_2026_05 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
        INSERT INTO audit SELECT n, '2026-05-01'::timestamp + n * interval '1 hour', n, n FROM generate_series(1, 700) AS n;
        """
    )

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (700, 0)
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]


# A partition that is not what was archived stays.

MISMATCHES = {
    "a changed row": ("UPDATE audit SET cost = 0 WHERE id = 10", (0, 743, 1, 0), 57),
    "a late row": ("INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)", (0, 744, 0, 0), 57),
    "a missing row": ("DELETE FROM audit WHERE id = 10", (0, 743, 0, 1), 56),
    "a row in place of another": (
        "DELETE FROM audit WHERE id = 10; INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
        (0, 743, 0, 1),
        57,
    ),
}


@pytest.mark.parametrize(("change", "counts", "rows"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_partition_that_differs_from_the_archive_stays_and_its_rows_go_by_key(chain, change, counts, rows):
    sealed = chain.seal(chain.plan())
    execute(chain.owner, change)

    evidence = chain.detach(sealed.parts)

    assert left(evidence)["audit_2026_05"].startswith("it is not what was archived: ")
    assert guards(chain) == 0
    deleted = [chain.delete(part) for part in sealed.parts]
    found = [sum(getattr(one, name) for one in deleted) for name in ("detached", "deleted", "changed", "gone")]
    assert tuple(found) == counts
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == rows


BETWEEN = {
    "a row that changes": ("UPDATE audit SET who = 'changed at the last moment' WHERE id = 10", (744, 743)),
    "a row that comes": ("INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)", (745, 744)),
    "a row that goes": ("DELETE FROM audit WHERE id = 10", (743, 743)),
}


@pytest.mark.parametrize(("change", "counts"), BETWEEN.values(), ids=BETWEEN)
def test_what_happens_between_the_look_and_the_guard_is_noticed(chain, monkeypatch, change, counts):
    """The look counted the rows before it, so only the comparison under the guard can tell."""
    sealed = chain.seal(chain.plan())
    original = detach.count_rows

    def count_rows(*arguments: Any) -> int:
        rows = original(*arguments)
        execute(chain.owner, change)
        return rows

    monkeypatch.setattr(detach, "count_rows", count_rows)

    evidence = chain.detach(sealed.parts)

    there, equal = counts
    assert left(evidence)["audit_2026_05"] == (
        f"it is not what was archived: {there} rows there, 744 in the archive, {equal} equal"
    )
    assert (guards(chain), len(tables(chain)["partitions"])) == (0, 3)


# The guard.


REFUSED = (
    "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
    "INSERT INTO audit_2026_05 VALUES (9000, '2026-05-20 10:30+00', 'late', 1)",
    "UPDATE audit SET cost = 0 WHERE id = 10",
    "UPDATE audit SET at = '2026-05-20 10:30+00' WHERE id = 795",
    "UPDATE audit SET at = '2026-06-20 10:30+00' WHERE id = 10",
    "DELETE FROM audit WHERE id = 10",
    "TRUNCATE audit",
    "TRUNCATE audit_2026_05",
    "SET session_replication_role = replica; UPDATE audit SET cost = 0 WHERE id = 10",
)


def test_while_a_partition_is_compared_nothing_changes_its_rows(chain, monkeypatch, source):
    """Through the table, past it, and as logical replication would."""
    sealed = chain.seal(chain.plan())
    original, refused = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        refused.extend(is_refused(source, statement) for statement in REFUSED)
        return original(*arguments, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    evidence = chain.detach(sealed.parts)

    assert refused == [True] * len(REFUSED)
    assert evidence.rows == 744


def test_other_partitions_can_be_written_while_one_is_compared(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    original = detach.compare_with_archive

    def compare(*arguments: Any, **named: Any) -> Any:
        execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-06-20 10:30+00', 'new', 1)")
        execute(chain.owner, "UPDATE audit SET cost = 1 WHERE id = 9000; DELETE FROM audit WHERE id = 799")
        return original(*arguments, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    assert chain.detach(sealed.parts).rows == 744


def test_a_detached_partition_takes_no_change_either(chain, source):
    chain.run()

    assert is_refused(source, f"DELETE FROM {HELD}.audit_2026_05")
    assert is_refused(source, f"TRUNCATE {HELD}.audit_2026_05")


def test_a_guard_that_somebody_opened_during_the_comparison_is_not_relied_on(chain, monkeypatch, source):
    """It is closed again before the detach; the table is compared once more, and found changed."""
    sealed = chain.seal(chain.plan())
    original, calls = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        comparison = original(*arguments, **named)
        if not calls:
            execute(source, "ALTER TABLE audit_2026_05 DISABLE TRIGGER ALL")
            execute(source, "UPDATE audit SET cost = 0 WHERE id = 10")
            execute(source, "ALTER TABLE audit_2026_05 ENABLE ALWAYS TRIGGER strongroom_guard")
            execute(source, "ALTER TABLE audit_2026_05 ENABLE ALWAYS TRIGGER strongroom_guard_truncate")
        calls.append(comparison)
        return comparison

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    with pytest.raises(IntegrityError, match="744 rows there, 744 in the archive, 743 equal") as caught:
        chain.detach(sealed.parts)

    assert len(calls) == 2
    execute(chain.owner, caught.value.hint[caught.value.hint.index("BEGIN") :])
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


# What is not covered goes by key, and the reason is told.

NOT_COVERED = {
    "a foreign key that points at it": (
        TABLE + ROWS + "CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES audit);",
        "rows of others may refer to its rows: public.notes (notes_id_at_fkey)",
    ),
    "a foreign key of its own that follows": (
        "CREATE TABLE agents (id bigint PRIMARY KEY); INSERT INTO agents VALUES (1);"
        + TABLE
        + "ALTER TABLE audit ADD agent bigint DEFAULT 1 REFERENCES agents ON DELETE CASCADE;"
        + ROWS,
        "its rows follow changes of others (audit_agent_fkey)",
    ),
    "a table without partitions": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);" + ROWS,
        "the table is not partitioned",
    ),
    "hash partitions": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric) PARTITION BY HASH (id);"
        "CREATE TABLE audit_0 PARTITION OF audit FOR VALUES WITH (MODULUS 1, REMAINDER 0);" + ROWS,
        "the table is not partitioned by range of at",
    ),
    "list partitions": (
        "CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, kind int DEFAULT 1, PRIMARY KEY (id, kind)) "
        "PARTITION BY LIST (kind); CREATE TABLE audit_1 PARTITION OF audit FOR VALUES IN (1);" + ROWS,
        "the table is not partitioned by range of at",
    ),
    "ranges of another column": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric) PARTITION BY RANGE (id);"
        "CREATE TABLE audit_1 PARTITION OF audit FOR VALUES FROM (1) TO (1000);" + ROWS,
        "the table is not partitioned by range of at",
    ),
}


@pytest.mark.parametrize(("ddl", "reason"), NOT_COVERED.values(), ids=NOT_COVERED)
def test_a_table_whose_partitions_cannot_go_as_a_whole_loses_its_rows_by_key(make_chain, ddl, reason):
    chain = make_chain(ddl)
    sealed = chain.seal(chain.plan())

    evidence = chain.detach(sealed.parts)

    assert (evidence.note, evidence.detached) == (reason, ())
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


LEFT = {
    "a partition with partitions": (
        TABLE.replace("TO ('2026-06-01+00')", "TO ('2026-06-01+00') PARTITION BY RANGE (at)", 1)
        + "CREATE TABLE audit_2026_05_all PARTITION OF audit_2026_05 FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');"
        + ROWS,
        "it is partitioned itself",
    ),
    "a partition that a view reads": (
        TABLE + ROWS + "CREATE VIEW may AS SELECT * FROM audit_2026_05;",
        "it is read by public.may",
    ),
    "a name that is taken": (
        TABLE + ROWS + f"CREATE TABLE {HELD}.audit_2026_05 ();",
        f"there is a audit_2026_05 in schema {HELD} already",
    ),
}


@pytest.mark.parametrize(("ddl", "reason"), LEFT.values(), ids=LEFT)
def test_a_partition_that_cannot_go_as_a_whole_loses_its_rows_by_key(make_chain, ddl, reason):
    chain = make_chain(ddl)
    sealed = chain.seal(chain.plan())

    evidence = chain.detach(sealed.parts)

    assert left(evidence) == {"audit_2026_05": reason}
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_delete_trigger_that_was_accepted_still_fires_for_each_row(make_chain):
    """To drop a table would not fire it."""
    chain = make_chain(
        TABLE
        + ROWS
        + "CREATE TABLE fired (id bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "'BEGIN INSERT INTO public.fired VALUES (OLD.id); RETURN OLD; END';"
        "CREATE TRIGGER note AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION note()",
        accepted_delete_triggers=["note"],
    )

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (0, 744)
    assert scalar(chain.owner, "SELECT count(*) FROM fired") == 744


def test_rows_that_move_to_the_warm_tier_go_by_key(make_chain, source):
    from strongroom.calendar import Frequency, Partition
    from strongroom.tables.warm import warm_script

    chain = make_chain(warm=True)
    with chain.source() as connection:
        until = Partition.parse(Frequency.MONTHLY, "2027-01")
        script = warm_script(connection, chain.settings, now=chain.now, until=until)
    with psycopg.connect(source) as connection:
        for statement in script:
            connection.execute(statement)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (0, 744)
    assert scalar(source, "SELECT count(*) FROM warm.audit") == 744


def test_an_archive_of_late_rows_does_not_take_the_partition_that_an_earlier_one_has_emptied(make_chain):
    chain = make_chain(partition_delete={})
    chain.run()
    execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)")
    later = make_settings_on(chain)

    report = later.run()

    assert (report.archived_rows, report.detached_rows) == (1, 1)


def make_settings_on(chain: Chain) -> Chain:
    settings = chain.settings.model_copy(
        update={"partition_delete": chain.settings.partition_delete.model_copy(update={"enabled": True})}
    )
    return Chain(chain.conninfo, chain.client, settings, owner=chain.owner)


def test_a_table_that_refers_to_others_is_detached_and_brought_back_with_its_foreign_keys(make_chain):
    """Keys that follow nothing: the rows referred to cannot go while the partition waits, as before."""
    chain = make_chain(
        "CREATE TABLE agents (id bigint PRIMARY KEY); INSERT INTO agents VALUES (1), (2);"
        + TABLE
        + "ALTER TABLE audit ADD agent bigint DEFAULT 1 REFERENCES agents;"
        + ROWS
    )
    sealed = chain.seal(chain.plan())

    [waiting] = chain.detach(sealed.parts).detached

    with pytest.raises(errors.ForeignKeyViolation):
        execute(chain.owner, "DELETE FROM agents WHERE id = 1")
    execute(chain.owner, waiting.bring_back)
    assert scalar(chain.owner, "SELECT count(*) FROM audit WHERE agent = 1") == 800


def test_a_clone_of_the_database_drops_nothing_by_its_originals_archive(chain, postgres, source):
    """A clone has the detached table too, under the same number."""
    chain.run()
    clone = f"{conninfo_to_dict(source)['dbname']}_clone"
    execute(postgres.conninfo(), f"CREATE DATABASE {clone} TEMPLATE {conninfo_to_dict(source)['dbname']}")
    there = replace(chain, owner=make_conninfo(chain.owner, dbname=clone))

    with pytest.raises(IdentityError, match="belongs to another database"):
        there.drop_detached(now=COOLED)

    assert scalar(there.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744
    execute(postgres.conninfo(), f"DROP DATABASE {clone} WITH (FORCE)")


def test_a_role_that_does_not_own_the_table_is_refused_and_a_missing_schema_too(chain, source):
    sealed = chain.seal(chain.plan())
    owner, chain.owner = chain.owner, chain.conninfo

    with pytest.raises(SourceAccessError, match=r"no ownership of public\.audit"):
        chain.detach(sealed.parts)
    chain.owner = owner
    execute(source, f"DROP SCHEMA {HELD}")
    with pytest.raises(SourceAccessError, match="may make no tables in schema strongroom_detached"):
        chain.detach(sealed.parts)

    assert scalar(source, "SELECT count(*) FROM audit") == 800


# A DEFAULT partition.


def test_a_default_partition_takes_part_without_a_concurrent_detach(make_chain):
    """Rows of the window can lie in it only while no other partition is for them; they go by key."""
    ddl = TABLE.replace("'2026-05-01+00') TO", "'2026-05-08+00') TO") + DEFAULT + ROWS
    chain = make_chain(ddl)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows, report.gone_rows) == (576, 168, 0)
    assert tables(chain)["partitions"] == ["audit_2026_04", "audit_2026_06", "audit_rest"]
    execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)")
    assert scalar(chain.owner, "SELECT count(*) FROM audit_rest") == 1
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]


# Locks of others.


class Neighbours:
    """A writer of another partition and a reader of the table that go on all the time; nothing may keep them waiting for long."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._ended = threading.Event()
        self._workers = ThreadPoolExecutor(2)
        self.done = [0, 0]

    def _go_on(self, number: int, statement: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '20s'")
            while not self._ended.is_set():
                connection.execute(statement)
                self.done[number] += 1

    def __enter__(self) -> Neighbours:
        statements = (
            "INSERT INTO audit SELECT 100000 + random() * 1e12, '2026-06-20 10:30+00', 'new', 1",
            "SELECT count(*) FROM audit WHERE at >= '2026-06-01+00'",
        )
        self._at_work = [self._workers.submit(self._go_on, *each) for each in enumerate(statements)]
        return self

    def go_on(self) -> None:
        """See that both come to an end of what they do now, and of what they do next."""
        before = list(self.done)
        while any(now < then + 2 for now, then in zip(self.done, before, strict=True)):
            assert not any(each.done() for each in self._at_work)
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._at_work:
            each.result()
        self._workers.shutdown()


def test_a_long_writer_in_the_partition_leaves_its_rows_to_the_delete_by_key(chain):
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other:
        other.execute("UPDATE audit SET who = who WHERE id = 10")

        evidence = chain.detach(sealed.parts)

        other.commit()
    assert left(evidence) == {"audit_2026_05": "somebody else's lock was in the way"}
    assert guards(chain) == 0
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_long_reader_is_waited_for_without_anybody_waiting_behind_and_the_rest_is_done_later(chain):
    """The detach has begun for everybody who comes now; the purge brings it to its end."""
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other, Neighbours(chain.owner) as neighbours:
        other.execute("SELECT count(*) FROM audit")
        evidence = chain.detach(sealed.parts)
        neighbours.go_on()
        deleted = [chain.delete(part) for part in sealed.parts]
        [still] = chain.drop_detached(now=COOLED)
        seen = other.execute("SELECT count(*) FROM audit WHERE at < '2026-06-01+00'").fetchone()[0]
        other.commit()
    [dropped] = chain.drop_detached(now=COOLED)

    assert [(one.rows, one.held_as) for one in evidence.detached] == [(744, "public.audit_2026_05")]
    assert (sum(one.detached for one in deleted), sum(one.gone for one in deleted)) == (744, 0)
    assert (still.result, still.detail) == ("contended", "transactions that had it in use have not ended yet")
    assert seen in (1, 745), "under READ COMMITTED each statement has its own sight"
    assert dropped.result == "dropped"


def test_a_long_reader_where_only_a_plain_detach_is_allowed_leaves_the_rows_to_the_delete_by_key(make_chain):
    chain = make_chain(TABLE + DEFAULT + ROWS)
    sealed = chain.seal(chain.plan())
    with psycopg.connect(chain.owner) as other, Neighbours(chain.owner) as neighbours:
        other.execute("SELECT count(*) FROM audit")

        evidence = chain.detach(sealed.parts)

        neighbours.go_on()
        other.commit()
    assert left(evidence) == {"audit_2026_05": "somebody else's lock was in the way"}
    assert guards(chain) == 0
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_guard_that_cannot_be_lifted_fails_the_task_and_a_repeat_lifts_it(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    original, others = detach.compare_with_archive, []

    def compare(*arguments: Any, **named: Any) -> Any:
        if not others:
            others.append(psycopg.connect(chain.owner))
            others[0].execute("LOCK TABLE audit_2026_05 IN SHARE ROW EXCLUSIVE MODE")
        comparison = original(*arguments, **named)
        return comparison.__class__(comparison.rows, comparison.archived, 0)

    monkeypatch.setattr(detach, "compare_with_archive", compare)
    with pytest.raises(SourceError, match="could not be lifted"):
        chain.detach(sealed.parts)
    assert guards(chain) == 2
    others[0].close()

    evidence = chain.detach(sealed.parts)

    assert (guards(chain), evidence.detached) == (0, ())
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def leave_guard(chain, monkeypatch):
    """Let a run die between guard and comparison, and leave the guard behind."""
    sealed = chain.seal(chain.plan())
    with monkeypatch.context() as dying:
        dying.setattr(detach._Detaching, "_compare", _die)
        dying.setattr(detach._Detaching, "_lift", lambda *_: None)
        with pytest.raises(Dead):
            chain.detach(sealed.parts)


def test_a_guard_that_a_broken_run_left_is_lifted_by_the_purge(chain, monkeypatch):
    leave_guard(chain, monkeypatch)
    assert guards(chain) == 2

    [lifted] = chain.drop_detached()

    assert (lifted.result, guards(chain)) == ("lifted", 0)
    assert chain.drop_detached() == []


# Crashes.


class Dead(BaseException):
    """The process is killed here."""


def _die(*_: object, **__: object) -> Any:
    raise Dead


def _after(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        raise Dead

    return wrapped


CRASHES = {
    "when it is guarded": lambda: (detach._Detaching, "_compare", _die),
    "when it is compared": lambda: (detach._Detaching, "_detach", _die),
    "when it is detached": lambda: (detach._Detaching, "_detach", _after(detach._Detaching._detach)),
    "when it is moved": lambda: (detach, "settle_detached", _after(detach.settle_detached)),
    "before the evidence": lambda: (detach, "DetachEvidence", _die),
}


@pytest.mark.parametrize(
    ("crash", "extra"),
    [*((crash, "") for crash in CRASHES.values()), (CRASHES["when it is detached"], DEFAULT)],
    ids=[*CRASHES, "when it is detached plainly"],
)
def test_a_detach_that_is_killed_is_taken_up_by_a_repeat(make_chain, monkeypatch, crash, extra):
    """Each row is in the table or in the detached partition all the time."""
    chain = make_chain(TABLE + extra + ROWS)
    sealed = chain.seal(chain.plan())
    with monkeypatch.context() as killed:
        killed.setattr(detach._Detaching, "_lift", lambda *_: None)
        killed.setattr(*crash())
        with pytest.raises(Dead):
            chain.detach(sealed.parts)
    everywhere = scalar(chain.owner, "SELECT count(*) FROM audit")
    if (name := scalar(chain.owner, f"SELECT to_regclass('{HELD}.audit_2026_05')::text")) is not None:
        everywhere += scalar(chain.owner, f"SELECT count(*) FROM {name}")
    elif not scalar(chain.owner, "SELECT relispartition FROM pg_class WHERE relname = 'audit_2026_05'"):
        everywhere += scalar(chain.owner, "SELECT count(*) FROM audit_2026_05")
    assert everywhere == 800
    assert [one.result for one in chain.drop_detached(now=COOLED) if one.result == "dropped"] == []

    evidence = chain.detach(sealed.parts)

    assert [(one.partition, one.held_as, one.rows) for one in evidence.detached] == [
        ("public.audit_2026_05", f"{HELD}.audit_2026_05", 744)
    ]
    assert sum(chain.delete(part).detached for part in sealed.parts) == 744
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]


def test_a_concurrent_detach_whose_session_is_ended_in_its_middle_is_brought_to_its_end(chain):
    sealed = chain.seal(chain.plan())
    ended = []
    with psycopg.connect(chain.owner) as other:
        other.execute("SELECT count(*) FROM audit")

        def detach_until_ended() -> None:
            try:
                chain.detach(sealed.parts)
            except SourceError as error:
                ended.append(error)

        chain.settings = chain.settings.model_copy(update={"lock_timeout_seconds": 60})
        detaching = threading.Thread(target=detach_until_ended)
        detaching.start()
        pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
        while not scalar(chain.owner, pending):
            assert detaching.is_alive()
            time.sleep(0.02)
        stop = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'test audit owner'"
        )
        scalar(chain.owner, stop)
        detaching.join()
        other.commit()

    evidence = chain.detach(sealed.parts)

    assert len(ended) == 1
    assert [one.held_as for one in evidence.detached] == [f"{HELD}.audit_2026_05"]


@pytest.mark.parametrize("moment", ["before the drop", "after the drop"])
def test_a_drop_that_is_killed_is_taken_up_by_the_next_purge(chain, monkeypatch, moment):
    chain.run()
    original = detached_purge.tried
    kill = _die if moment == "before the drop" else _after(original)
    with monkeypatch.context() as killed:
        killed.setattr(detached_purge, "tried", kill)
        with pytest.raises(Dead):
            chain.drop_detached(now=COOLED)
    assert scalar(chain.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744

    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=1))

    assert dropped.result == "dropped"


def test_with_staging_on_s3_each_step_and_each_try_may_run_on_another_machine(
    make_chain, object_store, tmp_path, monkeypatch
):
    """Also what is taken up by a repeat, and the drop, which has its scratch space for itself. Nothing is left of it."""
    staging = f"s3://detach/{tmp_path.name}-{os.getpid()}"
    chain = make_chain(WEEKS + ROWS, staging=staging, scratch=str(tmp_path))
    chain.staging_client = object_store.client("stager")
    plan = chain.plan()
    sealed = chain.seal(plan)
    with monkeypatch.context() as killed:
        killed.setattr(detach, "DetachEvidence", _die)
        with pytest.raises(Dead):
            chain.detach(sealed.parts)

    evidence = chain.detach(sealed.parts)

    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.w19", 168), ("public.w20", 168)]
    deleted = [chain.delete(part) for part in sealed.parts]
    assert (sum(one.detached for one in deleted), sum(one.deleted for one in deleted)) == (336, 408)
    with chain.staging(plan.archive_id) as at_the_end:
        report_run(chain.store, at_the_end, plan, sealed.parts, deleted, now=NOW)
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    staged = PurgeStore(chain.staging_client, chain.settings.staging_store).versions("staging/")
    on_machines = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert (list(staged), on_machines) == ([], [])


# The time between.


def test_a_detached_partition_is_brought_back_by_one_command(chain):
    chain.run()
    archive = ArchiveId("public", "audit", "2026-05", 1)
    [waiting] = DetachEvidence.model_validate_json(chain.store.read(archive.detach_evidence_key)[0]).detached

    execute(chain.owner, waiting.bring_back)

    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800
    assert chain.drop_detached(now=COOLED) == []
    execute(chain.owner, "UPDATE audit SET cost = 0 WHERE id = 10")
    assert chain.run().archive_id == "public.audit.2026-05.0002"


def test_a_hold_that_comes_while_a_partition_waits_keeps_it_until_it_is_released(chain):
    chain.run()
    found = []
    for what in (EVERYTHING, "public.audit", "public.audit.2026-05", "public.audit.2026-05.0001"):
        hold = place_hold(chain.store, what, why="a case", who="counsel", reference="17", now=NOW)
        found += [one.result for one in chain.drop_detached(now=COOLED)]
        release_hold(chain.store, hold.hold_id, who="counsel", reason="closed", now=NOW)
    place_hold(chain.store, "public.audit.2026-04", why="another case", who="counsel", reference="18", now=NOW)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (found, dropped.result) == (["held"] * 4, "dropped")


def test_a_hold_that_comes_in_the_middle_of_the_comparison_keeps_it(chain, monkeypatch):
    chain.run()
    original = detached_purge.compare_with_archive

    def compare(*arguments: Any, **named: Any) -> Any:
        comparison = original(*arguments, **named)
        place_hold(chain.store, "public.audit", why="a case", who="counsel", reference="17", now=NOW)
        return comparison

    monkeypatch.setattr(detached_purge, "compare_with_archive", compare)

    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["held"]
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_hold_on_everything_stops_the_detach(chain):
    sealed = chain.seal(chain.plan())
    place_hold(chain.store, EVERYTHING, why="a case", who="counsel", reference="17", now=NOW)

    with pytest.raises(HeldError):
        chain.detach(sealed.parts)

    assert (guards(chain), len(tables(chain)["partitions"])) == (0, 3)


def test_a_partition_whose_rows_were_restored_stays_until_they_are_needed_no_more(chain):
    """Restored into a partition that somebody made in its place, so the rows are there twice."""
    chain.run()
    execute(
        chain.owner,
        "CREATE TABLE audit_2026_05 PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00')",
    )
    restoring.restore(owning(chain), keep_days=2)

    [stays] = chain.drop_detached(now=COOLED)
    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=2))

    assert (stays.result, stays.detail.startswith("its rows were restored: restore-1")) == ("contended", True)
    assert dropped.result == "dropped"
    assert scalar(chain.owner, "SELECT count(*) FROM audit") == 800


def test_a_partition_whose_archive_was_condemned_stays(chain, object_store):
    archive = ArchiveId.parse(chain.run().archive_id)
    remove(object_store, chain, archive.part_key(1, "zstd"))
    condemn_archive(chain.store, archive, why="lost", who="an operator", now=NOW, claim_ttl=timedelta(hours=1))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail) == ("unverifiable", "public.audit.2026-05.0001 was condemned")
    assert tables(chain)["detached"] == ["audit_2026_05"]


TAMPERED = {
    "a row that changed": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; UPDATE {0} SET cost = 0 WHERE id = 10;"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "744 in the archive, 743 equal",
    ),
    "a row that came": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; INSERT INTO {0} VALUES (9000, '2026-05-20 10:30+00', 'late', 1);"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "745 rows there",
    ),
    "a row that went": (
        "ALTER TABLE {0} DISABLE TRIGGER ALL; DELETE FROM {0} WHERE id = 10;"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "743 rows there",
    ),
    "an open guard": ("ALTER TABLE {0} DISABLE TRIGGER strongroom_guard_truncate", "its guard was opened"),
    "a guard that logical replication passes": (
        "ALTER TABLE {0} ENABLE TRIGGER strongroom_guard",
        "its guard was opened",
    ),
    "another column": (
        "ALTER TABLE {0} ADD note text DEFAULT 'nowhere else'",
        "its columns are not those that were archived: note",
    ),
    "another type": (
        "ALTER TABLE {0} ALTER who TYPE varchar(99)",
        "its columns are not those that were archived: who",
    ),
    "a table that depends on it": (
        "CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES {0})",
        "something else in the database depends on it",
    ),
}


@pytest.mark.parametrize(("change", "detail"), TAMPERED.values(), ids=TAMPERED)
def test_a_detached_table_that_is_not_what_was_proved_stays(chain, change, detail):
    chain.run()
    execute(chain.owner, change.format(f"{HELD}.audit_2026_05"))

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result in ("unverifiable", "contended")
    assert detail in stays.detail
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_purge_that_finds_nothing_detached_leaves_no_trace_in_the_store(chain):
    """Not even whose store it is: a database with nothing to drop has no business with it."""
    assert chain.drop_detached() == []

    assert list(chain.store.keys("")) == []


def test_another_table_under_the_name_is_not_dropped(chain):
    """A copy that somebody put in its place, guard included, is no table of the evidence."""
    chain.run()
    name = f"{HELD}.audit_2026_05"
    definition = scalar(
        chain.owner,
        f"SELECT string_agg(pg_get_triggerdef(oid), ';') FROM pg_trigger WHERE tgrelid = '{name}'::regclass",
    )
    execute(chain.owner, f"CREATE TABLE copied (LIKE {name} INCLUDING ALL); INSERT INTO copied SELECT * FROM {name}")
    execute(chain.owner, f"DROP TABLE {name}; ALTER TABLE copied RENAME TO audit_2026_05")
    execute(chain.owner, f"ALTER TABLE audit_2026_05 SET SCHEMA {HELD}; {definition}")
    execute(
        chain.owner,
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "unfinished"
    assert tables(chain)["detached"] == ["audit_2026_05"]


def test_a_partition_whose_archive_is_damaged_stays(chain, object_store):
    report = chain.run()
    remove(object_store, chain, ArchiveId.parse(report.archive_id).part_key(1, "zstd"))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, "is missing" in stays.detail) == ("unverifiable", True)
    assert tables(chain)["detached"] == ["audit_2026_05"]


@pytest.mark.parametrize(("dropped", "lost"), [(True, 744 // 2), (False, 0)])
def test_a_condemned_archive_counts_rows_as_lost_only_when_their_partition_was_dropped(
    chain, object_store, dropped, lost
):
    archive = ArchiveId.parse(chain.run().archive_id)
    if dropped:
        chain.drop_detached(now=COOLED)
    remove(object_store, chain, archive.part_key(1, "zstd"))

    found = condemn_archive(chain.store, archive, why="lost", who="ada", now=NOW, claim_ttl=timedelta(hours=1))

    assert found.lost_rows == lost


# Moments of the drop.


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, function: str, do: Callable[[], object], *, before: bool = False
) -> list[object]:
    """Do something once while a drop is under way, before or after a function of it; the calls that came to an end."""
    original, to_do, ended = getattr(detached_purge, function), [do], []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before and to_do:
            to_do.pop()()
        result = original(*arguments, **named)
        ended.append(result)
        if to_do:
            to_do.pop()()
        return result

    monkeypatch.setattr(detached_purge, function, wrapped)
    return ended


def lose_claim(chain: Chain) -> None:
    """Somebody else has it."""
    key = claim_key("public", "audit", "2026-05")
    body, etag = chain.store.read(key)
    chain.store.swap(key, json.dumps(json.loads(body) | {"owner": "somebody"}).encode(), etag=etag)


def dropped_evidence(chain: Chain) -> list[str]:
    return [key for key in chain.store.keys("evidence/") if "/dropped-" in key]


def scratch_of_drops(chain: Chain) -> list[str]:
    folder, _ = chain.settings.working_folder
    return [str(path) for path in (folder / "detached").rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("function", "before", "calls"),
    [("restore_keys", False, 1), ("compare_with_archive", True, 0), ("compare_with_archive", False, 1)],
    ids=["while it reads the archive back", "before it compares", "when it has compared"],
)
def test_a_drop_that_loses_its_claim_goes_no_further(chain, monkeypatch, function, before, calls):
    chain.run()
    ended = meanwhile(monkeypatch, function, lambda: lose_claim(chain), before=before)

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, len(ended)) == ("contended", calls)
    assert (tables(chain)["detached"], dropped_evidence(chain), scratch_of_drops(chain)) == (["audit_2026_05"], [], [])


def test_a_drop_that_a_hold_on_everything_meets_goes_no_further(chain, monkeypatch):
    chain.run()
    ended = meanwhile(
        monkeypatch,
        "compare_with_archive",
        lambda: place_hold(chain.store, EVERYTHING, why="a case", who="counsel", reference="17", now=NOW),
        before=True,
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, ended) == ("held", [])
    assert "all deletion in" in stays.detail


@pytest.mark.parametrize("what", [EVERYTHING, "public.audit"])
def test_the_archive_of_what_is_held_is_not_even_read(chain, monkeypatch, what):
    chain.run()
    place_hold(chain.store, what, why="a case", who="counsel", reference="17", now=NOW)
    monkeypatch.setattr(detached_purge, "restore_keys", _die)

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "held"


def test_the_cooling_off_is_over_at_its_very_end(chain):
    evidence = chain.detach(chain.seal(chain.plan()).parts)

    [kept] = chain.drop_detached(now=evidence.drop_after - timedelta(microseconds=1))
    [dropped] = chain.drop_detached(now=evidence.drop_after)

    assert (kept.result, dropped.result) == ("kept", "dropped")


def test_a_drop_lets_nobody_open_the_guard_behind_its_comparison(chain, monkeypatch, source):
    chain.run()
    refused = []

    def open_guard() -> None:
        try:
            execute(source, f"SET lock_timeout = '200ms'; ALTER TABLE {HELD}.audit_2026_05 DISABLE TRIGGER ALL")
        except errors.LockNotAvailable as error:
            refused.append(error)

    meanwhile(monkeypatch, "compare_with_archive", open_guard)

    [dropped] = chain.drop_detached(now=COOLED)

    assert (dropped.result, len(refused)) == ("dropped", 1)


def test_somebody_who_may_yet_write_the_detached_table_puts_the_drop_off(chain):
    chain.run()
    with psycopg.connect(chain.owner) as other:
        other.execute(f"LOCK TABLE {HELD}.audit_2026_05 IN ROW EXCLUSIVE MODE")

        [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail) == ("contended", "somebody else's lock on it was in the way")


SWAPPED = {
    "another table has its name": (
        "ALTER TABLE {0} RENAME TO kept; CREATE TABLE {0} (LIKE {1}.kept INCLUDING ALL); INSERT INTO {0} SELECT * FROM {1}.kept",
        "it is not the table that was detached",
    ),
    "it is gone and another has its name": (
        "CREATE TABLE {1}.kept (LIKE {0} INCLUDING ALL); INSERT INTO {1}.kept SELECT * FROM {0}; DROP TABLE {0};"
        "ALTER TABLE {1}.kept RENAME TO audit_2026_05",
        "it is not the table that was detached",
    ),
    "its guard is for another archive": (
        "DROP TRIGGER strongroom_guard ON {0}; DROP TRIGGER strongroom_guard_truncate ON {0};"
        "CREATE TRIGGER strongroom_guard BEFORE INSERT OR UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION {1}.refuse_changes({2});"
        "CREATE TRIGGER strongroom_guard_truncate BEFORE TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION {1}.refuse_changes({2});"
        "ALTER TABLE {0} ENABLE ALWAYS TRIGGER strongroom_guard, ENABLE ALWAYS TRIGGER strongroom_guard_truncate",
        "it is not the table that was detached",
    ),
    "it is a partition again": (
        "ALTER TABLE audit ATTACH PARTITION {0} FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00')",
        "its guard was opened",
    ),
}


@pytest.mark.parametrize(("statements", "detail"), SWAPPED.values(), ids=SWAPPED)
def test_a_table_that_becomes_another_while_the_archive_is_read_back_is_not_dropped(
    chain, monkeypatch, source, statements, detail
):
    chain.run()
    words = scalar(
        source,
        "SELECT quote_literal(replace(encode(rtrim(tgargs, '\\000'), 'escape'), '.0001', '.0002')) FROM pg_trigger "
        "WHERE tgname = 'strongroom_guard'",
    )
    change = statements.format(f"{HELD}.audit_2026_05", HELD, words)
    meanwhile(monkeypatch, "restore_keys", lambda: execute(chain.owner, change))

    [stays] = chain.drop_detached(now=COOLED)

    assert (stays.result, stays.detail.startswith(detail)) == ("unverifiable", True)
    assert scalar(chain.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744
    assert (dropped_evidence(chain), scratch_of_drops(chain)) == ([], [])


def test_a_partition_whose_evidence_tells_another_number_of_rows_stays(chain, object_store):
    archive, where = ArchiveId.parse(chain.run().archive_id), chain.settings.store
    evidence = json.loads(chain.store.read(archive.detach_evidence_key)[0])
    evidence["detached"][0]["rows"] = 743
    object_store.client("admin").put_object(
        Bucket=where.bucket,
        Key=f"{where.prefix}/{archive.detach_evidence_key}",
        Body=json.dumps(evidence).encode(),
    )

    [stays] = chain.drop_detached(now=COOLED)

    assert stays.result == "unverifiable"
    assert "744 rows there, 744 in the archive, 744 equal, 743 detached" in stays.detail


def test_a_drop_reads_all_of_the_archive_back_whatever_an_earlier_try_left(chain, monkeypatch):
    chain.run()
    with monkeypatch.context() as killed:
        killed.setattr(FolderStaging, "clear", lambda _: None)
        killed.setattr(detached_purge, "compare_with_archive", _die)
        with pytest.raises(Dead):
            chain.drop_detached(now=COOLED)
    assert len(scratch_of_drops(chain)) >= 2
    read, original = [], Store.chunks

    def chunks(self: Store, key: str, *arguments: Any) -> Any:
        read.append(key)
        return original(self, key, *arguments)

    monkeypatch.setattr(Store, "chunks", chunks)

    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=1))

    keys = [ArchiveId.parse(dropped.archive_id).part_key(number, "zstd") for number in (0, 1)]
    assert (dropped.result, read) == ("dropped", [*keys, *keys]), "once for their sums, once to rebuild their rows"
    assert scratch_of_drops(chain) == []


def test_a_guard_that_the_purge_cannot_lift_is_tried_again_the_next_day(chain, monkeypatch):
    leave_guard(chain, monkeypatch)
    with psycopg.connect(chain.owner) as other:
        other.execute("LOCK TABLE audit_2026_05 IN SHARE ROW EXCLUSIVE MODE")
        [stays] = chain.drop_detached()

    [lifted] = chain.drop_detached()

    assert (stays.result, lifted.result, guards(chain)) == ("contended", "lifted", 0)


# The comparison by itself.


def test_a_comparison_in_many_batches_counts_each_row_once_and_asks_before_each(make_chain, monkeypatch):
    """Also where parts and partitions lie across one another."""
    monkeypatch.setattr(comparing, "_BATCH_ROWS", 50)
    chain = make_chain(WEEKS + ROWS)
    asked, original = [], detach.compare_with_archive

    def compare(*arguments: Any, before_batch: Callable[[], None], **named: Any) -> Any:
        def ask() -> None:
            asked.append(True)
            before_batch()

        return original(*arguments, before_batch=ask, **named)

    monkeypatch.setattr(detach, "compare_with_archive", compare)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows, report.gone_rows) == (336, 408, 0)
    assert len(asked) == 8 + 2 * 8, "the first week lies in one part, the second in both"
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]


def test_only_parts_that_share_an_instant_with_a_table_are_compared_with_it(chain, monkeypatch):
    sealed = chain.seal(chain.plan())
    opened, original = [], comparing.open_keys

    def open_keys(staging: Any, part: VerifiedPart) -> Any:
        opened.append(part.number)
        return original(staging, part)

    monkeypatch.setattr(comparing, "open_keys", open_keys)
    manifest = read_manifest(chain.store, sealed.parts[0].archive)

    for part in sealed.parts:
        with chain.owning() as connection, chain.staging(part.archive_id) as staging:
            found = comparing.compare_with_archive(
                connection,
                qualified("public", "audit_2026_05"),
                part.window,
                comparing.ArchivedRows(manifest.table, sealed.parts, staging),
                transaction=connection.transaction,
                before_batch=lambda: None,
            )
        assert (found.rows, found.archived, found.equal) == (744, part.rows, part.rows)

    assert opened == [0, 1]


def test_a_reader_of_the_detached_table_puts_the_drop_off(chain):
    chain.run()
    with psycopg.connect(chain.owner) as other:
        other.execute(f"SELECT count(*) FROM {HELD}.audit_2026_05")
        [stays] = chain.drop_detached(now=COOLED)
        other.commit()

    assert (stays.result, stays.detail) == ("contended", "somebody else's lock on it was in the way")
    assert [one.result for one in chain.drop_detached(now=COOLED + timedelta(days=1))] == ["dropped"]


def test_a_restore_into_the_table_is_told_that_a_partition_is_missing(chain):
    chain.run()

    with pytest.raises(Exception, match="has no partition for an archived row"):
        restoring.restore(owning(chain))


def test_rows_that_were_restored_are_not_detached(chain):
    sealed = chain.seal(chain.plan())
    restoring.restore(owning(chain))

    with pytest.raises(NeededError):
        chain.detach(sealed.parts)


def test_the_evidence_is_plain_json_that_says_what_waits_and_until_when(chain):
    chain.run()

    body = json.loads(chain.store.read(ArchiveId("public", "audit", "2026-05", 1).detach_evidence_key)[0])

    assert (body["drop_after"][:16], body["detached"][0]["rows"]) == ("2026-11-24T12:00", 744)
