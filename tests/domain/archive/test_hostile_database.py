"""What the owner of a table, a type or a function can have run in our sessions: nothing that changes rows, answers or errors."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.calendar import Frequency, Partition
from strongroom.database.session import open_source, pin
from strongroom.errors import IntegrityError, StrongroomError, UnarchivableError
from strongroom.tables.warm_script import warm_script
from strongroom_local.servers.processes import bare_environment
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute, scalar
from tests.support.deleting import delete_while, nothing_more
from tests.support.restoring import restore

SECRET = "TOP-SECRET-NAME"  # pragma: allowlist secret

OTHERS = "CREATE TABLE others AS SELECT n AS id FROM generate_series(1, 10) n;"
"""A table that the archiver may delete from, and that nothing here shall touch."""


@pytest.fixture
def archiver(source) -> Iterator[str]:
    """A role that may do with tables what the archiver does, and is no superuser."""
    role = f"archiver of {conninfo_to_dict(source)['dbname']}"
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'a'").format(sql.Identifier(role)))
        yield make_conninfo(source, user=role, password="a")
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture
def make_chain(source, archiver, object_store, bucket, tmp_path):
    """A chain of the archiver's over a table ``audit`` that some statements make."""

    def make(statements: str) -> Chain:
        execute(source, OTHERS + statements)
        role = sql.Identifier(str(conninfo_to_dict(archiver)["user"]))
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(sql.SQL("GRANT SELECT, DELETE ON audit, others TO {}").format(role))
        return Chain(archiver, object_store.client("archiver"), some_settings(bucket, tmp_path))

    return make


def untouched(source: str) -> bool:
    return bool(scalar(source, "SELECT count(*) = 10 FROM others"))


# ------------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize("first", ["", "PERFORM set_config('transaction_read_only', 'off', true);"])
def test_the_check_of_a_type_writes_nothing_while_rows_are_proved(source, archiver, make_chain, first):
    role = conninfo_to_dict(archiver)["user"]
    chain = make_chain(
        f"""
        CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
          IF current_user = '{role}' THEN {first} DELETE FROM public.others; END IF; RETURN true; END $$;
        CREATE DOMAIN note AS text CHECK (public.fine(VALUE));
        CREATE TYPE pair AS (a note, b int);
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, p pair);
        INSERT INTO audit SELECT n, '2026-05-02', ROW('x', n)::pair FROM generate_series(1, 5) n;
        """
    )
    plan = chain.plan()

    with pytest.raises(StrongroomError) as caught:
        chain.verified(plan, plan.parts[0])

    assert isinstance(caught.value, IntegrityError if not first else StrongroomError)
    assert untouched(source)


def test_what_the_check_of_a_type_sets_is_over_when_the_rows_are_proved(source, make_chain):
    """It would decide what the statements after it mean."""
    chain = make_chain(
        """
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$;
        CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false); RETURN true; END $$;
        CREATE DOMAIN note AS text CHECK (public.fine(VALUE));
        CREATE TYPE pair AS (a note, b int);
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, p pair);
        INSERT INTO audit SELECT n, '2026-05-02', ROW('x', n)::pair FROM generate_series(1, 5) n;
        GRANT USAGE ON SCHEMA evil TO PUBLIC;
        """
    )
    plan = chain.plan()

    assert chain.verified(plan, plan.parts[0]).proved_rows == 5


@pytest.mark.parametrize("key", ["pair", "span"])
def test_a_key_whose_check_would_run_in_the_delete_is_refused(make_chain, key):
    chain = make_chain(
        f"""
        CREATE DOMAIN amount AS int CHECK (VALUE > 0);
        CREATE TYPE pair AS (a amount, b int);
        CREATE TYPE span AS RANGE (subtype = amount);
        CREATE TABLE audit (id {key} PRIMARY KEY, at timestamptz NOT NULL);
        """
    )

    with pytest.raises(UnarchivableError, match=f"its key column id is public.{key}, whose domain's checks would run"):
        chain.plan()


def test_keys_are_listed_without_following_somebodys_cast(source, archiver, make_chain):
    role = conninfo_to_dict(archiver)["user"]
    chain = make_chain(
        f"""
        CREATE TYPE kind AS ENUM ('a', 'b');
        CREATE FUNCTION as_text(kind) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
          IF current_user = '{role}' THEN DELETE FROM public.others; END IF; RETURN 'x'; END $$;
        CREATE CAST (kind AS text) WITH FUNCTION as_text(kind);
        CREATE TABLE audit (id kind PRIMARY KEY, at timestamptz NOT NULL, n int);
        INSERT INTO audit VALUES ('a', '2026-05-02', 1), ('b', '2026-05-02', 2);
        """
    )
    [part] = chain.seal(chain.plan()).parts
    execute(source, "UPDATE audit SET n = 9 WHERE id = 'a'")

    deleted = chain.delete(part)

    assert (deleted.deleted, deleted.changed) == (1, 1)
    assert untouched(source)
    annex = chain.store.read(part.archive.kept_rows_key(part.number))
    assert '"key": [\n        "a"\n' in annex[0].decode()


def test_plan_looks_at_rows_without_a_right_to_write(source, archiver, make_chain):
    """To see whether a text reads back it is read, which runs the checks of its type."""
    role = conninfo_to_dict(archiver)["user"]
    chain = make_chain(
        f"""
        CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
          IF current_user = '{role}' THEN DELETE FROM public.others; END IF; RETURN true; END $$;
        CREATE DOMAIN note AS text CHECK (public.fine(VALUE));
        CREATE TYPE search AS (q tsquery, a note);
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, s search);
        INSERT INTO audit SELECT n, '2026-05-02', ROW('x & y', 'z')::search FROM generate_series(1, 5) n;
        """
    )

    with pytest.raises(StrongroomError, match="cannot execute DELETE in a read-only transaction"):
        chain.plan()

    assert untouched(source)


# ------------------------------------------------------------------------------------------------------ triggers


@pytest.mark.parametrize(
    "hiding",
    [
        "CREATE TEMP TABLE IF NOT EXISTS pg_trigger AS SELECT * FROM pg_catalog.pg_trigger WHERE false;",
        "PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false);",
        "PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', true);",
    ],
    ids=["a temporary table", "the session's search_path", "the transaction's search_path"],
)
def test_a_trigger_does_not_hide_from_the_look_before_the_commit(source, make_chain, hiding):
    """It comes while the delete waits for a lock, and makes another table of that name come first."""
    chain = make_chain(
        f"""
        CREATE SCHEMA evil;
        CREATE VIEW evil.pg_trigger AS SELECT * FROM pg_catalog.pg_trigger WHERE false;
        GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT SELECT ON evil.pg_trigger TO PUBLIC;
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 10) n;
        CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          DELETE FROM public.others WHERE id = OLD.id; {hiding} RETURN OLD; END $$;
        """
    )
    [part] = chain.seal(chain.plan()).parts

    [error] = delete_while(
        replace(chain, conninfo=source),
        part,
        "CREATE TRIGGER spread AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION spread()",
        nothing_more,
    )

    assert "a DELETE fires its trigger spread" in error.what
    assert scalar(source, "SELECT count(*) FROM audit") == 10
    assert untouched(source)


def test_a_trigger_does_not_put_its_own_statement_in_place_of_one_that_the_server_has_prepared(source, make_chain):
    """It comes after the first batch, when the server has prepared the look before the commit, and prepares another by its name."""
    chain = make_chain(
        """
        CREATE SCHEMA evil;
        CREATE VIEW evil.pg_trigger AS SELECT * FROM pg_catalog.pg_trigger WHERE false;
        GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT SELECT ON evil.pg_trigger TO PUBLIC;
        CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO audit SELECT n, '2026-05-02' FROM generate_series(1, 10) n;
        CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE one record; BEGIN
          DELETE FROM public.others WHERE id = OLD.id;
          FOR one IN SELECT * FROM pg_prepared_statements WHERE statement ~ 'pg_trigger' AND NOT from_sql LOOP
            EXECUTE format('DEALLOCATE %I', one.name);
            EXECUTE format('PREPARE %I AS %s', one.name, replace(one.statement, 'pg_trigger', 'evil.pg_trigger'));
          END LOOP;
          RETURN OLD; END $$;
        """
    )
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 4})
    [part] = chain.seal(chain.plan()).parts
    batches = itertools.count(1)

    def keep_claim() -> None:
        if next(batches) == 2:
            execute(source, "CREATE TRIGGER spread AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION spread()")

    chain.keep_claim = keep_claim
    with pytest.raises(IntegrityError, match="prepared a statement in the place of one of ours"):
        chain.delete(part)

    assert scalar(source, "SELECT count(*) FROM audit") == 10 - 4
    assert untouched(source)


def test_a_trigger_may_prepare_statements_of_its_own(source):
    with open_source(source, application_name="test") as connection, connection.transaction():
        connection.execute("PREPARE mine AS SELECT 1")

        pin(connection)


def test_a_session_is_pinned_again_after_whatever_was_set(source):
    """Both for the session and for the transaction; a later SET LOCAL does not win over it."""
    with open_source(source, application_name="test") as connection, connection.transaction():
        connection.execute("SET search_path = nowhere")
        connection.execute("SET LOCAL extra_float_digits = 0")
        pin(connection)

        found = connection.execute("SELECT current_setting('search_path'), current_setting('extra_float_digits')")

        assert found.fetchone() == ("pg_catalog, pg_temp", "3")


# ------------------------------------------------------------------------------------------------------ warm tables


def test_the_script_of_a_warm_table_uses_no_operator_and_no_type_of_somebodys(source, postgres, make_chain):
    """An owner runs what `warm apply --print` printed, in a session where public is looked in, too."""
    chain = make_chain(
        """
        CREATE TABLE audit (id varchar PRIMARY KEY, at timestamptz NOT NULL, note text);
        CREATE FUNCTION eq(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = eq);
        CREATE DOMAIN public.text AS pg_catalog.text CHECK (false);
        """
    )
    with open_source(source, application_name="test") as connection:
        settings = chain.settings.model_copy(update={"warm": True})
        script = warm_script(connection, settings, now=NOW, until=Partition.parse(Frequency.MONTHLY, "2026-12"))
    printed = "BEGIN;\n" + "".join(f"{statement.as_string()};\n" for statement in script) + "COMMIT;\n"

    done = subprocess.run(
        [postgres.binaries / "psql", source, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"],
        input="SET search_path = public, pg_catalog;\n" + printed,
        capture_output=True, text=True, check=False, env=bare_environment(),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    with open_source(source, application_name="test") as connection:
        [(view, type_)] = connection.execute(
            "SELECT pg_get_viewdef('public.audit_all'::regclass), (SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'warm.audit'::regclass AND attname = 'note')"
        ).fetchall()
    assert "OPERATOR" not in view
    assert type_ == "text"


# ------------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    "state",
    ["P0001", "08000", "28000", "3D000", "42501", "53100", "55000", "57014", "57P01", "58030", "23505", "22P02"],
)
def test_no_message_that_somebody_made_of_a_row_is_passed_on(source, object_store, bucket, tmp_path, state):
    """RAISE takes any SQLSTATE, and names any constraint, column and type."""
    execute(
        source,
        f"CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text); INSERT INTO audit VALUES (1, '2026-05-02', '{SECRET}')",
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    chain.run()
    execute(
        source,
        f"""
        CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'no new entries for %', NEW.who USING ERRCODE = '{state}',
            CONSTRAINT = NEW.who, COLUMN = NEW.who, DATATYPE = NEW.who, TABLE = NEW.who; END $$;
        CREATE TRIGGER frozen BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION frozen()
        """,
    )

    with pytest.raises(StrongroomError) as caught:
        restore(chain)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "who::regclass::text",
        "who::regrole::text",
        "format('%s', pg_relation_size(who))",
        "has_database_privilege(who, 'CONNECT')::text",
    ],
)
def test_no_message_in_which_the_server_names_a_value_is_passed_on(source, expression):
    """As it does of what is not there, with the SQLSTATE of a statement that names something wrong."""
    with pytest.raises(StrongroomError) as caught, open_source(source, application_name="test") as connection:
        connection.execute(f"SELECT {expression} FROM (VALUES ('{SECRET}')) AS t (who)".encode())

    assert SECRET not in str(caught.value)
    assert "SQLSTATE 42" in str(caught.value) or "SQLSTATE 3D" in str(caught.value)


def test_what_the_server_says_of_itself_and_of_our_statements_is_passed_on(source, archiver):
    execute(source, OTHERS)
    for statement, said in (
        (b"SELECT * FROM public.others", "permission denied for table others"),
        (b"SELECT * FROM public.nothing", 'relation "public.nothing" does not exist'),
        (b"SET statement_timeout = 50; SELECT pg_sleep(60)", "canceling statement due to statement timeout"),
    ):
        with (
            pytest.raises(StrongroomError, match=said),
            open_source(archiver, application_name="test") as connection,
        ):
            connection.execute(statement)
