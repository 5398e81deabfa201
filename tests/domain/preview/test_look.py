"""What runs would do, said beforehand: the same as the run then does, and nothing is written to say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from strongroom.ledger.claims import take_claim
from strongroom.ledger.holds import EVERYTHING, place_hold
from strongroom.object_keys.records import claim_key
from strongroom.preview.records import TablePreview
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute, scalar
from tests.support.previewing import look, only

TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz, who text);
CREATE INDEX ON audit (at);
CREATE TABLE note (id bigint PRIMARY KEY, audit_id bigint REFERENCES audit (id));
INSERT INTO audit SELECT n, '2026-05-01Z'::timestamptz + n * interval '1 hour', 'agent ' || n FROM generate_series(1, 700) AS n;
INSERT INTO note SELECT n, n FROM generate_series(1, 3) AS n;
INSERT INTO audit VALUES (1001, NULL, 'nobody'), (1002, '2026-11-01Z', 'hot');
"""
WHOLE = """
CREATE TABLE audit (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE audit_2026_05 PARTITION OF audit FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');
CREATE TABLE audit_2026_06 PARTITION OF audit FOR VALUES FROM ('2026-06-01+00') TO ('2026-07-15+00');
INSERT INTO audit SELECT n, '2026-05-01 00:00+00'::timestamptz + n * interval '2 hour' FROM generate_series(0, 600) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, TABLE)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging"))
    chain.plan()  # claims the store, as an operator does when setting it up
    return chain


def objects(chain: Chain) -> list[tuple[str, str]]:
    return list(chain.store.entries(""))


def statements(told: TablePreview) -> Iterator[tuple[str, str, str]]:
    for one in only(told).statements:
        yield one.what, one.sql, "\n".join(one.plan)


def test_a_look_says_what_the_run_then_does(chain):
    told = only(look(chain))
    done = chain.run()

    assert told.plan is not None
    assert (told.outcome, told.rows, len(told.plan.parts), told.plan.archive_id) == (
        "planned",
        done.archived_rows,
        done.parts,
        done.archive_id,
    )
    assert told.plan.exclusions == done.exclusions
    assert {one.reason: one.rows for one in done.exclusions} == {"referenced": 3, "no_date": 1}
    assert "range, since an index begins with at" in told.delete


def test_a_look_writes_nothing_and_takes_no_claim(chain, tmp_path):
    before = objects(chain)
    (tmp_path / "staging").rmdir()
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        numbered = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchone()
        told = look(chain, explain=True)
        after = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchone()

    assert told.due
    assert objects(chain) == before
    assert not (tmp_path / "staging").exists()
    assert after == numbered  # a transaction that writes takes a number


def test_a_bucket_that_is_missing_is_not_created(chain, object_store):
    settings = some_settings("not-there", chain.settings.staging)
    settings = settings.model_copy(update={"store": settings.store.model_copy(update={"create_bucket": True})})
    other = replace(chain, settings=settings, client=object_store.client("admin"))

    told = look(other)

    assert "there is no bucket not-there" in str(told.problem)
    assert "not-there" not in [one["Name"] for one in object_store.client("admin").list_buckets()["Buckets"]]


def test_the_statements_are_those_of_the_steps_and_the_server_explains_them(chain):
    told = {what: (text, plan) for what, text, plan in statements(look(chain, explain=True))}

    text, plan = told["extract_to_staging"]
    assert text.startswith('COPY (SELECT "t"."id", "t"."at", "t"."who" FROM "public"."audit" AS t WHERE')
    assert "note" in plan
    assert "Delete on audit" in told["delete by range, one block"][1]
    assert 'USING "pg_temp"."strongroom_batch" AS b' in told["delete one by one, a batch"][0]
    assert "audit_pkey" in told["delete one by one, a batch"][1]
    assert scalar(chain.conninfo, "SELECT count(*) FROM audit") == 702


def test_sizes_and_time_come_from_the_tables_last_archives(chain):
    guess = only(look(chain)).estimate
    chain.now = NOW
    report = chain.run()
    execute(chain.conninfo, "INSERT INTO audit SELECT n, '2026-06-02Z', 'later' FROM generate_series(2001, 2100) AS n")

    known = next(one for one in look(chain).partitions if one.partition_key == "2026-06").estimate

    assert (guess.bytes_from, guess.archived_bytes) == ("sample", None)
    assert guess.original_bytes is not None
    assert guess.usd_per_month_before is not None
    assert known.bytes_from == "archives"
    assert known.archived_bytes == round(100 * report.compressed_size_bytes / report.archived_rows)


def test_a_claim_and_a_hold_on_everything_are_what_stops_a_run(chain):
    key = claim_key("public", "audit", "2026-05")
    take_claim(chain.store, key, owner="archive__audit now", now=chain.now, ttl=chain.settings.claim_ttl)
    place_hold(chain.store, EVERYTHING, why="a doubt", who="ada", reference="17", now=NOW)

    told = look(chain)

    assert any("a hold on everything" in one for one in only(told).stopped_by)
    assert "the claim of archive__audit now" in only(told).stopped_by
    assert any("by ada (17: a doubt)" in one for one in told.holds)


def test_a_table_that_cannot_be_archived_and_a_partition_that_cannot_are_problems_not_errors(chain):
    wrong = replace(chain, settings=chain.settings.model_copy(update={"date_column": "when"}))
    few = replace(chain, settings=chain.settings.model_copy(update={"warm": True}))

    assert "it has no column when to date rows by" in str(look(wrong).problem)
    assert "there is no table warm.audit" in str(only(look(few)).problem)
    assert only(look(few)).outcome == "refused"


def test_an_archive_that_is_sealed_and_not_deleted_is_resumed(chain):
    sealed = chain.seal(chain.plan())

    told = only(look(chain, explain=True))

    assert (told.outcome, told.plan.archive_id, told.rows) == ("resumed", sealed.archive_id, 697)
    assert told.statements


def test_whole_partitions_are_named_with_those_that_stay_and_why(source, object_store, bucket, tmp_path):
    execute(source, WHOLE)
    changes = {"partition_delete": {"enabled": True}}
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path, **changes))
    chain.plan()

    may, june = look(chain, explain=True).partitions

    assert [(one.name, one.stays_because) for one in may.partitions] == [("public.audit_2026_05", "")]
    assert may.delete.startswith("1 whole partition detached and dropped after P1D, the rest by key")
    assert june.partitions[0].stays_because == "the window covers only a part of it"
    assert any("DETACH PARTITION" in one.sql for one in may.statements)
