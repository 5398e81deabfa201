"""What plan refuses, what it lists as excluded, and what stays although nobody saw it coming."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import sql

from strongroom.errors import UnarchivableError
from tests.support.database import ask, execute
from tests.support.every_type import REFUSED as REFUSED_TYPES
from tests.support.odd_tables import BY_RANGE, NO_KEY, ODD, REFERRING, TRIGGERED, refusal, rows_of

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
        "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE TABLE odd (k citext PRIMARY KEY, at date)",
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
