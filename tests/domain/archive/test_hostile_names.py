"""Whatever a table, column or type is called, a name stays a name: the whole way to the archive and back."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from strongroom.calendar import Frequency, Partition
from strongroom.errors import UnarchivableError
from strongroom.ledger.holds import covered, place_hold
from strongroom.ledger.index import survey_manifests
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.decide import judge
from strongroom.retention.drop_warm import WarmResult, purge_warm
from strongroom.settings import Settings, TableSettings
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.metrics import make_metrics
from strongroom.statistics.page import make_page
from strongroom.statistics.proofs import verify_archive
from strongroom.statistics.waiting import TableCounts, count_waiting
from strongroom.tables.warm_script import warm_script
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.restoring import restore

NAMES = {
    "statements": "'\"; DROP TABLE public.canary; --",
    "placeholder": "%s",
    "other placeholders": "%(table)s %b %t %% {} {0} {table} {{",
    "backslashes and lines": "C:\\ \\' \\\\. \\N new\nline\r\ttab",
    "dollars and comments": "$$ $1 $body$ /* -- */",
    "path": "../../etc/passwd %2E%2E%2F..%2f",
    "mark-up": "<script>alert(1)</script>",
    "unicode": "ünï 码 \u202e😀",
    "reserved": "select",
    "63 bytes": "x" * 63,
    "placeholders, dollars and mark-up": "%(t)s %b {} {0} $1 $$<script>x()</script>",
    "a path in unicode": "../../etc/passwd %2E%2E%2F ünï 码 \u202e😀",
}

DDL = """
CREATE SCHEMA {n};
CREATE TYPE {n}.{type} AS ENUM ({literal}, 'plain');
CREATE DOMAIN {n}.{domain} AS text CHECK (VALUE <> 'never');
CREATE TABLE {n}.{table} (
    id bigint GENERATED ALWAYS AS IDENTITY,
    {n} timestamptz NOT NULL,
    {kind} {n}.{type},
    {text} {n}.{domain},
    {many} {n}.{type}[],
    CONSTRAINT {key} PRIMARY KEY (id, {n})
);
CREATE FUNCTION {n}.{n}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER {n} BEFORE DELETE ON {n}.{table} FOR EACH ROW EXECUTE FUNCTION {n}.{n}();
CREATE TABLE {n}.{referring} (
    {n} bigint PRIMARY KEY, {kind} bigint, {text} timestamptz,
    CONSTRAINT {n_fk} FOREIGN KEY ({kind}, {text}) REFERENCES {n}.{table} (id, {n})
);
INSERT INTO {n}.{table} ({n}, {kind}, {text}, {many})
    SELECT '2026-05-01'::timestamptz + i * interval '1 hour', {literal}, {literal}, ARRAY[{literal}, 'plain']::{n}.{type}[]
    FROM generate_series(1, 10) AS i;
INSERT INTO {n}.{referring} SELECT id, id, {n} FROM {n}.{table} WHERE id = 1;
CREATE TABLE public.canary (id int);
"""


# The last two names have all that is strange in these, and every name that needs quotes breaks what "reserved" breaks.
AGAIN = ("placeholder", "other placeholders", "dollars and comments", "path", "mark-up", "unicode", "reserved")


@pytest.fixture(
    params=[
        pytest.param(name, id=kind, marks=[pytest.mark.exhaustive] if kind in AGAIN else [])
        for kind, name in NAMES.items()
    ]
)
def name(request) -> str:
    return request.param


def identifiers_of(name: str, table: str) -> dict[str, sql.Identifier]:
    """What the definitions call the objects of a name; the schema and the date column are called like the table."""
    kinds = ("kind", "text", "many", "domain", "referring", "n_fk", "type", "key")
    return {
        "n": sql.Identifier(table),
        "table": sql.Identifier(table),
        **{each: sql.Identifier(f"{each} {name}".encode()[:60].decode(errors="ignore")) for each in kinds},
    }


def require_hold_and_page(chain: Chain, schema: str, table: str, counted: TableCounts) -> None:
    """A hold covers the table by its name, and the page of statistics quotes it."""
    place_hold(chain.store, covered(schema, table), why="a test", who="ada", reference="1", now=NOW)
    [decision] = judge(chain.store, now=NOW + timedelta(days=4000))
    assert decision.reason == "held"

    manifests = survey_manifests(chain.store).manifests
    statistics = make_statistics(
        Settings(tables={chain.settings.table: chain.settings}),
        manifests,
        counts={chain.settings.table: counted},
        now=NOW,
    )
    assert "<script>" not in make_page(statistics)
    assert list(make_metrics(statistics, [], {}, []))


def make_warm_table(chain: Chain) -> None:
    with chain.source() as looking, psycopg.connect(chain.conninfo) as owner:
        until = Partition.parse(Frequency.MONTHLY, "2026-12")
        for statement in warm_script(looking, chain.settings, now=NOW, until=until):
            owner.execute(statement)


def test_a_name_is_a_name_from_the_plan_to_the_restore(name, source, object_store, bucket, tmp_path):
    """Archive, delete, warm, restore, restore into a table that is made for it, count, verify, purge, report."""
    table = name.replace(".", "_")  # a dot parts schema and table in settings
    schema = table
    warm = len(f"{schema}__{table}_2026_05".encode()) <= 63
    identifiers = identifiers_of(name, table)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(sql.SQL(DDL).format(**identifiers, literal=sql.Literal(name)))
    settings = some_settings(
        bucket,
        tmp_path,
        f"{schema}.{table}",
        date_column=schema,
        accepted_delete_triggers=[schema],
        warm=warm,
        part_rows=4,
        delete_batch_rows=3,
    )
    chain = Chain(source, object_store.client("archiver"), settings)
    rows = sql.SQL("SELECT t::text FROM {n}.{table} AS t ORDER BY id").format(**identifiers)
    if warm:
        make_warm_table(chain)
    with psycopg.connect(source, autocommit=True) as connection:
        before = connection.execute(rows).fetchall()

        report = chain.run()

        assert (report.outcome, report.deleted_rows, [one.rows for one in report.exclusions]) == ("archived", 9, [1])
        assert len(connection.execute(rows).fetchall()) == 1
        archive = ArchiveId.parse(report.archive_id)
        assert (archive.schema_name, archive.table_name) == (schema, table)
        assert all(key.count("/") == archive.part_key(0, "zstd").count("/") for key in chain.store.keys("archives/"))
        assert verify_archive(chain.store, archive).sound
        with chain.source() as looking:
            counted = count_waiting(looking, settings, now=NOW)
        assert [one.rows for one in counted.waiting] == [1]
        if warm:
            results = purge_warm_of(chain, settings)
            assert {one.month: one.rows for one in results if one.result == "dropped"}["2026-05"] == 9
        assert restore(chain).inserted == 9
        assert connection.execute(rows).fetchall() == before
        target = f"restored.{table}"
        connection.execute("CREATE SCHEMA restored")
        assert (
            restore(chain, "restore-2", target=target, create_target=True, keys=[["2", before[1][0][3:25]]]).rows == 9
        )
        assert connection.execute("SELECT count(*) FROM public.canary").fetchone() == (0,)
    require_hold_and_page(chain, schema, table, counted)


def purge_warm_of(chain: Chain, settings: TableSettings) -> list[WarmResult]:
    """Take down what is warm, long after its term."""
    with chain.source() as connection:
        return purge_warm(connection, chain.store, settings, run=RUN, now=NOW + timedelta(days=900))


def test_names_that_are_too_long_for_a_folder_are_refused_before_anything_is_read(
    source, object_store, bucket, tmp_path
):
    """Both names percent-encoded are longer than a file system's names."""
    name = "é" * 31
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"; CREATE TABLE "{name}"."{name}" (id int PRIMARY KEY, at date)')
        connection.execute(f"""INSERT INTO "{name}"."{name}" VALUES (1, '2026-05-01')""")
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, f"{name}.{name}"))

    with pytest.raises(UnarchivableError, match=r"too long for the name of a folder: expected .* at most 250"):
        chain.run()

    assert list(tmp_path.iterdir()) == []
