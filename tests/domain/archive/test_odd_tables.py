"""What comes out of an archive equals what went in, for tables with odd columns, keys, casts and encodings."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.errors import IntegrityError, UnarchivableError
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.deleting import keys_of
from tests.support.lossless import FORMATS, archived_lines, odd_rows, restore, server_lines

# Tables that are odd in themselves. Each holds its rows in May under a key called k or k, at; "restored" is its copy.

ALIASES = """
CREATE TABLE odd (t integer, line text, r text, l text, b text, n integer, k integer PRIMARY KEY, at date, gone text);
INSERT INTO odd VALUES (1, 'line', 'r', 'l', 'b', 2, 1, '2026-05-01', 'gone'), (1, NULL, '', NULL, '', NULL, 2, '2026-05-31', '');
"""

CASTS = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE odd (k integer PRIMARY KEY, at timestamp, one mood, many mood[], pair mood[][]);
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql AS $$ SELECT '"a cast"'::json $$;
CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql AS $$ SELECT 'a cast' $$;
CREATE FUNCTION odd_text(odd) RETURNS text LANGUAGE sql AS $$ SELECT 'a cast' $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT;
CREATE CAST (odd AS text) WITH FUNCTION odd_text(odd) AS IMPLICIT;
INSERT INTO odd VALUES (1, '2026-05-01', 'happy', '{happy,NULL}', '[0:0][1:1]={{sad}}'), (2, '2026-05-31 23:59:59.999999', 'sad', '{}', NULL);
"""

PARTITIONED = """
CREATE TABLE odd (k integer, at timestamptz, what text, cost numeric, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE first_half (gone text, cost numeric, what text, at timestamptz NOT NULL, gone_too integer, k integer NOT NULL);
ALTER TABLE first_half DROP gone, DROP gone_too;
ALTER TABLE odd ATTACH PARTITION first_half FOR VALUES FROM ('2026-05-01+00') TO ('2026-05-16+00');
CREATE TABLE second_half PARTITION OF odd FOR VALUES FROM ('2026-05-16+00') TO ('2026-06-01+00') PARTITION BY LIST (k);
CREATE TABLE second_half_rest PARTITION OF second_half DEFAULT;
INSERT INTO odd VALUES (1, '2026-05-01+00', 'a', 66.40), (2, '2026-05-20+00', NULL, 'NaN'), (1, '2026-05-31 23:59:59.999999+00', '', 0);
"""

LATER_COLUMNS = """
CREATE TABLE odd (k integer PRIMARY KEY, gone text, at timestamptz);
INSERT INTO odd SELECT n, 'gone', '2026-05-01+00' FROM generate_series(1, 5) AS n;
ALTER TABLE odd DROP gone, ADD added text DEFAULT 'a, "default"', ADD more numeric DEFAULT 1.50, ADD empty jsonb;
ALTER TABLE odd ALTER k TYPE bigint, ALTER at TYPE timestamptz(3);
INSERT INTO odd VALUES (6, '2026-05-02+00', NULL, NULL, 'null');
"""

ONE_COLUMN = """
CREATE TABLE odd (at timestamp PRIMARY KEY);
INSERT INTO odd VALUES ('2026-05-01'), ('2026-05-31 23:59:59.999999');
"""

EXTENSIONS = """
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE TABLE odd (k integer PRIMARY KEY, at date, pairs hstore, word citext, words citext[], many hstore[]);
INSERT INTO odd VALUES (1, '2026-05-01', '"a b"=>NULL, "q\\"q"=>"NULL"', 'Word', '{Word,NULL,""}', ARRAY['x=>1'::hstore, NULL]),
                       (2, '2026-05-02', '', '', '{}', NULL);
"""


@pytest.fixture
def odd(source, object_store, bucket, tmp_path):
    """Make a chain for the table that some statements create."""

    def make(statements, **changes) -> Chain:
        execute(source, statements + "CREATE TABLE restored (LIKE odd INCLUDING ALL);")
        table = some_settings(bucket, tmp_path, "odd", proof_rows="all", **changes)
        return Chain(source, object_store.client("archiver"), table)

    return make


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("statements", "order"),
    [
        pytest.param(ALIASES, "k", id="columns-named-like-our-aliases"),
        pytest.param(CASTS, "k", id="casts-that-somebody-made"),
        pytest.param(PARTITIONED, "k, at", id="partitions-with-columns-in-another-order"),
        pytest.param(LATER_COLUMNS, "k", id="columns-added-after-the-rows"),
        pytest.param(ONE_COLUMN, "at", id="a-single-column"),
        pytest.param(EXTENSIONS, "k", id="types-of-extensions"),
    ],
)
def test_an_odd_table_survives(odd, statements, order, format):
    chain = odd(statements, format=format)
    before, lines = odd_rows(chain, order=order), server_lines(chain)

    report = chain.run()

    assert (report.outcome, report.deleted_rows) == ("archived", len(before[0]))
    assert archived_lines(chain, report.archive_id) == lines
    restore(chain, report.archive_id, "public.restored")
    # Binary COPY writes a partition's rows as the table's; the copy of a partitioned table is a plain one.
    assert odd_rows(chain, "restored", order)[1] == before[1]


@pytest.mark.parametrize("statements", [ALIASES, CASTS.replace("many mood[]", "many mood[], b text")])
def test_no_column_or_cast_hides_a_change_from_the_delete(odd, statements):
    """The digest is of the whole row, whatever a column is called and whatever a cast makes of the row."""
    chain = odd(statements.replace("'{happy,NULL}',", "'{happy,NULL}', 'b',").replace("'{}', NULL", "'{}', '', NULL"))
    sealed = chain.seal(chain.plan())
    execute(chain.conninfo, "UPDATE odd SET b = 'changed' WHERE k = 1")

    [deleted] = [chain.delete(part) for part in sealed.parts]

    assert (deleted.deleted, deleted.changed) == (1, 1)


KEYS = """
CREATE TYPE mood AS ENUM ('happy', 'so "so", \\N');
CREATE DOMAIN small AS numeric(6, 2);
CREATE TABLE odd (
    u uuid, k text, mood mood, at timestamptz, cost numeric, code char(4), dom small, f float8, b bytea, i interval, list text[],
    "a b" jsonb, whom inet, PRIMARY KEY (u, k, mood, at, cost, code, dom, f, b, i, list, "a b", whom)
);
INSERT INTO odd
SELECT md5(k)::uuid, k, mood, '2026-05-01 00:00:00.000001+00'::timestamptz + n * interval '1 hour', cost, code, cost, f, convert_to(k, 'UTF8'),
       '1 mon -1 day'::interval * n, ARRAY[k, NULL], to_jsonb(k), '10.0.0.1/8'
FROM unnest(enum_range(NULL::mood)) AS mood,
     unnest(ARRAY['', ' ', E'tab\t', E'line\nfeed', E'return\r', '\\', '\\N', '\\.', 'NULL', '"', '😀 é', E'\u2028', E'\x01\x7f']) WITH ORDINALITY AS k(k, n),
     unnest(ARRAY[66.40, 0.00, -1.5]) AS cost, unnest(ARRAY['', 'a\b']) AS code, unnest(ARRAY['-0', 'NaN', '5e-324']::float8[]) AS f;
"""


@pytest.mark.parametrize("format", FORMATS)
def test_rows_with_awkward_keys_are_found_again(odd, format):
    """Also when their keys are made anew from the archive, because staging was lost."""
    chain = odd(KEYS, format=format)
    before = odd_rows(chain, order="k, at, mood, cost, code, f")
    sealed = chain.seal(chain.plan())
    chain.staging(sealed.archive_id).clear()

    [deleted] = [chain.delete(part) for part in sealed.parts]

    assert deleted.deleted == deleted.rows == len(before[0]) == 2 * 13 * 3 * 2 * 3
    restore(chain, sealed.archive_id, "public.restored")
    assert odd_rows(chain, "restored", "k, at, mood, cost, code, f") == before


BROKEN = """
CREATE DOMAIN positive AS integer;
CREATE TYPE holder AS (inside positive);
CREATE TABLE odd (k positive PRIMARY KEY, at date, one positive, many positive[], held holder);
INSERT INTO odd VALUES (-1, '2026-05-01', -2, '{-3,NULL,4}', {held});
"""


def test_values_that_break_a_check_added_later_are_archived_as_they_are(odd):
    """A value is read back as what its domain stands on, so an old row that no new row could equal gets through."""
    chain = odd(BROKEN.replace("{held}", "NULL"))
    before = odd_rows(chain)
    execute(chain.conninfo, "ALTER DOMAIN positive ADD CONSTRAINT above_zero CHECK (VALUE > 0) NOT VALID")

    report = chain.run()

    assert report.deleted_rows == 1
    execute(chain.conninfo, "ALTER DOMAIN positive DROP CONSTRAINT above_zero")
    restore(chain, report.archive_id, "public.restored")
    assert odd_rows(chain, "restored") == before


def test_a_value_that_its_type_no_longer_reads_stops_the_run_before_anything_is_deleted(odd):
    """Inside a composite nothing can stand in for the domain; the error names the check, and nobody's values."""
    chain = odd(BROKEN.replace("{held}", "ROW(-54321)"))
    execute(chain.conninfo, "ALTER DOMAIN positive ADD CONSTRAINT above_zero CHECK (VALUE > 0) NOT VALID")

    with pytest.raises(IntegrityError, match=r"public\.odd do not read back .* about above_zero") as caught:
        chain.run()

    assert "54321" not in str(caught.value)
    assert len(odd_rows(chain)[0]) == 1


@pytest.mark.parametrize("damaged", ["\\x61ff62", "\\xc3", "\\xeda080"])
def test_bytes_that_are_no_characters_stop_the_run_before_anything_is_deleted(odd, damaged):
    """A server checks text as it comes in; what got past an old one is found before it is archived."""
    chain = odd(f"""
        CREATE TABLE odd (k integer PRIMARY KEY, at date, name text);
        CREATE CAST (bytea AS text) WITHOUT FUNCTION;
        INSERT INTO odd VALUES (1, '2026-05-01', 'é'), (2, '2026-05-01', '{damaged}'::bytea::text);
    """)

    with pytest.raises(UnarchivableError, match="a value that is no UTF-8: UnicodeDecodeError"):
        chain.run()

    with psycopg.connect(chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM odd").fetchone() == (2,)
    assert list(chain.store.keys("archives/")) == []


def test_a_database_of_another_encoding_survives(odd, source):
    """The archive is UTF-8 whatever the database is; digests are taken over UTF-8 too."""
    latin = psycopg.conninfo.make_conninfo(
        source, dbname=psycopg.conninfo.conninfo_to_dict(source)["dbname"] + "_latin"
    )
    statements = "CREATE TABLE odd (k text PRIMARY KEY, at date); INSERT INTO odd VALUES (E'\\u00e9 \\\\ \\u00a0', '2026-05-01');"
    chain = odd(statements)
    name = psycopg.conninfo.conninfo_to_dict(latin)["dbname"]
    execute(source, f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    execute(latin, statements + "CREATE TABLE restored (LIKE odd INCLUDING ALL);")
    chain.conninfo = latin
    before = odd_rows(chain)

    report = chain.run()

    assert report.deleted_rows == 1
    restore(chain, report.archive_id, "public.restored")
    assert odd_rows(chain, "restored") == before
    execute(source, f"DROP DATABASE {name} WITH (FORCE)")


def test_keys_of_any_characters_are_written_as_the_server_writes_them(odd):
    """The task reads a key out of the row's JSON line."""
    chain = odd(
        "CREATE TABLE odd (k text, b bytea, f float8, at timestamptz, PRIMARY KEY (k, b, f, at));"
        "INSERT INTO odd SELECT left(chr(c) || 'x' || chr(c + 1) || '\\', 4), convert_to(chr(c), 'UTF8'), c / 3.0, "
        "timestamptz '2026-05-17' + c * interval '1 ms' FROM generate_series(1, 300) AS c;"
    )
    [part] = chain.seal(chain.plan()).parts
    with chain.source() as connection:
        connection.execute("CREATE TEMPORARY TABLE archived (LIKE public.odd)")
        with connection.cursor() as cursor, cursor.copy("COPY archived FROM STDIN") as copy:
            copy.write("".join("\t".join(key) + "\n" for key in keys_of(chain, part)))
        [[same]] = connection.execute("SELECT count(*) FROM archived JOIN public.odd USING (k, b, f, at)").fetchall()
    assert same == part.proved_rows == chain.delete(part).deleted == 300
