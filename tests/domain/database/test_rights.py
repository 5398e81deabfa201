"""The rights that deploy/ gives, on real servers: each role and identity does its own work and nobody else's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.statistics.waiting import count_waiting
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.processes import bare_environment
from tests.support.chain import NOW, Chain, some_settings
from tests.support.restoring import restore

ROLES_SQL = REPOSITORY / "deploy" / "sql" / "roles.sql"
WORKERS = ("archiver", "restorer", "reader")
PASSWORD = "a test's"
TABLES = 'odd."Table, with ""all"" of it", odd.case_files'
TABLE = sql.Identifier("odd", 'Table, with "all" of it')

SCHEMA = """
CREATE SCHEMA odd;
CREATE TABLE odd."Table, with ""all"" of it" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, what text);
CREATE TABLE odd.case_files (id bigint PRIMARY KEY, at timestamptz NOT NULL);
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.referring (id bigint PRIMARY KEY, our bigint REFERENCES odd."Table, with ""all"" of it");
CREATE TABLE elsewhere.secret (id bigint);
CREATE TABLE odd.unlisted (id bigint PRIMARY KEY);
INSERT INTO odd."Table, with ""all"" of it" (at, what) SELECT '2026-05-01', 'row ' || n FROM generate_series(1, 20) n;
INSERT INTO elsewhere.referring VALUES (1, 1);
"""


def names(database: str) -> dict[str, str]:
    """Names of the roles of one test: roles belong to the whole server, which the tests share."""
    return {worker: f'{worker} of "{database}"' for worker in WORKERS}


def run_roles_sql(
    postgres: Any, conninfo: str, roles: dict[str, str], tables: str = TABLES
) -> subprocess.CompletedProcess[str]:
    """Run the script as its head says: with psql."""
    variables = [f"--set={name}={value}" for name, value in {**roles, "tables": tables}.items()]
    command = [postgres.binaries / "psql", conninfo, "--no-psqlrc", "--quiet", "--single-transaction"]
    return subprocess.run(
        [*command, "--set=ON_ERROR_STOP=1", *variables, f"--file={ROLES_SQL}"],
        capture_output=True,
        text=True,
        check=False,
        env=bare_environment(),
    )


@pytest.fixture
def roles(postgres, source) -> Iterator[dict[str, str]]:
    """Connection strings of the three roles, which psql has just made; they go with the test."""
    database = conninfo_to_dict(source)["dbname"]
    own = names(str(database))
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(SCHEMA)
        made = run_roles_sql(postgres, source, own)
        assert made.returncode == 0, made.stderr
        for role in own.values():
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
        yield {worker: make_conninfo(source, user=role, password=PASSWORD) for worker, role in own.items()}
        for role in own.values():
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def test_a_role_does_its_own_work_on_the_tables_and_no_other(roles):
    """Every kind of statement is tried for real."""
    statements = {
        "SELECT": "SELECT what FROM {}",
        "INSERT": "INSERT INTO {} (at, what) VALUES ('2026-05-02', 'new')",
        "DELETE": "DELETE FROM {} WHERE id = 20",
        "UPDATE": "UPDATE {} SET what = 'forged'",
        "SELECT FOR UPDATE": "SELECT FROM {} FOR UPDATE",
        "TRUNCATE": "TRUNCATE {} CASCADE",
        "ALTER": "ALTER TABLE {} ADD extra text",
        "TRIGGER": "CREATE TRIGGER t AFTER DELETE ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "REFERENCES": "CREATE TABLE odd.t (id bigint REFERENCES {})",
        "DISABLE TRIGGER": "ALTER TABLE {} DISABLE TRIGGER ALL",
        "DROP": "DROP TABLE {} CASCADE",
        "COPY TO PROGRAM": "COPY {} TO PROGRAM 'true'",
    }
    done: dict[str, set[str]] = {worker: set() for worker in roles}
    for worker, conninfo in roles.items():
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for right, statement in statements.items():
                try:
                    connection.execute(sql.SQL(statement).format(TABLE))
                    done[worker].add(right)
                except errors.InsufficientPrivilege:
                    continue

    assert done == {"archiver": {"SELECT", "DELETE"}, "restorer": {"SELECT", "INSERT"}, "reader": {"SELECT"}}


def test_no_role_reaches_past_its_tables(roles):
    for conninfo in roles.values():
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for statement in (
                "SELECT FROM elsewhere.secret",
                "SELECT FROM odd.unlisted",
                "DELETE FROM elsewhere.referring",
                "CREATE TABLE odd.mine (id int)",
                "CREATE SCHEMA mine",
                "CREATE ROLE mine",
                "SET ROLE postgres",
                "SET session_replication_role = replica",
                "SELECT pg_read_file('/etc/passwd')",
                "SELECT rolpassword FROM pg_authid",
                "ALTER SYSTEM SET log_statement = 'all'",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)


def test_only_the_restorer_makes_tables_and_moves_sequences(roles):
    for worker, conninfo in roles.items():
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for statement in (
                "CREATE TABLE restored.mine (id int)",
                """SELECT setval(pg_get_serial_sequence('odd."Table, with ""all"" of it"', 'id'), 100)""",
            ):
                if worker == "restorer":
                    connection.execute(statement)
                else:
                    with pytest.raises(errors.InsufficientPrivilege):
                        connection.execute(statement)


def test_with_these_rights_rows_go_and_come_back(roles, source, object_store, bucket, tmp_path):
    """The archiver sees which rows are referred to, in another schema; the reader counts; the restorer restores."""
    settings = some_settings(bucket, tmp_path, 'odd.Table, with "all" of it')
    chain = Chain(roles["archiver"], object_store.client("archiver"), settings)

    report = chain.run()
    chain.conninfo = roles["reader"]
    with chain.source() as connection:
        figures = count_waiting(connection, settings, now=NOW)
    chain.conninfo = roles["restorer"]
    restored = restore(chain)

    assert (report.outcome, report.deleted_rows, [one.rows for one in report.exclusions]) == ("archived", 19, [1])
    assert [(one.partition_key, one.rows) for one in figures.waiting] == [("2026-05", 1)]
    assert restored.inserted == 19


def test_a_repeat_leaves_other_tables_alone_and_takes_excess_rights_on_its_own(roles, source, postgres):
    """A table that is listed no more keeps its rights and is named; so does one that somebody granted by hand."""
    own = {worker: conninfo_to_dict(conninfo)["user"] for worker, conninfo in roles.items()}
    given = {worker: sql.Identifier(role) for worker, role in own.items()}
    held = """
        SELECT has_table_privilege(%(archiver)s, %(table)s, 'INSERT, UPDATE'), has_schema_privilege(%(archiver)s, 'odd', 'CREATE'),
               has_table_privilege(%(restorer)s, %(table)s, 'DELETE'), has_table_privilege(%(archiver)s, 'odd.case_files', 'DELETE'),
               has_table_privilege(%(archiver)s, 'elsewhere.secret', 'SELECT'), has_table_privilege(%(restorer)s, 'odd.unlisted', 'INSERT'),
               has_sequence_privilege(%(restorer)s, 'odd.numbers', 'USAGE')"""
    with psycopg.connect(source, autocommit=True) as connection:
        for statement in (
            "GRANT UPDATE, INSERT ON {table} TO {archiver}; GRANT DELETE ON {table} TO {restorer}",
            "GRANT CREATE ON SCHEMA odd TO {archiver}",
            "GRANT SELECT ON elsewhere.secret TO {archiver}; GRANT INSERT ON odd.unlisted TO {restorer}",
            "CREATE SEQUENCE odd.numbers; GRANT USAGE ON SEQUENCE odd.numbers TO {restorer}",
            "ALTER ROLE {archiver} CREATEDB CREATEROLE BYPASSRLS",
        ):
            connection.execute(sql.SQL(statement).format(table=TABLE, **given))

        repeat = run_roles_sql(postgres, source, own, 'odd."Table, with ""all"" of it"')

        assert repeat.returncode == 0, repeat.stderr
        notice = repeat.stderr.partition("rights on tables that are not listed stay: ")[2]
        assert f"{own['archiver']} may DELETE odd.case_files" in notice
        assert f"{own['restorer']} may INSERT odd.unlisted" in notice
        assert "secret" not in notice
        found = connection.execute(held, {**own, "table": TABLE.as_string()}).fetchone()
        assert found == (False, False, False, True, True, True, True)
        attributes = "SELECT rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = %s"
        assert connection.execute(attributes, [own["archiver"]]).fetchone() == (False,)


def test_nobodys_function_is_called_by_the_superuser_who_runs_the_script(source, postgres):
    """Whoever may create in public could put a function in the place of a built-in: one that fits its arguments better."""
    database = str(conninfo_to_dict(source)["dbname"])
    visitor = sql.Identifier(f"visitor of {database}")
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(
            sql.SQL("CREATE ROLE {0} LOGIN PASSWORD {1}; GRANT CREATE ON SCHEMA public TO {0}").format(
                visitor, PASSWORD
            )
        )
        try:
            with psycopg.connect(
                make_conninfo(source, user=f"visitor of {database}", password=PASSWORD), autocommit=True
            ) as visitors:
                for arguments in ("text, name", "text, name, name", "text, regclass, name", "text, regnamespace, name"):
                    visitors.execute(
                        f"CREATE FUNCTION public.format({arguments}) RETURNS text LANGUAGE plpgsql AS "
                        "$$BEGIN RAISE EXCEPTION 'called by %', current_user; END$$"
                    )
                visitors.execute(
                    "CREATE FUNCTION public.mine(name, text) RETURNS boolean LANGUAGE plpgsql AS "
                    "$$BEGIN RAISE EXCEPTION 'called by %', current_user; END$$; "
                    "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.mine)"
                )

            made = run_roles_sql(postgres, source, names(database))

            assert made.returncode == 0, made.stderr
        finally:
            for role in (*names(database).values(), f"visitor of {database}"):
                drop = "DROP OWNED BY {0} CASCADE; DROP ROLE {0}"
                if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
                    connection.execute(sql.SQL(drop).format(sql.Identifier(role)))


@pytest.mark.parametrize(
    ("beforehand", "message"),
    [
        ("GRANT UPDATE ON odd.case_files TO PUBLIC", "may UPDATE odd.case_files"),
        ("ALTER TABLE odd.case_files OWNER TO {archiver}", "owns odd.case_files"),
        ("GRANT pg_write_all_data TO {reader}", "may DELETE odd.case_files"),
    ],
)
def test_rights_that_come_another_way_are_refused_and_nothing_changes(roles, source, postgres, beforehand, message):
    own = {worker: conninfo_to_dict(conninfo)["user"] for worker, conninfo in roles.items()}
    with psycopg.connect(source, autocommit=True) as connection:
        given = {worker: sql.Identifier(role) for worker, role in own.items()}
        connection.execute(sql.SQL(beforehand).format(**given))
        before = connection.execute("SELECT relname, relacl::text FROM pg_class ORDER BY 1").fetchall()

        refused = run_roles_sql(postgres, source, own)

        assert refused.returncode != 0
        assert message in refused.stderr
        assert "HINT:  Nothing was changed." in refused.stderr
        assert connection.execute("SELECT relname, relacl::text FROM pg_class ORDER BY 1").fetchall() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tables": " , "}, "give at least one table"),
        ({"tables": "odd.not_there"}, "does not exist"),
        ({"tables": "odd.case_files, case_files"}, "tables without their schema: case_files"),
        ({"tables": "odd.case_files_pkey"}, "not ordinary or partitioned tables"),
        ({"reader": "archiver", "archiver": "archiver"}, "three different roles"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(source, postgres, changed, message):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(SCHEMA)
    given = {**names("nobody's"), "tables": TABLES, **changed}

    refused = run_roles_sql(postgres, source, {name: given[name] for name in WORKERS}, given["tables"])

    assert refused.returncode != 0
    assert message in refused.stderr
