"""What plan refuses, what it lists as excluded, and what stays although nobody saw it coming."""

from __future__ import annotations

import itertools
import re
import threading
import time

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.errors import SourceAccessError, UnarchivableError
from strongroom.object_keys import SOURCE_IDENTITY
from tests.domain.archive.test_lossless import REFUSED as REFUSED_TYPES
from tests.support.chain import Chain, grants_of, some_settings

_schemas = (f"case_{number}" for number in itertools.count(1))


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements)


def ask(conninfo, query, *parameters):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query, parameters).fetchall()


@pytest.fixture(scope="module")
def database(postgres):
    """One database for all cases of this module; each case has a schema of its own."""
    execute(postgres.conninfo(), "CREATE DATABASE refusals")
    yield postgres.conninfo("refusals")
    execute(postgres.conninfo(), "DROP DATABASE refusals WITH (FORCE)")


@pytest.fixture(scope="module")
def shared_bucket(object_store):
    object_store.create_bucket("refusals")
    return "refusals"


@pytest.fixture
def case(database, object_store, shared_bucket, tmp_path):
    """Run statements in a fresh schema and make a chain for its table ``odd``."""

    def make(statements, table="odd", **changes) -> Chain:
        schema = next(_schemas)
        execute(database, f"CREATE SCHEMA {schema}; SET search_path = {schema}, public;" + statements)
        table_settings = some_settings(shared_bucket, tmp_path, f"{schema}.{table}", **changes)
        return Chain(database, object_store.client("archiver"), table_settings)

    return make


def rows_of(chain: Chain) -> list:
    table = sql.Identifier(chain.settings.schema_name, chain.settings.table_name)
    return ask(chain.conninfo, sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(table))


def refusal(chain: Chain, error=UnarchivableError) -> str:
    """The message of the refusal that plan ends in, having touched nothing."""
    keys = {*chain.store.keys(""), SOURCE_IDENTITY}

    with pytest.raises(error) as caught:
        chain.plan()

    assert {*chain.store.keys(""), SOURCE_IDENTITY} == keys
    assert chain.settings.qualified_name in caught.value.what
    assert caught.value.hint.startswith("Nothing was read and no row was deleted.")
    return str(caught.value)


ODD = "CREATE TABLE odd (k integer PRIMARY KEY, at date NOT NULL, what text); INSERT INTO odd VALUES (1, '2026-05-01');"
NO_KEY = "it has no primary key, nor a unique index on NOT NULL columns"
REFERRING = (
    "CREATE TABLE referring (k integer PRIMARY KEY, odd_k integer DEFAULT 1 CONSTRAINT to_odd REFERENCES odd (k)"
)
TRIGGERED = "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
BY_RANGE = """
CREATE TABLE whole (k integer, at date, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE part PARTITION OF whole FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
INSERT INTO whole VALUES (1, '2026-05-01');
"""

REFUSALS = {
    "no key": ("CREATE TABLE odd (k integer, at date)", {}, NO_KEY),
    "a partial key": (
        "CREATE TABLE odd (k integer NOT NULL, at date); CREATE UNIQUE INDEX ON odd (k) WHERE k > 0",
        {},
        NO_KEY,
    ),
    "a deferrable key": ("CREATE TABLE odd (k integer PRIMARY KEY DEFERRABLE, at date)", {}, NO_KEY),
    "a nullable key": ("CREATE TABLE odd (k integer UNIQUE, at date)", {}, NO_KEY),
    "a key that is half nullable": (
        "CREATE TABLE odd (k integer NOT NULL, l text, at date, UNIQUE (k, l))",
        {},
        NO_KEY,
    ),
    "an expression as key": (
        "CREATE TABLE odd (k integer NOT NULL, at date); CREATE UNIQUE INDEX ON odd (abs(k))",
        {},
        NO_KEY,
    ),
    "a column that a key only includes": (
        "CREATE TABLE odd (k integer NOT NULL, l integer, at date, UNIQUE (l) INCLUDE (k))",
        {},
        NO_KEY,
    ),
    "a key by another collation": (
        'CREATE TABLE odd (k text NOT NULL COLLATE "C", at date); CREATE UNIQUE INDEX ON odd (k COLLATE "POSIX")',
        {},
        NO_KEY,
    ),
    "a key by another equality": (
        "CREATE TYPE pair AS (a integer, b json); CREATE TABLE odd (k pair NOT NULL, at date);"
        "CREATE UNIQUE INDEX ON odd (k record_image_ops)",
        {},
        NO_KEY,
    ),
    "a configured key by another equality": (
        "CREATE TYPE pair AS (a integer, b numeric); CREATE TABLE odd (l text PRIMARY KEY, k pair NOT NULL, at date);"
        "CREATE UNIQUE INDEX ON odd (k record_image_ops)",
        {"primary_key": ["k"]},
        "its configured primary key k is not a unique index .*operator class that is not the column's",
    ),
    "a key by somebody's own equality": (
        "CREATE TYPE pair AS (a integer, b integer);"
        "CREATE FUNCTION compare(pair, pair) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(($1).a, ($2).a)';"
        "CREATE FUNCTION same(pair, pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a = ($2).a';"
        "CREATE OPERATOR === (LEFTARG = pair, RIGHTARG = pair, FUNCTION = same);"
        "CREATE OPERATOR CLASS own DEFAULT FOR TYPE pair USING btree AS OPERATOR 3 ===, FUNCTION 1 compare(pair, pair);"
        "CREATE TABLE odd (k pair PRIMARY KEY, at date)",
        {},
        NO_KEY,
    ),
    "a configured key that is not unique": (
        ODD,
        {"primary_key": ["at"]},
        "its configured primary key at is not a unique index",
    ),
    "a configured key that is not there": (ODD, {"primary_key": ["id"]}, "its configured primary key id is not"),
    "a key of an extension's type": (
        "CREATE EXTENSION citext SCHEMA public; CREATE TABLE odd (k citext PRIMARY KEY, at date)",
        {},
        r"its key column k is public\.citext, an extension's type",
    ),
    "large objects": (
        "CREATE DOMAIN lo AS oid; CREATE TABLE odd (k integer PRIMARY KEY, at date, doc lo, docs lo[])",
        {},
        r"its column doc \(case_\d+\.lo\) holds large objects.* its column docs \(case_\d+\.lo\[\]\) holds large objects",
    ),
    "oids of large objects": (
        "CREATE TABLE odd (k integer PRIMARY KEY, at date, doc oid); INSERT INTO odd VALUES (1, '2020-01-01', lo_create(0))",
        {},
        r"its column doc \(oid\) holds the oids of large objects",
    ),
    "oids of large objects in arrays": (
        "CREATE DOMAIN pointer AS oid; CREATE TABLE odd (k integer PRIMARY KEY, at date, docs pointer[], more oidvector);"
        "INSERT INTO odd VALUES (1, '2020-01-01', ARRAY[NULL, lo_create(0)]); UPDATE odd SET more = docs[2]::text::oidvector",
        {},
        r"its column docs \(.*\) holds the oids of large objects.*; its column more \(oidvector\) holds the oids",
    ),
    "oids of large objects in composites": (
        "CREATE TYPE document AS (title text, doc oid); CREATE TABLE odd (k integer PRIMARY KEY, at date, docs document[]);"
        "INSERT INTO odd SELECT 1, '2020-01-01', ARRAY[('a', lo_create(0))::document]",
        {},
        r"its column docs \(.*\) holds the oids of large objects",
    ),
    "a pointer behind other types": (
        "CREATE TYPE inner_type AS (what regclass); CREATE DOMAIN pointed AS inner_type;"
        "CREATE TYPE odd_range AS RANGE (SUBTYPE = tid);"
        "CREATE TABLE odd (k integer PRIMARY KEY, at date, one pointed[], two odd_range, three regtype[])",
        {},
        "column one .* type regclass, which mean .* column two .* type tid, .* column three .* type regtype, ",
    ),
    "xml inside other values": (
        "CREATE DOMAIN document AS xml; CREATE TYPE page AS (title text, body document);"
        "CREATE TABLE odd (k integer PRIMARY KEY, at date, one document, two xml[], three document[], four page, five page[])",
        {},
        r"archived: its column two \(xml\[\]\) holds xml inside .* column three .* column four .* column five .* holds xml inside",
    ),
    "too many columns": (
        "DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE odd (k integer PRIMARY KEY, at date, ' || string_agg('c' || n || ' boolean', ', ') "
        "|| ')' FROM generate_series(3, 1599) AS n); END $$",
        {},
        "it has 1599 columns, and its rows are read back into a table with two more: 1598 at most",
    ),
    "a row that fills its page": (
        "DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE odd (k bigint PRIMARY KEY, at timestamp NOT NULL, ' || "
        "string_agg('c' || n || ' bigint NOT NULL DEFAULT 7', ', ') || ')' FROM generate_series(3, 1017) AS n); END $$;"
        "INSERT INTO odd VALUES (1, '2026-05-01')",
        {},
        "a row of it is too wide to be read back: expected .* found a row that fills its page with its 1017 columns",
    ),
    "a view": ("CREATE VIEW odd AS SELECT 1 AS k, now() AS at", {}, "found a view"),
    "a materialized view": (
        "CREATE MATERIALIZED VIEW odd AS SELECT 1 AS k, now() AS at",
        {},
        "found a materialized view",
    ),
    "a sequence": ("CREATE SEQUENCE odd", {}, "found a sequence"),
    "an index": ("CREATE TABLE even (k integer); CREATE INDEX odd ON even (k)", {}, "found an index"),
    "a foreign table": (
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far;"
        "CREATE FOREIGN TABLE odd (k integer, at date) SERVER away",
        {},
        "found a foreign table",
    ),
    "a foreign partition": (
        "CREATE FOREIGN DATA WRAPPER further; CREATE SERVER elsewhere FOREIGN DATA WRAPPER further;"
        "CREATE TABLE odd (k integer NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);"
        "CREATE FOREIGN TABLE old PARTITION OF odd FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') SERVER elsewhere",
        {},
        r"its rows lie partly in foreign tables \(old\)",
    ),
    "an inheritance parent": (ODD + "CREATE TABLE child () INHERITS (odd)", {}, "other tables inherit from it"),
    "no such date column": (ODD, {"date_column": "created_at"}, "it has no column created_at to date rows by"),
    "a date column of another type": (ODD, {"date_column": "what"}, "its date column what is text, not date"),
    "a date column that is an array": (
        "CREATE TABLE odd (k integer PRIMARY KEY, at timestamptz[])",
        {},
        r"its date column at is timestamp with time zone\[\], not date",
    ),
    "rows that would be deleted too": (
        ODD + REFERRING + " ON DELETE CASCADE)",
        {},
        r"a DELETE would also delete rows of case_\d+\.referring \(to_odd\)",
    ),
    "columns that would become NULL": (
        ODD + REFERRING + " ON DELETE SET NULL)",
        {},
        r"a DELETE would set columns to NULL in rows of case_\d+\.referring \(to_odd\)",
    ),
    "columns that would become their default": (
        ODD + REFERRING + " ON DELETE SET DEFAULT)",
        {},
        r"a DELETE would set columns to their default in rows of case_\d+\.referring \(to_odd\)",
    ),
    "a cascade from a partition of it": (
        BY_RANGE + "ALTER TABLE part ADD UNIQUE (k); ALTER TABLE whole RENAME TO odd;"
        "CREATE TABLE referring (k integer CONSTRAINT to_part REFERENCES part (k) ON DELETE CASCADE)",
        {},
        r"also delete rows of case_\d+\.referring \(to_part\)",
    ),
    "a cascade from the table it is a partition of": (
        BY_RANGE + "ALTER TABLE part RENAME TO odd; CREATE TABLE referring (k integer, at date,"
        "CONSTRAINT to_whole FOREIGN KEY (k, at) REFERENCES whole ON DELETE CASCADE)",
        {},
        r"also delete rows of case_\d+\.referring \(to_whole\)",
    ),
    "a row trigger": (
        ODD + TRIGGERED + 'CREATE TRIGGER "a\'b" BEFORE DELETE OR UPDATE ON odd FOR EACH ROW EXECUTE FUNCTION act()',
        {},
        r"a DELETE fires its trigger a'b \(see accepted_delete_triggers\)",
    ),
    "a statement trigger": (
        ODD + TRIGGERED + "CREATE TRIGGER act AFTER DELETE ON odd FOR EACH STATEMENT EXECUTE FUNCTION act()",
        {"accepted_delete_triggers": ["another"]},
        "a DELETE fires its trigger act",
    ),
    "a trigger of a partition": (
        BY_RANGE + TRIGGERED + "CREATE TRIGGER act AFTER DELETE ON part FOR EACH ROW EXECUTE FUNCTION act();"
        "ALTER TABLE whole RENAME TO odd",
        {},
        "a DELETE fires its trigger act",
    ),
    "a trigger of the table it is a partition of": (
        BY_RANGE + TRIGGERED + "CREATE TRIGGER act AFTER DELETE ON whole FOR EACH ROW EXECUTE FUNCTION act();"
        "ALTER TABLE part RENAME TO odd",
        {},
        "a DELETE fires its trigger act",
    ),
    "a rule": (
        ODD + "CREATE RULE instead AS ON DELETE TO odd DO INSTEAD NOTHING",
        {},
        r"it has rules on DELETE \(instead\)",
    ),
    "several reasons at once": (
        "CREATE TABLE odd (k integer, at text, what regclass)",
        {},
        f"what .* type regclass, .*; {NO_KEY}, .*; its date column at is text",
    ),
}


@pytest.mark.parametrize(("statements", "changes", "expected"), REFUSALS.values(), ids=list(REFUSALS))
def test_plan_refuses(case, statements, changes, expected):
    chain = case(statements, **changes)

    assert re.search(expected, refusal(chain))


def test_plan_refuses_every_type_that_is_only_a_pointer_or_cannot_be_read_back(case, database):
    types = [
        name
        for (name,) in ask(database, "SELECT typname::text FROM pg_type WHERE typname = ANY (%s)", list(REFUSED_TYPES))
    ]
    columns = ", ".join(f"c_{name} {name}" for name in types)
    chain = case(f"CREATE TABLE odd (k integer PRIMARY KEY, at date, {columns})")

    message = refusal(chain)

    assert len(types) >= 20
    assert [
        name for name in types if f"its column c_{name} ({name}) holds values of type {name}, " not in message
    ] == []


def test_plan_refuses_a_temporary_table(case, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE odd (k integer PRIMARY KEY, at date)")
        (schema,) = connection.execute(
            "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'odd'::regclass"
        ).fetchone()
        chain = case("")
        chain.settings = chain.settings.model_copy(update={"table": f"{schema}.odd"})

        assert "found a temporary table" in refusal(chain)


def test_a_missing_table_is_told_with_its_likely_name(case):
    chain = case('CREATE TABLE "Audit_Events" (k integer); CREATE TABLE audit_event (k integer)', "audit_events")

    message = refusal(chain)

    assert f"there is no table {chain.settings.qualified_name}" in message
    assert f"near it {chain.settings.schema_name}.Audit_Events, {chain.settings.schema_name}.audit_event" in message


def test_a_reference_by_period_is_refused(case, database):
    """PostgreSQL 18 lets a foreign key point at a stretch of time, which need not equal any row of ours."""
    [(version,)] = ask(database, "SELECT current_setting('server_version_num')::integer")
    temporal = """
        CREATE EXTENSION btree_gist SCHEMA public;
        CREATE TABLE odd (k integer, during daterange, at date, PRIMARY KEY (k, during WITHOUT OVERLAPS));
        CREATE TABLE referring (k integer, during daterange, CONSTRAINT to_odd
            FOREIGN KEY (k, PERIOD during) REFERENCES odd (k, PERIOD during));
    """
    equal = temporal.replace("WITHOUT OVERLAPS", "").replace("PERIOD", "")
    chain = case(temporal if version >= 180000 else equal)

    if version >= 180000:
        assert "periods of its rows are referred to by" in refusal(chain)
    else:
        assert chain.plan().outcome == "nothing_due"


def test_rows_whose_text_reads_back_as_something_else_are_refused(case):
    """tsquery prints a & (b & c) without its brackets, and reads (a & b) & c: not the same value."""
    chain = case("""
        CREATE TABLE odd (k integer PRIMARY KEY, at date, query tsquery, queries tsquery[]);
        INSERT INTO odd VALUES (1, '2026-05-01', '', '{}'), (2, '2026-05-02', NULL, NULL), (3, '2026-05-03', 'a & b & !c', '{a,NULL}'),
                               (4, '2026-05-04', 'a', ARRAY['b'::tsquery, 'a & (b & c)']), (5, '2026-04-30', 'a & (b & c)', NULL);
    """)
    before = rows_of(chain)

    with pytest.raises(
        UnarchivableError, match=r"the text of 1 values in its column queries \(tsquery\[\]\) reads back as other"
    ):
        chain.plan()
    assert rows_of(chain) == before

    schema = sql.Identifier(chain.settings.schema_name)
    execute(chain.conninfo, sql.SQL("UPDATE {}.odd SET queries = queries::text::tsquery[] WHERE k = 4").format(schema))
    assert chain.run().deleted_rows == 4


def test_a_database_without_an_encoding_is_refused(case, database, postgres):
    execute(database, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    chain = case("")
    chain.conninfo = postgres.conninfo("ascii")
    execute(
        chain.conninfo,
        f"CREATE SCHEMA {chain.settings.schema_name}; SET search_path = {chain.settings.schema_name};" + ODD,
    )

    assert "its database has the encoding SQL_ASCII" in refusal(chain)

    execute(database, "DROP DATABASE ascii WITH (FORCE)")


# What the role may and sees.


@pytest.fixture
def role(database):
    """A login without rights, and how to connect as it."""
    name = f"archiver_{next(_schemas)}"
    execute(database, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name, make_conninfo(database, user=name, password="secret")  # pragma: allowlist secret
    execute(database, f"DROP OWNED BY {name}; DROP ROLE {name}")


GRANTED = ODD + "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, DELETE ON odd TO {role};"


@pytest.fixture
def case_as_role(case, role):
    """Like ``case``, for a role that may read and delete; ``{role}`` and ``{schema}`` stand for the names."""
    name, conninfo = role

    def make(statements, **changes) -> Chain:
        granted = (
            "DO $do$ BEGIN EXECUTE replace($sql$"
            + statements.replace("{role}", name)
            + "$sql$, '{schema}', current_schema()); END $do$"
        )
        chain = case(granted, **changes)
        chain.conninfo = conninfo
        return chain

    return make


@pytest.mark.parametrize(
    ("statements", "missing"),
    [
        (GRANTED + "REVOKE SELECT ON odd FROM {role};", "no SELECT on"),
        (GRANTED + "REVOKE DELETE ON odd FROM {role};", "no DELETE on"),
        (GRANTED + REFERRING + ");", r"no SELECT on case_\d+\.referring, which refers to"),
        (
            GRANTED
            + REFERRING
            + "); ALTER TABLE referring ENABLE ROW LEVEL SECURITY; GRANT SELECT ON referring TO {role};",
            r"no sight of all rows of case_\d+\.referring, which refers to",
        ),
    ],
)
def test_a_missing_right_is_named(case_as_role, statements, missing):
    chain = case_as_role(statements)

    assert re.search(missing, refusal(chain, SourceAccessError))


def test_what_a_missing_right_prints_can_be_pasted_and_is_enough(case_as_role, role, database):
    """A role that holds nothing: the schema, the table and one that refers to it are named, each quoted as it must be."""
    chain = case_as_role(ODD + REFERRING + '); ALTER TABLE odd RENAME TO "Odd";', table="Odd")

    with pytest.raises(SourceAccessError) as refused:
        chain.plan()

    grants = grants_of(refused.value)
    assert len(grants) == 3
    assert all(grant.startswith("GRANT ") and grant.endswith(f" TO {role[0]};") for grant in grants)
    assert refused.value.what.startswith(f"the role {role[0]} lacks rights for ")
    execute(database, "".join(grants))
    assert chain.run().deleted_rows == 1


def test_the_right_to_make_temporary_tables_is_needed_too(case_as_role, database):
    chain = case_as_role(GRANTED)
    execute(database, "REVOKE TEMPORARY ON DATABASE refusals FROM PUBLIC")

    try:
        assert "no TEMPORARY on the database" in refusal(chain, SourceAccessError)
    finally:
        execute(database, "GRANT TEMPORARY ON DATABASE refusals TO PUBLIC")


def test_row_level_security_that_hides_rows_is_refused(case_as_role):
    chain = case_as_role(
        GRANTED + "ALTER TABLE odd ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON odd USING (true);"
    )

    assert "row-level security hides rows of it from this role" in refusal(chain)


def test_a_session_that_enforces_no_foreign_keys_is_refused(case):
    chain = case(ODD)
    chain.conninfo = make_conninfo(chain.conninfo, options="-c session_replication_role=replica")

    assert "session_replication_role is replica" in refusal(chain)


def test_a_role_with_just_these_rights_can_do_all_of_it(case_as_role):
    chain = case_as_role(GRANTED + REFERRING + "); GRANT SELECT ON referring TO {role};")

    assert chain.run().deleted_rows == 1


# What looks dangerous and is not.


@pytest.mark.parametrize(
    ("statements", "changes"),
    [
        (
            ODD
            + TRIGGERED
            + "CREATE TRIGGER act BEFORE DELETE ON odd FOR EACH ROW EXECUTE FUNCTION act(); ALTER TABLE odd DISABLE TRIGGER act",
            {},
        ),
        (
            ODD + TRIGGERED + "CREATE TRIGGER act BEFORE DELETE ON odd FOR EACH ROW EXECUTE FUNCTION act()",
            {"accepted_delete_triggers": ["act"]},
        ),
        (ODD + TRIGGERED + "CREATE TRIGGER act BEFORE INSERT OR UPDATE ON odd FOR EACH ROW EXECUTE FUNCTION act()", {}),
        (ODD + "ALTER TABLE odd ENABLE ROW LEVEL SECURITY", {}),
        (ODD + "ALTER TABLE odd ADD number oid; UPDATE odd SET number = 4294967295; SELECT lo_create(0)", {}),
        (ODD + REFERRING + ")", {}),
        (ODD.replace("CREATE", "CREATE UNLOGGED"), {}),
        (
            "CREATE TABLE odd (k integer NOT NULL, l integer NOT NULL UNIQUE DEFERRABLE, at date, UNIQUE (k) INCLUDE (l)); INSERT INTO odd VALUES (1, 1, '2026-05-01')",
            {},
        ),
        (ODD + "ALTER TABLE odd ADD l integer NOT NULL DEFAULT 1, ADD UNIQUE (l, k)", {"primary_key": ["k", "l"]}),
        (BY_RANGE + "ALTER TABLE whole RENAME TO odd", {}),
        (BY_RANGE + "ALTER TABLE part RENAME TO odd", {}),
    ],
    ids=[
        "a disabled trigger",
        "an accepted trigger",
        "a trigger on other events",
        "row-level security with nothing to hide",
        "oids of nothing",
        "a foreign key that no row uses",
        "an unlogged table",
        "the one usable key of two",
        "a configured key in another order",
        "a partitioned table",
        "one partition",
    ],
)
def test_plan_accepts(case, statements, changes):
    chain = case(statements, **changes)

    assert chain.run().deleted_rows == 1
    assert rows_of(chain) == []


# Rows that stay.

MANY = "CREATE TABLE odd (k integer PRIMARY KEY, at date); INSERT INTO odd SELECT n, '2026-05-01' FROM generate_series(1, 9) AS n;"


def exclusions(chain: Chain) -> list[tuple[str, int]]:
    return [(one.detail, one.rows) for one in chain.plan().exclusions if one.reason == "referenced"]


def keys_left(chain: Chain) -> list[int]:
    return [k for (k,) in ask(chain.conninfo, f"SELECT k FROM {chain.settings.schema_name}.odd ORDER BY k")]


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT", "NO ACTION DEFERRABLE INITIALLY DEFERRED"])
def test_rows_that_others_refer_to_stay_and_are_counted_once(case, action):
    chain = case(
        MANY
        + f"""
        CREATE TABLE first (odd_k integer CONSTRAINT from_first REFERENCES odd ON DELETE {action});
        CREATE TABLE second (odd_k bigint CONSTRAINT from_second REFERENCES odd ON DELETE {action});
        INSERT INTO first VALUES (1), (2), (2), (NULL);
        INSERT INTO second VALUES (2), (3);
    """
    )
    schema = chain.settings.schema_name

    assert exclusions(chain) == [
        (f"{schema}.first refers to them (from_first)", 2),
        (f"{schema}.second refers to them (from_second)", 1),
    ]
    report = chain.run()
    assert (report.deleted_rows, report.excluded_rows) == (6, 3)
    assert keys_left(chain) == [1, 2, 3]


def test_a_composite_reference_holds_only_the_row_it_points_at(case):
    """NULL in a part of it points at nothing; each pair is compared as the constraint does, collations and all."""
    chain = case("""
        CREATE TABLE odd (k integer PRIMARY KEY, a text COLLATE "C", b numeric, at date, UNIQUE (b, a));
        INSERT INTO odd VALUES (1, 'x', 1.0, '2026-05-01'), (2, 'x', 2, '2026-05-01'), (3, 'y', 1, '2026-05-01');
        CREATE TABLE referring (b2 integer, a2 text COLLATE "POSIX", FOREIGN KEY (a2, b2) REFERENCES odd (a, b));
        INSERT INTO referring VALUES (1, 'x'), (2, NULL);
    """)

    assert [rows for _, rows in exclusions(chain)] == [1]
    assert chain.run().deleted_rows == 2
    assert keys_left(chain) == [1]


def test_a_reference_by_an_extensions_equality_holds_its_row(case):
    """The foreign key says that 'ABC' is 'abc', whatever our session would say."""
    chain = case("""
        CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
        CREATE TABLE odd (k integer PRIMARY KEY, word citext UNIQUE, at date);
        INSERT INTO odd VALUES (1, 'ABC', '2026-05-01'), (2, 'DEF', '2026-05-01');
        CREATE TABLE referring (word citext REFERENCES odd (word));
        INSERT INTO referring VALUES ('abc');
    """)

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [1]


def test_a_tree_is_archived_from_its_leaves(case):
    """A row that another row of the same table refers to waits for the run after the one that takes its children."""
    chain = case(
        MANY + "ALTER TABLE odd ADD parent integer REFERENCES odd; UPDATE odd SET parent = k / 3 WHERE k >= 3;"
    )

    first = chain.run()
    second = chain.run()

    assert (first.deleted_rows, first.excluded_rows) == (6, 3)
    assert (second.deleted_rows, second.excluded_rows) == (2, 1)
    assert keys_left(chain) == [1]


def test_a_reference_to_one_partition_holds_the_row(case):
    chain = case(
        BY_RANGE
        + """
        ALTER TABLE whole RENAME TO odd;
        INSERT INTO odd VALUES (2, '2026-05-02');
        ALTER TABLE part ADD UNIQUE (k);
        CREATE TABLE referring (k integer REFERENCES part (k));
        INSERT INTO referring VALUES (2);
    """
    )

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [2]


def test_a_row_that_is_referred_to_after_it_was_archived_stays(case):
    chain = case(MANY + REFERRING + ");")
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, f"INSERT INTO {chain.settings.schema_name}.referring VALUES (1, 4)")

    [deleted] = [chain.delete(part) for part in sealed.parts]

    assert (deleted.deleted, deleted.referenced, deleted.changed) == (8, 1, 0)
    assert keys_left(chain) == [4]


@pytest.mark.parametrize(("ending", "left"), [("commit", [4]), ("rollback", [])])
def test_a_row_that_an_open_transaction_refers_to_is_waited_for(case, ending, left):
    """The delete cannot see the reference, waits for its transaction to end, and then looks again."""
    chain = case(MANY + REFERRING + ");")
    [part] = chain.seal(chain.plan()).parts
    with psycopg.connect(chain.conninfo) as other:
        other.execute(f"INSERT INTO {chain.settings.schema_name}.referring VALUES (1, 4)")
        outcomes = []
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(part)))
        deleting.start()
        wait_until_blocked(chain.conninfo, by=other.info.backend_pid)
        getattr(other, ending)()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.referenced) == (9 - len(left), len(left))
    assert keys_left(chain) == left


def test_a_row_that_an_open_transaction_changes_is_waited_for_and_stays(case):
    chain = case(MANY + "ALTER TABLE odd ADD what text;")
    [part] = chain.seal(chain.plan()).parts
    with psycopg.connect(chain.conninfo) as other:
        other.execute(f"UPDATE {chain.settings.schema_name}.odd SET what = 'changed' WHERE k = 4")
        outcomes = []
        deleting = threading.Thread(target=lambda: outcomes.append(chain.delete(part)))
        deleting.start()
        wait_until_blocked(chain.conninfo, by=other.info.backend_pid)
        other.commit()
        deleting.join(timeout=30)

    [deleted] = outcomes
    assert (deleted.deleted, deleted.changed) == (8, 1)
    assert keys_left(chain) == [4]


def wait_until_blocked(conninfo: str, by: int) -> None:
    for _ in range(300):
        if ask(conninfo, "SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", by):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody waits for {by}")


# Which rows a window holds.


@pytest.mark.parametrize("type_", ["timestamp", "timestamptz", "timestamp(0)"])
def test_a_window_holds_its_first_instant_and_not_its_end(case, type_):
    """In UTC, whatever time zone the database prefers."""
    chain = case(f"""
        CREATE TABLE odd (k integer PRIMARY KEY, at {type_});
        SET timezone = 'UTC';
        INSERT INTO odd VALUES (1, '2026-04-30 23:59:59'), (2, '2026-05-01 00:00:00'), (3, '2026-05-31 23:59:59'), (4, '2026-06-01 00:00:00'),
                               (5, 'infinity'), (6, '-infinity'), (7, NULL), (8, NULL), (9, '2026-05-15 12:00:00');
    """)
    chain.conninfo = make_conninfo(chain.conninfo, options="-c timezone=Asia/Kolkata")

    report = chain.run()

    assert [(one.reason, one.rows) for one in report.exclusions] == [("no_date", 2)]
    assert keys_left(chain) == [1, 4, 5, 6, 7, 8]


def test_a_window_of_dates_holds_its_days(case):
    chain = case(
        """
        CREATE DOMAIN day AS date;
        CREATE TABLE odd (k integer PRIMARY KEY, at day NOT NULL);
        INSERT INTO odd VALUES (1, '2026-04-30'), (2, '2026-05-01'), (3, '2026-05-31'), (4, '2026-06-01'), (5, 'infinity'), (6, '0044-03-15 BC');
    """,
        part_rows=1,
    )

    report = chain.run()

    assert (report.parts, report.exclusions) == (2, ())
    assert keys_left(chain) == [1, 4, 5, 6]


def test_microseconds_at_the_edges_of_a_window_count(case):
    chain = case("""
        SET timezone = 'UTC';
        CREATE TABLE odd (k integer PRIMARY KEY, at timestamptz);
        INSERT INTO odd VALUES (1, '2026-04-30 23:59:59.999999'), (2, '2026-05-31 23:59:59.999999'), (3, '2026-06-01 00:00:00.000001');
    """)

    assert chain.run().deleted_rows == 1
    assert keys_left(chain) == [1, 3]
