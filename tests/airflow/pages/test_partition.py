"""The page of a partition: where each row went, what happened to its archives, and what its reader may do next."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import psycopg

from strongroom.ledger.holds import place_hold, release_hold
from strongroom.ledger.restore_records import make_restore_id
from strongroom.object_keys.archives import ArchiveId
from strongroom.statistics.proofs import verify_and_record
from tests.support.restoring import plan, restore
from tests.support.rights_by_dag import refuse, refuse_nothing

AUDIT, MAY = "public.audit", "public.audit.2026-05.0001"
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def rows_by_fate(page) -> dict[str, int]:
    """The lines of "where each archived row went", the sum included."""
    lines = re.findall(r"<td>(?:<i [^>]*></i>)?([^<]+)</td><td class=\"n\">([\d,]+)</td>", page.html)
    return {words: int(rows.replace(",", "")) for words, rows in lines}


def test_where_each_row_went_adds_up_and_equals_what_sql_says(ada, chain, source):
    """One of eleven rows changed after it was archived. It stays; ten were deleted."""
    sealed = chain.seal(chain.plan())
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("UPDATE audit SET at = at + interval '1 second' WHERE id = 7")
    for part in sealed.parts:
        chain.delete(part)

    page = ada.get("/partition", table=AUDIT, key="2026-05")

    fates = rows_by_fate(page)
    total = fates.pop("archived, read back and matched")
    assert (total, sum(fates.values())) == (11, 11)
    assert fates == {
        "deleted from the table, each still equal to its archived form": 10,
        "changed in the table since, and stay there": 1,
    }
    with psycopg.connect(source) as connection:
        left = connection.execute("SELECT array_agg(id) FROM audit WHERE at < '2026-06-01+00'").fetchone()
    assert left == ([7],)
    assert "rows left" in page.text


def test_a_partition_without_an_archive_says_what_waits(ada, archived):
    page = ada.get("/partition", table=AUDIT, key="2026-06")

    assert "Rows whose hot retention is over, in the table now: 13" in page.text
    assert "No row of this partition is archived." in page.text
    assert "Archive now" in page.links


def test_its_archives_and_all_that_happened_to_them_are_there(ada, chain):
    """Sizes, verification, restore, holds in force and released: from the store, not from Airflow."""
    chain.run()
    verify_and_record(chain.store, ArchiveId.parse(MAY), who="grace", now=NOW)
    restore(chain)
    held = place_hold(chain.store, "public.audit.2026-05", why="case A", who="eve", reference="R/1", now=NOW)
    place_hold(chain.store, AUDIT, why="case B", who="eve", reference="R/2", now=NOW)
    release_hold(chain.store, held.hold_id, who="frank", reason="closed", now=NOW)

    page = ada.get("/partition", table=AUDIT, key="2026-05")

    assert page.links[MAY] == f"/strongroom/object?id={MAY}"
    for words in ("Verifications", "grace", "sound", "Restores", "Legal holds", "R/1", "R/2", "by frank: closed"):
        assert words in page.text, words
    assert page.text.count("in force") == 1
    assert page.links["Release"].startswith("/strongroom/act?do=release&")


def test_its_runs_lead_to_airflow(ada, archived, database):
    """The link opens Airflow's own page of the run, through Airflow's router."""
    ada.submit(ada.get("/act", do="archive", cell=f"{AUDIT}/2026-06"), why="a case")

    page = ada.get("/partition", table=AUDIT, key="2026-06")

    [(run_id,)] = database.execute("SELECT run_id FROM dag_run").fetchall()
    assert page.links[run_id].endswith(f"/dags/archive__audit/runs/{run_id}")
    assert f'<a data-airflow href="{page.links[run_id]}">' in page.html
    assert "This page refreshes every 4 s." in page.text


def states_in(page) -> list[str]:
    """What stands beside the name of the partition."""
    [head] = re.findall(r"<h1>(.*?)</h1>", page.html, re.DOTALL)
    return re.findall(r"chip s-(\w+)", head)


def test_rows_are_restored_when_the_run_has_ended_and_not_before(ada, chain, database):
    """The record of a restore is in the store before its first row is back."""
    chain.run()
    ada.submit(ada.get("/act", do="restore", cell=f"{AUDIT}/2026-05"), why="a case", keep_days="5")
    [(run_id,)] = database.execute("SELECT run_id FROM dag_run").fetchall()
    restore_id, now = make_restore_id(run_id), datetime.now(timezone.utc)
    plan(chain, restore_id, now=now)

    during = ada.get("/partition", table=AUDIT, key="2026-05")
    restore(chain, restore_id, now=now)
    database.execute("UPDATE dag_run SET state = 'success'")
    after = ada.get("/partition", table=AUDIT, key="2026-05")

    assert states_in(during) == ["running", "archived"]
    assert "This page refreshes every 4 s." in during.text
    assert states_in(after) == ["restored", "archived"]
    assert "This page refreshes" not in after.text


def test_each_user_is_offered_what_they_may_do(ada, carol, chain, subtests):
    chain.run()
    place_hold(chain.store, AUDIT, why="case B", who="eve", reference="R/2", now=NOW)

    for visitor, refused, offered in (
        (ada, {}, {"Archive what is left", "Verify", "Restore", "Place a hold", "Look inside"}),
        (ada, {"archive__audit": "trigger"}, {"Verify", "Restore", "Place a hold", "Look inside"}),
        (ada, {"legal_hold": "trigger", "query_archive": "trigger"}, {"Archive what is left", "Verify", "Restore"}),
        (carol, {}, set()),
    ):
        with subtests.test(user=visitor.name, refused=refused):
            refuse_nothing()
            refuse(visitor.name, **refused)

            page = visitor.get("/partition", table=AUDIT, key="2026-05")

            buttons = set(re.findall(r'<a class="button" href="[^"]*">([^<]*)</a>', page.html))
            assert page.status == 200
            assert "R/2" in page.text
            assert buttons == offered
            assert ("Release" in page.links) == (bool(offered) and "legal_hold" not in refused)


def test_what_is_not_there_and_what_may_not_be_seen_have_the_same_words(bob, archived):
    hidden = bob.get("/partition", table="public.payroll", key="2026-05")
    missing = bob.get("/partition", table="public.nothing", key="2026-05")

    assert hidden.status == missing.status == 404
    assert hidden.text.replace("payroll", "nothing") == missing.text
    assert "There is no table public.payroll, or you do not have the right to see it." in hidden.text


def test_a_key_that_no_partition_has_is_not_found(ada, archived):
    for key in ("2026-13", "", "2026-05/..", "yesterday", "x" * 5000):
        page = ada.get("/partition", table=AUDIT, key=key)

        assert page.status == 404, key
        assert len(page.text) < 1000


def test_a_month_that_nobody_wrote_to_is_empty(ada, archived):
    page = ada.get("/partition", table=AUDIT, key="2019-01")

    assert page.status == 200
    assert "empty" in page.text
    assert "There are no archives." in page.text


def test_a_database_that_does_not_answer_costs_its_own_part(ada, chain, deployment, source):
    """What the store has on record is all there."""
    chain.run()
    deployment.database(source.replace("dbname=", "dbname=gone_"), "source")

    page = ada.get("/partition", table=AUDIT, key="2026-05")

    assert page.status == 200
    assert "Rows in the table: not counted" in page.text
    assert rows_by_fate(page)["archived, read back and matched"] == 11
    assert MAY in page.links
