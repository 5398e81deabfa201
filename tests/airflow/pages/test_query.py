"""Looking inside archives from the page: who may, what the form starts, and who sees a run."""

from __future__ import annotations

import re
from html import unescape
from threading import Event
from typing import get_args

import psycopg
import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom.query.records import Operator
from tests.support.pages import Visitor
from tests.support.rights_by_dag import refuse

AUDIT, MAY = "public.audit", "public.audit.2026-05.0001"
ASKED = [("table", AUDIT), ("why", "case 4711"), ("limit", "10")]


def runs(database) -> list[tuple]:
    return database.execute("SELECT run_id, triggering_user_name, conf FROM dag_run ORDER BY id").fetchall()


def test_a_search_is_one_run_with_what_the_form_says(ada, archived, database):
    """Times are UTC; an empty condition is none; a second press of the button finds the same run."""
    token = ada.get("/query", table=AUDIT).token
    form = [
        ("token", token),
        *ASKED,
        ("since", "2026-05-01T00:00"),
        *[("column", "id"), ("operator", "in"), ("value", "3, 4")],
        *[("column", ""), ("operator", "="), ("value", "ignored")],
        ("show", "id"),
    ]

    answers = [ada.post("/query", form) for _ in range(2)]

    [(run_id, who, conf)] = runs(database)
    assert [answer.status for answer in answers] == [303, 303]
    assert who == "ada"
    assert conf["conditions"] == [{"column": "id", "operator": "in", "value": ["3", "4"]}]
    assert (conf["table"], conf["since"], conf["before"]) == (AUDIT, "2026-05-01T00:00:00Z", None)
    assert (conf["columns"], conf["limit"], conf["why"]) == (["id"], 10, "case 4711")
    page = ada.open(answers[0].headers["location"])
    assert "case 4711" in page.text
    assert "The run is queued." in page.text
    assert run_id in page.links


def test_each_column_says_which_operators_suit_its_type(ada, chain, source):
    """As the search itself decides it. The form offers those that suit any column, so it works without a script, too."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit ADD note text, ADD tags text[]")
    chain.run()

    page = ada.get("/query", table=AUDIT)

    offered = dict(re.findall(r'<option value="(\w+)" data-operators="([^"]*)"', page.html))
    assert set(offered) == {"id", "at", "note", "tags"}
    assert unescape(offered["id"]) == "=|!=|in|<|<=|>|>=|contains|begins with|is null|is not null"
    assert unescape(offered["note"]) == "=|!=|in|contains|begins with|is null|is not null"
    assert unescape(offered["tags"]) == "contains|begins with|is null|is not null"
    first = page.html.split('name="operator">')[1].split("</select>")[0]
    assert [unescape(one) for one in re.findall(r"<option[^>]*>([^<]*)", first)] == list(get_args(Operator))


def test_a_run_is_shown_to_who_started_it_and_to_nobody_else(ada, sent, archived, database):
    """With the words of a run that does not exist; its downloads too. Before it has ended there is nothing to download."""
    ada.post("/query", [("token", ada.get("/query", table=AUDIT).token), *ASKED])
    [(run_id, *_)] = runs(database)
    other = sent("eve")

    for path in ("/query", "/query/rows.csv", "/query/rows.jsonl"):
        hidden, missing = other.get(path, run=run_id), other.get(path, run="nothing")
        assert hidden.status == missing.status == 404, path
        assert hidden.text.replace(run_id, "nothing") == missing.text
    assert ada.get("/query/rows.csv", run=run_id).status == 409


def test_a_form_that_airflow_refuses_comes_back_with_the_reason_and_what_was_written(ada, archived, database):
    token = ada.get("/query", table=AUDIT).token

    answer = ada.post("/query", [("token", token), ("table", AUDIT), ("why", "x"), ("limit", "0")])

    assert answer.status == 422
    assert "Nothing was started." in answer.text
    assert 'name="why" value="x"' in answer.html
    assert runs(database) == []


def test_what_may_not_be_seen_or_belongs_elsewhere_is_not_there(bob, archived, database):
    token = bob.get("/query", table=AUDIT).token
    hidden = ArchiveId("public", "payroll", "2026-05", 1)

    assert bob.get("/query", table="public.payroll").status == 404
    assert bob.get("/query", archive=str(hidden)).status == 404
    assert "payroll" not in bob.get("/query").html
    for form in ([("table", "public.payroll"), ("why", "a case")], [*ASKED, ("archive", str(hidden))]):
        assert bob.post("/query", [("token", token), *form]).status == 404
    assert runs(database) == []


@pytest.mark.parametrize("user", ["ada", "carol"])
def test_without_the_right_to_trigger_query_archive_nothing_of_it_opens(request, archived, database, user):
    """A viewer has none; anybody else may have lost it."""
    visitor = request.getfixturevalue(user)
    refuse("ada", query_archive="trigger")

    for path in ("/query", f"/query?archive={MAY}", "/query?run=x", "/query/rows.csv?run=x", "/query/rows.jsonl?run=x"):
        assert visitor.open(f"/strongroom{path}").status == 403, path
    assert visitor.post("/query", ASKED).status == 403
    assert runs(database) == []


def test_before_the_first_reading_has_ended_the_page_says_that_the_columns_are_not_known_yet(
    chain, gathering, monkeypatch
):
    """And not that there is nothing to ask for."""
    chain.run()
    reading = Event()
    monkeypatch.setattr("strongroom_airflow.pages.gathering.connect_store", lambda _: reading.wait(120))

    page = Visitor("ada").get("/query", table=AUDIT)

    reading.set()
    assert "The columns of public.audit are not known yet" in page.text
    assert "Open the page again" in page.text
