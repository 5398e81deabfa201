"""The guard of a partition by itself: what closes it, what it says, what is none, and how it comes and goes.

`make mutants` runs this file for each mutant of the guard, so all tests share one database, and no archive is made.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from strongroom.database.session import Connection, open_source, qualified
from strongroom.errors import SourceAccessError
from strongroom.tables.guard import (
    GuardedTable,
    GuardTag,
    bring_back,
    guarded_table,
    guarded_tables,
    lift_guard,
    prepare_guards,
    set_guard,
)
from tests.support.database import execute, scalar

HELD = "strongroom_detached"
BOUNDS = "FOR VALUES FROM ('2026-05-01 00:00:00+00') TO ('2026-06-01 00:00:00+00')"
TABLES = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE may PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE june PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-01+00');
INSERT INTO audit SELECT n, '2026-05-20+00'::timestamptz + n * interval '1 day', n FROM generate_series(1, 20) AS n;
"""
EVENTS = "BEFORE INSERT OR UPDATE OR DELETE ON may FOR EACH ROW"


@pytest.fixture(scope="module")
def database(postgres) -> Iterator[str]:
    """A database, and beside it a role that owns nothing, both of the same name."""
    name = f"guard_alone_{os.getpid()}"
    execute(postgres.conninfo(), f"CREATE DATABASE {name}")
    execute(postgres.conninfo(), f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield postgres.conninfo(name)
    execute(postgres.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")
    execute(postgres.conninfo(), f"DROP ROLE {name}")


@pytest.fixture
def source(database) -> str:
    """The partitioned table alone; the role may make nothing."""
    execute(database, f"DROP SCHEMA IF EXISTS public, {HELD} CASCADE; CREATE SCHEMA public")
    execute(database, f"REVOKE CREATE ON DATABASE {role_of(database)} FROM {role_of(database)}")
    execute(database, TABLES)
    return database


@pytest.fixture
def connection(source) -> Iterator[Connection]:
    with open_source(source, application_name="test") as opened:
        prepare_guards(opened)
        yield opened


def role_of(_: str) -> str:
    return f"guard_alone_{os.getpid()}"


def a_tag(**changes: Any) -> GuardTag:
    given = {
        "archive_id": "public.audit.2026-05.0001",
        "schema_name": "public",
        "table_name": "may",
        "start_at": datetime(2026, 5, 1, tzinfo=timezone.utc),
        "end_at": datetime(2026, 6, 1, tzinfo=timezone.utc),
        "bounds": BOUNDS,
    }
    return GuardTag.model_validate(given | changes)


def guard(connection: Connection, table: str = "may", tag: GuardTag | None = None) -> GuardedTable:
    """Put a guard on a partition, and look at it."""
    [(oid,)] = connection.execute("SELECT %s::regclass::oid::bigint", (f"public.{table}",)).fetchall()
    with connection.transaction():
        set_guard(connection, oid, qualified("public", table), tag or a_tag(table_name=table))
    found = guarded_table(connection, oid)
    assert found is not None
    return found


def triggers(source: str) -> int:
    return scalar(source, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strongroom%%'")


# What it says.


def test_a_guard_is_closed_and_says_what_it_is_for(connection):
    """Also where its words hold what SQL and JSON write in their own way."""
    tag = a_tag(schema_name="pub'lic", table_name='mä"y\\')

    guarded = guard(connection, tag=tag)

    assert (str(guarded), guarded.state, guarded.closed, guarded.tag) == ("public.may", "attached", True, tag)
    assert guarded_tables(connection) == [guarded]


def test_each_guard_is_looked_at_for_itself(connection, source):
    may, june = guard(connection), guard(connection, "june")
    assert (may.closed, june.closed) == (True, True)

    execute(source, "ALTER TABLE june DISABLE TRIGGER ALL; ALTER TABLE june ENABLE ALWAYS TRIGGER strongroom_guard")

    still, touched = guarded_tables(connection)
    assert still == may
    assert (touched.closed, touched.version != june.version) == (False, True)
    assert guarded_table(connection, june.oid) == touched


def test_a_detached_table_keeps_its_guard(connection, source):
    guard(connection)

    execute(source, f"ALTER TABLE audit DETACH PARTITION may; ALTER TABLE may SET SCHEMA {HELD}")

    [guarded] = guarded_tables(connection)
    assert (str(guarded), guarded.state, guarded.closed) == (f"{HELD}.may", "detached", True)


def test_opening_a_guard_and_closing_it_again_leaves_another_version(connection, source):
    before = guard(connection)

    for trigger in ("strongroom_guard", "strongroom_guard_truncate"):
        execute(source, f"ALTER TABLE may DISABLE TRIGGER {trigger}; ALTER TABLE may ENABLE ALWAYS TRIGGER {trigger}")
        after = guarded_table(connection, before.oid)
        assert (after.closed, after.version != before.version) == (True, True)
        before = after


def test_a_function_that_was_replaced_by_itself_leaves_another_version(connection, source):
    before = guard(connection)
    body = scalar(source, "SELECT pg_get_functiondef(tgfoid) FROM pg_trigger WHERE tgname = 'strongroom_guard'")

    execute(source, body)

    after = guarded_table(connection, before.oid)
    assert (after.closed, after.version != before.version) == (True, True)


# What opens it.

REPLACED = "DROP TRIGGER strongroom_guard ON may; CREATE TRIGGER strongroom_guard {} EXECUTE FUNCTION {}; ALTER TABLE may ENABLE ALWAYS TRIGGER strongroom_guard"
OF_TRUNCATE = (
    "DROP TRIGGER strongroom_guard_truncate ON may; CREATE TRIGGER strongroom_guard_truncate BEFORE TRUNCATE ON may "
    "FOR EACH STATEMENT EXECUTE FUNCTION {}; ALTER TABLE may ENABLE ALWAYS TRIGGER strongroom_guard_truncate"
)
NOTHING = "LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'"
OPENED = {
    "rows may change": "ALTER TABLE may DISABLE TRIGGER strongroom_guard",
    "all may be truncated": "ALTER TABLE may DISABLE TRIGGER strongroom_guard_truncate",
    "logical replication may change rows": "ALTER TABLE may ENABLE TRIGGER strongroom_guard",
    "only logical replication may not": "ALTER TABLE may ENABLE REPLICA TRIGGER strongroom_guard",
    "no trigger for truncate": "DROP TRIGGER strongroom_guard_truncate ON may",
    "another body": f"CREATE OR REPLACE FUNCTION {HELD}.refuse_changes() RETURNS trigger {NOTHING}",
    "a condition": REPLACED.format(EVENTS + " WHEN (current_user = 'nobody')", "{function}"),
    "other events": REPLACED.format(EVENTS.replace(" OR DELETE", ""), "{function}"),
    "another moment": REPLACED.format(EVENTS.replace("BEFORE", "AFTER"), "{function}"),
    "one column": REPLACED.format(EVENTS.replace("UPDATE", "UPDATE OF who"), "{function}"),
    "other words": OF_TRUNCATE.format(f"{HELD}.refuse_changes('{{{{}}}}')"),
    "another function": f"CREATE FUNCTION nothing() RETURNS trigger {NOTHING};"
    + OF_TRUNCATE.format("nothing({words})"),
}


@pytest.mark.parametrize("statements", OPENED.values(), ids=OPENED)
def test_a_guard_that_lets_anything_pass_is_not_closed_and_is_set_anew(connection, source, statements):
    before = guard(connection)
    words = scalar(
        source,
        "SELECT quote_literal(encode(rtrim(tgargs, '\\000'), 'escape')) FROM pg_trigger WHERE tgname = 'strongroom_guard'",
    )
    execute(source, statements.format(function=f"{HELD}.refuse_changes({words})", words=words))

    opened = guarded_table(connection, before.oid)
    prepare_guards(connection)
    closed = guard(connection)

    assert (opened.closed, opened.tag) == (False, before.tag)
    assert (closed.closed, triggers(source)) == (True, 2)
    for statement in ("UPDATE may SET at = at", "DELETE FROM may", "TRUNCATE may"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            execute(source, f"SET session_replication_role = replica; {statement}")


NO_GUARDS = {
    "a function of another schema": "CREATE FUNCTION refuse_changes() RETURNS trigger {0}; CREATE TRIGGER strongroom_guard {1} EXECUTE FUNCTION refuse_changes('x')",
    "another function of the schema": "CREATE FUNCTION {2}.other() RETURNS trigger {0}; CREATE TRIGGER strongroom_guard {1} EXECUTE FUNCTION {2}.other('x')",
    "another name": "CREATE TRIGGER somebodys {1} EXECUTE FUNCTION {2}.refuse_changes('x')",
}


@pytest.mark.parametrize("statements", NO_GUARDS.values(), ids=NO_GUARDS)
def test_somebodys_trigger_is_no_guard(connection, source, statements):
    execute(source, statements.format(NOTHING, EVENTS, HELD))

    assert guarded_tables(connection) == []


# How it comes and goes.


def test_to_set_it_again_touches_nothing(connection):
    assert guard(connection) == guard(connection)


def test_a_guard_for_another_archive_is_replaced(connection, source):
    guard(connection)
    other = a_tag(archive_id="public.audit.2026-05.0002")

    guarded = guard(connection, tag=other)

    assert (guarded.tag, guarded.closed, triggers(source)) == (other, True, 2)


def test_a_guard_is_set_while_others_read(connection, source):
    with psycopg.connect(source) as reader:
        reader.execute("SELECT count(*) FROM audit")
        connection.execute("SET lock_timeout = '1s'")

        assert guard(connection).closed


def test_a_guard_that_is_lifted_lets_rows_change_and_leaves_nothing(connection, source):
    lift_guard(connection, guard(connection))

    execute(source, "UPDATE may SET who = 'new' WHERE id = 1; TRUNCATE may")
    assert (triggers(source), guarded_tables(connection)) == (0, [])
    assert guard(connection).closed


def test_a_guard_that_is_lifted_while_somebody_reads_has_no_effect_and_goes_later(connection, source):
    guarded = guard(connection)
    with psycopg.connect(source) as reader:
        reader.execute("SELECT count(*) FROM audit")
        lift_guard(connection, guarded)
        execute(source, "UPDATE may SET who = 'new' WHERE id = 1")
    [left] = guarded_tables(connection)

    lift_guard(connection, left)

    assert (left.closed, triggers(source)) == (False, 0)


def test_bring_back_is_one_transaction_for_psql(connection, source):
    guarded = guard(connection)
    execute(source, "ALTER TABLE audit DETACH PARTITION may")
    [in_place] = guarded_tables(connection)
    execute(source, f"ALTER TABLE may SET SCHEMA {HELD}")
    [moved] = guarded_tables(connection)
    attach = f'ALTER TABLE "public"."audit" ATTACH PARTITION "public"."may" {guarded.tag.bounds}; COMMIT;'
    dropped = (
        'DROP TRIGGER "strongroom_guard" ON "{0}"."may"; DROP TRIGGER "strongroom_guard_truncate" ON "{0}"."may"; '
    )

    assert bring_back(in_place) == f"BEGIN; {dropped.format('public')}{attach}"
    assert bring_back(moved) == (
        f'BEGIN; {dropped.format(HELD)}ALTER TABLE "{HELD}"."may" SET SCHEMA "public"; {attach}'
    )
    execute(source, bring_back(moved))
    assert scalar(source, "SELECT count(*) FROM audit") == 20


# Schema and function.


def version_of_function(source: str) -> str:
    return scalar(source, "SELECT xmin::text FROM pg_proc WHERE proname = 'refuse_changes'")


def test_to_prepare_again_touches_nothing(connection, source):
    before = version_of_function(source)

    prepare_guards(connection)

    assert version_of_function(source) == before


@pytest.mark.parametrize("elsewhere", ["RENAME TO others", "SET SCHEMA public"])
def test_a_function_of_another_name_or_schema_is_not_taken_for_it(connection, source, elsewhere):
    execute(source, f"ALTER FUNCTION {HELD}.refuse_changes() {elsewhere}")

    prepare_guards(connection)

    assert guard(connection).closed


def a_right(source: str, statements: str) -> str:
    """The role with a right to something; how it connects."""
    execute(source, statements.format(role=role_of(source)))
    return make_conninfo(source, user=role_of(source), password=role_of(source))


REFUSED = {
    "nothing": ("", "no such schema, and no right to create it"),
    "the schema to use": (f"CREATE SCHEMA {HELD}; GRANT USAGE ON SCHEMA {HELD} TO {{role}}", "not both of them"),
    "the schema to make in": (f"CREATE SCHEMA {HELD}; GRANT CREATE ON SCHEMA {HELD} TO {{role}}", "not both of them"),
    "schemas, where it is there": (
        f"CREATE SCHEMA {HELD}; GRANT CREATE ON DATABASE {{role}} TO {{role}}",
        "not both of them",
    ),
}


@pytest.mark.parametrize(("rights", "found"), REFUSED.values(), ids=REFUSED)
def test_a_role_that_lacks_a_right_is_told(source, rights, found):
    with (
        open_source(a_right(source, rights or "SELECT"), application_name="test") as opened,
        pytest.raises(SourceAccessError) as caught,
    ):
        prepare_guards(opened)

    assert caught.value.found == found


@pytest.mark.parametrize(
    "rights",
    [
        "GRANT CREATE ON DATABASE {role} TO {role}",
        f"CREATE SCHEMA {HELD}; GRANT USAGE, CREATE ON SCHEMA {HELD} TO {{role}}",
    ],
    ids=["no schema yet", "a schema"],
)
def test_a_role_with_its_rights_makes_what_is_missing(source, rights):
    with open_source(a_right(source, rights), application_name="test") as opened:
        prepare_guards(opened)

    assert scalar(source, f"SELECT to_regprocedure('{HELD}.refuse_changes()') IS NOT NULL")


MADE = f"CREATE OR REPLACE FUNCTION {HELD}.refuse_changes() RETURNS trigger {NOTHING}"
MEANWHILE = {
    "schema and function": ("", None),
    "the function": (f"CREATE SCHEMA {HELD}", None),
    "a newer function": (f"CREATE SCHEMA {HELD}; {MADE}", None),
    "somebody's function": (f"CREATE SCHEMA {HELD}", MADE),
}


@pytest.mark.parametrize(("before", "others"), MEANWHILE.values(), ids=MEANWHILE)
def test_two_that_prepare_at_the_same_time_do_not_disturb_each_other(source, before, others):
    """Only where somebody made another function meanwhile is that an error."""
    execute(source, before)
    ended: list[BaseException | None] = []

    def prepare() -> None:
        with open_source(source, application_name="second") as opened:
            try:
                prepare_guards(opened)
            except psycopg.Error as error:
                ended.append(error)
            else:
                ended.append(None)

    second = threading.Thread(target=prepare)
    with open_source(source, application_name="first") as first, first.transaction():
        if others:
            first.execute(others)
        else:
            prepare_guards(first)
        second.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'second' AND datname = current_database() AND wait_event_type = 'Lock'"
        while not scalar(source, waits):
            assert second.is_alive()
            time.sleep(0.02)
    second.join()

    [error] = ended
    assert (error is not None) == (others is not None)
