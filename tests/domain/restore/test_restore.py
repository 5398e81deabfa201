"""Archived rows come back exactly, once, and only from objects that are what was archived."""

from __future__ import annotations

import time
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strongroom.errors import ContendedError, IntegrityError, RestoreError, SourceAccessError, SourceError
from strongroom.ledger.manifests import require_manifest
from strongroom.ledger.restore_records import active_restores
from strongroom.object_keys import ArchiveId
from strongroom.restore import load as restore_part_module
from strongroom.restore.progress import RestoreProgress
from strongroom.restore.report import require_complete
from strongroom_local.demo import sample
from tests.support.chain import NOW, Chain, grants_of, some_settings
from tests.support.damaging import Vandal
from tests.support.restoring import load, plan, restore, staging_of
from tests.support.statements import Watched

AUDIT = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text COLLATE "C", cost numeric,
    tax numeric GENERATED ALWAYS AS (cost * 0.075) STORED, badge integer UNIQUE
);
INSERT INTO audit (at, who, cost, badge)
SELECT '2026-04-30 22:00+00'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0, n
FROM generate_series(1, 800) AS n;
"""
ARCHIVE = "public.audit.2026-05.0001"
SAMPLE_TABLES = {
    "acm_alerts": "detected_at",
    "fraud_investigations": "created_at",
    "audit_events": "created_at",
    "call_detail_records": "call_start_time",
    "gateway_blacklist_history": "created_at",
}
"""Each with the column that dates its rows; one that refers to another comes behind it."""


def execute(conninfo, statements):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statements)


def ask(conninfo, query):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def digest(conninfo, table="audit"):
    """Rows and a sum over the text of all of them, whatever their order."""
    query = f'SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")) FROM {table} AS t'
    return ask(conninfo, query)[0]


SPOILING = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.who := 'spoilt'; RETURN NEW; END $$;
CREATE FUNCTION spoil_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.audit SET who = 'spoilt'; RETURN NULL; END $$;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    """A table of 800 hourly rows, 744 of them in May."""
    execute(source, AUDIT)
    return Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, part_rows=300))


@pytest.fixture
def archived(chain) -> Chain:
    """The same with May in an archive of three parts, and gone from the table."""
    assert chain.run().deleted_rows == 744
    return chain


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

    def test_a_key_list_brings_back_only_those_rows(self, archived):
        report = restore(archived, keys=[5, ["700"], "99999"])

        assert (report.inserted, report.wanted) == (2, 2)
        assert ask(archived.conninfo, "SELECT id FROM audit WHERE id IN (4, 5, 700) ORDER BY 1") == [(5,), (700,)]

    def test_keys_that_are_no_keys_are_refused(self, archived):
        with pytest.raises(RestoreError, match="is no primary key of"):
            restore(archived, keys=[["1", "2"]])
        with pytest.raises(RestoreError, match="a key of the request is no primary key"):
            restore(archived, keys=["one"])

    def test_partitions_of_a_range_come_back_and_others_stay_away(self, archived):
        archived.key, archived.now = "2026-06", NOW
        assert archived.run().deleted_rows == 55

        assert restore(archived, first_partition="2026-06").inserted == 55
        assert restore(archived, "restore-2", last_partition="2026-05").inserted == 744

    def test_what_asks_for_nothing_or_for_too_much_is_refused(self, archived):
        with pytest.raises(RestoreError, match="either archives or a table"):
            plan(archived, table=None)
        with pytest.raises(RestoreError, match=r"no archive of public\.audit lies in the range"):
            plan(archived, first_partition="2026-07")
        with pytest.raises(IntegrityError, match="there is no archive"):
            plan(archived, archives=["public.audit.2026-05.0007"])


class TestRowsThatAreThere:
    def test_identical_ones_are_counted_and_different_ones_listed_and_kept(self, archived):
        execute(
            archived.conninfo,
            "INSERT INTO audit (id, at, who, cost, badge) OVERRIDING SYSTEM VALUE "
            "VALUES (10, '2026-05-01', 'somebody else', 1, 10), (9999, '2026-07-01', 'thief of a badge', 0, 20)",
        )

        report = restore(archived)
        again = restore(archived, "restore-2")

        assert (report.outcome, report.inserted, report.different) == ("different", 742, 2)
        listed = [(row.key, row.why) for part in report.parts for row in part.listed]
        assert listed == [(("10",), "changed"), (("20",), "taken")]
        assert (again.inserted, again.unchanged, again.different) == (0, 742, 2)
        assert ask(archived.conninfo, "SELECT who FROM audit WHERE id = 10") == [("somebody else",)]

    def test_more_than_can_be_listed_are_counted(self, archived, monkeypatch):
        monkeypatch.setattr(restore_part_module, "LISTED_KEYS", 5)
        restore(archived)
        execute(archived.conninfo, "UPDATE audit SET who = 'changed'")

        report = restore(archived, "restore-2")

        assert (report.different, [len(part.listed) for part in report.parts]) == (744, [5, 5, 5])

    def test_the_newest_archive_of_a_row_wins(self, archived):
        """Restored, changed and archived again, a row is in two archives; the later one is what the table had last."""
        restore(archived, keep_days=1)
        execute(archived.conninfo, "UPDATE audit SET who = 'corrected' WHERE id = 100")
        archived.now = NOW + timedelta(days=2)
        assert archived.run().archive_id == "public.audit.2026-05.0002"

        report = restore(archived, "restore-2", now=archived.now)

        assert ask(archived.conninfo, "SELECT who FROM audit WHERE id = 100") == [("corrected",)]
        assert (report.inserted, report.unchanged, report.different) == (744, 743, 1)

    @pytest.mark.parametrize(
        "hook",
        [
            "CREATE TRIGGER spoil BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION spoil()",
            "CREATE TRIGGER spoil AFTER INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION spoil_all()",
        ],
        ids=["each row", "each statement"],
    )
    def test_what_changes_rows_on_their_way_stops_the_part(self, archived, hook):
        execute(archived.conninfo, SPOILING + hook)

        with pytest.raises(RestoreError, match="not what was archived once they are in"):
            restore(archived)

        assert digest(archived.conninfo)[0] == 56

    @pytest.mark.parametrize(
        ("triggered", "target"),
        [("parted_all", "parted"), ("parted", "parted_all")],
        ids=["of a partition", "of the table it is a partition of"],
    )
    def test_a_trigger_that_changes_rows_of_partitions_stops_the_part(self, archived, triggered, target):
        """PostgreSQL 13 and 14 call the trigger that a partition has from its table an internal one."""
        execute(
            archived.conninfo,
            SPOILING + "CREATE TABLE parted (LIKE audit INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
            "CREATE TABLE parted_all PARTITION OF parted DEFAULT;"
            f"CREATE TRIGGER spoil BEFORE INSERT ON {triggered} FOR EACH ROW EXECUTE FUNCTION spoil();",
        )

        with pytest.raises(RestoreError, match="not what was archived once they are in"):
            restore(archived, target=f"public.{target}")

        assert ask(archived.conninfo, "SELECT count(*) FROM parted") == [(0,)]

    def test_rows_without_what_they_refer_to_name_the_foreign_key_and_its_table(self, archived):
        execute(
            archived.conninfo,
            "CREATE TABLE badges (badge integer PRIMARY KEY);"
            "ALTER TABLE audit ADD CONSTRAINT known_badge FOREIGN KEY (badge) REFERENCES badges NOT VALID;",
        )

        with pytest.raises(
            RestoreError, match=r"rows of public\.badges that are not there \(foreign key known_badge\)"
        ):
            restore(archived)

    def test_a_check_that_came_later_is_named_and_no_value_is(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit ADD CONSTRAINT cheap CHECK (cost < 50) NOT VALID")

        with pytest.raises(RestoreError, match="CheckViolation of cheap") as caught:
            restore(archived)

        assert "agent" not in str(caught.value)


class TestDamage:
    @pytest.mark.parametrize(
        ("body", "result"),
        [
            pytest.param(lambda whole: whole[:-20], "corrupted", id="truncated"),
            pytest.param(lambda whole: whole[:500] + b"\0" + whole[501:], "corrupted", id="one-byte-changed"),
            pytest.param(lambda whole: whole[:0], "corrupted", id="empty"),
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


class TestSchemaDrift:
    def test_added_columns_take_their_default(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit ADD note text DEFAULT 'none', ADD seen timestamptz")

        planned = plan(archived)
        load(archived, planned)

        assert planned.added == ("note", "seen")
        assert ask(archived.conninfo, "SELECT DISTINCT note, seen FROM audit") == [("none", None)]

    def test_an_added_column_that_takes_no_null_is_named(self, archived):
        execute(
            archived.conninfo,
            "ALTER TABLE audit ADD n integer NOT NULL DEFAULT 1; ALTER TABLE audit ALTER n DROP DEFAULT",
        )

        with pytest.raises(RestoreError, match=r"column n \(integer\) was added, takes no NULL and has no default"):
            plan(archived)

    def test_a_dropped_column_is_refused_or_kept_aside_as_the_caller_chooses(self, archived):
        execute(archived.conninfo, "ALTER TABLE audit DROP cost CASCADE")
        with pytest.raises(
            RestoreError, match=r"column cost \(numeric\) was dropped.*column tax \(numeric\) was dropped"
        ):
            plan(archived)
        with pytest.raises(RestoreError, match=r"ADD COLUMN .strongroom_dropped. jsonb"):
            plan(archived, dropped_columns="keep")
        execute(archived.conninfo, "ALTER TABLE audit ADD strongroom_dropped jsonb")

        report = restore(archived, dropped_columns="keep")
        again = restore(archived, "restore-2", dropped_columns="keep")

        assert (report.inserted, again.inserted, again.unchanged) == (744, 0, 744)
        kept = "SELECT strongroom_dropped::text FROM audit WHERE id = 7"
        assert ask(archived.conninfo, kept) == [('{"tax": 0.07500000000000000000000, "cost": 1.00000000000000000000}',)]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("ALTER TABLE audit RENAME who TO whom", r"column who \(text\) is gone and looks renamed to whom"),
            ("ALTER TABLE audit ALTER badge TYPE bigint", "column badge was archived as integer and is bigint now"),
            ("ALTER TABLE audit DROP CONSTRAINT audit_pkey", "no unique index on just id"),
            ("ALTER TABLE audit DROP id", "column id .* is gone, and rows are told apart by it"),
        ],
    )
    def test_what_does_not_fit_is_named_before_anything_is_loaded(self, archived, change, told):
        execute(archived.conninfo, change)
        before = list(archived.store.keys(""))

        with pytest.raises(RestoreError, match=told):
            plan(archived, dropped_columns="keep")

        assert list(archived.store.keys("")) == before


class TestTarget:
    def test_a_table_of_its_own_is_created_from_the_manifest(self, chain):
        before = ask(
            chain.conninfo,
            "SELECT id, at, who, cost, tax, badge FROM audit WHERE at >= '2026-05-01' AND at < '2026-06-01' ORDER BY 1",
        )
        chain.run()
        execute(chain.conninfo, "CREATE SCHEMA back")

        with pytest.raises(RestoreError, match=r"there is no table back\.May"):
            plan(chain, target="back.May")
        report = restore(chain, target="back.May", create_target=True)
        restore(chain, "restore-2", target="back.May", create_target=True)

        assert report.inserted == 744
        assert ask(chain.conninfo, 'SELECT * FROM back."May" ORDER BY 1') == before
        described = ask(
            chain.conninfo,
            "SELECT attname, attnotnull, attidentity::text FROM pg_attribute WHERE attrelid = 'back.\"May\"'::regclass AND attnum > 0",
        )
        assert described[:3] == [("id", True, "d"), ("at", False, ""), ("who", False, "")]

    def test_the_sequence_of_an_identity_column_is_moved_past_what_came_back(self, archived):
        execute(archived.conninfo, "CREATE SCHEMA back")

        report = restore(archived, target="back.audit", create_target=True)

        execute(archived.conninfo, "INSERT INTO back.audit (at) VALUES ('2026-08-01')")
        assert report.moved_sequences == ("back.audit_id_seq",)
        assert ask(archived.conninfo, "SELECT max(id) FROM back.audit") == [(746,)]
        assert restore(archived, "restore-2").moved_sequences == ()

    def test_a_role_without_the_rights_is_told_which_it_lacks(self, archived):
        execute(
            archived.conninfo,
            "CREATE ROLE restorer_test LOGIN; GRANT USAGE ON SCHEMA public TO restorer_test; GRANT SELECT ON audit TO restorer_test",
        )
        superuser = archived.conninfo
        archived.conninfo = make_conninfo(superuser, options="-c role=restorer_test")
        try:
            with pytest.raises(
                SourceAccessError,
                match=r"restorer_test lacks .* no INSERT on public\.audit, no SELECT on sequence public\.audit_id_seq",
            ) as refused:
                plan(archived)
            assert grants_of(refused.value) == [
                "GRANT INSERT ON public.audit TO restorer_test;",
                "GRANT SELECT, UPDATE ON SEQUENCE public.audit_id_seq TO restorer_test;",
            ]
            execute(superuser, "".join(grants_of(refused.value)))
            execute(
                superuser,
                "REVOKE UPDATE ON SEQUENCE audit_id_seq FROM restorer_test; ALTER TABLE audit ALTER id RESTART",
            )
            with pytest.raises(
                SourceAccessError, match=r"restorer_test may not move the sequence .* past 745"
            ) as refused:
                restore(archived)
            execute(superuser, "".join(grants_of(refused.value)))
            assert restore(archived).moved_sequences == ("public.audit_id_seq",)
            assert digest(superuser)[0] == 800
        finally:
            execute(superuser, "DROP OWNED BY restorer_test; DROP ROLE restorer_test")


class TestRecord:
    def test_it_lies_in_the_store_before_the_first_row_and_keeps_every_run_away_until_it_runs_out(self, archived):
        planned = plan(archived, keep_days=10)
        assert digest(archived.conninfo)[0] == 56
        [record] = active_restores(archived.store, "public.audit", NOW)
        assert (record.who, record.why, record.partition_keys) == ("ada", "a test", ("2026-05",))
        load(archived, planned)

        held = archived.run()
        archived.now = NOW + timedelta(days=10)
        later = archived.run()

        assert (held.outcome, held.archive_id, held.deleted_rows) == ("restored", None, 0)
        assert "left alone for restore-1, until 2026-12-03 12:00 UTC, by ada: a test" in held.sentence()
        assert (later.outcome, later.archive_id, later.deleted_rows) == ("archived", "public.audit.2026-05.0002", 744)
        assert active_restores(archived.store, "public.audit", archived.now) == []

    def test_other_partitions_and_other_tables_are_archived_as_ever(self, archived):
        restore(archived)
        archived.key = "2026-06"

        assert archived.run().outcome == "archived"

    def test_a_repeat_keeps_its_date_and_is_refused_once_it_ran_out(self, archived):
        first = plan(archived)

        second = plan(archived, now=NOW + timedelta(days=3))

        assert second.until == first.until
        with pytest.raises(RestoreError, match="ran out at 2026-12-23"):
            plan(archived, now=NOW + timedelta(days=31))

    def test_who_asked_for_it_and_who_started_it_are_both_on_record(self, archived):
        """Somebody may start a restore in another's name, and cannot hide that it was them."""
        report = restore(archived, who="the auditor", triggered_by="grace")

        [record] = active_restores(archived.store, "public.audit", NOW)
        assert {(one.who, one.triggered_by) for one in (record, report)} == {("the auditor", "grace")}
        assert "by the auditor (started by grace): a test" in str(record)

    def test_a_record_that_does_not_say_who_started_it_is_found_again(self, archived):
        """Earlier versions wrote such records; a task may be cleared after an upgrade."""
        plan(archived)

        repeated = plan(archived, triggered_by="grace")

        [record] = active_restores(archived.store, "public.audit", NOW)
        assert (record.triggered_by, record.until) == (None, repeated.until)

    def test_a_run_that_works_on_the_partition_keeps_a_restore_away(self, archived):
        plan(archived, "restore-1")

        with pytest.raises(ContendedError, match="is held by restore-1"):
            plan(archived, "restore-2")

        assert [one.restore_id for one in active_restores(archived.store, "public.audit", NOW)] == ["restore-1"]


def test_a_restore_that_was_killed_goes_on_behind_its_last_batch(archived, monkeypatch):
    """The server ends the session in the middle of a part; the next try loads the rest and counts every row once."""
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 50)
    planned = plan(archived)
    calls = iter(range(100))

    def end_at_the_fourth(connection):
        if next(calls) == 3:
            end_session(archived.conninfo, connection.info.backend_pid)

    with pytest.raises(SourceError):
        load(archived, planned, on_batch=end_at_the_fourth)
    assert digest(archived.conninfo)[0] == 56 + 150

    parts = load(archived, planned)

    assert [(part.result, part.inserted, part.unchanged) for part in parts] == [
        ("restored", part.rows, 0) for part in parts
    ]
    assert digest(archived.conninfo)[0] == 800


def end_session(conninfo, pid):
    """End a session on the server's side, and wait until it is gone."""
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            time.sleep(0.01)


def test_looking_at_a_batch_scans_nothing_for_each_of_its_rows(archived):
    """Otherwise twice as many rows a batch would take four times as long, and most of a restore's time."""
    watched = Watched()
    restore(archived)
    execute(archived.conninfo, "DELETE FROM audit WHERE id % 2 = 0")

    report = restore(archived, "restore-2", on_session=watched)

    def scans(node):
        yield from [(node["Relation Name"], node["Node Type"])] if "Relation Name" in node else []
        for child in node.get("Plans", ()):
            yield from scans(child)

    assert (report.inserted, report.unchanged, report.different) == (372, 372, 0)
    scanned = {scan for query, plan in watched.plans if "strongroom_rows" in query for scan in scans(plan)}
    assert {relation for relation, _ in scanned} == {"strongroom_rows", "strongroom_added", "audit"}
    assert {relation for relation, kind in scanned if "Index" not in kind} == {"strongroom_rows"}


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


def test_rows_that_are_not_there_are_copied_straight_into_the_table(archived):
    """Rows that must be compared first take several times as long."""
    watched = Watched()

    report = restore(archived, on_session=watched)

    assert (report.inserted, report.unchanged, report.different) == (744, 0, 0)
    assert digest(archived.conninfo)[0] == 800
    assert sum(statement.startswith('COPY "public"."audit"') for statement in watched.statements) == 3
    assert not rebuilt(watched)


def rebuilt(watched):
    """The statements that gave the server archived lines to rebuild."""
    return [one for one in watched.statements if one.startswith('COPY "pg_temp"."strongroom_rows"')]


def test_one_row_that_is_there_in_another_form_sends_the_rest_of_the_part_the_long_way(archived, monkeypatch):
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 50)
    monkeypatch.setattr(restore_part_module, "COMPARED_ROWS", 20)
    monkeypatch.setattr("strongroom.restore.part_batches.PIECE_ROWS", 7)
    execute(
        archived.conninfo, "INSERT INTO audit (id, at, who) OVERRIDING SYSTEM VALUE VALUES (121, '2026-05-04', 'new')"
    )

    report = restore(archived)

    assert (report.inserted, report.unchanged, report.different) == (743, 0, 1)


@pytest.mark.parametrize(
    ("read_first", "moved", "to"), [(0, 10, "2026-05-30 10:30+00"), (2, 700, "2026-05-01 10:30+00")]
)
def test_a_row_that_two_parts_hold_comes_back_in_its_later_form(chain, read_first, moved, to):
    """Later is what was read later, whatever the parts' order: the row moved in time between the two."""
    planned = chain.plan()
    parts = {part.number: part for part in planned.parts}
    verified = [chain.verified(planned, parts.pop(read_first))]
    execute(chain.conninfo, f"UPDATE audit SET at = '{to}', who = 'later' WHERE id = {moved}")
    verified += [chain.verified(planned, part) for part in parts.values()]
    deleted = [chain.delete(part) for part in chain.seal_parts(planned, verified).parts]

    report = restore(chain)

    assert (sum(one.rows for one in deleted), sum(one.deleted for one in deleted)) == (745, 744), "both parts have it"
    assert (report.inserted, report.different) == (744, 1)
    assert ask(chain.conninfo, f"SELECT at = '{to}', who FROM audit WHERE id = {moved}") == [(True, "later")]
    assert digest(chain.conninfo)[0] == 800


def test_progress_of_another_database_is_not_gone_on_with(archived):
    """Staging may have outlived the database: it was set back, or made anew."""
    planned = plan(archived)
    for part in planned.parts:
        manifest = require_manifest(archived.store, ArchiveId.parse(part.archive_id))
        sealed = manifest.verified_part(part.number)
        progress = RestoreProgress(**sealed.model_dump(), life="another", done_rows=sealed.rows, inserted=sealed.rows)
        staging_of(archived, planned, part).save(progress)

    restored = load(archived, planned)

    assert sum(part.inserted for part in restored) == 744
    assert ask(archived.conninfo, "SELECT count(*) FROM audit") == [(800,)]
