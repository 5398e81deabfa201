"""Which settings a table has: what wins, and what the defaults are."""

from __future__ import annotations

import boto3
import pytest
from pydantic import ValidationError

from strongroom.calendar import Frequency, Term
from strongroom.errors import ConfigurationError
from strongroom.settings import Compression, DeleteLimits, load_settings
from strongroom.settings.time_budget import TimeBudget
from strongroom.settings.values import STORAGE_CLASSES
from tests.support.counting import count_calls
from tests.support.settings_files import a_table, one_table

FIRST_TABLES = {
    "acm_alerts": "detected_at",
    "audit_events": "created_at",
    "call_detail_records": "call_start_time",
    "gateway_blacklist_history": "created_at",
    "fraud_investigations": "created_at",
}


def test_the_file_of_the_checkout_names_the_five_tables():
    loaded = load_settings(environ={})

    assert {name: table.date_column for name, table in loaded.tables.items()} == FIRST_TABLES
    assert all(table.cold_retention == Term.parse("P7Y") and table.legal_basis for table in loaded.tables.values())


def test_a_table_with_nothing_but_its_name_date_and_basis_has_every_default(a_file):
    loaded = load_settings(a_file(one_table()), {"AIRFLOW_HOME": "/srv/airflow"}).table("events")

    assert loaded == a_table(staging="/srv/airflow/strongroom-staging", scratch="/srv/airflow/strongroom-scratch")
    assert loaded.hot_retention == Term.parse("P90D")
    assert loaded.frequency is Frequency.MONTHLY
    assert loaded.compression.effective_level == 3


def test_a_nearer_source_wins(a_file):
    """Table in the environment, table in the file, top in the environment, top of the file, default."""
    path = a_file(
        "hot_retention: P10D\nwarm_retention: P11D\nowner: top\nretries: 1\nlegal_basis: a law\ndate_column: at\n"
        "tables:\n  events: {hot_retention: P20D, owner: section}\n  alerts:\n"
    )
    environ = {
        "STRONGROOM__HOT_RETENTION": "P30D",
        "STRONGROOM__OWNER": "everywhere",
        "STRONGROOM__RETRIES": "7",
        "STRONGROOM__TABLES__EVENTS__HOT_RETENTION": "P40D",
    }

    events, alerts = (load_settings(path, environ).table(name) for name in ("events", "alerts"))

    assert [str(table.hot_retention) for table in (events, alerts)] == ["P40D", "P30D"]
    assert [table.owner for table in (events, alerts)] == ["section", "everywhere"]
    assert [table.retries for table in (events, alerts)] == [7, 7]
    assert [str(table.warm_retention) for table in (events, alerts)] == ["P11D", "P11D"]
    assert str(events.cold_retention) == "P7Y"


def test_sections_are_merged_key_by_key(a_file):
    top = "store: {bucket: shared, region: af-south-1}\ncompression: {type: gzip}"
    path = a_file(one_table("store: {bucket: own-bucket}", "compression: {level: 9}", top=top))

    table = load_settings(path, {"STRONGROOM__TABLES__EVENTS__STORE__PREFIX": "cold/"}).table("events")

    assert (table.store.bucket, table.store.region, table.store.prefix) == ("own-bucket", "af-south-1", "cold")
    assert (table.compression.type, table.compression.level) == ("gzip", 9)


def test_variables_carry_lists_sections_numbers_and_nothing(a_file):
    path = a_file(one_table(top="store: {endpoint_url: 'https://s3.example.org', bucket: first}"))
    environ = {
        "STRONGROOM__PRIMARY_KEY": '["tenant_id", "id"]',
        "STRONGROOM__ACCEPTED_DELETE_TRIGGERS": "audit_delete",
        "STRONGROOM__COMPRESSION": '{"type": "none"}',
        "STRONGROOM__PROOF_ROWS": "all",
        "STRONGROOM__STORE__READ_TIMEOUT_SECONDS": "2.5",
        "STRONGROOM__STORE__ENDPOINT_URL": "null",
        "STRONGROOM__cron": "*/5 * * * *",
    }

    table = load_settings(path, environ).table("events")

    assert table.primary_key == ("tenant_id", "id")
    assert table.accepted_delete_triggers == ("audit_delete",)
    assert (table.compression.type, table.compression.effective_level) == ("none", None)
    assert table.proof_rows == "all"
    assert (table.store.read_timeout_seconds, table.store.endpoint_url, table.store.bucket) == (2.5, None, "first")
    assert table.cron == "*/5 * * * *"


def test_limits_and_hours_are_set_and_taken_away(a_file):
    path = a_file(one_table("delete_limits: {dead_rows_percent: 20}", top="stop_after: PT4H"))
    environ = {
        "STRONGROOM__STOP_AFTER": "22:00-06:00",
        "STRONGROOM__DELETE_LIMITS__REPLICATION_LAG_SECONDS": "null",
        "STRONGROOM__DELETE_LIMITS__COMMIT_SECONDS": "0.5",
    }

    table, unlimited = (
        load_settings(path, environ).table("events"),
        load_settings(path, {"STRONGROOM__STOP_AFTER": "null"}),
    )

    assert table.stop_after == TimeBudget.parse("22:00-06:00")
    assert table.delete_limits == DeleteLimits(replication_lag_seconds=None, commit_seconds=0.5, dead_rows_percent=20)
    assert unlimited.table("events").stop_after is None


def test_a_variable_finds_a_table_with_a_schema_and_the_longest_name(a_file):
    path = a_file("legal_basis: a law\ndate_column: at\ntables: {fraud: , fraud.Case Files: , public.plain: }")
    environ = {
        "STRONGROOM__TABLES__FRAUD__CASE_FILES__RETRIES": "8",
        "STRONGROOM__TABLES__FRAUD__RETRIES": "9",
        "STRONGROOM__TABLES__PLAIN__RETRIES": "1",
    }

    loaded = load_settings(path, environ)

    assert {name: table.retries for name, table in loaded.tables.items()} == {
        "fraud": 9,
        "fraud.Case Files": 8,
        "public.plain": 1,
    }


def test_a_table_knows_its_names():
    plain, other = a_table(table="audit_events"), a_table(table="billing.Invoices")

    assert (plain.schema_name, plain.table_name, plain.qualified_name, plain.slug) == (
        "public", "audit_events", "public.audit_events", "audit_events",
    )  # fmt: skip
    assert (other.schema_name, other.table_name, other.qualified_name, other.slug) == (
        "billing", "Invoices", "billing.Invoices", "billing__Invoices",
    )  # fmt: skip
    assert a_table(table="public.audit_events").slug == "audit_events"


def test_a_table_is_found_by_any_of_its_names(a_file):
    path = a_file("legal_basis: a law\ndate_column: at\ntables: {billing.invoices: , events: }")

    loaded = load_settings(path, {})

    assert {loaded.table(name).table for name in ("billing.invoices", "BILLING__INVOICES")} == {"billing.invoices"}
    assert {loaded.table(name).table for name in ("events", "public.events")} == {"events"}
    with pytest.raises(
        ConfigurationError, match=r"(?s)'event' is not configured, did you mean events.*billing.invoices"
    ):
        loaded.table("event")


def test_staging_is_a_folder_that_does_not_depend_on_where_a_process_was_started(a_file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    relative, absolute = a_file(one_table("staging: scratch")), {"STRONGROOM__STAGING": "/mnt/scratch"}

    assert load_settings(relative, {}).table("events").staging == f"{tmp_path}/airflow/scratch"
    assert load_settings(relative, {"AIRFLOW_HOME": "/srv/airflow"}).table("events").staging == "/srv/airflow/scratch"
    assert load_settings(a_file(one_table()), absolute).table("events").staging == "/mnt/scratch"


@pytest.mark.parametrize("written", ["s3://scratch-bucket/team/a", "s3://scratch-bucket/team/a/"])
def test_staging_on_s3_has_a_bucket_of_its_own_on_the_server_of_the_archives(a_file, written):
    store = "store: {endpoint_url: 'https://s3.example.org', storage_class: STANDARD_IA}"
    table = load_settings(a_file(one_table(f"staging: {written}", store)), {}).table("events")

    where = table.staging_store
    assert (where.bucket, where.prefix, where.storage_class) == ("scratch-bucket", "team/a", "STANDARD")
    assert where.endpoint_url == "https://s3.example.org"
    assert load_settings(a_file(one_table()), {}).table("events").staging_store is None


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        a_table().store.bucket = "another"


def test_the_file_is_found_by_argument_then_variable_then_place(a_file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("legal_basis: a law\ntables: {elsewhere: {date_column: at}}")
    environ = {"STRONGROOM_CONFIG": str(other)}

    assert list(load_settings(environ=environ).tables) == ["elsewhere"]
    assert list(load_settings(a_file(one_table()), environ).tables) == ["events"]
    assert list(load_settings(environ={"STRONGROOM_CONFIG": ""}).tables) == list(FIRST_TABLES)


def test_ten_times_as_many_tables_are_ten_times_the_work(a_file):
    def load(tables: int) -> int:
        path = a_file("legal_basis: a law\ntables:\n" + "".join(
            f"  t{number}:\n    date_column: at\n    cron: '{number % 60} 2 1 * *'\n    compression: {{level: 5}}\n"
            for number in range(tables)
        ))  # fmt: skip
        return count_calls(lambda: load_settings(path, {"STRONGROOM__TABLES__T7__RETRIES": "1"}))

    load(20)  # what is worked out once

    assert load(200) < 11 * load(20)


def test_the_levels_of_a_type_have_defaults():
    levels = {kind: Compression(type=kind).effective_level for kind in ("zstd", "gzip", "none")}

    assert levels == {"zstd": 3, "gzip": 6, "none": None}
    assert Compression(level=22).effective_level == 22


def test_the_storage_classes_are_those_of_s3():
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")

    known = client.meta.service_model.shape_for("StorageClass").enum

    assert list(STORAGE_CLASSES) == known
