"""What comes out of an archive equals what went in, for every type that PostgreSQL has.

Rows are archived through the whole chain, deleted, and rebuilt from the downloaded objects into an empty copy of their
table. Two independent witnesses compare them: the text of each whole row, and the bytes of ``COPY … (FORMAT binary)``,
which know nothing of the text forms that the archive is made of.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.string import TextLoader

from strongroom.database.inspect import inspect_table
from strongroom.database.rows import json_line
from strongroom.database.session import PINNED, open_source
from strongroom.errors import IntegrityError, UnarchivableError
from strongroom.formats.line_reader import split_lines
from strongroom.formats.reading_back import ReadingBack
from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys import ArchiveId
from strongroom.records import Column, SourceIdentity, TableShape
from tests.support import restoring
from tests.support.chain import Chain, some_settings
from tests.support.repository import REPOSITORY

EVERY_TYPE = Path(__file__).with_name("every_type.sql").read_text()
SCHEMA = 'Odd {0} %s "Schéma" 😀'
TABLE = 'Every 100% Type\'s "table" {}'
DATE = "at {0} %s"
MAY = "2026-05-17 12:34:56.789012+00"

# Each literal that might get lost on the way, by column; the nasty rows take them in turn, next to SQL NULL.

ODD_TEXTS = [
    "",
    " ",
    "NULL",
    "null",
    "\\N",
    "\\.",
    "\\",
    'it\'s "quoted", {braced}, (bracketed), [squared]; 100% %s %(x)s {0}',
    "tab\tnewline\nreturn\rbell\abackspace\bfeed\fvertical\v",
    "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\x9f\xa0\xad",
    "\u2028\u2029\ufeff\ufffe\uffff\u200b\u202e",
    "e\u0301 é 漢字 עברית 😀 👩‍👩‍👧 \U0010ffff",
    "trailing blank ",
    "\\u0041 \\x41 \\\\ \\t",
    "</script><!-- & -->",
    "1e400",
    "long " * 5000,
]
FLOATS = ["0", "-0", "NaN", "Infinity", "-Infinity", "0.1", "-1.5", "1e-5", "123456789", "16777217"]
FLOATS4 = [*FLOATS, "1.17549435e-38", "1.4e-45", "3.4028235e38", "0.3333333"]
FLOATS8 = [*FLOATS, "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "0.30000000000000004"]
NUMERICS = [
    "0",
    "0.000",
    "-0.00",
    "66.40",
    "100",
    "1e3",
    "NaN",
    "Infinity",
    "-Infinity",
    "0.1",
    "-12345678901234567890.123456789012345678900",
    "1e-16383",
    "9" * 3000 + "." + "9" * 2000,
]
DATES = ["4714-11-24 BC", "0044-03-15 BC", "0001-01-01", "2024-02-29", "5874897-12-31", "infinity", "-infinity"]
TIMESTAMPS = [
    "4714-11-24 00:00:00 BC",
    "0044-03-15 12:00:00.000001 BC",
    "0001-01-01 00:00:00",
    "1883-11-18 12:03:57.999999",
    "2026-03-29 01:59:59.999999",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999999",
    "infinity",
    "-infinity",
]
INTERVALS = [
    "0",
    "1 year -2 mons 3 days -04:05:06.789",
    "-1 year 2 mons -3 days 04:05:06.000001",
    "1 mon",
    "30 days",
    "24:00:00",
    "1 day",
    "-0.000001 seconds",
    "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807",
    "-178956970 years -7 mons -2147483647 days -2562047788:00:54.775807",
    "-178956970 years -8 mons",
]
JSONS = [
    "null",
    " true ",
    '"text"',
    "1.00",
    "-0",
    "1E400",
    '{"a":1,"a":2,  "b" : [ ]}',
    '\n{\n\t"lines": "in\\nside",\r\n "u": "\\u0000 \\ud83d\\ude00"\n}\n',
    "[[[]],{}]",
    '"null"',
    '"\\""',
]
JSONBS = [
    "null",
    "true",
    '"text"',
    '"null"',
    '"{\\"a\\": 1}"',
    '""',
    "1.00",
    "-0",
    "1e400",
    "{}",
    "[]",
    '{"b": 1.10, "a": null, "": {"x": [1, "2", null, true]}}',
    '[null, "\\u2028 \\\\ \\" \\u0001 😀"]',
]
INNERS = [
    "(,,,)",
    '(1,"",happy,{})',
    '(-2147483648,"quote "" comma , paren ) back \\\\ nl \n tab \t","so ""so""","{infinity,NULL,""0044-03-15 BC""}")',
    '(,NULL,NULL,"[0:1]={2026-05-01,2026-05-02}")',
    '(7," blank ","{}",)',
]

LITERALS: dict[str, list[str]] = {
    "v_bool": ["true", "false"],
    "v_int2": ["0", "-32768", "32767"],
    "v_int4": ["0", "-2147483648", "2147483647"],
    "v_int8": ["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "v_numeric": NUMERICS,
    "v_numeric_10_2": ["0", "66.4", "99999999.99", "-0.01", "NaN"],
    "v_numeric_1000_500": ["0", "9" * 500 + "." + "9" * 500, "NaN"],
    "v_numeric_12_8": ["0", "0.00000001", "-9999.99999999", "1", "NaN"],
    "v_numeric_38_0": ["0", "9" * 38, "-" + "9" * 38, "NaN"],
    "v_numeric_39_2": ["0", "9" * 37 + ".99", "NaN"],
    "v_float4": FLOATS4,
    "v_float8": FLOATS8,
    "v_money": ["0", "-0.01", "92233720368547758.07", "-92233720368547758.08"],
    "v_text": ODD_TEXTS,
    "v_text_c": ODD_TEXTS[::-1],
    "v_varchar": ODD_TEXTS,
    "v_varchar_20": ["", "  ", "12345678901234567890", "漢" * 20],
    "v_char_8": ["", " ", "12345678", "é 漢", "\t\n\\"],
    "v_bpchar": ["", " ", "trailing   ", "\n "],
    "v_name": ["", "Name", "ä" * 31, 'q"q', "a b\n"],
    "v_single": ["", "a", " ", "\\", "\n", '"'],
    "v_bytea": ["\\x", "\\x00", "\\x" + bytes(range(256)).hex(), "\\x5c785c"],
    "v_date": DATES,
    "v_time": ["00:00:00", "24:00:00", "23:59:59.999999", "00:00:00.000001"],
    "v_time_3": ["00:00:00", "24:00", "23:59:59.999"],
    "v_timetz": ["00:00:00+00", "24:00:00-15:59:59", "12:34:56.789+15:59:59", "01:02:03-00:30"],
    "v_timestamp": TIMESTAMPS,
    "v_timestamptz": TIMESTAMPS,
    "v_timestamptz_0": ["2026-05-01 12:00:00+02", "infinity"],
    "v_interval": INTERVALS,
    "v_interval_ym": ["1 year -2 mons", "0"],
    "v_interval_ds3": ["1 day -00:00:00.001", "0"],
    "v_enum": [
        "happy",
        'so "so"',
        "sad, very",
        "back\\slash",
        " spaced ",
        "NULL",
        "ünïcode 😀",
        "{}",
        "tab\tand\nline",
    ],
    "v_uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "v_inet": ["0.0.0.0", "10.0.0.1/8", "::", "fe80::1/64", "::ffff:1.2.3.4", "255.255.255.255/32"],
    "v_cidr": ["0.0.0.0/0", "10.0.0.1/32", "::/0", "2001:db8::/32"],
    "v_macaddr": ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"],
    "v_macaddr8": ["00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:fe"],
    "v_bit": ["0", "1"],
    "v_bit_9": ["000000000", "101010101"],
    "v_varbit": ["", "0", "1" * 1000],
    "v_varbit_9": ["", "000", "111111111"],
    "v_json": JSONS,
    "v_jsonb": JSONBS,
    "v_jsonpath": [
        "$",
        'strict $.a[*] ? (@.b > 1.50 && @.c like_regex "^x\\\\d")',
        '$."q \\"q".** {2 to last}',
        "($.a + 1) * 2",
    ],
    "v_tsvector": ["", "'a':1A,2B 'it''s':3 'back\\\\slash'", "'sp ace' 'ü'"],
    "v_tsquery": ["", "'a' & !'b':*AB", "'it''s' | ('x' <-> 'y' <3> 'z')", "!( 'a' | 'b' ) & 'c'"],
    "v_point": ["(0,-0)", "(NaN,Infinity)", "(5e-324,1.7976931348623157e308)"],
    "v_line": ["{1,2,3}", "{-0.1,1,0}"],
    "v_lseg": ["[(0,0),(1,0.1)]", "[(1,2),(-3,-0)]"],
    "v_box": ["(3,4),(1,2)", "(0.1,0.2),(-0.1,-0.2)"],
    "v_path": ["[(0,0),(1,1)]", "((0,0),(1,1),(0.1,3))"],
    "v_polygon": ["((0,0))", "((0,0),(1,0.1),(2,NaN))"],
    "v_circle": ["<(0,0),0>", "<(0.1,-0.2),1e-300>"],
    "v_pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF"],
    "v_oid": ["0", "4294967295"],
    "v_xid8": ["0", "18446744073709551615"],
    "v_txid_snapshot": ["10:20:10,14,15", "1:1:"],
    "v_pg_snapshot": ["10:20:10,14,15", "1:1:"],
    "v_int2vector": ["", "1", "-32768 0 32767"],
    "v_oidvector": ["", "1 4294967295"],
    "v_int4range": ["empty", "(,)", "[1,5)", "[,-3)"],
    "v_int8range": ["empty", "[-9223372036854775808,9223372036854775807)"],
    "v_numrange": ["(1.10,2.200]", "[NaN,NaN]", "[-Infinity,Infinity]", "empty"],
    "v_tsrange": ['["0044-03-15 12:00:00 BC",infinity]', "(,2026-05-01)", "empty"],
    "v_tstzrange": ["[-infinity,294276-12-31 23:59:59.999999+00]", "[2026-05-01 00:00+02,)"],
    "v_daterange": ["[2026-05-01,infinity)", "empty", "(,)"],
    "v_floatrange": ["[-0,0.1)", "(-Infinity,NaN]", "empty"],
    "v_textrange": ['["","""")', '[" a , )","b\\\\]"]', "(,)", "empty", '["NULL","tab\t\n"]'],
    "v_int4multirange": ["{}", "{[1,2),[5,9),(100,)}"],
    "v_int8multirange": ["{}", "{(,)}"],
    "v_nummultirange": ["{[1.10,2.20),(3.000,4]}", "{}"],
    "v_tsmultirange": ['{["0044-03-15 12:00:00 BC",infinity]}', "{}"],
    "v_tstzmultirange": ["{[2026-05-01,2026-05-02),[2026-06-01,)}", "{}"],
    "v_datemultirange": ["{(,2026-05-01),[2026-06-01,infinity)}", "{}"],
    "a_bool": ["{}", "{t,f,NULL}", "[3:4]={t,f}"],
    "a_int": [
        "{}",
        "{NULL}",
        "{1,NULL,-3}",
        "[0:2]={1,2,3}",
        "{{1,2},{3,NULL}}",
        "{{{1}}}",
        "[-5:-4][2:3]={{1,2},{3,4}}",
    ],
    "a_int_grid": ["{{NULL,NULL}}", "{1}", "{}", "{{1,2,3},{4,5,6}}"],
    "a_int8": ["{9007199254740993,-9223372036854775808}", "{}"],
    "a_float4": ["{-0,NaN,Infinity,1.4e-45}", "[0:0]={0.3333333}"],
    "a_float8": ["{-0,NaN,-Infinity,5e-324,0.1}", "{{0.1,0.2}}"],
    "a_numeric": ["{66.40,NaN,1e-20,Infinity,NULL}", "[2:2]={1.10}"],
    "a_text": [
        "{}",
        '{""}',
        '{NULL,"NULL","null",""," "}',
        '{"q\\"q","b\\\\b","{","}",",","[0:1]={a,b}"}',
        '[0:1]={"a\n","b\t"}',
        '{{a,b},{"\u2028",😀}}',
    ],
    "a_varchar_5": ['{"","12345"}', "{}"],
    "a_char_3": ['{a,"","abc",NULL}', "[7:7]={a}"],
    "a_name": ['{a,"B b"}', "{}"],
    "a_bytea": ['{"\\\\x","\\\\x00ff",NULL}', "{}"],
    "a_timestamp": ['{infinity,"0044-03-15 12:00:00 BC","294276-12-31 23:59:59.999999",NULL}', "[0:0]={2026-05-01}"],
    "a_timestamptz": ['{-infinity,"2026-05-01 12:00:00.000001+02",NULL}', "{{2026-05-01},{2026-05-02}}"],
    "a_date": ["{infinity,5874897-12-31,NULL}", '{"0044-03-15 BC"}'],
    "a_interval": ['{"1 year -2 mons 3 days -04:05:06.789",NULL}', "{}"],
    "a_enum": [
        '{happy,"so \\"so\\"","NULL",NULL,"{}"," spaced "}',
        '[0:0]={"back\\\\slash"}',
        '{{happy},{"tab\tand\nline"}}',
    ],
    "a_uuid": ["{00000000-0000-0000-0000-000000000000,NULL}", "{}"],
    "a_inet": ["{10.0.0.1/8,::1,NULL}", "{}"],
    "a_bit": ["{101,NULL}", "{}"],
    "a_varbit": ['{"",1,NULL}', "{}"],
    "a_json": ['{"null","{\\"a\\" : 1,\\"a\\":2}",NULL," [ ] "}', '[0:0]={"\\"x\\""}', "{}"],
    "a_jsonb": ['{"null","{\\"a\\": 1.10}",NULL,"\\"text\\"","[]"}', "{}"],
    "a_inner": ['{"(,,,)",NULL,"(1,\\"a \\"\\"b\\"\\", c\\",happy,{})"}', '[0:0]={"(1,,,)"}', "{}"],
    "a_point": ['{"(0,-0)","(NaN,0.1)",NULL}', "{}"],
    "a_box": ["{(3,4),(1,2);(0,0),(-1,-1);NULL}", "{}"],
    "a_range": ['{"[1,5)",empty,NULL,"(,)"}', "{}"],
    "a_money": ['{"-0.01","92233720368547758.07",NULL}', "{}"],
    "a_domain": ["{1,2147483647,NULL}", "[0:0]={7}", "{{1,2},{3,4}}", "{}"],
    "a_text_domain": ['{"","NULL",NULL,"a b"}', '[2:2]={"x"}'],
    "a_int_list": ['{"{1,NULL}",NULL,"{}","[0:0]={7}"}', "{}"],
    "a_enum_domain": ['{happy,"so \\"so\\"",NULL}', "{}"],
    "a_jsonb_domain": ['{"null","{}",NULL}', "{}"],
    "a_int2vector": ['{"1 2",NULL}', "{}"],
    "d_int": ["1", "2147483647"],
    "d_text": ["", " a\t"],
    "d_list": ["{}", "[0:1]={1,NULL}"],
    "d_enum": ["happy", "NULL"],
    "d_when": ["2026-05-01 12:00:00.123+00", "infinity"],
    "d_jsonb": ["null", '{"a": 1.0}', '"x"'],
    "d_pair": INNERS,
    "d_bits": ["000", "101"],
    "c_inner": INNERS,
    "c_outer": [
        "(,,,,,,)",
        '("(,,,)","{}","null","null",0.10,-0,"\\\\x00")',
        '("(1,"""",happy,{})","{""(2,b,,)"",NULL}"," { ""a"" : 1 } ","{""a"": 1.10}",NaN,5e-324,"\\\\xff")',
    ],
    ' dots.and "quotes" ': ODD_TEXTS[:4],
    "100% {braces} {}": ["0", "-1"],
    "select": ODD_TEXTS[4:9],
    "'": ODD_TEXTS[:3],
    "\\": ODD_TEXTS[:3],
    "ключ 键 🔑": ODD_TEXTS,
    "t": ODD_TEXTS,
    "line": ODD_TEXTS,
    "r": ["1"],
    "l": ["l"],
    "n": ["7"],
    "b": ["b"],
    "k0": ["0"],
    "digest": ["0"],
    "v_xml": [
        "",
        "<a/>",
        "text &amp; <b>more</b>\n",
        '<?xml version="1.0" encoding="UTF-8"?><a x="1">é</a>',
        "<?xml version='1.0' encoding=\"ISO-8859-1\" standalone='yes' ?>\n\n<a>\\\t,\"\"</a>",
        "<!DOCTYPE a><a/>",
    ],
}
"""Literals by column; a server older than 17 has no infinite interval, so those are added where there are."""

REFUSED = {
    "aclitem",
    "cid",
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "refcursor",
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "regdatabase",
    "tid",
    "xid",
}
"""PostgreSQL's own types that plan refuses; tests/domain/database/test_inspect.py shows each."""


class Bench:
    """The table of all types, the empty copy beside it, and the chain that empties the one so that we fill the other."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.columns = dict(
            self.ask(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                "AND NOT attisdropped AND attgenerated = '' AND attidentity = '' AND attname <> %s ORDER BY attnum",
                self.name().as_string(),
                DATE,
            )
        )
        self.literals = {name: LITERALS[name] for name in self.columns}
        [(version,)] = self.ask("SELECT current_setting('server_version_num')::integer")
        if version >= 170000:
            self.literals["v_interval"] = [*INTERVALS, "infinity", "-infinity"]
        elif version < 150000:
            self.literals["v_interval"] = [literal for literal in INTERVALS if "2562047788:" not in literal]
        for name in ("v_numeric", "v_numrange", "a_numeric") if version < 140000 else ():
            self.literals[name] = [literal for literal in self.literals[name] if "Infinity" not in literal]

    @staticmethod
    def name(table: str = TABLE) -> sql.Identifier:
        return sql.Identifier(SCHEMA, table)

    def ask(self, query, *parameters):
        with open_source(self.chain.conninfo, application_name="test") as connection:
            return connection.execute(query, parameters or None).fetchall()

    def insert(self, rows):
        """Insert rows, given as a literal or None for each column."""
        names = sql.SQL(", ").join(map(sql.Identifier, [DATE, *self.columns]))
        values = [
            [sql.Literal(MAY)]
            + [sql.SQL("{}::{}").format(row[name], sql.SQL(type_)) for name, type_ in self.columns.items()]
            for row in rows
        ]
        tuples = sql.SQL(", ").join(sql.SQL("({})").format(sql.SQL(", ").join(row)) for row in values)
        with open_source(self.chain.conninfo, application_name="test") as connection:
            connection.execute(sql.SQL("TRUNCATE {}, {}").format(self.name(), self.name("restored")))
            connection.execute(sql.SQL("INSERT INTO {} ({}) VALUES {}").format(self.name(), names, tuples))

    def contents(self, table):
        """Both witnesses of a table's rows, in the order of their key; and XML's own text, where there is XML.

        Row text and binary form both leave out the encoding that a document declares.
        """
        with open_source(self.chain.conninfo, application_name="test") as connection:
            xml = (
                connection.execute(sql.SQL("SELECT v_xml::text FROM {} ORDER BY 1").format(self.name(table))).fetchall()
                if "v_xml" in self.columns
                else []
            )
            return *witnesses(connection, self.name(table), '"I D"'), xml

    def restore(self, archive_id):
        restore(self.chain, archive_id, f"{SCHEMA}.restored")


def witnesses(connection, table: sql.Composable, order: str):
    texts = connection.execute(
        sql.SQL("SELECT (t.*)::text FROM {} AS t ORDER BY {}").format(table, sql.SQL(order))
    ).fetchall()
    copy = sql.SQL("COPY (SELECT * FROM {} ORDER BY {}) TO STDOUT (FORMAT binary)").format(table, sql.SQL(order))
    with connection.cursor() as cursor, cursor.copy(copy) as stream:
        return texts, b"".join(map(bytes, stream))


def download(chain: Chain, manifest: Manifest):
    """The JSON lines of an archive, straight from the store."""
    for part in manifest.parts:
        chunks = chain.store.chunks(part.object_key, part.version_id)
        yield from split_lines(ReadingBack(manifest.verified_part(part.number), chunks).blocks())


def archived_lines(chain: Chain, archive_id: str) -> list[bytes]:
    manifest = require_manifest(chain.store, ArchiveId.parse(archive_id))
    return sorted(download(chain, manifest))


def server_lines(chain: Chain) -> list[bytes]:
    """The JSON lines of a table's rows as the server writes them with row_to_json."""
    with open_source(chain.conninfo, application_name="test") as connection:
        table = inspect_table(connection, chain.settings)
        query = sql.SQL("SELECT {} FROM {} AS t").format(json_line(table.shape), table.name)
        with connection.cursor(binary=False) as cursor:
            cursor.adapters.register_loader("json", TextLoader)
            return sorted(line.encode() for (line,) in cursor.execute(query))


def restore(chain: Chain, archive_id: str, target: str) -> None:
    """Load an archive into a table of the same columns, as a user would."""
    report = restoring.restore(chain, archive_id, archives=[archive_id], target=target)
    assert (report.outcome, report.inserted) == ("restored", report.rows)


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements)


def every_type(conninfo) -> str:
    """The table of all types that this server has; PostgreSQL 13 has no multiranges."""
    with psycopg.connect(conninfo) as connection:
        if connection.info.server_version >= 140000:
            return EVERY_TYPE
    return re.sub(r"^ *v_\w+multirange .*\n", "", EVERY_TYPE, flags=re.MULTILINE)


FORMATS = ["jsonl", "parquet"]


@pytest.fixture(params=FORMATS)
def bench(source, object_store, bucket, tmp_path, request) -> Bench:
    execute(source, every_type(source))
    table = some_settings(
        bucket, tmp_path, f"{SCHEMA}.{TABLE}", date_column=DATE, proof_rows="all", format=request.param
    )
    return Bench(Chain(source, object_store.client("archiver"), table))


def assert_survives(bench: Bench, rows) -> None:
    bench.insert(rows)
    before, lines = bench.contents(TABLE), server_lines(bench.chain)

    report = bench.chain.run()

    assert (report.archived_rows, report.deleted_rows) == (len(rows), len(rows))
    assert archived_lines(bench.chain, report.archive_id) == lines
    assert bench.ask(sql.SQL("SELECT count(*) FROM {}").format(bench.name())) == [(0,)]
    bench.restore(report.archive_id)
    assert bench.contents("restored") == before


def test_the_table_has_a_column_of_every_type_that_postgresql_has(bench):
    """A type that a later PostgreSQL brings fails here first."""
    types = {
        name
        for (name,) in bench.ask(
            "SELECT typname::text FROM pg_type t WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') "
            "AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)"
        )
    }
    used = {
        name
        for (name,) in bench.ask(
            "SELECT t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = %s::regclass",
            bench.name().as_string(),
        )
    }

    assert types - used - REFUSED <= ({"xml"} if "v_xml" not in bench.columns else set())


def test_nasty_values_of_every_type_survive(bench):
    """All literals of the table above, in as many rows as the longest list has, and a row of NULLs."""
    longest = max(map(len, bench.literals.values()))
    rows = [
        {name: literals[number % len(literals)] for name, literals in bench.literals.items()}
        for number in range(longest)
    ]

    assert_survives(bench, [*rows, dict.fromkeys(bench.columns)])


# Random values, as literals.

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def quoted(text):
    """An element of an array or composite literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arrays(elements):
    """Literals of one- and two-dimensional arrays with NULLs and any lower bound."""
    element = st.one_of(st.just("NULL"), elements.map(quoted))
    flat = st.lists(element, max_size=4)
    grids = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
        lambda size: st.lists(st.lists(element, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0])
    )
    bounded = st.tuples(st.integers(-3, 3), st.lists(element, min_size=1, max_size=4)).map(
        lambda it: f"[{it[0]}:{it[0] + len(it[1]) - 1}]={braced(it[1])}"
    )
    return st.one_of(flat.map(braced), grids.map(lambda rows: braced(map(braced, rows))), bounded)


def braced(elements):
    return "{" + ",".join(elements) + "}"


def floats(width):
    return st.floats(width=width).map(repr)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.tuples(st.integers(), st.integers(0, 40)).map(lambda it: f"{it[0]}e-{it[1]}"),
).filter(lambda text: len(text) < 60 and abs(int(re.search(r"E([+-]\d+)|$", text)[1] or 0)) < 200)
BYTES = st.binary(max_size=20).map(lambda value: "\\x" + value.hex())
BITS = st.text("01", max_size=9)
INSTANTS = st.tuples(
    st.integers(1, 294275), st.integers(1, 12), st.integers(1, 28), st.integers(0, 86_399_999_999)
).map(
    lambda it: (
        f"{it[0]:04d}-{it[1]:02d}-{it[2]:02d} {it[3] // 3_600_000_000:02d}:{it[3] // 60_000_000 % 60:02d}:"
        f"{it[3] // 1_000_000 % 60:02d}.{it[3] % 1_000_000:06d}" + (" BC" if it[0] < 4000 and it[3] % 2 else "")
    )
)
SPANS = st.tuples(
    st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**63) + 1, 2**63 - 1)
).map(lambda it: f"{it[0]} mons {it[1]} days {it[2]} microseconds")

RANDOM = {
    "v_int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "v_int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "v_int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "v_numeric": NUMBERS,
    "v_float4": floats(32),
    "v_float8": floats(64),
    "v_text": TEXTS,
    "v_varchar": TEXTS,
    "v_bpchar": TEXTS,
    "v_bytea": BYTES,
    "v_timestamp": INSTANTS,
    "v_timestamptz": INSTANTS,
    "v_interval": SPANS,
    "v_uuid": st.uuids().map(str),
    "v_inet": st.ip_addresses().map(str),
    "v_varbit": BITS,
    "v_json": JSON_VALUES.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False)),
    "v_jsonb": JSON_VALUES.map(json.dumps).filter(lambda text: "\\u0000" not in text),
    "a_int": arrays(st.integers(-(2**31), 2**31 - 1).map(str)),
    "a_float4": arrays(floats(32)),
    "a_float8": arrays(floats(64)),
    "a_numeric": arrays(NUMBERS),
    "a_text": arrays(TEXTS),
    "a_bytea": arrays(BYTES),
    "a_timestamp": arrays(INSTANTS),
    "a_timestamptz": arrays(INSTANTS),
    "a_interval": arrays(SPANS),
    "a_varbit": arrays(BITS),
    "a_json": arrays(JSON_VALUES.map(json.dumps)),
    "t": TEXTS,
    "line": TEXTS,
}


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_random_rows_of_every_type_survive(bench, data):
    """Each value is NULL, one of the nasty ones, or random. Few archives of many rows: it is the archive that takes long."""

    def values(name):
        known = st.sampled_from(bench.literals[name])
        return st.one_of(st.none(), known, RANDOM.get(name, known))

    row = st.fixed_dictionaries({name: values(name) for name in bench.columns})

    assert_survives(bench, data.draw(st.lists(row, min_size=6, max_size=18)))


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


def odd_rows(chain, table="odd", order="k, at"):
    with open_source(chain.conninfo, application_name="test") as connection:
        return witnesses(connection, sql.Identifier("public", table), order)


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
    """The task takes a key out of the row's text; verify compares it, and its digest, with what the server makes of the line."""
    chain = odd(
        "CREATE TABLE odd (k text, b bytea, f float8, at timestamptz, PRIMARY KEY (k, b, f, at));"
        "INSERT INTO odd SELECT left(chr(c) || 'x' || chr(c + 1) || '\\', 4), convert_to(chr(c), 'UTF8'), c / 3.0, "
        "timestamptz '2026-05-17' + c * interval '1 ms' FROM generate_series(1, 300) AS c;"
    )
    plan = chain.plan()
    [part] = plan.parts

    extracted = chain.extract(part)
    staged = chain.staging(part.archive_id).keys(part.number).read_bytes()

    with chain.source() as connection:
        names = "k, b, f, at"
        with connection.cursor() as cursor, cursor.copy(f"COPY (SELECT {names} FROM public.odd) TO STDOUT") as copy:
            served = b"".join(copy)
    assert sorted(line.rpartition(b"\t")[0] for line in staged.splitlines()) == sorted(served.splitlines())
    verified = chain.verify(plan, chain.upload(chain.checksum(chain.compress(extracted))))
    assert verified.proved_rows == 300


# The format document.

DOCUMENT = (REPOSITORY / "docs" / "reference" / "archive-format.md").read_text()


def example(language: str, containing: str) -> str:
    """The one fenced example of the document that contains some words."""
    [found] = [block for block in re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL) if containing in block]
    return found


@pytest.mark.parametrize("record", [Manifest, ManifestPart, TableShape, Column, SourceIdentity])
def test_the_format_document_tells_of_every_field(record):
    assert [name for name in record.model_fields if f"`{name}`" not in DOCUMENT] == []


def test_the_format_document_names_the_settings_that_values_depend_on():
    """All that are pinned, but for those that decide what is seen and in which order."""
    about_reading = {"row_security", "synchronize_seqscans"}

    told = dict(re.findall(r"\| `(\w+)` \| `([^`]+)`", DOCUMENT))

    assert {name: told.get(name) for name in PINNED.keys() - about_reading} == {
        name: value for name, value in PINNED.items() if name not in about_reading
    }


def test_the_example_of_the_format_document_is_true(source, object_store, bucket, tmp_path):
    """The table gives those lines, and the SQL brings its rows back."""
    execute(source, example("sql", "CREATE TYPE direction"))
    execute(
        source,
        """INSERT INTO calls (started_at, way, cost, hops, detail, signal) VALUES
        ('2026-05-17 12:34:56.789+00', 'out', 66.40, '{10.0.0.1,NULL}', '{"cell": 1.10}', '{"a":1,  "a":2}'),
        ('2026-05-31 23:59:59.999999+00', NULL, 'NaN', '[0:0]={::1}', 'null', NULL)""",
    )
    table = some_settings(bucket, tmp_path, "calls", date_column="started_at")
    chain = Chain(source, object_store.client("archiver"), table)
    before = odd_rows(chain, "calls", "id")

    report = chain.run()

    lines = list(download(chain, require_manifest(chain.store, ArchiveId.parse(report.archive_id))))
    assert b"".join(line + b"\n" for line in lines).decode() == example("json", "10.0.0.1")
    assert odd_rows(chain, "calls", "id")[0] == []
    copy = re.compile(r"\\copy lines FROM PROGRAM '.*' (.*)\n")
    first, options, last = copy.split(example("sql", "json_to_record"))
    with psycopg.connect(source) as connection:
        connection.execute(first)
        with connection.cursor() as cursor, cursor.copy(f"COPY lines FROM STDIN {options}") as stream:
            stream.write(b"".join(line + b"\n" for line in lines))
        connection.execute(last)
    assert odd_rows(chain, "calls", "id") == before
