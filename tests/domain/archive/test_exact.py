"""Where equal is not the same: differences that a text does not show, keys by another equality, NULL where NOT NULL is not valid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from strongroom.errors import UnarchivableError
from tests.support import restoring
from tests.support.chain import Chain, some_settings


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute(statements)


def ask(conninfo, query):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def has_libxml(conninfo) -> bool:
    try:
        return bool(ask(conninfo, "SELECT '<a/>'::xml::text"))
    except psycopg.errors.FeatureNotSupported:
        return False


@pytest.fixture(params=["jsonl", "parquet"])
def documents(source, object_store, bucket, tmp_path, request) -> Chain:
    """Two columns of XML, in a server that can hold any; text stands in for it in one without libxml."""
    kind = "xml" if has_libxml(source) else "text"
    execute(
        source,
        f"CREATE DOMAIN document AS {kind}; CREATE TABLE odd (one {kind}, k integer PRIMARY KEY, at date, two document);"
        "CREATE TABLE restored (LIKE odd INCLUDING ALL)",
    )
    settings = some_settings(bucket, tmp_path, "public.odd", proof_rows="all", format=request.param)
    return Chain(source, object_store.client("archiver"), settings)


DECLARED = '<?xml version="1.0" encoding="UTF-8"?><a>e</a>'
OTHERWISE = '<?xml version="1.0" encoding="ISO-8859-1"?><a>e</a>'
ROWS = "SELECT k, one::text, two::text FROM {} ORDER BY k"


def test_a_row_whose_xml_declares_something_else_since_is_kept(documents):
    execute(
        documents.conninfo,
        f"INSERT INTO odd SELECT '{DECLARED}', k, '2026-05-01', '{DECLARED}' FROM generate_series(1, 4) AS k",
    )
    [part] = documents.seal(documents.plan()).parts
    execute(
        documents.conninfo,
        f"UPDATE odd SET one = '{OTHERWISE}' WHERE k = 1; UPDATE odd SET two = '<a>e</a>' WHERE k = 2",
    )

    deleted = documents.delete(part)

    assert (deleted.deleted, deleted.changed, deleted.gone) == (2, 2, 0)
    assert ask(documents.conninfo, ROWS.format("odd")) == [(1, OTHERWISE, DECLARED), (2, DECLARED, "<a>e</a>")]


def test_xml_comes_back_with_its_declaration_and_a_restore_sees_another(documents):
    nasty = 'E\'<?xml version="1.0" encoding="ISO-8859-1" standalone="yes" ?>\\n\\n<a>\\\\t \\t ""</a>\''
    execute(
        documents.conninfo,
        f"INSERT INTO odd VALUES ('{DECLARED}', 1, '2026-05-01', NULL), (NULL, 2, '2026-05-01', {nasty}), "
        f"({nasty}, 3, '2026-05-01', ''), ('', 4, '2026-05-01', E'\\n<a/>')",
    )
    before = ask(documents.conninfo, ROWS.format("odd"))
    archive_id = documents.run().archive_id

    first, again = (
        restoring.restore(documents, name, archives=[archive_id], target="public.restored") for name in ("1st", "2nd")
    )
    brought_back = ask(documents.conninfo, ROWS.format("restored"))
    execute(documents.conninfo, f"UPDATE restored SET one = '{OTHERWISE}' WHERE k = 1")
    changed = restoring.restore(documents, "3rd", archives=[archive_id], target="public.restored")

    assert (first.outcome, again.outcome, changed.outcome) == ("restored", "unchanged", "different")
    assert brought_back == before


# What a unique index takes for equal.


@pytest.fixture
def odd(source, object_store, bucket, tmp_path):
    """Run statements, which make a table ``odd``, and make a chain for it."""

    def make(statements, **changes) -> Chain:
        execute(source, statements)
        settings = some_settings(bucket, tmp_path, "public.odd", **changes)
        return Chain(source, object_store.client("archiver"), settings)

    return make


KEYS = {
    "operator classes for patterns": "k text NOT NULL, l varchar(9) NOT NULL, UNIQUE INDEX (k text_pattern_ops, l varchar_pattern_ops)",
    "the column's own collation": 'k text COLLATE "C" NOT NULL, l text COLLATE "POSIX" NOT NULL, UNIQUE INDEX (k COLLATE "C", l)',
    "arrays and enums": "k text[] NOT NULL, l mood NOT NULL, UNIQUE INDEX (k, l)",
    "domains and composites": "k label NOT NULL, l pair NOT NULL, UNIQUE INDEX (k, l)",
    "ranges": "k int4range NOT NULL, l daterange NOT NULL, UNIQUE INDEX (k, l)",
    "names and characters": "k name NOT NULL, l char(3) NOT NULL, UNIQUE INDEX (k, l)",
    "addresses and included columns": "k cidr NOT NULL, l inet NOT NULL, UNIQUE INDEX (k, l) INCLUDE (at)",
}


@pytest.mark.parametrize("described", KEYS.values(), ids=list(KEYS))
def test_a_unique_index_that_finds_what_equals_is_a_key(odd, described):
    columns, _, index = described.partition(", UNIQUE INDEX ")
    chain = odd(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a integer, b text); CREATE DOMAIN label AS text;"
        f"CREATE TABLE odd (at date, {columns}); CREATE UNIQUE INDEX ON odd {index}"
    )

    assert chain.plan().shape.primary_key == ("k", "l")


# NOT NULL that is NOT VALID, which PostgreSQL 18 has.


def not_valid(conninfo, column: str) -> str:
    """A statement that forbids NULL from now on; on an older server, whose catalogue cannot say so, a check does."""
    [(version,)] = ask(conninfo, "SELECT current_setting('server_version_num')::integer")
    constraint = f"NOT NULL {column}" if version >= 180000 else f"CHECK ({column} IS NOT NULL)"
    return f"ALTER TABLE odd ADD CONSTRAINT {column}_set {constraint} NOT VALID;"


def test_a_unique_index_is_no_key_while_old_rows_may_hold_null(odd, source):
    chain = odd(
        "CREATE TABLE odd (k integer UNIQUE, at date); INSERT INTO odd VALUES (NULL, '2026-05-01'), (1, '2026-05-01');"
        + not_valid(source, "k")
    )

    with pytest.raises(UnarchivableError, match=r"it has no primary key, nor a unique index .* NOT VALID"):
        chain.plan()

    execute(source, "UPDATE odd SET k = 2 WHERE k IS NULL; ALTER TABLE odd ALTER k SET NOT NULL")
    execute(source, "ALTER TABLE odd VALIDATE CONSTRAINT k_set")
    assert chain.plan().shape.primary_key == ("k",)


def test_rows_without_a_date_are_listed_while_old_rows_may_hold_null(odd, source):
    chain = odd(
        "CREATE TABLE odd (k integer PRIMARY KEY, at date, what text);"
        "INSERT INTO odd VALUES (1, NULL, 'a'), (2, '2026-05-01', NULL);"
        + not_valid(source, "at")
        + not_valid(source, "what")
    )

    plan = chain.plan()

    assert [(one.reason, one.rows) for one in plan.exclusions] == [("no_date", 1)]
    assert [column.nullable for column in plan.shape.columns] == [False, True, True]


# Encodings whose way to UTF-8 and back is not exact.

LOSSY = ("EUC_JIS_2004", "EUC_JP", "EUC_TW")


@contextmanager
def database_of(conninfo, encoding: str) -> Iterator[str]:
    """A database in another encoding."""
    name = f"exact_{encoding.lower()}"
    execute(conninfo, f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    yield psycopg.conninfo.make_conninfo(conninfo, dbname=name)
    execute(conninfo, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoding", LOSSY)
def test_an_encoding_whose_characters_become_one_in_utf8_is_refused(odd, source, encoding):
    statements = "CREATE TABLE odd (k integer PRIMARY KEY, at date, what text)"
    chain = odd(statements)

    with database_of(source, encoding) as chain.conninfo:
        execute(chain.conninfo, statements)
        with pytest.raises(UnarchivableError, match=f"its database has the encoding {encoding}, some of whose"):
            chain.plan()


BACK = """
CREATE FUNCTION back(bytes bytea, encoding name) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert(convert(bytes, encoding, 'UTF8'), 'UTF8', encoding);
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$;
CREATE FUNCTION bytes(VARIADIC codes integer[]) RETURNS bytea LANGUAGE sql AS
    $$ SELECT decode(string_agg(lpad(to_hex(code), 2, '0'), ''), 'hex') FROM unnest(codes) AS code $$;
"""
ALL_OF_THEM = """
SELECT bytes(i) FROM generate_series(1, 255) AS i
UNION ALL SELECT bytes(i, j) FROM generate_series(161, 254) AS i, generate_series(161, 254) AS j
"""


def test_every_other_encoding_gives_back_each_of_its_characters(source):
    """Server encodings that convert to UTF-8, which those of SQL_ASCII and MULE_INTERNAL do not; none has longer characters."""
    execute(source, BACK)
    encodings = [
        name
        for (name,) in ask(
            source,
            "SELECT DISTINCT pg_encoding_to_char(conforencoding) FROM pg_conversion WHERE pg_encoding_to_char(contoencoding) = 'UTF8' "
            "AND conforencoding < 35 AND connamespace = 'pg_catalog'::regnamespace ORDER BY 1",
        )
        if name not in LOSSY
    ]

    changed = {
        name: ask(
            source,
            f"SELECT count(back), count(*) FILTER (WHERE back <> one) FROM ({ALL_OF_THEM}) AS every (one), back(one, '{name}')",
        )
        for name in encodings
    }

    assert len(encodings) >= 28
    assert all(converted > 200 for [(converted, _)] in changed.values())
    assert {name: different for name, [(_, different)] in changed.items() if different} == {}
    lossy = ask(
        source, r"SELECT back('\xadf0', 'EUC_JP'), back('\x8ea1a1a1', 'EUC_TW'), back('\xabb0abda', 'EUC_JIS_2004')"
    )
    assert lossy != [(b"\xad\xf0", b"\x8e\xa1\xa1\xa1", b"\xab\xb0\xab\xda")]


# What is too deep or too wide.


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_documents_nested_thousands_deep_survive(odd, form):
    chain = odd(
        "CREATE TABLE odd (k integer PRIMARY KEY, at date, doc jsonb, docs jsonb[]); CREATE TABLE restored (LIKE odd INCLUDING ALL);"
        "INSERT INTO odd SELECT n, '2026-05-01', (repeat('[{\"a\": ', n) || '\"}]\"' || repeat('}]', n))::jsonb FROM "
        "unnest(ARRAY[1, 500, 1000, 2000]) AS n; UPDATE odd SET docs = ARRAY[doc, NULL]",
        format=form,
        proof_rows="all",
    )
    before = ask(chain.conninfo, "SELECT t::text FROM odd AS t ORDER BY k")

    report = chain.run()

    assert (report.archived_rows, report.deleted_rows) == (4, 4)
    restoring.restore(chain, archives=[report.archive_id], target="public.restored")
    assert ask(chain.conninfo, "SELECT t::text FROM restored AS t ORDER BY k") == before


WIDE = {
    "as many columns as can be": ("boolean", 1598, "c1598 = true"),
    "columns that may hold anything": ("name", 900, "c900 = repeat('x', 63)"),
    "a page of numbers, nearly": ("bigint NOT NULL DEFAULT 7", 990, "c990 = 8"),
    "columns whose values lie outside": ("text", 400, "c400 = repeat('x', 100000), c399 = repeat('é', 9000)"),
}


@pytest.mark.parametrize(
    "table", [pytest.param(table, marks=[pytest.mark.exhaustive] if "numbers" in table else []) for table in WIDE]
)
def test_a_wide_row_whose_copy_fits_survives(odd, table):
    kind, columns, values = WIDE[table]
    names = ", ".join(f"c{number} {kind}" for number in range(3, columns + 1))
    chain = odd(
        f"CREATE TABLE odd (k integer PRIMARY KEY, at date, {names}); CREATE TABLE restored (LIKE odd INCLUDING ALL);"
        f"INSERT INTO odd SELECT n, '2026-05-01' FROM generate_series(1, 3) AS n; UPDATE odd SET {values} WHERE k = 2"
    )
    before = ask(chain.conninfo, "SELECT t::text FROM odd AS t ORDER BY k")

    report = chain.run()

    assert (report.archived_rows, report.deleted_rows) == (3, 3)
    restoring.restore(chain, archives=[report.archive_id], target="public.restored")
    assert ask(chain.conninfo, "SELECT t::text FROM restored AS t ORDER BY k") == before
