"""The page of the search: what is found of the tables and runs that its visitor sees."""

from __future__ import annotations

import psycopg
import pytest

from strongroom.ledger.holds import covered, place_hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.storage.store import Store
from tests.support.chain import NOW, some_settings
from tests.support.sealing import seal_month
from tests.support.visiting import visitor

RUN = """
INSERT INTO dag_run (dag_id, run_id, run_type, state, run_after, clear_number, span_status)
VALUES (%s, %s, 'manual', 'success', now(), 0, 'not_started')
"""


@pytest.fixture(scope="module")
def archived(shared_source, metadata, object_store, shared_bucket, shared_deployment, tmp_path_factory, parsing):
    """May of two tables, with a hold each; Airflow has a DAG of `audit` alone, and one of somebody else. The tests only look."""
    shared_deployment.tables(audit={"date_column": "at"}, secret={"date_column": "at"})
    shared_deployment.store(object_store, shared_bucket, store="reader")
    shared_deployment.database(shared_source, "source")
    for table in ("audit", "secret"):
        settings = some_settings(shared_bucket, tmp_path_factory.mktemp(table), table)
        store = Store(object_store.client("archiver"), settings.store)
        seal_month(store, settings, "2026-05")
        place_hold(store, covered("public", table), why="w <b>", who="ada", reference=f"case {table}", now=NOW)
        store.put_bytes(ArchiveId("public", table, "2019-05", 1).destruction_key, b"{}")
    with parsing("archive_tables.py"), psycopg.connect(metadata, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # without the rows that these refer to
        connection.execute("DELETE FROM dag_run")
        connection.execute(
            "INSERT INTO dag_tag (name, dag_id) VALUES ('strongroom', 'archive__secret') ON CONFLICT DO NOTHING"
        )
        for dag_id, run_id in (
            *(("archive__audit", f"manual__x_{number:02d}") for number in range(60)),
            ("archive__audit", "case%audit"),
            ("archive__secret", "manual__x_secret"),
            ("somebody_elses", "manual__x_theirs"),
        ):
            connection.execute(RUN, (dag_id, run_id))
        yield
        connection.execute("DELETE FROM dag_run")
        connection.execute("DELETE FROM dag_tag WHERE dag_id = 'archive__secret'")


def found(words: str) -> str:
    client = visitor()
    client.get("/totals", params={"again": "1"})  # reads the store now
    answer = client.get("/search", params={"q": words})
    assert answer.status_code == 200
    return answer.text


def test_archives_are_found_with_links_to_their_pages_and_those_of_other_tables_are_not(archived):
    page = found("2026-05")

    assert 'href="/strongroom/object?id=public.audit.2026-05.0001"' in page
    assert 'href="/strongroom/partition?table=public.audit&amp;key=2026-05"' in page
    assert "secret" not in page


def test_a_destroyed_archive_and_a_hold_are_found_and_their_texts_are_escaped(archived):
    page = found("audit")

    assert 'href="/strongroom/object?id=public.audit.2019-05.0001"' in page
    assert "case audit" in page
    assert "w &lt;b&gt;" in page
    assert "w <b>" not in page


@pytest.mark.parametrize(
    "words", ["secret", "public.secret.2026-05.0001", "case secret", "manual__x_secret", "manual__x_theirs"]
)
def test_what_one_may_not_see_is_as_if_it_were_not_there(archived, words):
    assert "Nothing that you may see matches." in found(words)


def test_runs_are_found_by_a_part_of_their_id_the_latest_first_and_the_others_counted(archived):
    page = found("manual__X")

    runs = [number for number in range(60) if f">manual__x_{number:02d}<" in page]
    assert runs == list(range(10, 60))
    assert "and 10 more" in page
    assert "theirs" not in page


def test_a_percent_sign_in_words_is_a_percent_sign(archived):
    assert "case%audit" in found("case%a")
    assert "Nothing that you may see matches." in found("case%%a")


def test_an_empty_search_finds_nothing_and_says_what_can_be_found(archived):
    page = found("  ")

    assert "2026-05..2026-07" in page
    assert "<table" not in page
