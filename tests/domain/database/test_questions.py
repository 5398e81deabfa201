"""What an inspection asked is asked again in one statement: each change that matters to it changes an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from strongroom.database.inspect import inspect_table
from strongroom.database.questions import Questions
from strongroom.database.session import open_source
from tests.support.chain import Chain
from tests.support.database import execute
from tests.support.statements import Watched

TABLE = """
CREATE DOMAIN note AS varchar(9); CREATE TYPE mood AS ENUM ('calm'); CREATE TYPE pair AS (a integer, b note);
CREATE TABLE odd (k integer PRIMARY KEY, l integer NOT NULL UNIQUE, at date NOT NULL, what note, how mood, two pair, many note[], doc oid);
INSERT INTO odd VALUES (1, 1, '2026-05-01', '', NULL, NULL, NULL, 4000000001);
CREATE TABLE referring (k integer CONSTRAINT to_odd REFERENCES odd);
CREATE TABLE elsewhere (k integer);
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
CREATE TRIGGER idle BEFORE DELETE ON odd FOR EACH ROW EXECUTE FUNCTION act(); ALTER TABLE odd DISABLE TRIGGER idle;
GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, DELETE ON odd, referring TO {role};
"""

PARTITIONED = """
CREATE TABLE odd (k integer, at date, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF odd FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); ALTER TABLE part ADD UNIQUE (k);
CREATE TABLE elsewhere (k integer, at date);
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, DELETE ON odd TO {role};
"""

CHANGES = {
    "a column that is added": "ALTER TABLE odd ADD more text",
    "a column that is dropped": "ALTER TABLE odd DROP what",
    "a column that is renamed": "ALTER TABLE odd RENAME what TO that",
    "a column that is retyped": "ALTER TABLE odd ALTER what TYPE text",
    "a column with another length": "ALTER TABLE odd ALTER what TYPE varchar(9)",
    "a column that may be NULL": "ALTER TABLE odd ALTER at DROP NOT NULL",
    "a column that may not be NULL": "ALTER TABLE odd ALTER what SET NOT NULL",
    "a column that numbers itself": "ALTER TABLE odd ALTER l ADD GENERATED ALWAYS AS IDENTITY",
    "a column of large objects that is dropped": "ALTER TABLE odd DROP doc",
    "a large object that a row points at": "SELECT lo_create(4000000001)",
    "a domain that is renamed": "ALTER DOMAIN note RENAME TO remark",
    "an enum in another schema": "ALTER TYPE mood SET SCHEMA public",
    "a composite with one more attribute": "ALTER TYPE pair ADD ATTRIBUTE c text",
    "a composite with a renamed attribute": "ALTER TYPE pair RENAME ATTRIBUTE a TO c",
    "a cast to json": "CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)",
    "a key that is dropped": "ALTER TABLE odd DROP CONSTRAINT odd_pkey CASCADE",
    "a second key that is dropped": "ALTER TABLE odd DROP CONSTRAINT odd_l_key",
    "another table of that name": "ALTER TABLE odd RENAME TO old; CREATE TABLE odd (LIKE old INCLUDING ALL); GRANT SELECT, DELETE ON odd TO {role}",
    "no table of that name": "ALTER TABLE odd RENAME TO old",
    "a table in another schema": "ALTER TABLE odd SET SCHEMA public",
    "a trigger": "CREATE TRIGGER act AFTER DELETE ON odd FOR EACH STATEMENT EXECUTE FUNCTION act()",
    "a trigger that is enabled": "ALTER TABLE odd ENABLE TRIGGER idle",
    "a rule": "CREATE RULE instead AS ON DELETE TO odd DO INSTEAD NOTHING",
    "a child": "CREATE TABLE child () INHERITS (odd)",
    "row-level security": "ALTER TABLE odd ENABLE ROW LEVEL SECURITY",
    "row-level security of a referring table": "ALTER TABLE referring ENABLE ROW LEVEL SECURITY",
    "a foreign key": "ALTER TABLE elsewhere ADD FOREIGN KEY (k) REFERENCES odd",
    "a foreign key that cascades": "ALTER TABLE elsewhere ADD FOREIGN KEY (k) REFERENCES odd ON DELETE CASCADE",
    "a foreign key that cascades from now on": "ALTER TABLE referring DROP CONSTRAINT to_odd; "
    "ALTER TABLE referring ADD CONSTRAINT to_odd FOREIGN KEY (k) REFERENCES odd ON DELETE CASCADE",
    "a foreign key that is dropped": "ALTER TABLE referring DROP CONSTRAINT to_odd",
    "a foreign key to another column": "ALTER TABLE referring DROP CONSTRAINT to_odd; "
    "ALTER TABLE referring ADD CONSTRAINT to_odd FOREIGN KEY (k) REFERENCES odd (l)",
    "a referring column that is renamed": "ALTER TABLE referring RENAME k TO j",
    "a referring table that is renamed": "ALTER TABLE referring RENAME TO referrer",
    "no SELECT": "REVOKE SELECT ON odd FROM {role}",
    "no DELETE": "REVOKE DELETE ON odd FROM {role}",
    "no SELECT on a referring table": "REVOKE SELECT ON referring FROM {role}",
    "no USAGE": "REVOKE USAGE ON SCHEMA {schema} FROM {role}",
}

CHANGES_OF_PARTITIONS = {
    "a trigger of a partition": "CREATE TRIGGER act AFTER DELETE ON part FOR EACH ROW EXECUTE FUNCTION act()",
    "a reference to a partition": "ALTER TABLE elsewhere ADD FOREIGN KEY (k) REFERENCES part (k)",
    "a trigger on a new partition": "CREATE TABLE june PARTITION OF odd FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');"
    "CREATE TRIGGER act AFTER DELETE ON june FOR EACH ROW EXECUTE FUNCTION act()",
}

HARMLESS = {
    "a row": "INSERT INTO odd VALUES (2, 2, '2026-05-02')",
    "a remark": "COMMENT ON TABLE odd IS 'odd'",
    "another index": "CREATE INDEX ON odd (at); ANALYZE odd",
    "a default": "ALTER TABLE odd ALTER what SET DEFAULT 'x'",
    "a trigger on other events": "CREATE TRIGGER act BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION act()",
    "another table": "CREATE TABLE other (k integer PRIMARY KEY)",
    "somebody else's rights": "GRANT SELECT ON odd TO PUBLIC",
    "a large object of others": "SELECT lo_create(0)",
}


@contextmanager
def inspected(chain: Chain) -> Iterator[Questions]:
    """A session in which the table was inspected."""
    with open_source(chain.conninfo, application_name="test") as connection:
        questions = Questions(connection)
        inspect_table(questions, chain.settings)
        assert questions.ask_again("'x'::text") == (True, "x")
        yield questions


@pytest.fixture
def change(database, role):
    """A function that changes something in the schema of a chain, as a superuser."""

    def make(chain: Chain, statement: str) -> None:
        schema = chain.settings.schema_name
        written = statement.replace("{schema}", schema).replace("{role}", role[0])
        execute(database, f"SET search_path = {schema}, public; {written}")

    yield make
    execute(database, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    execute(database, "DROP TYPE IF EXISTS public.mood CASCADE; DROP TABLE IF EXISTS public.odd CASCADE")


def require_noticed(chain: Chain, change, statement: str) -> None:
    with inspected(chain) as questions:
        change(chain, statement)

        assert questions.ask_again("NULL")[0] is False
        assert questions.ask_again("NULL")[0] is False


@pytest.mark.parametrize("statement", CHANGES.values(), ids=list(CHANGES))
def test_a_change_is_noticed(case_as_role, change, statement):
    require_noticed(case_as_role(TABLE), change, statement)


@pytest.mark.parametrize("statement", CHANGES_OF_PARTITIONS.values(), ids=list(CHANGES_OF_PARTITIONS))
def test_a_change_of_partitions_is_noticed(case_as_role, change, statement):
    require_noticed(case_as_role(PARTITIONED), change, statement)


@pytest.mark.parametrize("statement", HARMLESS.values(), ids=list(HARMLESS))
def test_what_the_inspection_does_not_ask_changes_no_answer(case_as_role, change, statement):
    chain = case_as_role(TABLE)
    with inspected(chain) as questions:
        change(chain, statement)

        assert questions.ask_again("NULL")[0]


def test_the_right_to_temporary_tables_is_asked_for_again(case_as_role, database):
    with inspected(case_as_role(TABLE)) as questions:
        execute(database, "REVOKE TEMPORARY ON DATABASE refusals FROM PUBLIC")
        try:
            assert questions.ask_again("NULL")[0] is False
        finally:
            execute(database, "GRANT TEMPORARY ON DATABASE refusals TO PUBLIC")
        assert questions.ask_again("NULL")[0]


def test_settings_of_the_session_are_asked_for_again(case, role):
    chain = case(TABLE.replace("{role}", role[0]).replace("{schema}", "public"))
    with open_source(chain.conninfo, application_name="test") as connection:
        questions = Questions(connection)
        inspect_table(questions, chain.settings)
        connection.execute("SET session_replication_role = replica")

        assert questions.ask_again("NULL")[0] is False


def test_everything_that_an_inspection_sends_is_asked_again_in_one_statement(case_as_role):
    """In two where rows are asked about: whether a column points at large objects. The server plans them once."""
    watched = Watched()
    chain = case_as_role(TABLE)
    with open_source(chain.conninfo, application_name="test") as connection:
        watched(connection)
        questions = Questions(connection)
        inspect_table(questions, chain.settings)
        asked = len(watched.statements)
        for _ in range(3):
            questions.ask_again("pg_current_xact_id()::text")

        assert asked > 10
        assert len(watched.statements) == asked + 3 * 2
        catalogue, rows = watched.statements[-2:]
        assert catalogue.count("json_agg(") + rows.count("json_agg(") == asked
        assert rows.count("json_agg(") == rows.count("pg_largeobject_metadata") == 1
        query = "SELECT count(*) FROM pg_prepared_statements WHERE statement IN (%s, %s) AND generic_plans = 3"
        if connection.info.server_version >= 140000:
            assert connection.execute(query, (catalogue, rows)).fetchone() == (2,)
