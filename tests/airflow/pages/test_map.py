"""The map: a cell for each partition of the tables that the user may see, filters, and what could not be read."""

from __future__ import annotations

import re
from threading import Event

import psycopg
import pytest

from tests.support.chain import some_settings
from tests.support.pages import Visitor
from tests.support.rights_by_dag import refuse
from tests.support.sealing import seal_month

AUDIT, PAYROLL = "public.audit", "public.payroll"


def test_each_partition_has_the_state_that_its_rows_and_archives_give_it(ada, archived):
    """SQL and the store decide: May of `audit` was archived and its rows deleted, June's rows and those of `payroll` wait."""
    page = ada.get("/archive")

    cells = page.cells()
    assert page.status == 200
    assert cells[f"{AUDIT}/2026-05"] == ["archived"]
    assert cells[f"{AUDIT}/2026-06"] == cells[f"{PAYROLL}/2026-05"] == ["overdue"]
    assert cells[f"{AUDIT}/2026-07"] == ["empty"]
    assert f"{AUDIT} 2026-05: archived; 11 rows archived" in page.text
    assert f"{AUDIT} 2026-06: overdue; 13 rows wait in the table" in page.text
    assert page.text.count("2 partitions overdue") == 1


def test_rows_that_came_late_show_on_their_archived_month(ada, chain, source):
    chain.run()
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("INSERT INTO audit VALUES (100, '2026-05-02 00:00+00')")

    page = ada.get("/archive")

    assert page.cells()[f"{AUDIT}/2026-05"] == ["left", "archived"]
    assert "1 partition with rows left" in page.text


def test_a_name_may_break_after_a_dot_or_an_underscore(ada, chain, bucket, tmp_path):
    """On a narrow screen it would break inside a word otherwise. What it is made of is escaped as ever."""
    seal_month(chain.store, some_settings(bucket, tmp_path, "call_<b>_detail"), "2026-03")

    page = ada.get("/archive")

    assert ">public.<wbr>call_<wbr>&lt;b&gt;_<wbr>detail</a>" in page.html
    assert "public.call_<b>_detail" in page.links


def test_runs_and_pauses_of_airflow_show(ada, archived, database):
    """A run that is queued or failed is the partition's state; a table whose DAG is paused says so."""
    ada.submit(ada.get("/act", do="archive", cell=f"{AUDIT}/2026-06"), why="a test")
    assert ada.get("/archive").cells()[f"{AUDIT}/2026-06"] == ["running"]

    database.execute("UPDATE dag_run SET state = 'failed'")
    database.execute("UPDATE dag SET is_paused = true WHERE dag_id = 'archive__payroll'")

    page = ada.get("/archive")
    assert page.cells()[f"{AUDIT}/2026-06"] == ["failed", "overdue"]
    assert "1 failed run" in page.text
    assert "public.payroll paused" in page.text


def test_filters_show_what_they_name(ada, archived):
    """By table, by state, by month, and all at once; the links of the page keep what was asked."""
    assert {name.split("/")[0] for name in ada.get("/archive", table=PAYROLL).cells()} == {PAYROLL}
    assert {name.split("/")[0] for name in ada.get("/archive", state="archived").cells()} == {AUDIT}
    months = ada.get("/archive", from_="2026-05", to="2026-06").cells()
    assert {name.split("/")[1] for name in months} == {"2026-05", "2026-06"}
    none = ada.get("/archive", state="purged", table=PAYROLL)
    assert "No partition matches." in none.text
    assert none.links["Show all"] == "/strongroom/archive"
    assert "state=purged" in none.links["Read again"]


def test_a_filter_that_means_nothing_is_no_error(ada, archived):
    assert ada.get("/archive", state="wonderful").cells()
    assert ada.get("/archive", from_="yesterday").status == 200


def test_a_table_that_a_user_may_not_see_is_not_there(ada, bob, archived):
    """Not in the map, the list of tables or the counts; and asking for it shows what asking for nothing shows."""
    page, whole = bob.get("/archive"), ada.get("/archive")

    assert {name.split("/")[0] for name in page.cells()} == {AUDIT}
    assert "payroll" not in page.html
    assert "1 partition overdue" in page.text
    assert "2 partitions overdue" in whole.text
    hidden, missing = (ageless(bob.get("/archive", table=table)) for table in (PAYROLL, "public.nothing"))
    assert hidden.replace("payroll", "nothing") == missing


def ageless(page) -> str:
    """The page without how old its figures are, which grows from one page to the next."""
    return re.sub(r"read [^·]* ago", "read", page.html)


def test_what_nobody_configured_is_seen_by_who_may_see_all_archives(ada, bob, chain, object_store, bucket, tmp_path):
    """An archive of a table that is gone from archive.yaml belongs to nobody's DAG."""
    seal_month(chain.store, some_settings(bucket, tmp_path, "forgotten"), "2026-03")

    assert ada.get("/archive").cells()["public.forgotten/2026-03"] == ["archived"]
    assert "public.forgotten not configured" in ada.get("/archive").text
    refuse("bob", retention_purge="everything")
    assert "forgotten" not in bob.get("/archive").html


@pytest.mark.parametrize(
    ("user", "refused", "actions"),
    [
        ("ada", {}, ["archive", "verify", "restore"]),
        ("bob", {"archive__audit": "trigger", "archive__payroll": "trigger"}, ["verify", "restore"]),
        ("bob", {"restore_archive": "trigger", "verify_archives": "trigger"}, ["archive"]),
        ("carol", {}, []),
    ],
)
def test_each_user_is_offered_what_they_may_do(request, archived, user, refused, actions):
    """Somebody who may do nothing has no hint how to choose cells either."""
    visitor = request.getfixturevalue(user)
    refuse(user, **refused)

    page = visitor.get("/archive")

    assert page.cells()
    assert [name for name in ("archive", "verify", "restore") if f'name="do" value="{name}"' in page.html] == actions
    assert ("Drag over cells" in page.text) == bool(actions)


def test_a_table_that_cannot_be_counted_costs_its_own_part(ada, chain, source):
    """Its archives show, the other table is whole, and the reason with its hint is above the map."""
    chain.run()
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("DROP TABLE payroll")

    page = ada.get("/archive")

    assert page.status == 200
    assert page.cells()[f"{AUDIT}/2026-05"] == ["archived"]
    assert page.cells()[f"{AUDIT}/2026-06"] == ["overdue"]
    assert "public.payroll not counted" in page.text
    assert "there is no table public.payroll" in page.text
    assert "HINT:" in page.text


def test_without_tables_the_page_says_where_they_are_set_up(sent, archived):
    dan = sent("dan", "user")
    refuse("dan", archive__audit="everything", archive__payroll="everything")

    assert "There is no table that you may see." in dan.get("/archive").text


def test_while_a_store_was_not_read_nobody_calls_a_partition_empty_or_overdue(ada, chain, deployment, object_store):
    """The page says what it does not know, and offers to read again; rows that wait are counted all the same."""
    deployment.store(object_store, "no-such-bucket")

    page = ada.get("/archive")

    assert page.status == 200
    assert page.cells()[f"{AUDIT}/2026-05"] == ["unknown"]
    assert page.cells()[f"{AUDIT}/2026-07"] == ["unknown"]
    assert "11 rows wait in the table" in page.text
    assert "public.audit archives not read" in page.text
    assert "oldest overdue row" not in page.text
    assert "unknown" in ada.get("/partition", table=AUDIT, key="2026-07").html


def test_before_the_first_reading_has_ended_the_page_renews_itself(chain, gathering, monkeypatch):
    """A store that does not answer keeps nobody waiting for longer than a moment."""
    chain.run()
    reading = Event()
    monkeypatch.setattr("strongroom_airflow.pages.gathering.connect_store", lambda _: reading.wait(120))

    page = Visitor("ada").get("/archive")

    assert 'data-renew="2"' in page.html
    assert "archives not read yet" in page.text
    assert page.cells() == {} or {tuple(states) for states in page.cells().values()} <= {("unknown",), ("hot",)}
    reading.set()
