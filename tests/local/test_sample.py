"""The sample data: equal seeds give equal rows; realistic volumes, unusual values, and two roles with narrow rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg import errors

from strongroom.errors import ConfigurationError, SourceError
from strongroom_local.demo.sample import create_schema, load
from strongroom_local.servers.postgres import PostgresServer
from tests.support.telecom import DATE_COLUMNS, MONTHS, NAMES, NOW, ask, digest, rows_by_month


def test_equal_seeds_make_equal_rows_in_two_databases(source: str, twin: str):
    """The rows depend neither on the database nor on its default settings."""
    with psycopg.connect(twin, autocommit=True) as connection:
        for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'German'", "search_path = 'nowhere'", "jit = on"):
            connection.execute(f"ALTER DATABASE sample_twin SET {setting}")
    for database in (source, twin):
        create_schema(database)
        load(database, call_records_per_month=1_000, months=3, now=NOW, seed=11)

    assert digest(source) == digest(twin)


def test_another_seed_makes_other_rows(source: str, twin: str):
    for database, seed in ((source, 1), (twin, 2)):
        create_schema(database)
        load(database, call_records_per_month=100, months=1, now=NOW, seed=seed)

    ours, theirs = digest(source), digest(twin)

    assert all(ours[name] != theirs[name] for name in NAMES)


def test_each_full_month_has_its_volume_and_the_current_one_its_share(telecom: str):
    added = load(telecom, call_records_per_month=1_000, now=NOW)

    for name, full_month in zip(NAMES, (100, 400, 1_000, 40, 40), strict=True):
        *full_months, current = (counts := rows_by_month(telecom, name)).values()
        assert list(counts) == MONTHS
        assert full_months == [full_month] * 13
        assert 0.5 * full_month < current < full_month
        assert added[name] == sum(counts.values())


def test_rows_sit_on_both_edges_of_a_month_and_none_reaches_now(telecom: str):
    load(telecom, call_records_per_month=1_000, now=NOW)

    for name, column in DATE_COLUMNS.items():
        [(first, last)] = ask(telecom, f"SELECT min({column}), max({column}) FROM {name} WHERE {column} < '2025-11-01'")
        [(newest,)] = ask(telecom, f"SELECT max({column}) FROM {name}")

        assert first == datetime(2025, 10, 1, tzinfo=timezone.utc)
        assert last == datetime(2025, 11, 1, tzinfo=timezone.utc) - timedelta(microseconds=1)
        assert NOW - timedelta(days=4) < newest < NOW


def test_nothing_is_dated_after_now(telecom: str):
    """If an acknowledgement or a closing would lie in the future, the alert or case is still open."""
    load(telecom, call_records_per_month=5_000, months=2, now=NOW)

    [(acknowledged, closed)] = ask(
        telecom,
        "SELECT (SELECT max(acknowledged_at) FROM acm_alerts), (SELECT max(closed_at) FROM fraud_investigations)",
    )

    assert acknowledged < NOW
    assert closed < NOW


def test_calls_follow_the_clocks_of_lagos(telecom: str):
    load(telecom, call_records_per_month=10_000, months=2, now=NOW)

    counts = dict(
        ask(
            telecom,
            "SELECT extract(hour FROM call_start_time AT TIME ZONE interval '1 hour')::int, count(*)"
            " FROM call_detail_records GROUP BY 1",
        )
    )

    assert max(counts, key=counts.__getitem__) in (18, 19, 20)
    assert counts[19] > 20 * counts[3]


def test_some_investigations_refer_to_alerts_of_an_older_month(telecom: str):
    """When those alerts fall due, newer cases still refer to them, so the archiver must leave some rows out."""
    load(telecom, call_records_per_month=5_000, now=NOW)

    by_case = ask(
        telecom,
        "SELECT to_char(i.created_at, 'YYYY-MM'), count(*), count(i.alert_id),"
        " count(*) FILTER (WHERE date_trunc('month', a.detected_at) < date_trunc('month', i.created_at))"
        " FROM fraud_investigations i LEFT JOIN acm_alerts a USING (alert_id) GROUP BY 1 ORDER BY 1",
    )

    assert [month for month, *_ in by_case] == MONTHS
    assert all(0 < with_alert < cases for _, cases, with_alert, _ in by_case)
    assert all(0 < older < with_alert / 2 for _, _, with_alert, older in by_case[1:])
    assert ask(
        telecom,
        "SELECT count(*) FROM fraud_investigations i JOIN acm_alerts a USING (alert_id)"
        " WHERE a.detected_at > i.created_at",
    ) == [(0,)]


def test_text_that_breaks_naive_exports_is_in_every_table(telecom: str):
    load(telecom, call_records_per_month=25_000, months=2, now=NOW)

    for table, column in (
        ("acm_alerts", "remark"),
        ("audit_events", "message"),
        ("call_detail_records", "remark"),
        ("gateway_blacklist_history", "reason"),
        ("fraud_investigations", "findings"),
    ):
        texts = {text for (text,) in ask(telecom, f"SELECT DISTINCT {column} FROM {table}")}
        assert {None, "", "\\N", "\\.", "NULL", "tab\there\tand there", "C:\\switch\\logs\\new"} <= texts, table
        assert {"first line\nsecond line\r\nthird\rfourth", 'She said "it\'s masked", then hung up'} <= texts, table
        assert {"\ufeffmarked", "\x01quote\x02delimiter\x1fseparator\x7f", "\U0010ffff\ufffd"} <= texts, table
        assert {"👩🏾‍💻 opened the case 🇳🇬 ☎️", "e\u0301 \u00e9 \u1ecd\u0300"} <= texts, table


def test_names_keep_their_marks(telecom: str):
    load(telecom, call_records_per_month=2_000, months=2, now=NOW)

    names = {name or "" for (name,) in ask(telecom, "SELECT subscriber_name FROM acm_alerts")}

    assert any("ọ̀" in name for name in names)  # Yoruba, a dot below and a combining accent
    assert any("Ụ" in name for name in names)  # Igbo
    assert any("Ɗ" in name for name in names)  # Hausa


def test_the_tables_use_the_types_that_real_ones_do(telecom: str):
    load(telecom, call_records_per_month=10_000, months=2, now=NOW)

    types = ask(
        telecom,
        "SELECT DISTINCT CASE WHEN t.typtype = 'e' THEN 'enum' ELSE format_type(t.oid, NULL) END"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0",
    )
    identities = ask(telecom, "SELECT 1 FROM pg_attribute WHERE attidentity <> ''")
    generated = ask(telecom, "SELECT 1 FROM pg_attribute WHERE attgenerated <> ''")
    composite_keys = ask(
        telecom,
        "SELECT conrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'p' AND cardinality(conkey) > 1 AND connamespace = 'public'::regnamespace",
    )

    assert {
        "uuid", "bigint", "integer", "smallint", "boolean", "numeric", "double precision", "real", "text", "text[]",
        "character", "bytea", "inet", "cidr[]", "jsonb", "enum", "int4range", "tstzrange", "interval", "date",
        "timestamp with time zone",
    } <= {name for (name,) in types}  # fmt: skip
    assert (len(identities), len(generated)) == (4, 3)
    assert composite_keys == [("gateway_blacklist_history",)]
    assert ask(telecom, "SELECT 1 FROM call_detail_records WHERE charge::text = '66.40' LIMIT 1")
    assert ask(telecom, "SELECT 1 FROM gateway_blacklist_history WHERE expires_at = 'infinity' LIMIT 1")


def test_each_date_column_and_each_reference_has_an_index(telecom: str):
    indexed = set(
        ask(
            telecom,
            "SELECT i.indrelid::regclass::text, a.attname::text"
            " FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]",
        )
    )

    assert set(DATE_COLUMNS.items()) | {("fraud_investigations", "alert_id")} <= indexed
    assert ask(telecom, "SELECT confdeltype FROM pg_constraint WHERE contype = 'f'") == [("a",)]


def test_no_number_can_ring_at_anybody(telecom: str):
    load(telecom, call_records_per_month=2_000, months=2, now=NOW)

    others = ask(
        telecom,
        "SELECT n FROM call_detail_records, unnest(ARRAY[calling_number, called_number, presented_number]) n"
        r" WHERE n !~ '^(\+23499\d{8}|\+447700900\d{3}|\+120255501\d{2}|anonymous)$'",
    )

    assert others == []


def test_a_repeat_adds_nothing(telecom: str):
    create_schema(telecom)
    load(telecom, call_records_per_month=200, now=NOW)
    before = digest(telecom)
    create_schema(telecom)

    added = load(telecom, call_records_per_month=200, now=NOW)

    assert added == dict.fromkeys(NAMES, 0)
    assert digest(telecom) == before


def test_a_higher_volume_adds_the_difference_and_a_lower_one_nothing(telecom: str):
    load(telecom, call_records_per_month=100, months=3, now=NOW)

    load(telecom, call_records_per_month=300, months=3, now=NOW)
    lower = load(telecom, call_records_per_month=50, months=3, now=NOW)

    assert [rows_by_month(telecom, name)["2026-10"] for name in NAMES] == [30, 120, 300, 12, 12]
    assert lower == dict.fromkeys(NAMES, 0)


def test_a_later_load_adds_what_happened_since(telecom: str):
    load(telecom, call_records_per_month=1_000, months=2, now=NOW)

    load(telecom, call_records_per_month=1_000, months=2, now=NOW + timedelta(days=30))

    counts = rows_by_month(telecom, "call_detail_records")
    assert (counts["2026-10"], counts["2026-11"]) == (1_000, 1_000)
    assert 500 < counts["2026-12"] < 1_000


def test_rows_that_were_archived_do_not_come_back(telecom: str):
    load(telecom, call_records_per_month=100, months=3, now=NOW)
    with psycopg.connect(telecom) as connection:
        connection.execute("DELETE FROM call_detail_records WHERE call_start_time < '2026-10-01'")

    load(telecom, call_records_per_month=100, months=3, now=NOW)

    assert "2026-09" not in rows_by_month(telecom, "call_detail_records")


def test_a_load_that_broke_off_is_finished_by_the_next(telecom: str):
    with psycopg.connect(telecom, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_events ADD CONSTRAINT broken CHECK (created_at < '2026-10-20')")
        with pytest.raises(errors.CheckViolation):
            load(telecom, call_records_per_month=100, months=3, now=NOW)
        connection.execute("ALTER TABLE audit_events DROP CONSTRAINT broken")

    load(telecom, call_records_per_month=100, months=3, now=NOW)

    assert [rows_by_month(telecom, name)["2026-10"] for name in NAMES] == [10, 40, 100, 4, 4]


def test_two_loads_at_once_make_each_row_once(telecom: str):
    with ThreadPoolExecutor() as threads:
        both = list(threads.map(lambda _: load(telecom, call_records_per_month=500, months=3, now=NOW), range(2)))

    for name, full_month in zip(NAMES, (50, 200, 500, 20, 20), strict=True):
        counts = rows_by_month(telecom, name)
        assert counts["2026-10"] == full_month
        assert sum(added[name] for added in both) == sum(counts.values())


@pytest.mark.parametrize(
    "arguments",
    [{"call_records_per_month": 0, "now": NOW}, {"months": 0, "now": NOW}, {"now": NOW.replace(tzinfo=None)}],
)
def test_a_volume_that_makes_no_sense_is_refused(arguments: dict):
    with pytest.raises(ConfigurationError, match="HINT: Nothing was changed"):
        load("host=127.0.0.1 port=1", **arguments)


def test_a_database_in_another_encoding_is_refused(postgres: PostgresServer):
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE sample_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    try:
        with pytest.raises(ConfigurationError, match="expected UTF8, found LATIN1"):
            create_schema(postgres.conninfo("sample_latin"))
    finally:
        with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
            connection.execute("DROP DATABASE sample_latin")


def test_an_unreachable_server_is_one_clear_error():
    with pytest.raises(SourceError, match=r"(?s)the database for the sample data.*HINT: ") as caught:
        load("host=127.0.0.1 port=1 user=nobody password=hidden", now=NOW)

    assert "hidden" not in str(caught.value)
