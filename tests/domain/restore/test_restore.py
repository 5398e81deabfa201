"""Archived rows are restored exactly, once, and only from objects that are what was archived."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.errors import IntegrityError, RestoreError
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore.report import require_complete
from strongroom_local.demo import sample
from tests.support.chain import NOW, Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.database import ask, digest, execute
from tests.support.restoring import plan, restore

ARCHIVE = "public.audit.2026-05.0001"
SAMPLE_TABLES = {
    "acm_alerts": "detected_at",
    "fraud_investigations": "created_at",
    "audit_events": "created_at",
    "call_detail_records": "call_start_time",
    "gateway_blacklist_history": "created_at",
}
"""Each with the column that dates its rows; one that refers to another comes behind it."""


class TestRoundTrip:
    def test_the_table_is_what_it_was(self, chain):
        before = digest(chain.conninfo)
        chain.run()

        report = restore(chain)

        assert digest(chain.conninfo) == before
        assert (report.outcome, report.inserted, report.results) == ("restored", 744, {"restored": 3})

    def test_a_second_restore_inserts_nothing(self, archived):
        restore(archived)
        after_one = digest(archived.conninfo)

        report = restore(archived, "restore-2")

        assert (report.outcome, report.inserted, report.unchanged, report.different) == ("unchanged", 0, 744, 0)
        assert digest(archived.conninfo) == after_one

    def test_a_dry_run_says_how_much_and_leaves_no_trace(self, archived):
        before = list(archived.store.keys(""))

        report = restore(archived, dry_run=True)

        assert (report.outcome, report.rows, report.results) == ("dry_run", 744, {"unfinished": 3})
        assert list(archived.store.keys("")) == before

    def test_a_time_range_brings_back_only_its_rows_and_only_from_parts_that_may_hold_them(self, archived):
        report = restore(archived, since="2026-05-02", before="2026-05-03T12:00:00Z")

        assert (report.inserted, report.results) == (36, {"restored": 1})
        assert ask(archived.conninfo, "SELECT min(at)::date::text FROM audit WHERE at > '2026-05-01'") == [
            ("2026-05-02",)
        ]

    def test_a_time_range_in_another_zone_is_the_same_range(self, make):
        """Dates without a zone are in UTC, whichever zone the bounds were written in."""
        chain = make(
            "CREATE TABLE audit (id integer PRIMARY KEY, at timestamp NOT NULL);"
            "INSERT INTO audit SELECT n, '2026-05-02'::timestamp + n * interval '1 hour' FROM generate_series(0, 23) AS n"
        )

        report = restore(chain, since="2026-05-02T12:00:00+02:00", before="2026-05-02T12:00:00+00:00")

        assert report.inserted == 2
        assert ask(chain.conninfo, "SELECT min(id), max(id) FROM audit") == [(10, 11)]

    def test_a_key_list_brings_back_only_those_rows(self, archived):
        report = restore(archived, keys=[5, ["700"], "99999"])

        assert (report.inserted, report.wanted) == (2, 2)
        assert ask(archived.conninfo, "SELECT id FROM audit WHERE id IN (4, 5, 700) ORDER BY 1") == [(5,), (700,)]

    def test_keys_that_are_no_keys_are_refused(self, archived):
        with pytest.raises(RestoreError, match="is not the primary key of"):
            restore(archived, keys=[["1", "2"]])
        with pytest.raises(RestoreError, match="a key of the request is not a primary key"):
            restore(archived, keys=["one"])

    def test_partitions_of_a_range_come_back_and_others_stay_away(self, archived):
        archived.key, archived.now = "2026-06", NOW
        assert archived.run().deleted_rows == 55

        assert restore(archived, first_partition="2026-06").inserted == 55
        assert restore(archived, "restore-2", last_partition="2026-05").inserted == 744

    def test_what_asks_for_nothing_or_for_too_much_is_refused(self, archived):
        with pytest.raises(RestoreError, match="either archives or a table"):
            plan(archived, table=None)
        with pytest.raises(RestoreError, match=r"no archive of public\.audit is in the range"):
            plan(archived, first_partition="2026-07")
        with pytest.raises(IntegrityError, match="there is no archive"):
            plan(archived, archives=["public.audit.2026-05.0007"])


class TestDamage:
    @pytest.mark.parametrize(
        ("body", "result"),
        [
            pytest.param(lambda whole: whole[:-20], "corrupted", id="truncated", marks=pytest.mark.exhaustive),
            pytest.param(lambda whole: whole[:500] + b"\0" + whole[501:], "corrupted", id="one-byte-changed"),
            pytest.param(lambda whole: whole[:0], "corrupted", id="empty", marks=pytest.mark.exhaustive),
            pytest.param(None, "missing", id="removed"),
        ],
    )
    def test_nothing_is_loaded_from_an_object_that_is_not_what_was_archived(self, archived, object_store, body, result):
        vandal = Vandal(object_store.client("admin"), archived.store, archived.settings.store.bucket)
        archive = ArchiveId.parse(ARCHIVE)
        if body is None:
            vandal.remove(archive.part_key(1, "zstd"))
        else:
            vandal.rot(archive, 1, body(vandal.read(archive.part_key(1, "zstd"))))

        report = restore(archived)

        assert [part.result for part in report.parts] == ["restored", result, "restored"]
        assert report.parts[1].inserted == 0
        assert digest(archived.conninfo)[0] == 56 + report.parts[0].rows + report.parts[2].rows
        assert report.outcome == "incomplete"
        with pytest.raises(RestoreError, match=f"part 1 is {result}"):
            require_complete(report)


def test_a_partitioned_table_and_a_key_of_several_columns(source, object_store, bucket, tmp_path):
    execute(
        source,
        """
        CREATE TABLE odd (k integer, at timestamptz, name text COLLATE "C", PRIMARY KEY (k, at, name)) PARTITION BY RANGE (at);
        CREATE TABLE odd_may PARTITION OF odd FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
        INSERT INTO odd SELECT n % 3, '2026-05-01+00'::timestamptz + n * interval '1 hour', E'tab\\t ' || n FROM generate_series(1, 50) n;
        """,
    )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, "odd"))
    before = digest(source, "odd")
    chain.run()

    assert restore(chain, keys=[["1", "2026-05-01 01:00:00+00", "tab\t 1"]]).inserted == 1
    assert restore(chain, "restore-2").unchanged == 1
    assert digest(source, "odd") == before


def test_every_name_is_quoted(source, object_store, bucket, tmp_path):
    name = sql.Identifier("public", 'Odd "t" %s {}')
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                'CREATE TABLE {} ("k %s {{}}" integer PRIMARY KEY, at date, c0 text, added text, "line" text)'
            ).format(name)
        )
        connection.execute(sql.SQL("INSERT INTO {} VALUES (1, '2026-05-01', 'a', 'b', 'c')").format(name))
        chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, 'Odd "t" %s {}'))
        chain.run()
        connection.execute(sql.SQL("ALTER TABLE {} DROP line, ADD strongroom_dropped jsonb").format(name))

        report = restore(chain, dropped_columns="keep")

        assert report.inserted == 1
        rows = connection.execute(sql.SQL("SELECT c0, added, strongroom_dropped FROM {}").format(name)).fetchall()
        assert rows == [("a", "b", {"line": "c"})]


@pytest.mark.exhaustive
def test_every_sample_table_is_what_it_was_after_all_due_months_went_and_came_back(
    source, object_store, bucket, tmp_path
):
    """Archived by the archiver's role and restored by the restorer's; cases refer to alerts, which come back first."""
    sample.create_schema(source)
    sample.create_roles(source, {role: f"the {role}'s" for role in sample.ROLES})
    sample.load(source, call_records_per_month=300, months=6, now=NOW)
    before = {name: digest(source, name) for name in SAMPLE_TABLES}
    archiver, restorer = (
        make_conninfo(source, user=role, password=f"the {role}'s")
        for role in ("strongroom_archiver", "strongroom_restorer")
    )
    chains = {}
    for name, date_column in reversed(SAMPLE_TABLES.items()):
        settings = some_settings(bucket, tmp_path, name, date_column=date_column, part_rows=200)
        for key in ("2026-06", "2026-07"):
            chains[name] = Chain(archiver, object_store.client("archiver"), settings, key=key)
            assert chains[name].run().deleted_rows > 0
    for name, date_column in SAMPLE_TABLES.items():
        referred = "AND alert_id NOT IN (SELECT alert_id FROM fraud_investigations)" if name == "acm_alerts" else ""
        due = f"SELECT count(*) FROM {name} WHERE {date_column} < '2026-08-01Z' {referred}"
        assert ask(source, due) == [(0,)], f"{name} has due rows left that nothing refers to"
        assert digest(source, name) != before[name]

    for name in SAMPLE_TABLES:
        chains[name].conninfo = restorer
        first, second = restore(chains[name], f"{name}-1"), restore(chains[name], f"{name}-2")
        assert (first.outcome, second.inserted, second.unchanged) == ("restored", 0, first.inserted)

    assert {name: digest(source, name) for name in SAMPLE_TABLES} == before
