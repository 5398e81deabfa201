"""The script that makes the role of drills, run with psql as its head says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from strongroom_local.servers.processes import bare_environment
from tests.support.drilling import DRILL_SQL, SCRATCH


@pytest.fixture
def role(source) -> Iterator[str]:
    """A name of one test's own; the role goes with the test."""
    name = f'drill of "{conninfo_to_dict(source)["dbname"]}"'
    yield name
    with psycopg.connect(source, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None:
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def run(source, postgres, role):
    def psql(schema: str = SCRATCH) -> subprocess.CompletedProcess[str]:
        command = [postgres.binaries / "psql", source, "--no-psqlrc", "--quiet", "--single-transaction"]
        variables = [f"--set=drill={role}", f"--set=schema={schema}", "--set=ON_ERROR_STOP=1"]
        return subprocess.run(
            [*command, *variables, f"--file={DRILL_SQL}"],
            capture_output=True,
            text=True,
            check=False,
            env=bare_environment(),
        )

    return psql


def test_it_makes_the_role_and_a_repeat_takes_its_attributes_away_again(source, run, role):
    first = run('Odd "schema"')
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} CREATEDB CREATEROLE BYPASSRLS").format(sql.Identifier(role)))
        connection.execute("""GRANT ALL ON SCHEMA "Odd ""schema\""" TO PUBLIC""")

        again = run('Odd "schema"')

        attributes = "SELECT rolcanlogin, rolcreatedb OR rolcreaterole OR rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = %s"
        assert connection.execute(attributes, [role]).fetchone() == (True, False)
        rights = "SELECT has_schema_privilege(%s, nspname, 'USAGE, CREATE'), nspacl::text FROM pg_namespace WHERE nspname LIKE 'Odd%%'"
        may, acl = connection.execute(rights, [role]).fetchone()
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert may
    assert "{=" not in acl
    assert ",=" not in acl


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("GRANT SELECT ON audit TO {role}", "may SELECT public.audit"),
        ("GRANT USAGE ON SEQUENCE numbers TO {role}", "may USAGE public.numbers"),
        ("ALTER TABLE audit OWNER TO {role}", "audit"),
        ("GRANT pg_read_all_settings TO {role}", "is a member of pg_read_all_settings"),
    ],
)
def test_a_role_that_may_more_is_refused_and_nothing_is_changed(source, run, role, given, told):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id int); CREATE SEQUENCE numbers")
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL(given).format(role=sql.Identifier(role)))

        refused = run()

        assert connection.execute("SELECT to_regnamespace(%s)", [SCRATCH]).fetchone() == (None,)
    assert refused.returncode != 0
    assert told in refused.stderr
    assert "HINT:  Nothing was changed." in refused.stderr


def test_what_everybody_may_is_named(source, run):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id int); GRANT SELECT ON audit TO PUBLIC")
        connection.execute("CREATE SCHEMA open; GRANT CREATE ON SCHEMA open TO PUBLIC")

    warned = run()

    assert warned.returncode == 0
    assert "everybody may use these tables, and so may the role of drills: public.audit" in warned.stderr
    assert re.search("everybody may create tables there, and so may the role of drills: .*open", warned.stderr)


def test_the_schema_of_everybody_is_refused(run):
    refused = run("public")

    assert refused.returncode != 0
    assert "give a role and a schema of its own" in refused.stderr
