"""The roles of a database are really tried: each broken one is named in one line, and a sound one passes."""

from __future__ import annotations

import os

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.checks.source import check_databases
from tests.support.chain import some_settings
from tests.support.checking import PASSWORD, Deployed, create_roles, faults, now, warnings
from tests.support.database import AUDIT, ask, digest, execute

SUBJECTS = {"columns": {"who": "name"}, "obligation": False}
CONNECTIONS = {
    "strongroom_source": "archiver",
    "strongroom_restore": "restorer",
    "strongroom_drill": "drill",
    "strongroom_erasure": "eraser",
    "strongroom_owner": "owner",
}


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"check_{os.getpid()}"


@pytest.fixture(scope="module")
def deployed(shared_source, object_store, prefix) -> Deployed:
    execute(shared_source, AUDIT)
    roles = create_roles(shared_source, prefix)
    yield Deployed(object_store, {conn_id: roles[role] for conn_id, role in CONNECTIONS.items()})
    execute(shared_source, "".join(f"DROP OWNED BY {prefix}_{role} CASCADE;" for role in roles))
    execute(shared_source, "".join(f"DROP ROLE {prefix}_{role};" for role in roles))


@pytest.fixture
def settings(tmp_path):
    return some_settings("unused", tmp_path, subjects=SUBJECTS, partition_delete={"enabled": True})


def check(deployed, *tables):
    return check_databases(list(tables), deployed, now)


def test_sound_roles_pass_and_no_row_changes(deployed, settings, shared_source):
    before = digest(shared_source)

    results = check(deployed, settings)

    assert (faults(results), warnings(results)) == ([], [])
    assert {one.area for one in results} == {f"database {conn_id}" for conn_id in CONNECTIONS}
    tried = {one.what for one in results}
    assert {"UPDATE on public.audit is refused", "it may INSERT rows of public.audit"} <= tried
    assert digest(shared_source) == before
    assert ask(shared_source, "SELECT count(*) FROM pg_class WHERE relname = 'strongroom_check'") == [(0,)]


GRANTS = {
    "the archiver cannot delete": (
        "REVOKE DELETE ON audit FROM {p}_archiver",
        "GRANT DELETE ON audit TO {p}_archiver",
        "lacks rights for public.audit",
    ),
    "the archiver may update": (
        "GRANT UPDATE ON audit TO {p}_archiver",
        "REVOKE UPDATE ON audit FROM {p}_archiver",
        "UPDATE on public.audit must be refused: it was allowed",
    ),
    "the archiver may truncate": (
        "GRANT TRUNCATE ON audit TO {p}_archiver",
        "REVOKE TRUNCATE ON audit FROM {p}_archiver",
        "TRUNCATE on public.audit must be refused: it was allowed",
    ),
    "the restorer cannot insert": (
        "REVOKE INSERT ON audit FROM {p}_restorer",
        "GRANT INSERT ON audit TO {p}_restorer",
        "it may INSERT rows of public.audit: permission denied",
    ),
    "the restorer may delete": (
        "GRANT DELETE ON audit TO {p}_restorer",
        "REVOKE DELETE ON audit FROM {p}_restorer",
        "DELETE on public.audit must be refused: it was allowed",
    ),
    "the eraser cannot update": (
        "REVOKE UPDATE ON audit FROM {p}_eraser",
        "GRANT UPDATE ON audit TO {p}_eraser",
        "it may UPDATE rows of public.audit: permission denied",
    ),
    "a drill may read live rows": (
        "GRANT SELECT ON audit TO {p}_drill",
        "REVOKE SELECT ON audit FROM {p}_drill",
        "SELECT on public.audit must be refused: it was allowed",
    ),
    "a drill has nowhere to restore": (
        "REVOKE CREATE ON SCHEMA strongroom_drill FROM {p}_drill",
        "GRANT CREATE ON SCHEMA strongroom_drill TO {p}_drill",
        "it may create tables in schema strongroom_drill",
    ),
    "the owner owns nothing": (
        "ALTER TABLE audit OWNER TO CURRENT_USER",
        "ALTER TABLE audit OWNER TO {p}_owner",
        "it owns public.audit, so that it may detach partitions",
    ),
    "sessions are read-only": (
        "ALTER ROLE {p}_archiver SET default_transaction_read_only = on",
        "ALTER ROLE {p}_archiver RESET default_transaction_read_only",
        "are read-only, so no row can be deleted",
    ),
    "the role cannot log in": (
        "ALTER ROLE {p}_archiver NOLOGIN",
        "ALTER ROLE {p}_archiver LOGIN",
        "the database lets this connection in",
    ),
    "a trigger would fire": (
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
        "CREATE TRIGGER told BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION tell()",
        "DROP FUNCTION tell CASCADE",
        "a DELETE fires its trigger told",
    ),
}


@pytest.mark.parametrize("case", GRANTS)
def test_each_wrong_right_is_named_in_one_line_with_what_to_do(deployed, settings, shared_source, prefix, case):
    broken, repaired, line = GRANTS[case]
    execute(shared_source, broken.format(p=prefix))
    try:
        results = check(deployed, settings)
    finally:
        execute(shared_source, repaired.format(p=prefix))

    [fault] = faults(results)
    assert line in fault
    assert "\n" not in fault
    assert not any(one.hint.startswith(("Nothing", "No row")) for one in results)
    assert all(one.hint for one in results if one.verdict == "failed")


def test_a_role_that_may_not_use_the_schema_is_refused_everything_there(deployed, shared_source, tmp_path, prefix):
    execute(
        shared_source, "CREATE SCHEMA sales; CREATE TABLE sales.notes (id bigint PRIMARY KEY, at timestamptz NOT NULL)"
    )
    execute(shared_source, f"GRANT USAGE ON SCHEMA sales TO {prefix}_archiver, {prefix}_restorer")
    execute(
        shared_source,
        f"GRANT SELECT, DELETE ON sales.notes TO {prefix}_archiver; GRANT SELECT, INSERT ON sales.notes TO {prefix}_restorer",
    )
    execute(shared_source, "CREATE INDEX ON sales.notes (at)")

    results = check(deployed, some_settings("unused", tmp_path, table="sales.notes"))

    assert (faults(results), warnings(results)) == ([], [])
    assert "TRUNCATE on sales.notes is refused" in {one.what for one in results if one.area.endswith("drill")}


def test_hints_about_rights_can_be_pasted(deployed, settings, shared_source, prefix):
    execute(shared_source, f"GRANT UPDATE ON audit TO {prefix}_archiver")

    [broken] = [one for one in check(deployed, settings) if one.verdict == "failed"]
    execute(shared_source, broken.hint.splitlines()[0])

    assert faults(check(deployed, settings)) == []


def test_what_is_wrong_with_connections_and_tables_is_named(deployed, settings, tmp_path):
    source = deployed.databases["strongroom_source"]
    closed = make_conninfo(source, port=1)
    wrong = make_conninfo(source, password=PASSWORD + "x")
    abroad = make_conninfo(source, host="db.example.com", sslmode="disable")
    elsewhere = make_conninfo(deployed.databases["strongroom_restore"], dbname="postgres")

    def line(**databases):
        [fault] = faults(check(deployed.change(databases=databases), settings))
        return fault

    assert "lets this connection in" in line(strongroom_source=wrong)
    assert f"{conninfo_to_dict(closed)['host']}:1/" in line(strongroom_source=closed)
    assert "would not be encrypted" in line(strongroom_source=abroad)
    assert "public.audit is in its database" in line(strongroom_restore=elsewhere)
    gone, to_restore = faults(check(deployed, some_settings("unused", tmp_path, table="audti")))
    [undated] = faults(check(deployed, some_settings("unused", tmp_path, date_column="when")))
    assert "there is no table public.audti" in gone
    assert "public.audti is in its database" in to_restore
    assert "it has no column when to date rows by" in undated


def test_a_replica_connection_that_leads_to_the_primary_is_named(deployed, settings):
    table = settings.model_copy(update={"replica_conn_id": "strongroom_source"})

    [fault] = faults(check(deployed, table))

    assert "it leads to a standby: pg_is_in_recovery() is false" in fault


def test_a_missing_date_index_is_a_warning_with_the_statement_that_makes_one(deployed, settings, shared_source):
    execute(shared_source, "ALTER INDEX audit_at_idx RENAME TO kept; DROP INDEX kept")
    results = check(deployed, settings)

    [warned] = [one for one in results if one.verdict == "warning"]
    execute(shared_source, warned.hint)

    assert warned.what == "an index of public.audit begins with at"
    assert warned.hint == "CREATE INDEX CONCURRENTLY ON public.audit (at);"
    assert warnings(check(deployed, settings)) == []
