"""Asking before an action, and starting it: what the page says, what is started, and what is refused."""

from __future__ import annotations

import pytest

from strongroom.ledger.holds import place_hold
from tests.support.chain import NOW
from tests.support.rights_by_dag import refuse

AUDIT, MAY, JUNE = "public.audit", "public.audit/2026-05", "public.audit/2026-06"
ARCHIVE = "public.audit.2026-05.0001"
RUNS = "SELECT dag_id, partition_key, state, triggering_user_name, conf FROM dag_run ORDER BY id"


def runs(database) -> list[tuple]:
    return database.execute(RUNS).fetchall()


def test_archiving_says_how_many_rows_wait_and_starts_the_run_of_the_partition(ada, archived, database):
    page = ada.get("/act", do="archive", cell=JUNE)
    assert "Archive 1 partition?" in page.text
    assert "13 rows that wait in the table are copied to the store" in page.text
    assert "To undo it." in page.text
    assert runs(database) == []

    started = ada.submit(page)

    [(dag_id, key, state, who, _)] = runs(database)
    assert (dag_id, key, state, who) == ("archive__audit", "2026-06", "queued", "ada")
    assert "1 of 1 run started" in started.text
    assert any("/dags/archive__audit/runs/" in address for address in started.links.values())
    assert started.links["Watch it: public.audit 2026-06"] == "/strongroom/partition?table=public.audit&key=2026-06"


@pytest.mark.parametrize(
    ("deed", "said", "given", "dag_id", "conf"),
    [
        ("verify", "Nothing is changed.", {"why": "a check"}, "verify_archives", {"archives": [ARCHIVE]}),
        (
            "restore",
            "Restore 11 rows?",
            {"why": "a case", "keep_days": "7", "dry_run": "1"},
            "restore_archive",
            {"archives": [ARCHIVE], "keep_days": 7, "dry_run": True},
        ),
        (
            "hold",
            "Place a legal hold on 1 partition?",
            {"why": "a case", "reference": "R/1", "who": "the prosecutor"},
            "legal_hold",
            {"action": "place", "what": "public.audit.2026-05", "reference": "R/1", "who": "the prosecutor"},
        ),
    ],
)
def test_each_action_starts_one_run_of_its_dag_with_what_the_form_says(
    ada, archived, database, deed, said, given, dag_id, conf
):
    """In the name of the user, so that Airflow's rights and records apply."""
    page = ada.get("/act", do=deed, cell=MAY)
    assert said in page.text

    started = ada.submit(page, **given)

    assert started.status == 200
    [(found, _, state, who, parameters)] = runs(database)
    assert (found, state, who) == (dag_id, "queued", "ada")
    assert parameters == conf | {"why": given["why"]}


def test_a_hold_is_released_by_its_id(ada, chain, database):
    chain.run()
    hold = place_hold(chain.store, AUDIT, why="case B", who="eve", reference="R/2", now=NOW)
    page = ada.get("/act", do="release", cell=MAY, hold=hold.hold_id)
    assert "R/2, case B" in page.text
    assert "cannot be brought back" in page.text

    ada.submit(page, why="closed")

    [(dag_id, _, _, _, parameters)] = runs(database)
    assert dag_id == "legal_hold"
    assert parameters == {"action": "release", "hold_id": hold.hold_id, "why": "closed"}


def test_a_hold_that_does_not_cover_the_partition_is_not_there(ada, chain, database):
    """So nobody learns from the page about holds on tables that they may not see."""
    chain.run()
    hold = place_hold(chain.store, "public.payroll", why="secret case", who="eve", reference="R/3", now=NOW)

    page = ada.get("/act", do="release", cell=MAY, hold=hold.hold_id)

    assert "There is no such hold in force." in page.text
    assert "R/3" not in page.html
    assert "secret case" not in page.html
    assert "<form" not in page.html
    assert runs(database) == []


def test_several_partitions_become_a_run_each_or_one_run_as_the_dag_wants(ada, archived, database):
    cells = [("cell", one) for one in (MAY, JUNE, "public.payroll/2026-05")]

    def page(do: str):
        return ada.open("/strongroom/act?" + "&".join([f"do={do}", *(f"cell={value}" for _, value in cells)]))

    assert "3 partitions" in page("archive").text
    ada.submit(page("archive"), why="a case")
    assert [(dag_id, key) for dag_id, key, *_ in runs(database)] == [
        ("archive__audit", "2026-05"),
        ("archive__audit", "2026-06"),
        ("archive__payroll", "2026-05"),
    ]

    verified = page("verify")
    assert "public.audit 2026-06: there is no archive." in verified.text
    ada.submit(verified, why="a case")
    assert [row[4]["archives"] for row in runs(database)[3:]] == [[ARCHIVE]]


@pytest.mark.parametrize(
    ("deed", "given", "said"),
    [
        ("verify", {"why": "a"}, "at least three characters"),
        ("verify", {"why": "   "}, "at least three characters"),
        ("restore", {"why": "a case", "keep_days": "0"}, "whole number from 1 to 3650"),
        ("restore", {"why": "a case", "keep_days": "soon"}, "whole number from 1 to 3650"),
        ("hold", {"why": "a case", "reference": ""}, "at least three characters"),
    ],
)
def test_a_field_that_is_wrong_is_named_and_the_rest_is_kept(ada, archived, database, deed, given, said):
    page = ada.get("/act", do=deed, cell=MAY)

    again = ada.submit(page, **given)

    assert again.status == 422
    assert said in again.text
    assert 'aria-invalid="true"' in again.html
    assert f'name="why" value="{given["why"]}"' in again.html
    assert runs(database) == []


def test_a_month_inside_hot_retention_is_refused(ada, archived, database):
    now = f"{__import__('datetime').datetime.now():%Y-%m}"

    page = ada.get("/act", do="archive", cell=f"{AUDIT}/{now}")

    assert "it is inside hot retention until" in page.text
    assert "<form" not in page.html
    refused = ada.submit(
        ada.get("/act", do="archive", cell=JUNE), why="a case"
    )  # one that may, so that its token can be used for one that may not
    assert refused.status == 200
    database.execute("DELETE FROM dag_run")
    token = ada.get("/act", do="archive", cell=JUNE).token
    answer = ada.post("/act", [("token", token), ("do", "archive"), ("cell", f"{AUDIT}/{now}"), ("why", "a case")])
    assert answer.status == 403
    assert "Nothing was started." in answer.text
    assert runs(database) == []


def test_a_partition_that_a_run_works_on_is_refused(ada, archived, database):
    ada.submit(ada.get("/act", do="archive", cell=JUNE), why="a case")

    page = ada.get("/act", do="archive", cell=JUNE)

    assert "public.audit 2026-06: a run works on it already." in page.text
    assert len(runs(database)) == 1


def test_a_paused_dag_is_named_with_a_hint_and_nothing_starts(ada, archived, database):
    database.execute("UPDATE dag SET is_paused = true WHERE dag_id = 'archive__audit'")

    started = ada.submit(ada.get("/act", do="archive", cell=JUNE), why="a case")

    assert "0 of 1 run started" in started.text
    assert "archive__audit is paused" in started.text
    assert "HINT: Nothing was started." in started.text
    assert runs(database) == []


@pytest.mark.parametrize("deed", ["archive", "verify", "restore", "hold"])
def test_without_the_right_to_trigger_its_dag_an_action_is_refused(ada, archived, database, deed):
    """On the page that asks, and again when the form is sent; the right may have gone in between."""
    page = ada.get("/act", do=deed, cell=MAY)
    dag_id = {
        "archive": "archive__audit",
        "verify": "verify_archives",
        "restore": "restore_archive",
        "hold": "legal_hold",
    }
    refuse("ada", **{dag_id[deed]: "trigger"})

    assert f"ou may not trigger {dag_id[deed]}." in ada.get("/act", do=deed, cell=MAY).text
    answer = ada.submit(page, why="a case", reference="R/1", keep_days="7")

    assert answer.status == 403
    assert "Nothing was started." in answer.text
    assert runs(database) == []


def test_a_viewer_starts_nothing(ada, carol, archived, database):
    """Neither with a form of their own, which has no button, nor with somebody else's."""
    page = carol.get("/act", do="restore", cell=MAY)

    assert "You may not trigger restore_archive." in page.text
    assert "<form" not in page.html
    assert carol.submit(ada.get("/act", do="restore", cell=MAY), why="a case", keep_days="7").status == 403
    assert runs(database) == []


@pytest.mark.parametrize("deed", ["archive", "verify", "restore", "hold", "release"])
def test_a_partition_of_a_table_that_may_not_be_seen_is_not_there(bob, archived, database, deed):
    """With the same words as one that does not exist; and one hidden partition refuses the visible ones with it."""
    hidden = bob.get("/act", do=deed, cell="public.payroll/2026-05")
    missing = bob.get("/act", do=deed, cell="public.nothing/2026-05")
    both = bob.open(f"/strongroom/act?do={deed}&cell={MAY}&cell=public.payroll/2026-05")

    assert hidden.status == missing.status == both.status == 404
    assert hidden.text.replace("payroll", "nothing") == missing.text
    token = bob.get("/act", do="archive", cell=JUNE).token
    answer = bob.post("/act", [("token", token), ("do", deed), ("cell", "public.payroll/2026-05"), ("why", "a case")])
    assert answer.status == 404
    assert runs(database) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("do=destroy&cell=public.audit/2026-06", 404),
        ("do=archive", 422),
        ("cell=public.audit/2026-06", 422),
        ("do=archive&cell=public.audit/2026-13", 404),
        ("do=archive&cell=2026-06", 404),
        ("do=archive&cell=public.audit", 404),
        ("do=archive&" + "&".join(f"cell=public.audit/{2000 + n // 12}-{n % 12 + 1:02}" for n in range(201)), 422),
    ],
)
def test_an_address_that_makes_no_sense_is_an_error_with_words(ada, archived, database, query, status):
    answer = ada.open(f"/strongroom/act?{query}")

    assert answer.status == status
    assert "<h1>" in answer.html
    assert runs(database) == []


def test_the_same_partition_named_twice_is_one(ada, archived, database):
    page = ada.open(f"/strongroom/act?do=archive&cell={JUNE}&cell={JUNE}")

    ada.submit(page, why="a case")

    assert "Archive 1 partition?" in page.text
    assert len(runs(database)) == 1
