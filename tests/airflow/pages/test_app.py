"""What holds for every address: who may open it, its headers, its errors, and that nothing of it is code for the browser."""

from __future__ import annotations

import re

from strongroom.ledger.holds import place_hold
from tests.support.chain import NOW, some_settings
from tests.support.pages import Visitor
from tests.support.sealing import seal_month

EVIL = "\"><script>alert(1)</script>'\n</title>{{7*7}}"


def addresses() -> list[tuple[str, str]]:
    """Method and path of each route, read from the application itself."""
    from strongroom_airflow.pages.app import app

    return [
        (method, route.path.replace("{name}", "style.css"))
        for route in app.routes
        for method in sorted(route.methods or ())
    ]


def test_nobody_gets_anything_without_logging_in(database):
    """Each page, download, style sheet and form, with parameters and without."""
    nobody, asked = Visitor(None), addresses()

    assert {path for _, path in asked} >= {"/archive", "/partition", "/object", "/object/manifest", "/act", "/query"}
    assert {path for _, path in asked} >= {"/query/rows.csv", "/query/rows.jsonl", "/static/style.css"}
    for method, path in asked:
        answer = nobody.post(path, [("do", "archive")]) if method == "POST" else nobody.get(path)
        assert answer.status == 401, (method, path)
        assert "Log in first" in answer.text
        assert "audit" not in answer.html


def test_what_is_no_page_is_not_there(ada, archived):
    for path in ("/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/nothing.css", "/"):
        assert ada.get(path).status == 404, path


def test_a_token_that_is_not_airflows_opens_nothing(database):
    forged = Visitor(None)
    forged._client.cookies.set("_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")  # pragma: allowlist secret

    assert forged.get("/archive").status in (401, 403)


def test_every_answer_has_the_headers_that_keep_it_in_its_frame(ada, archived):
    """Pages, files, refusals, and an address that is incomplete."""
    may = "public.audit.2026-05.0001"
    answers = {
        "map": ada.get("/archive"),
        "partition": ada.get("/partition", table="public.audit", key="2026-05"),
        "archive": ada.get("/object", id=may),
        "manifest": ada.get("/object/manifest", id=may),
        "act": ada.get("/act", do="archive", cell="public.audit/2026-06"),
        "query": ada.get("/query", table="public.audit"),
        "style": ada.get("/static/style.css"),
        "not found": ada.get("/nothing"),
        "incomplete": ada.get("/partition"),
        "wrong method": ada.post("/archive", []),
        "forged": ada.post("/act", [("do", "archive"), ("cell", "public.audit/2026-06")]),
        "nobody": Visitor(None).get("/archive"),
    }

    for name, answer in answers.items():
        policy = answer.headers.get("content-security-policy", "")
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy, name
        assert "frame-ancestors 'self'" in policy, name
        assert "unsafe" not in policy, name
        assert answer.headers["x-content-type-options"] == "nosniff", name
        if name != "style":
            assert answer.headers["cache-control"] == "no-store", name


def test_no_page_has_a_script_or_style_of_its_own(ada, archived):
    """The policy would not let it run; so a page that needs one is broken."""
    for page in (
        ada.get("/archive"),
        ada.get("/partition", table="public.audit", key="2026-05"),
        ada.get("/object", id="public.audit.2026-05.0001"),
        ada.get("/act", do="restore", cell="public.audit/2026-05"),
        ada.get("/query", table="public.audit"),
    ):
        assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:", page.html) == []


def test_an_error_that_nobody_expected_is_a_page_without_its_text(ada, archived, monkeypatch):
    from strongroom_airflow.pages import map as map_page

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")  # pragma: allowlist secret

    monkeypatch.setattr(map_page, "visible_chart", fail)
    ada._client._transport.raise_server_exceptions = False

    answer = ada.get("/archive")

    assert answer.status == 500
    assert "This did not work" in answer.text
    assert "hunter2" not in answer.html
    assert "content-security-policy" in answer.headers


def test_settings_that_are_all_wrong_are_an_error_with_its_hint(ada, archived, deployment, monkeypatch, tmp_path):
    (tmp_path / "broken.yaml").write_text("tables: [")
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "broken.yaml"))
    from tests.support.pages import Visitor

    answer = Visitor("ada").get("/archive")

    assert answer.status == 502
    assert "HINT:" in answer.text


def test_names_and_reasons_are_text_on_every_page(ada, chain, bucket, tmp_path, database):
    """From the database, manifests, holds and the user's own address and form."""
    chain.run()
    odd = str(seal_month(chain.store, some_settings(bucket, tmp_path, EVIL), "2026-04"))
    place_hold(chain.store, "public.audit", why=EVIL, who=EVIL, reference=EVIL, now=NOW)
    table = f"public.{EVIL}"

    pages = {
        "map": ada.get("/archive"),
        "filtered": ada.get("/archive", table=EVIL, state=EVIL, from_=EVIL, to=EVIL),
        "partition": ada.get("/partition", table="public.audit", key="2026-05"),
        "odd partition": ada.get("/partition", table=table, key="2026-04"),
        "archive": ada.get("/object", id="public.audit.2026-05.0001"),
        "odd archive": ada.get("/object", id=odd),
        "no archive": ada.get("/object", id=EVIL),
        "act": ada.get("/act", do="verify", cell=f"{table}/2026-04"),
        "no act": ada.get("/act", do=EVIL, cell=EVIL),
        "no table": ada.get("/partition", table=EVIL, key=EVIL),
        "query": ada.get("/query", table=table),
        "no query": ada.get("/query", run=EVIL),
        "kept": ada.submit(ada.get("/act", do="restore", cell="public.audit/2026-05"), why=EVIL, keep_days=EVIL),
    }

    assert runs_none(database)
    for name, page in pages.items():
        assert set(re.findall(r"<script[^>]*>", page.html)) <= {
            f'<script src="/strongroom/static/{file}"{more}>'
            for file, more in (("theme.js", ""), ("pages.js", " defer"))
        }, name
        assert page.tags.count("script") == 2, name
    for name in ("map", "odd partition", "odd archive", "partition", "archive", "act", "kept"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[name].html, name
    assert pages["odd archive"].status == pages["odd partition"].status == pages["query"].status == 200


def runs_none(database) -> bool:
    return database.execute("SELECT count(*) FROM dag_run").fetchone()[0] == 0
