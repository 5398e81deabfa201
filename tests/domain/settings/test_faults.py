"""Which settings are refused, and in which words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from strongroom.errors import ConfigurationError
from strongroom.settings import StoreSettings, load_settings
from tests.support.settings_files import a_table, faults_of, one_table


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("compression: {level: 23}", "compression.level: expected 1 to 22 for zstd, found 23"),
        ("compression: {type: gzip, level: 10}", "compression.level: expected 1 to 9 for gzip, found 10"),
        ("compression: {type: none, level: 1}", "compression.level: expected no level for none, found 1"),
        ("compression: {type: lz4}", "compression.type: expected 'zstd', 'gzip' or 'none', found 'lz4'"),
        ("format: csv", "format: expected 'jsonl' or 'parquet', found 'csv'"),
        ("compression: zstd", "compression: expected a mapping of settings, found text"),
        ("hot_retention: 90", "hot_retention: expected a term such as P90D"),
        ("hot_retention: PT90H", "hot_retention: expected a term such as P90D"),
        ("hot_retention: P8Y", "cold_retention: expected longer than hot_retention (P8Y), found P7Y"),
        ("warm: true\nwarm_retention: P30D", "warm_retention: expected longer than hot_retention (P90D), found P30D"),
        ("warm: true\ncold_retention: P1Y", "cold_retention: expected longer than warm_retention (P365D), found P1Y"),
        ("cold_retention: P7M", "cold_retention: expected `confirmed: P7M` beside it, because archives would be destroyed "
         "after 7 months (212 days), less than a year, found P7M, not confirmed"),
        ("cold_retention: P52W\nconfirmed: P51W", "cold_retention: expected `confirmed: P52W` beside it, because archives "
         "would be destroyed after 52 weeks (364 days), less than a year, found P52W, confirmed: P51W"),
        ("confirmed: 7Y", "confirmed: expected a term such as P90D"),
        ("frequency: yearly", "frequency: expected 'monthly', 'weekly' or 'daily', found 'yearly'"),
        ("cron: '@daily'", "cron: expected a cron expression of 5 fields: minute, hour, day, month, weekday"),
        ("cron: '0 0 2 1 * *'", "cron: expected a cron expression of 5 fields"),
        ("cron: 'R 2 1 * *'", "cron: expected a cron expression of 5 fields"),
        ("cron: '0 2 30 2 *'", "cron: expected a cron expression that comes due"),
        ("cron: '61 2 1 * *'", "cron: expected a cron expression that comes due"),
        ("part_rows: 0", "part_rows: expected 1 or more, found 0"),
        ("part_rows: true", "part_rows: expected a number, not true or false, found true"),
        ("retries: -1", "retries: expected 0 or more, found -1"),
        ("lock_timeout_seconds: 3000000", "lock_timeout_seconds: expected 2,147,483 or less, found 3000000"),
        ("proof_rows: none", "proof_rows: expected a whole number of rows above 0, or 'all', found 'none'"),
        ("primary_key: []", "primary_key: expected at least one name, found a list"),
        ("primary_key: [id, id]", "primary_key: expected each name once, found a list"),
        ("primary_key: [id, 3]", "primary_key[1]: expected text, found 3"),
        ("accepted_delete_triggers: [x, '']", "accepted_delete_triggers[1]: expected a name of 1 to 63 bytes"),
        (f"owner: '{' ' * 3}'", "owner: expected printable text that is not empty"),
        ("staging: gs://bucket/scratch", "staging: expected a folder that every worker reaches"),
        ("staging: s3://Bucket/scratch", "staging: expected 3 to 63 lower-case letters"),
        ("staging: s3://bucket/a//b", "staging: expected printable folder names with single slashes"),
        ("scratch: s3://bucket/scratch", "scratch: expected a folder of the worker's own machine"),
        ("tls_required: maybe", "tls_required: expected true or false, found 'maybe'"),
        ("store: {bucket: Archive}", "store.bucket: expected 3 to 63 lower-case letters"),
        ("store: {bucket: 192.168.5.4}", "store.bucket: expected a bucket name without two dots in a row"),
        ("store: {bucket: a..b}", "store.bucket: expected a bucket name without two dots in a row"),
        ("store: {bucket: xn--archive}", "store.bucket: expected a bucket name without S3's reserved"),
        ("store: {prefix: /archives}", "store.prefix: expected printable folder names"),
        ("iceberg: {bucket: lake, prefix: 'a#b'}", "iceberg.prefix: expected a prefix without ? and #"),
        ("iceberg: {bucket: lake}\nstore: {prefix: 'a?'}", "iceberg.bucket: expected no bucket, since `store.prefix` has ? or #"),
        ("store: {storage_class: COLD}", "store.storage_class: expected one of STANDARD, "),
        ("store: {storage_class: GLACIER}", "store.storage_class: expected a class that can be read at once"),
        ("store: {sse: 'aws:kms'}", "store.kms_key_id: expected the id or ARN of a key, because sse is aws:kms"),
        ("store: {kms_key_id: alias/x}", "store.kms_key_id: expected no key, because sse is AES256, found 'alias/x'"),
        ("store: {endpoint_url: 's3.example.org'}", "store.endpoint_url: expected an address such as https://"),
        ("store: {endpoint_url: 'https://[::1'}", "store.endpoint_url: expected an address such as https://"),
        ("store: {endpoint_url: 'https://h:99999'}", "store.endpoint_url: expected an address such as https://"),
        ("store: {endpoint_url: 'http://10.0.0.1:9000'}", "store.endpoint_url: expected https, or http on this machine's"),
        ("store: {read_timeout_seconds: .inf}", "store.read_timeout_seconds: expected"),
        ("store: {max_connections: 0x" + "f" * 5000 + "}", "archive.yaml: line 6: a number is too large to be read"),
        ("stop_after: P1D", "stop_after: expected a time such as PT4H, counted from the run's start, or hours"),
        ("stop_after: 6", "stop_after: expected a time such as PT4H"),
        ("delete_limits: {waiting_sessions: -1}", "delete_limits.waiting_sessions: expected 0 or more, found -1"),
        ("delete_limits: {commit_seconds: 0}", "delete_limits.commit_seconds: expected more than 0, found 0"),
        ("delete_limits: {dead_rows_percent: 101}", "delete_limits.dead_rows_percent: expected 100 or less, found 101"),
        ("delete_limits: {lag: 1}", "delete_limits.lag: unknown key"),
        ("purge: {confirmed: {four_eyes: true}}", "purge.confirmed.four_eyes: expected `four_eyes: false` as beside it, or no "
         "word of four_eyes, found true"),
        ("purge: {require_approval: true, confirmed: {require_approval: false}}", "purge.confirmed.require_approval: expected "
         "`require_approval: true` as beside it, or no word of require_approval, found false"),
        ("purge: {confirmed: [require_approval]}", "purge.confirmed: expected a mapping, found a list"),
        ("purge: {confirmed: {sweep_after_days: 7}}", "purge.confirmed.sweep_after_days"),
        ("part_row: 5", "part_row: unknown key, did you mean part_rows?"),
        ("level: 5", "level: unknown key, did you mean compression.level?"),
        ("table: other", "table: unknown key"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_key(a_file, lines, told):
    faults = faults_of(a_file(one_table(*lines.split("\n"))))

    assert any(fault.removeprefix("archive.yaml: tables.events.").startswith(told) for fault in faults), faults


@pytest.mark.parametrize(
    ("cold", "basis", "told"),
    [
        ("P6Y", "NCC 7-year audit trail", "it says 7 years and cold_retention is 6 years"),
        ("P70Y", "seven years by law", "it says 7 years and cold_retention is 70 years"),
        ("P1Y", "1 year for one, 18 Months for the other", "it says 18 months and cold_retention is 1 year"),
        ("P7Y", "kept for 7 days", "it says 7 days and cold_retention is 7 years"),
    ],
)
def test_a_term_that_does_not_fit_its_own_reason_counts_when_it_is_said_twice(cold, basis, told):
    given = {"cold_retention": cold, "legal_basis": basis, "hot_retention": "P1D"}

    with pytest.raises(ValidationError) as refused:
        a_table(**given)

    assert f"`confirmed: {cold}` beside it, because {told}" in str(refused.value)
    assert str(a_table(**given, confirmed=cold).cold_retention) == cold


@pytest.mark.parametrize(
    "basis", ["NCC 7-year audit trail", "5 to 7 years", "GDPR Art. 5(1)(e)", "0 days", "99999 years", "2026 year-end"]
)
def test_a_term_that_fits_its_reason_needs_no_second_word(basis):
    assert str(a_table(legal_basis=basis).cold_retention) == "P7Y"


def test_a_term_under_a_year_counts_when_it_is_said_twice(a_file):
    """One wrong letter must not destroy evidence six years early; a term of a year or more needs no second word."""
    top = "cold_retention: P7M\nconfirmed: P7M\nlegal_basis: a law\ndate_column: at\n"

    loaded = load_settings(a_file(f"{top}tables: {{events: , calls: {{cold_retention: P365D}}}}"), {})

    assert [str(table.cold_retention) for table in loaded.tables.values()] == ["P7M", "P365D"]
    assert loaded.left_out == {}


@pytest.mark.parametrize("variable", [False, True])
def test_what_switches_approval_off_at_once_is_not_inherited(a_file, variable):
    """Else a table that loses its own `require_approval: true` would be purged the next day, confirmed by what was meant for others."""
    strict = "tables: {events: {purge: {require_approval: true, confirmed: {}}}, calls: {}}"
    lost = "legal_basis: a law\ndate_column: at\n"
    top = "" if variable else "purge: {confirmed: {require_approval: false}}\n"
    environ = {"STRONGROOM__PURGE__CONFIRMED": '{"require_approval": false}'} if variable else {}

    with pytest.raises(ConfigurationError) as refused:
        load_settings(a_file(f"{lost}{top}{strict}"), environ)

    where = "STRONGROOM__PURGE__CONFIRMED" if variable else "archive.yaml: purge.confirmed"
    assert f"{where}: expected it in the sections of tables, found it at the top" in str(refused.value)


def test_a_table_with_a_fault_of_its_own_is_left_out_and_the_others_are_loaded(a_file):
    """The fault is told to whoever asks for that table, under any of its names, and for no other."""
    path = a_file(
        "legal_basis: a law\ndate_column: at\ncold_retention: P2Y\ntables:\n  events: {retries: 2}\n  ops.Calls: {part_row: 5}\n"
        "  alerts: 3\n  cases: {hot_retention: P3Y}\n  a.b: {}\n  a__b: {}\n"
    )
    environ = {"STRONGROOM__TABLES__OPS__CALLS__FREQUENCY": "yearly", "STRONGROOM__TABLES__EVENTS__RETRIES": "4"}

    loaded = load_settings(path, environ)

    assert {name: table.retries for name, table in loaded.tables.items()} == {"events": 4}
    assert list(loaded.left_out) == ["ops.Calls", "alerts", "cases", "a.b", "a__b"]
    assert loaded.leaves_out("ops", "Calls")
    assert not loaded.leaves_out("public", "events")
    for name in ("ops.Calls", "OPS__CALLS"):
        with pytest.raises(ConfigurationError) as refused:
            loaded.table(name)
        assert refused.value.what.splitlines() == [
            f"2 faults in the settings of table ops.Calls in {path}",
            "  STRONGROOM__TABLES__OPS__CALLS__FREQUENCY: expected 'monthly', 'weekly' or 'daily', found 'yearly'",
            "  archive.yaml: tables.ops.Calls.part_row: unknown key, did you mean part_rows?",
        ]
        assert refused.value.hint.startswith("No row of such a table was touched")


@pytest.mark.parametrize(
    ("top", "environ"),
    [
        ("part_rows: few", {}),
        ("compresion: {}", {}),
        ("", {"STRONGROOM__FREQUENCY": "yearly"}),
        ("", {"STRONGROOM__TABLES__EVENTZ__RETRIES": "1"}),
        ("owner: x\nowner: y", {}),
    ],
)
def test_a_fault_that_may_concern_every_table_stops_all(a_file, top, environ):
    """A variable for a table that is not there was meant for one that is: archived without it, rows might go too early."""
    assert len(faults_of(a_file(one_table(top=top)), environ)) == 1


def test_a_key_that_stands_twice_is_told_with_both_lines(a_file):
    assert faults_of(a_file(one_table("date_column: created", top="owner: x"))) == [
        "archive.yaml: line 6: key 'date_column' stands here a second time, first on line 4"
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.b.c", "expected table or schema.table"),
        ("'\"Quoted\"'", "without quotes"),
        (f"{'é' * 32}", "expected a name of 1 to 63 bytes"),
        ("schema.", "expected a name of 1 to 63 bytes"),
    ],
)
def test_a_wrong_table_name_is_told(a_file, name, told):
    [fault] = faults_of(a_file(f"tables:\n  {name}: {{date_column: at, legal_basis: a law}}"))

    assert told in fault


def test_every_fault_of_file_and_environment_is_told_at_once(a_file):
    path = a_file(
        "compression: {level: 99}\ncompresion: zstd\nstore: {endpoint_url: 'http://s3.example.org', bucket: B}\n"
        "tables:\n  one: {date_column: at, legal_basis: a law}\n  two: {compression: {type: gzip}}\n  three: 3\n"
    )
    environ = {
        "STRONGROOM__FREQUENCY": "yearly",
        "STRONGROOM__HOTRETENTION": "P1D",
        "STRONGROOM__STORE__REGON": "x",
        "STRONGROOM__RETRIES__MORE": "1",
        "STRONGROOM__TABLES__ONE__PART_ROWS": "many",
        "STRONGROOM__TABLES__TOW__PART_ROWS": "1",
        "STRONGROOM_BUCKET": "not a setting",
    }

    assert sorted(faults_of(path, environ)) == sorted([
        "archive.yaml: tables.three: expected a mapping of settings, found 3",
        "STRONGROOM__HOTRETENTION: unknown key, did you mean hot_retention?",
        "STRONGROOM__RETRIES__MORE: expected no further part after RETRIES",
        "STRONGROOM__TABLES__TOW__PART_ROWS: expected STRONGROOM__TABLES__<TABLE>__<SETTING> with a table of the file, "
        "did you mean two?",
        "STRONGROOM__FREQUENCY: expected 'monthly', 'weekly' or 'daily', found 'yearly'",
        "STRONGROOM__STORE__REGON: unknown key, did you mean region?",
        "STRONGROOM__TABLES__ONE__PART_ROWS: expected a whole number, found 'many'",
        "archive.yaml: compresion: unknown key, did you mean compression?",
        "archive.yaml: compression.level: expected 1 to 22 for zstd, found 99 (for one)",
        "archive.yaml: compression.level: expected 1 to 9 for gzip, found 99 (for two)",
        "archive.yaml: store.bucket: expected 3 to 63 lower-case letters, digits, dots and hyphens, a letter or digit at "
        "both ends, found 'B'",
        "archive.yaml: store.endpoint_url: expected https, or http on this machine's loopback (tls_required: false lifts "
        "this), found http to another host",
        "archive.yaml: tables.two.date_column: expected the column that dates a row, here or as a default at the top, "
        "found nothing",
        "archive.yaml: tables.two.legal_basis: expected the law or contract that sets the term, here or as a default at "
        "the top, found nothing",
    ])  # fmt: skip


def test_a_wrong_default_is_told_once_however_many_tables_inherit_it(a_file):
    tables = "".join(f"  t{number}: {{date_column: at, legal_basis: a law}}\n" for number in range(50))

    assert faults_of(a_file(f"part_rows: few\ntables:\n{tables}")) == [
        "archive.yaml: part_rows: expected a whole number, found 'few'"
    ]


def test_defaults_that_every_table_completes_are_right(a_file):
    top = "store: {sse: 'aws:kms', endpoint_url: 'http://10.0.0.1'}"
    path = a_file(one_table("store: {kms_key_id: alias/own}", "tls_required: false", top=top))

    assert load_settings(path, {}).table("events").store.kms_key_id == "alias/own"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9:9000", "[::1]:8333"])
def test_plain_http_is_right_on_loopback(host):
    store = StoreSettings(endpoint_url=f"http://{host}")

    assert a_table(store=store).store.endpoint_url == f"http://{host}"


@pytest.mark.parametrize("host", ["s3.example.org", "10.0.0.1", "localhost.example.org", "0.0.0.0"])
def test_plain_http_to_another_host_is_refused_also_in_code(host):
    store = StoreSettings(endpoint_url=f"http://{host}")

    with pytest.raises(ValidationError, match="loopback"):
        a_table(store=store)


def test_two_tables_with_one_slug_are_refused(a_file):
    defaults = "legal_basis: a law\ndate_column: at\n"

    for twins in ("{a.b: , a__b: }", "{events: , public.events: }", "{Events: , events: }"):
        [fault] = faults_of(a_file(f"{defaults}tables: {twins}"))
        assert "which names DAG and variables" in fault


def test_a_secret_is_refused_and_never_shown(a_file):
    path = a_file(
        one_table(
            "password: hunter2",
            "store: {secret_access_key: hunter2, endpoint_url: 'https://key:hunter2@s3.example.org'}",  # pragma: allowlist secret
        )
    )

    with pytest.raises(ConfigurationError) as refused:
        load_settings(path, {"STRONGROOM__STORE__TOKEN": "hunter2", "STRONGROOM__COMPRESSION": "hunter2"})

    assert "hunter2" not in str(refused.value)
    assert str(refused.value).count("put it into the Airflow connection") == 3
    assert "store.endpoint_url: expected an address without a user or password" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tables: [", "archive.yaml: line 2: not YAML"),
        ("a: 1\n\tb: 2", "archive.yaml: line 2: not YAML, it is indented with a tab; use spaces"),
        ("tables:\n  é:\n\t  date_column: at", "archive.yaml: line 3: not YAML, it is indented with a tab; use spaces"),
        ("a: b: c", "archive.yaml: line 1: not YAML"),
        ("- a", "archive.yaml: expected a mapping of settings, found a list"),
        ("", "archive.yaml: expected a mapping of settings, found nothing"),
        ("owner: x", "archive.yaml: tables: expected at least one table, found nothing"),
        ("tables: {}", "archive.yaml: tables: expected at least one table, found a mapping"),
        ("tables: {1: {}}", "archive.yaml: line 1: expected text as a key, found 1"),
        ("<<: {owner: x}", "archive.yaml: line 1: merge keys are not read here"),
        ("owner: !!python/name:os.system", "archive.yaml: line 1: tags are not read here"),
        ("a: 1\n---\nb: 2", "archive.yaml: line 2: a second document begins"),
        ("owner: &x [*x]", "archive.yaml: line 1: *x refers to nothing"),
        ("[" * 100_000, "archive.yaml: line 1: nested more than 20 levels deep"),
        ("owner: \x00", "archive.yaml: not YAML"),
        (b"owner: \xff", "archive.yaml: is not UTF-8 text, byte 7 is wrong"),
    ],
)
def test_what_is_no_settings_file_is_told_with_its_line(a_file, text, told):
    assert any(fault.startswith(told) for fault in faults_of(a_file(text)))


def test_a_file_that_cannot_be_read_is_told_with_the_wrong_variables(tmp_path):
    """A missing file hides which tables there are, but not a wrong default in the environment."""
    environ = {"STRONGROOM__RETRIES": "x", "STRONGROOM__TABLES__EVENTS__RETRIES": "1"}

    missing, folder = faults_of(tmp_path / "none.yaml", environ), faults_of(tmp_path)

    assert missing == [
        "none.yaml: cannot be read: No such file or directory; set STRONGROOM_CONFIG to the path of the file",
        "STRONGROOM__RETRIES: expected a whole number, found 'x'",
    ]
    where = "set STRONGROOM_CONFIG to the path of the file"
    assert folder == [f"{tmp_path.name}: cannot be read: Is a directory; {where}"]


def test_one_setting_in_two_variables_is_refused(a_file):
    environ = {"STRONGROOM__RETRIES": "1", "STRONGROOM__retries": "2"}

    assert faults_of(a_file(one_table()), environ) == [
        "STRONGROOM__retries: expected one variable for this setting, found STRONGROOM__RETRIES too"
    ]


def test_dates_and_quoted_numbers_stay_text(a_file):
    """YAML would make a date of a column's name, which is no reason to refuse it."""
    assert load_settings(a_file(one_table("owner: 2026-01-01")), {}).table("events").owner == "2026-01-01"


@pytest.mark.parametrize("version", ["1", "1.0"])
def test_a_file_may_name_its_version(a_file, version):
    assert load_settings(a_file(f"version: {version}\n{one_table()}"), environ={}).tables


@pytest.mark.parametrize(
    ("version", "found"),
    [("2", "2; the file is for a newer Strongroom"), ("0", "0"), ("true", "true"), ("'1'", "'1'"), ("", "nothing")],
)
def test_a_file_of_a_version_that_is_not_known_says_only_that(a_file, version, found):
    """Whatever else it holds may mean something else there."""
    text = f"version: {version}\nunheard_of: 1\n{one_table()}"

    with pytest.raises(ConfigurationError, match="1 fault in the settings") as raised:
        load_settings(a_file(text), environ={})

    assert (
        f"archive.yaml: version: expected 1, the version of the settings that this Strongroom reads, found {found}"
        in str(raised.value)
    )
