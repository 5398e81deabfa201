"""A query from its request to its rows, on real servers: exact, complete or saying what is missing, and on record first."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import boto3
import pytest

from strongroom.errors import QueryError, QueryLimitError, StoreAccessError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.query.result import open_result
from strongroom.settings import QueryLimits
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from tests.support import glacier
from tests.support.chain import NOW, Chain, some_settings
from tests.support.damaging import Vandal
from tests.support.database import execute
from tests.support.old_archives import as_version_1
from tests.support.proxies import HoldingProxy, refuse
from tests.support.querying import Queried, ask, found, rows, when

ARCHIVE = ArchiveId("public", "audit", "2026-05", 1)


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_are_found_to_the_digit_whatever_they_are_packed_in(make, form, codec):
    chain = make(format=form, compression={"type": codec})

    assert found(chain, when("cost", "=", "66.4"), columns=["cost", "who", "note"]) == [("66.40", "agent 664", None)]
    outcome = ask(chain, when("cost", ">=", "74.2"), when("who", "!=", "agent 742"), now=NOW + timedelta(seconds=1))
    assert rows(chain) == [("744", "2026-05-31 23:00:00+00", "agent 743", "74.30", None)]
    assert (outcome.outcome, outcome.rows) == ("complete", 1)
    assert [(one.name, one.type) for one in outcome.columns][3] == ("cost", "numeric(8,2)")


def test_an_archive_of_the_first_version_is_searched(chain, object_store):
    as_version_1(chain, object_store, ARCHIVE)

    assert found(chain, when("id", "=", "1"), columns=["who"]) == [("agent 0",)]


class TestRange:
    def test_only_parts_that_may_have_such_rows_are_read(self, archived):
        parts = require_manifest(archived.store, ARCHIVE).parts

        outcome = ask(archived, since="2026-05-02", before="2026-05-03T12:00:00+02:00", columns=["at"])

        at = [row[0] for row in rows(archived)]
        assert (at[0], at[-1], len(at)) == ("2026-05-02 00:00:00+00", "2026-05-03 09:00:00+00", 34)
        assert outcome.bytes_read == parts[0].compressed_size
        [searched] = outcome.searched
        assert (searched.parts, searched.scanned, searched.matched) == (1, parts[0].record_count, 34)

    @pytest.mark.parametrize("type_", ["date", "timestamp"])
    def test_dates_without_a_zone_are_utc(self, make, type_):
        """A date is compared with the bound's date, as in a restore."""
        chain = make(
            f"CREATE TABLE audit (id integer PRIMARY KEY, at {type_} NOT NULL);"
            "INSERT INTO audit SELECT n, '2026-05-01'::timestamp + n * interval '1 hour' FROM generate_series(0, 71) AS n"
        )

        outcome = ask(chain, since="2026-05-02T01:00:00+01:00", before="2026-05-03")

        assert outcome.rows == 24
        assert {int(str(row[0])) for row in rows(chain)} == set(range(24, 48))

    def test_a_range_without_an_archive_or_the_wrong_way_round_is_refused(self, archived):
        with pytest.raises(QueryError, match=r"no archive of .* is in the range"):
            ask(archived, since="2026-06-01")
        with pytest.raises(QueryError, match="ends before it begins"):
            ask(archived, since="2026-06-01", before="2026-05-01")


class TestLimits:
    def test_the_first_rows_of_an_archive_and_no_more(self, archived):
        outcome = ask(archived, archives=[str(ARCHIVE)], limit=3, columns=["id"])

        assert rows(archived) == [("1",), ("2",), ("3",)]
        assert outcome.outcome == "limited"
        assert [(one.part, one.reason) for one in outcome.not_searched] == [(1, "row_limit"), (2, "row_limit")]

    def test_as_many_rows_as_the_limit_are_all_of_them(self, archived):
        assert ask(archived, when("cost", ">", "73.8"), limit=5).outcome == "complete"
        assert ask(archived, when("cost", ">", "73.8"), limit=4, now=NOW + timedelta(seconds=1)).outcome == "limited"

    def test_what_goes_beyond_the_settings_fails_and_shows_nothing(self, archived, subtests):
        for limits, asked, words in (
            (QueryLimits(most_rows=10), {}, "asks for too many rows"),
            (QueryLimits(most_result_bytes=500), {}, "the result is larger than 500 bytes"),
        ):
            with subtests.test(words):
                with pytest.raises(QueryError, match=words):
                    ask(archived, limits=limits, **asked)
                assert_nothing_is_shown(archived)

    def test_a_row_that_takes_too_much_memory_fails_by_the_name_of_the_setting(self, make):
        chain = make(
            "CREATE TABLE audit (id integer PRIMARY KEY, at timestamptz NOT NULL, note text);"
            "INSERT INTO audit VALUES (1, '2026-05-02', repeat('x', 20000000))"
        )

        with pytest.raises(QueryLimitError, match=re.escape(f"needed more than {256 << 20} bytes")) as raised:
            ask(chain, when("note", "contains", "y"), limits=QueryLimits(memory_bytes=256 << 20))

        assert "query.memory_bytes" in raised.value.hint
        assert found(chain, when("note", "contains", "y")) == []


def assert_nothing_is_shown(archived: Queried) -> None:
    run_id, root = archived.run_of_query.run_id, archived.staging_root()
    with pytest.raises(QueryError, match="there is no result"), open_result(root, run_id, now=NOW):
        pass
    assert archived.records() == []


class TestWhatIsNotSearched:
    @pytest.fixture
    def vandal(self, chain, object_store, bucket) -> Vandal:
        return Vandal(object_store.client("admin"), chain.store, bucket)

    def test_a_damaged_and_a_missing_part_are_named_and_the_others_are_searched(self, chain, vandal):
        parts = require_manifest(chain.store, ARCHIVE).parts
        whole = vandal.read(parts[0].object_key)
        vandal.rot(ARCHIVE, 0, whole[:-1] + bytes([whole[-1] ^ 1]))
        vandal.remove(parts[1].object_key)

        outcome = ask(chain, columns=["id"])

        assert outcome.outcome == "incomplete"
        assert [(one.part, one.reason) for one in outcome.not_searched] == [(0, "corrupted"), (1, "missing")]
        assert len(rows(chain)) == parts[2].record_count

    def test_an_archive_without_a_sound_manifest_is_named(self, chain, vandal):
        vandal.write(ARCHIVE.manifest_key, vandal.read(ARCHIVE.manifest_key))

        in_range, by_name = ask(chain), ask(chain, archives=[str(ARCHIVE)], now=NOW + timedelta(seconds=1))

        for outcome in (in_range, by_name):
            [one] = outcome.not_searched
            assert (outcome.outcome, outcome.rows) == ("incomplete", 0)
            assert (one.archive_id, one.part, one.reason) == (str(ARCHIVE), None, "unverifiable")

    def test_parts_that_the_store_does_not_give_are_named(self, chain, object_store):
        access_key, secret_key = object_store.keys("archiver")
        session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
        where = object_store.endpoint_url.removeprefix("http://").split(":")
        with HoldingProxy() as proxy:
            proxy.forward_to(where[0], int(where[1]))
            settings = chain.settings.store.model_copy(update={"max_attempts": 1})
            chain.store = Store(make_client(settings, session=session, endpoint_url=proxy.endpoint_url), settings)
            proxy.on("GET", "part-00001", refuse(503, "SlowDown"), times=100)

            outcome = ask(chain, columns=["id"])

        assert outcome.outcome == "incomplete"
        assert [(one.part, one.reason) for one in outcome.not_searched] == [(1, "no_answer")]
        assert outcome.rows > 300

    def test_parts_in_glacier_are_named(self, source, tmp_path):
        from tests.domain.query.conftest import TABLE

        execute(source, TABLE)
        with glacier.running() as url:
            client = glacier.make_bucket(url, "frozen")
            chain = Chain(source, client, some_settings("frozen", tmp_path, part_rows=300))
            chain.run()
            glacier.freeze("frozen", require_manifest(chain.store, ARCHIVE).parts[2].object_key)

            outcome = ask(chain)

        assert [(one.part, one.reason) for one in outcome.not_searched] == [(2, "frozen")]
        assert outcome.outcome == "incomplete"


class TestOtherShapes:
    """Two archives of May: between them the table lost a column, got one, and one changed its type."""

    @pytest.fixture
    def changed(self, make) -> Chain:
        chain = make(
            "CREATE TABLE audit (id integer PRIMARY KEY, at timestamptz NOT NULL, old text, code text);"
            "INSERT INTO audit VALUES (1, '2026-05-02', 'first', '7')"
        )
        execute(
            chain.conninfo,
            "ALTER TABLE audit DROP old, ADD new numeric, ALTER code TYPE integer USING 0;"
            "INSERT INTO audit VALUES (2, '2026-05-03', 8, 1.50)",
        )
        assert chain.run().outcome == "archived"
        return chain

    def test_columns_of_all_archives_are_shown_and_null_where_there_is_none(self, changed):
        outcome = ask(changed)

        assert [(one.name, one.type) for one in outcome.columns] == [
            ("id", "integer"),
            ("at", "timestamp with time zone"),
            ("code", "integer"),
            ("new", "numeric"),
            ("old", "text"),
        ]
        assert rows(changed) == [
            ("1", "2026-05-02 00:00:00+00", "7", None, "first"),
            ("2", "2026-05-03 00:00:00+00", "8", "1.50", None),
        ]

    def test_a_condition_that_an_archive_cannot_decide_names_it(self, changed):
        no_column = ask(changed, when("new", "=", "1.5"))
        other_type = ask(changed, when("code", "<", "9"), now=NOW + timedelta(seconds=1))

        assert [one.reason for one in no_column.not_searched] == ["no_column"]
        assert [one.reason for one in other_type.not_searched] == ["other_type"]
        assert (no_column.outcome, no_column.rows) == (other_type.outcome, other_type.rows) == ("incomplete", 1)


ODD_NAMES = [
    "A",
    "a",
    "x; DROP TABLE audit",
    '"',
    "a.b",
    "~/a~1",
    "$.a",
    "é 😀",
    "json",
    "c0",
    "x",
    "?",
    "$1",
    "strongroom_exact",
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_no_name_and_no_value_is_more_than_a_name_and_a_value(make, form):
    columns = ", ".join(f'"{name}" text'.replace('"""', '""""') for name in ODD_NAMES)
    values = ["' OR 1=1 --", "x'; SELECT read_text('/etc/passwd'); --", "%s ? $1 {}", "\\", '"', "a", "\u2028"]
    rows_sql = ", ".join(
        "({}, '2026-05-02', {})".format(
            number, ", ".join(f"'{value.replace(chr(39), chr(39) * 2)}'" for _ in ODD_NAMES)
        )
        for number, value in enumerate(values)
    )
    chain = make(
        f"CREATE TABLE audit (id integer PRIMARY KEY, at timestamptz NOT NULL, {columns}); INSERT INTO audit VALUES {rows_sql}",
        format=form,
    )

    for number, value in enumerate(values[:3]):
        operators = ("=", "contains", "begins with")
        asked = [when(name, operators[(number + place) % 3], value) for place, name in enumerate(ODD_NAMES)]
        ask(chain, *asked, columns=ODD_NAMES, now=NOW + timedelta(seconds=number))
        assert rows(chain) == [(value,) * len(ODD_NAMES)]


class TestRecord:
    def test_the_store_knows_who_looked_for_what_and_why_and_how_much_was_found(self, archived):
        outcome = ask(archived, when("who", "=", "agent 7"), who="grace", triggered_by="ada", why="Case 4711")

        record = json.loads(archived.store.read(outcome.record_key)[0])
        asked = record["request"]
        run_id = archived.run_of_query.run_id
        assert outcome.record_key.startswith(f"reports/queries/public.audit/{run_id}/")
        assert (asked["who"], asked["triggered_by"], asked["why"]) == ("grace", "ada", "Case 4711")
        assert asked["conditions"] == [{"column": "who", "operator": "=", "value": "agent 7"}]
        assert (record["rows"], record["run_id"], record["outcome"]) == (1, run_id, "complete")
        assert "2026-05-01 07:00" not in json.dumps(record)

    def test_without_a_record_no_row_is_shown(self, archived, object_store):
        """An identity that may not write reports can look at nothing."""
        archived.store = Store(object_store.client("purger"), archived.settings.store)

        with pytest.raises(StoreAccessError):
            ask(archived)

        assert_nothing_is_shown(archived)

    def test_another_try_leaves_a_record_of_its_own_and_replaces_the_rows(self, archived):
        ask(archived, when("id", "=", "1"))
        ask(archived, when("id", "=", "2"), now=NOW + timedelta(minutes=1))

        assert [row[0] for row in rows(archived)] == ["2"]
        assert len(archived.records()) == 2


WRONG = [
    (when("nope", "=", "agent 007"), "have no column 'nope'"),
    (when("who", "<", "agent 007"), "cannot be compared with <: who <"),
    (when("cost", "=", "agent 007"), "a value does not suit a column of type numeric"),
    (when("id", "=", "1.5"), "a value does not suit a column of type bigint"),
    (when("at", ">=", "31st of May"), "a value does not suit a column of type timestamp with time zone"),
]


def test_what_cannot_be_asked_is_refused_before_a_part_is_read_and_no_value_is_quoted(archived):
    for condition, words in WRONG:
        with pytest.raises(QueryError, match=re.escape(words)) as raised:
            ask(archived, condition)
        assert str(condition["value"]) not in str(raised.value)
    with pytest.raises(QueryError, match="have no column 'nope'"):
        ask(archived, columns=["nope"])
    with pytest.raises(QueryError, match="is not an archive of"):
        ask(archived, archives=["public.other.2026-05.0001"])
    assert_nothing_is_shown(archived)
