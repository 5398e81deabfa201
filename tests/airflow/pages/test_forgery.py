"""A POST starts something only if it comes from a form of these pages that the same user opened."""

from __future__ import annotations

import pytest

from strongroom_airflow.pages import forgery
from tests.support.pages import ORIGIN

CELL = "public.audit/2026-06"


def form(token: str) -> list[tuple[str, str]]:
    return [("token", token), ("do", "archive"), ("cell", CELL), ("why", "a test")]


def runs(database) -> int:
    return database.execute("SELECT count(*) FROM dag_run").fetchone()[0]


@pytest.fixture
def token(ada, archived) -> str:
    return ada.get("/act", do="archive", cell=CELL).token


ELSEWHERE = [
    {"Origin": "https://evil.test"},
    {"Origin": "http://airflow.test.evil.test"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": ORIGIN, "Sec_Fetch_Site": "cross-site"},
    {"Origin": ORIGIN, "Sec_Fetch_Site": "same-site"},
    {"Origin": ORIGIN, "Sec_Fetch_Site": "none"},
    {"Origin": "https://evil.test", "Sec_Fetch_Site": "same-origin"},
]
"""What a browser says of a request that another site made it send."""


def test_what_comes_from_another_site_starts_nothing(ada, database, token):
    for headers in ELSEWHERE:
        answer = ada.post("/act", form(token), **headers)

        assert answer.status == 403, headers
        assert "it came from another site. Nothing was done." in answer.text
    assert runs(database) == 0


def test_a_form_without_the_users_own_fresh_token_starts_nothing(ada, bob, database, token, monkeypatch):
    """Missing, invented, changed, of another user, too old."""
    others = bob.get("/act", do="archive", cell=CELL).token

    for wrong in ("", "invented", ("A" if token[0] != "A" else "B") + token[1:], token.upper(), others):
        assert ada.post("/act", form(wrong)).status == 403, wrong
    monkeypatch.setattr(forgery, "TOKEN_SECONDS", -1)
    assert ada.post("/act", form(token)).status == 403

    assert runs(database) == 0


def test_the_same_form_from_this_site_starts_one_run(ada, database, token):
    """So what the other tests are refused for is the origin and the token alone."""
    answer = ada.post("/act", form(token), Sec_Fetch_Site="same-origin")

    assert answer.status == 200
    assert runs(database) == 1


def test_behind_a_proxy_the_address_that_airflow_is_configured_with_counts(ada, database, token, monkeypatch):
    """The proxy passes the request on under another host name."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")

    assert ada.post("/act", form(token), Origin="https://other.example.com").status == 403
    assert ada.post("/act", form(token), Origin="https://airflow.example.com").status == 200
    assert runs(database) == 1


def test_a_search_is_protected_in_the_same_way(ada, bob, database, archived):
    token, others = (one.get("/query", table="public.audit").token for one in (ada, bob))
    asked = [("table", "public.audit"), ("why", "a case"), ("limit", "10")]

    assert ada.post("/query", [("token", token), *asked], Origin="https://evil.test").status == 403
    for wrong in ("", others):
        assert ada.post("/query", [("token", wrong), *asked]).status == 403
    assert runs(database) == 0
    assert ada.post("/query", [("token", token), *asked]).status == 303
    assert runs(database) == 1
