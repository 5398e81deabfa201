"""A first archive.yaml for a database that nobody has looked at: the right tables by the right dates, reasons for the others."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import pytest

from strongroom.calendar import Term
from strongroom.database.session import open_source
from strongroom.proposal.choose import propose
from strongroom.proposal.look import look
from strongroom.proposal.write import Choices, next_commands, write_settings
from strongroom.settings import load_settings
from strongroom.settings.tables import TableSettings
from tests.support.database import digest, execute

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
SHOP = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text, born date, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint REFERENCES customers, updated_at timestamptz NOT NULL DEFAULT now(),
                     ordered_at timestamptz NOT NULL DEFAULT now(), shipped_at timestamptz);
CREATE INDEX ON orders (ordered_at);
CREATE TABLE clicks (id bigint, clicked_on date NOT NULL, page text, PRIMARY KEY (id, clicked_on)) PARTITION BY RANGE (clicked_on);
CREATE TABLE clicks_2026 PARTITION OF clicks FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON clicks (clicked_on);
CREATE TABLE letters (body text, sent_at timestamptz);
CREATE TABLE addresses (customer_id bigint REFERENCES customers, line integer, PRIMARY KEY (customer_id, line));
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE fresh (id bigint PRIMARY KEY, at timestamptz NOT NULL);
CREATE INDEX ON fresh (at);
CREATE SCHEMA "Odd Shop";
CREATE TABLE "Odd Shop"."Sales: 2026 # all" (id bigint PRIMARY KEY, "When? 'x'" timestamp NOT NULL);
CREATE TABLE "Odd Shop"."a.b" (id bigint PRIMARY KEY, at timestamp NOT NULL);
CREATE VIEW recent AS SELECT * FROM orders;
CREATE SCHEMA warm;
CREATE TABLE warm.orders (id bigint PRIMARY KEY, ordered_at timestamptz NOT NULL);
INSERT INTO customers SELECT n, 'x', '1980-01-01', '2026-01-01'::timestamptz + n * interval '1 hour' FROM generate_series(1, 100) n;
INSERT INTO orders SELECT n, 1 + n % 100, '2026-11-01', '2026-01-01'::timestamptz + n * interval '1 hour' FROM generate_series(1, 7000) n;
INSERT INTO clicks SELECT n, '2026-01-01'::date + n % 300, 'p' FROM generate_series(1, 5000) n;
INSERT INTO "Odd Shop"."Sales: 2026 # all" SELECT n, '2026-02-01'::timestamp + n * interval '1 hour' FROM generate_series(1, 500) n;
INSERT INTO fresh SELECT n, '2026-11-20' FROM generate_series(1, 10) n;
ANALYZE;
"""


@pytest.fixture(scope="module")
def shop(shared_source) -> str:
    execute(shared_source, SHOP)
    return shared_source


def proposals(conninfo, *schemas, least_bytes=0):
    with open_source(conninfo, application_name="test") as connection:
        connection.execute("SET default_transaction_read_only = on")
        found = propose(connection, look(connection, schemas), hot=Term.parse("P90D"), now=NOW, least_bytes=least_bytes)
    return {one.table.name: one for one in found}


def test_tables_of_events_are_proposed_by_the_date_on_which_their_rows_came_about(shop):
    before = digest(shop, "orders")

    found = proposals(shop)

    assert {name for name, one in found.items() if one.verdict == "archive"} == {"orders", "clicks"}
    assert (found["orders"].date.name, found["orders"].key) == ("ordered_at", ("id",))
    assert [other.name for other in found["orders"].others] == ["updated_at", "shipped_at"]
    assert (found["clicks"].date.name, found["clicks"].oldest) == (
        "clicked_on",
        datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    # Before 1 August: 24 * 212 hours of orders; the planner estimates.
    assert 4500 < found["orders"].due_rows < 5700
    assert digest(shop, "orders") == before


def test_a_table_that_could_go_wrong_is_left_to_a_person_with_the_reason(shop):
    found = proposals(shop)

    assert found["customers"].verdict == "ask"
    assert found["customers"].date.name == "created_at"
    assert (
        "rows that public.addresses, public.orders still refer to stay in it, unless `with:` archives both together"
        in found["customers"].reasons
    )
    assert "no index begins with created_at, so each run reads the whole table" in found["customers"].reasons
    assert found["Odd Shop.Sales: 2026 # all"].verdict == "ask"
    assert proposals(shop, least_bytes=1 << 30)["orders"].reasons == ("it is small",)


def test_a_table_that_others_refer_to_comes_with_the_line_that_archives_them_together(shop, tmp_path):
    found = proposals(shop)
    assert {name: one.members for name, one in found.items() if one.members} == {"customers": ("addresses", "orders")}

    text = write_settings([found["customers"]], choices(), where="database shop", now=NOW)
    path = tmp_path / "archive.yaml"
    path.write_text(re.sub(r"(?m)^  # (?=customers:|  )", "  ", text))
    settings = load_settings(path, {})

    assert settings.left_out == {}
    assert [one.table for one in settings.members_of(settings.table("customers"))] == ["addresses", "orders"]


def test_what_cannot_be_archived_is_left_with_every_reason(shop):
    left = {name: one.reasons for name, one in proposals(shop).items() if one.verdict == "leave"}

    assert left.keys() == {"letters", "countries", "addresses", "fresh", "Odd Shop.a.b"}
    assert left["addresses"][0].endswith("; `with:` in the section of customers archives them together")
    assert "it has no primary key" in left["letters"][0]
    assert left["countries"] == ("no column of type date, timestamp or timestamptz dates its rows",)
    assert left["fresh"][0] == "no row of it is older than 90 days"
    assert "cannot be used in archive.yaml" in left["Odd Shop.a.b"][0]


def test_only_tables_of_the_wanted_schemas_are_looked_at(shop):
    assert set(proposals(shop, "Odd Shop")) == {"Odd Shop.Sales: 2026 # all", "Odd Shop.a.b"}


def choices(**changes):
    given = {
        "legal_basis": "a law: 7 years # really",
        "bucket": "shop-archive",
        "endpoint_url": "https://s3.example.com",
    }
    return Choices(hot=Term.parse("P90D"), cold=Term.parse("P7Y"), **given | changes)


def test_the_file_is_sound_and_says_what_was_chosen(shop, tmp_path):
    found = list(proposals(shop).values())
    path = tmp_path / "archive.yaml"
    path.write_text(write_settings(found, choices(), where="database shop\non x", now=NOW))

    settings = load_settings(path, {})

    assert (settings.left_out, list(settings.tables)) == ({}, ["orders", "clicks"])
    assert isinstance(settings.tables["orders"], TableSettings)
    assert settings.tables["orders"].date_column == "ordered_at"
    assert settings.tables["orders"].legal_basis == "a law: 7 years # really"
    assert str(settings.tables["clicks"].store.endpoint_url) == "https://s3.example.com"


def test_each_table_to_decide_about_is_sound_without_its_hashes(shop, tmp_path):
    text = write_settings(list(proposals(shop).values()), choices(), where="database shop", now=NOW)
    head, _, rest = text.partition("  # Tables to decide about")
    wanted, _, _ = rest.partition("  # Left out.")
    lines = [
        line for line in wanted.splitlines()[1:] if line.startswith(("  # customers:", '  # "Odd', "  #   date_column"))
    ]
    path = tmp_path / "archive.yaml"
    path.write_text("\n".join([head, *(line.replace("# ", "", 1) for line in lines)]))

    settings = load_settings(path, {})

    assert set(settings.tables) == {"orders", "clicks", "customers", "Odd Shop.Sales: 2026 # all"}
    assert settings.tables["Odd Shop.Sales: 2026 # all"].date_column == "When? 'x'"


def test_without_a_legal_basis_nothing_starts_and_the_line_to_fill_in_is_named(shop, tmp_path):
    path = tmp_path / "archive.yaml"
    text = write_settings(list(proposals(shop).values()), choices(legal_basis=None), where="database shop", now=NOW)
    path.write_text(text)

    with pytest.raises(Exception, match="legal_basis"):
        load_settings(path, {})
    assert "legal_basis:        # <- FILL IN" in text


def test_the_next_commands_can_be_pasted(shop):
    first, check, plan = next_commands(
        list(proposals(shop, "Odd Shop").values()), file="/tmp/it's/archive.yaml", conninfo="host=db dbname=shop"
    )

    assert """--set=tables='"Odd Shop"."Sales: 2026 # all"'""" in first
    assert first.startswith("psql 'host=db dbname=shop' ")
    assert check == "STRONGROOM_CONFIG='/tmp/it'\\''s/archive.yaml' airflow strongroom check"
    assert plan.endswith("airflow strongroom plan")
