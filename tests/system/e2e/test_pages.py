"""The archive in Airflow's own UI, as people use it: a real browser, a real Airflow; SQL and S3 say what is true."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Route, expect

from strongroom_local.servers.stack import Stack
from tests.system.browsing import SECONDS, Person, browsing, person
from tests.system.helpers import Airflow, Books, query, wait_for
from tests.system.rehearsals import PAGED, create_table, dag_of, due_day, table_of
from tests.system.sample_rows import DATED, keys_archived, keys_of_month

TABLE, DAY = table_of(PAGED), due_day()
ACTING = ("restore_archive", "legal_hold", "query_archive", "verify_archives")
"""The DAGs that actions of the pages start."""

expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


@pytest.fixture(scope="module")
def before(stack: Stack, airflow: Airflow, demonstration) -> list[tuple[str, ...]]:
    """The texts that PostgreSQL gave for the values of each row of one day, before Airflow archived it."""
    query(stack.source_conninfo(), create_table(PAGED, DAY))
    rows = query(
        stack.source_conninfo(),
        f"SELECT id::text, at::text, who::text, cost::text, details::text FROM {TABLE} AS t "
        "WHERE id BETWEEN 1 AND 1440 ORDER BY t.id",
    )
    airflow.pause(dag_of(PAGED), paused=False)
    [run] = wait_for(lambda: airflow.runs(dag_of(PAGED)), "the scheduler's run of the day")[:1]
    assert airflow.wait_for_run(dag_of(PAGED), run.run_id, seconds=300).state == "success"
    airflow.pause(dag_of(PAGED))
    assert rows_left(stack) == 0
    for dag_id in ACTING:
        airflow.pause(dag_id, paused=False)
    return rows


@pytest.fixture(scope="module")
def admin_window(browser: Browser, stack: Stack, before) -> Iterator[Person]:
    """One window for all tests. The person logs in by the form, as people do, and opens the archive from the navigation."""
    someone = person(browser, stack, None)
    page, (user, password) = someone.page, stack.login
    page.goto(stack.api_url)
    page.get_by_label("Username").fill(user)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Archive", exact=True).click()
    yield someone
    someone.context.close()


@pytest.fixture
def admin(admin_window: Person) -> Iterator[Person]:
    """The person who may do everything. No script of a page fails, and the browser refuses nothing."""
    admin_window.faults.clear()
    yield admin_window
    assert admin_window.faults == []


@pytest.fixture(scope="module")
def viewer(browser: Browser, stack: Stack, before) -> Iterator[Person]:
    """The person who may look."""
    someone = person(browser, stack, stack.token("viewer"))
    yield someone
    someone.context.close()


def rows_left(stack: Stack) -> int:
    """Rows of the day that are in the table."""
    [[rows]] = query(stack.source_conninfo(), f"SELECT count(*) FROM {TABLE} WHERE id BETWEEN 1 AND 1440")
    return int(rows)


def archive_of_the_day() -> str:
    return f"{TABLE}.{DAY}.0001"


def read_map(someone: Person, **filters: str) -> dict[str, str]:
    """What a screen reader says of each cell, by `table/key`, once all stores and tables were read."""

    def settled() -> bool:
        return not someone.open("/archive", again=1, **filters).locator("[data-renew]").count()

    wait_for(settled, "the map to have read everything that there is")
    cells = someone.page.locator("#map a[data-cell]").evaluate_all(
        "cells => cells.map(c => [c.dataset.cell, c.ariaLabel])"
    )
    return dict(cells)


# --------------------------------------------------------------------------------------------------------- looking


def test_a_person_logs_in_and_opens_the_archive_from_airflows_navigation(admin_window, stack):
    """The address in the bar is the one that the demo prints, so it can be passed on."""
    admin_window.frame.locator("h1").wait_for()

    expect(admin_window.page).to_have_url(stack.archive_page)
    expect(admin_window.frame.get_by_role("navigation")).to_contain_text("Map")


def test_the_map_says_what_sql_and_s3_say(admin, stack):
    """For each month of each sample table: the rows in its archives, counted line by line, and the rows in the table."""
    cells, now, books = read_map(admin), datetime.now(timezone.utc), Books(stack)

    for table, (column, _, _) in DATED.items():
        counted = dict(
            query(
                stack.source_conninfo(),
                f"SELECT to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM {table} GROUP BY 1",
            )
        )
        archived = {one["partition_key"] for one in books.manifests(f"public.{table}")}
        assert archived
        for month in sorted({*counted, *archived}):
            said, rows = cells[f"public.{table}/{month}"], counted.get(month, 0)
            if month in archived:
                assert f"{len(keys_archived(stack, table, month)):,} rows archived" in said, said
            else:
                assert "archived" not in said, said
            end = (datetime.fromisoformat(f"{month}-01T00:00+00:00") + timedelta(days=32)).replace(day=1)
            if end + timedelta(days=90) > now:
                assert "hot" in said, said
            elif rows:
                assert f"{rows:,} rows wait in the table" in said, said
            else:
                assert "wait" not in said, said


def test_the_address_bar_follows_the_frame_and_leads_back_to_the_same_page(admin, browser, stack):
    """A colleague who gets the address sees the same; Back goes to the map."""
    frame = admin.open_framed("/archive", table=TABLE)
    frame.locator(f'a[data-cell="{TABLE}/{DAY}"]').click()
    expect(frame.locator("h1")).to_contain_text(f"{TABLE} {DAY}")
    admin.page.wait_for_url("**/plugin/archive/strongroom/partition?*")
    asked = parse_qs(urlsplit(admin.page.url).query)
    assert (asked["table"], asked["key"]) == ([TABLE], [DAY])

    other = admin.context.new_page()
    other.goto(admin.page.url)
    expect(other.frame_locator("iframe").locator("h1")).to_contain_text(f"{TABLE} {DAY}")
    other.close()
    admin.page.go_back()

    expect(frame.locator("#map")).to_be_visible()
    assert frame.locator("iframe").count() == 0


def test_where_each_row_of_a_month_went_is_what_sql_and_s3_say(admin, stack, demonstration):
    """The lines add up to the rows in the archives, and those that were deleted are not in the table."""
    month = demonstration.result["months"][0]
    archived = keys_archived(stack, "audit_events", month)
    left = keys_of_month(stack.source_conninfo(), "audit_events", month)

    page = admin.open("/partition", table="public.audit_events", key=month, again=1)

    lines = page.locator("h2:has-text('Where each archived row went') + .card tr:has(td)").evaluate_all(
        "rows => rows.map(row => [row.cells[0].innerText, Number(row.cells[1].innerText.replaceAll(',', ''))])"
    )
    *parts, (_, total) = lines
    assert total == sum(rows for _, rows in parts) == len(archived)
    [deleted] = [rows for words, rows in parts if words.startswith("deleted from the table")]
    assert deleted == len(set(archived) - left)


def test_an_archive_page_names_the_objects_that_s3_has(admin, stack):
    """Keys, versions and bytes; and the manifest that the page gives is the one in the store."""
    books, client = Books(stack), stack.object_store.client("admin")
    [manifest] = books.manifests(TABLE, DAY)
    page = admin.open("/object", id=archive_of_the_day())

    for part in manifest["parts"]:
        row = page.locator("tr", has_text=part["object_key"])
        head = client.head_object(Bucket="strongroom-archive", Key=part["object_key"])
        expect(row).to_contain_text(head["VersionId"])
        expect(row).to_contain_text(f"{head['ContentLength']:,}")
    with page.expect_download() as begun:
        page.get_by_role("link", name="Download it").click()
    assert json.loads(begun.value.path().read_bytes()) == manifest


# ---------------------------------------------------------------------------------------------------------- acting


def answer(frame: Any, words: str, **fields: str) -> None:
    """Fill in the form of the page that asks, and send it."""
    for label, text in fields.items():
        frame.get_by_label(label).fill(text)
    frame.get_by_role("button", name=words).click()


def test_a_restore_begun_on_the_page_ends_on_the_page_and_the_rows_are_back(admin, stack, before):
    """The page renews itself while the run works. The rows have the same texts as before they were archived."""
    frame = admin.open_framed("/partition", table=TABLE, key=DAY)
    frame.get_by_role("link", name="Restore").click()
    expect(frame.locator("main")).to_contain_text("1,440 rows")

    answer(frame, "Restore 1,440 rows", Why="a case", Days="5")

    expect(frame.locator("h1")).to_contain_text("1 of 1 run started")
    frame.get_by_role("link", name="Watch it").click()

    def restored() -> bool:
        frame.get_by_role("link", name="Read again").click()
        frame.locator("main").wait_for()
        return frame.locator("h1").get_by_text("restored").count() > 0 and not frame.locator("[data-renew]").count()

    wait_for(restored, "the page to say that the rows are restored", seconds=300)
    rows = query(
        stack.source_conninfo(),
        f"SELECT id::text, at::text, who::text, cost::text, details::text FROM {TABLE} AS t "
        "WHERE id BETWEEN 1 AND 1440 ORDER BY t.id",
    )
    assert rows == before
    expect(frame.locator("main")).to_contain_text("a case")


def test_a_hold_is_placed_seen_and_released(admin, stack):
    """On the partition, the archive and the map; S3 has one record of both."""
    books = Books(stack)
    earlier = set(books.objects("holds/"))
    frame = admin.open_framed("/partition", table=TABLE, key=DAY)
    frame.get_by_role("link", name="Place a hold").click()
    answer(frame, "Place a legal hold on 1 partition", Why="a court order", Reference="EFCC/17")
    expect(frame.locator("h1")).to_contain_text("1 of 1 run started")

    placed = wait_for(lambda: set(books.objects("holds/")) - earlier, "the hold in the store", seconds=300)
    wait_for(lambda: "on hold" in read_map(admin, table=TABLE)[f"{TABLE}/{DAY}"], "the hold on the map")
    admin.open("/object", id=archive_of_the_day())
    expect(admin.page.locator("h1")).to_contain_text("on hold")
    page = admin.open("/partition", table=TABLE, key=DAY, again=1)
    expect(page.locator("main")).to_contain_text("EFCC/17")
    page.get_by_role("link", name="Release").click()
    answer(page, "Release the legal hold", Why="the case is closed")
    expect(page.locator("h1")).to_contain_text("1 of 1 run started")

    wait_for(lambda: "released_by" in str(hold_records(books, placed)), "the release in the store", seconds=300)
    wait_for(lambda: "on hold" not in read_map(admin, table=TABLE)[f"{TABLE}/{DAY}"], "the map without the hold")


def hold_records(books: Books, placed: set[str]) -> list[Any]:
    """The documents of a hold: what was placed, and what released it."""
    stems = {key.removesuffix(".json") for key in placed}
    return [books.document(key) for key in books.objects("holds/") if any(key.startswith(stem) for stem in stems)]


def test_cells_are_chosen_by_mouse_and_by_keyboard(admin):
    """By dragging over them, by Shift and click, by Shift and arrows; each way leads to the page that asks."""
    table = "public.audit_events"
    page = admin.open("/archive", table=table)
    cells = page.locator("#map a[data-cell]")

    def chosen() -> list[str]:
        return list(page.locator("#map a.chosen").evaluate_all("cells => cells.map(c => c.dataset.cell)"))

    names = cells.evaluate_all("cells => cells.map(c => c.dataset.cell)")
    cells.nth(1).scroll_into_view_if_needed()
    first, last = cells.nth(1).bounding_box(), cells.nth(4).bounding_box()
    assert first is not None
    assert last is not None
    page.mouse.move(first["x"] + 9, first["y"] + 9)
    page.mouse.down()
    page.mouse.move(last["x"] + 9, last["y"] + 9, steps=9)
    page.mouse.up()
    assert chosen() == names[1:5]
    assert urlsplit(page.url).path == "/strongroom/archive"
    expect(page.locator("#chosen")).to_have_text("4 cells chosen")
    page.get_by_role("button", name="Clear selection").click()
    assert chosen() == []

    cells.nth(2).click(modifiers=["Shift"])
    cells.nth(5).click(modifiers=["Shift"])
    assert chosen() == names[2:6]
    page.keyboard.press("Escape")
    assert chosen() == []

    cells.nth(3).focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen() == names[3:6]
    page.get_by_role("button", name="Archive", exact=True).click()
    page.wait_for_url("**/strongroom/act?*")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["do"] == ["archive"]
    assert asked["cell"] == names[3:6]
    expect(page.locator("h1")).to_contain_text("Archive")


def test_a_page_that_renews_itself_lets_its_reader_go_elsewhere(admin):
    """Also to a page that takes longer to answer than the time after which this one is read again."""
    renewing = '<script src="/strongroom/static/pages.js" defer></script><p data-renew="1"><a href="/strongroom/archive">Map</a></p>'

    def take_long(route: Route) -> None:
        admin.page.wait_for_timeout(2500)
        route.continue_()

    admin.page.route("**/strongroom/renewing", lambda route: route.fulfill(body=renewing, content_type="text/html"))
    admin.page.route("**/strongroom/archive", take_long)
    admin.page.goto(admin.address("/renewing"))
    admin.page.get_by_role("link", name="Map").click()

    expect(admin.page.locator("#map")).to_be_visible()
    admin.page.unroute_all()


def test_a_link_to_a_run_opens_airflows_own_page_and_back_returns(admin):
    """In Airflow itself, not in an Airflow inside the frame."""
    frame = admin.open_framed("/partition", table=TABLE, key=DAY)
    frame.locator(f'a[data-airflow][href*="/dags/{dag_of(PAGED)}/runs/"]').first.click()

    admin.page.wait_for_url(f"**/dags/{dag_of(PAGED)}/runs/**")
    expect(admin.page.get_by_text(DAY).first).to_be_visible()
    assert admin.page.locator("iframe").count() == 0
    admin.page.go_back()

    expect(frame.locator("h1")).to_contain_text(f"{TABLE} {DAY}")


def operators_in(condition: Locator) -> list[str]:
    """What one condition of the form offers."""
    return list(
        condition.get_by_label("Operator").evaluate(
            "field => [...field.options].filter(o => !o.disabled).map(o => o.value)"
        )
    )


def open_query(admin) -> tuple:
    """The form with its first condition. While the store is slow the form has none, and says so; then it is opened again."""
    for _ in range(10):
        frame = admin.open_framed("/partition", table=TABLE, key=DAY)
        frame.get_by_role("main").get_by_role("link", name="Look inside").click()
        expect(frame.locator("h1")).to_contain_text("Look inside archives")
        first = frame.get_by_role("group", name="Condition 1")
        if first.is_visible():
            return frame, first
        expect(frame.locator("main")).to_contain_text("Open the page again")
    raise AssertionError("the columns of the table were never known")


def test_rows_found_inside_an_archive_have_the_texts_that_postgresql_gave(admin, before):
    """On the page, and in both downloads; nothing was restored for it."""
    frame, first = open_query(admin)
    first.get_by_label("Column").select_option("who")
    assert operators_in(first) == ["=", "!=", "in", "contains", "begins with", "is null", "is not null"]
    first.get_by_label("Column").select_option("details")
    assert operators_in(first) == ["contains", "begins with", "is null", "is not null"]
    assert first.get_by_label("Operator").input_value() == "contains"
    first.get_by_label("Column").select_option("id")
    first.get_by_label("Operator").select_option("<=")
    first.get_by_label("Value").fill("300")
    answer(frame, "Search", Why="case 4711")

    expect(frame.locator("h1")).to_contain_text("300 rows of")
    head, *shown = frame.locator("table.rows tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert [name.split("\n")[0] for name in head] == ["id", "at", "who", "cost", "details", "archive"]
    assert [tuple(row[:5]) for row in shown] == before[: len(shown)]
    assert len(shown) == 200
    assert {row[5] for row in shown} == {archive_of_the_day()}
    found = {}
    for form in ("csv", "jsonl"):
        with admin.page.expect_download() as begun:
            frame.get_by_role("link", name=f"Download {form}").click()
        found[form] = begun.value.path().read_text()
    names = ("id", "at", "who", "cost", "details")
    rows = list(csv.DictReader(io.StringIO(found["csv"])))
    assert [tuple(row[name] for name in names) for row in rows] == before[:300]
    lines = [json.loads(line, parse_float=str, parse_int=str) for line in found["jsonl"].splitlines()]
    assert [line["id"] for line in lines] == [row[0] for row in before[:300]]
    assert [line["who"] for line in lines] == [row[2] for row in before[:300]]
    assert [line["cost"] for line in lines] == [row[3] for row in before[:300]]
    frame.get_by_role("link", name="More rows").click()
    expect(frame.locator("main")).to_contain_text("Rows 201 to 300 of 300.")


# ------------------------------------------------------------------------------------------------------- who may what


def test_a_viewer_sees_everything_and_is_offered_nothing(viewer):
    """The map, a partition and an archive, without a button that acts; searching is refused."""
    assert read_map(viewer, table=TABLE)[f"{TABLE}/{DAY}"]
    assert viewer.page.locator("#bar").count() == 0
    page = viewer.open("/partition", table=TABLE, key=DAY)
    assert page.locator("main a.button, main button").count() == 0
    page = viewer.open("/object", id=archive_of_the_day())
    assert page.get_by_role("link", name="Look at its first rows").count() == 0

    for path in ("/query", "/query?table=" + TABLE, "/query/rows.csv?run=x"):
        assert viewer.context.request.get(viewer.address("") + path).status == 403


def forged(someone: Person, token: str, origin: str | None) -> int:
    """Send a form that starts a restore, as another site could."""
    given = {"do": "restore", "cell": f"{TABLE}/{DAY}", "why": "a forged case", "keep_days": "5", "token": token}
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | ({"Origin": origin} if origin else {})
    return someone.context.request.post(someone.address("/act"), data=urlencode(given), headers=headers).status


def test_a_form_that_was_not_made_for_this_user_here_starts_nothing(admin, viewer, airflow, stack):
    """Another site, no origin, no token, a token of another user; and a viewer's own."""
    ours, runs = stack.api_url, len(airflow.runs("restore_archive"))
    token = admin.open("/act", do="restore", cell=f"{TABLE}/{DAY}").locator("input[name=token]").input_value()

    assert forged(admin, token, "https://evil.example") == 403
    assert forged(admin, token, None) == 403
    assert forged(admin, "", ours) == 403
    assert forged(admin, token[:-1], ours) == 403
    assert forged(viewer, token, ours) == 403
    page = viewer.open("/act", do="restore", cell=f"{TABLE}/{DAY}")
    expect(page.locator("main")).to_contain_text("You may not trigger restore_archive.")

    assert len(airflow.runs("restore_archive")) == runs


def test_nobody_gets_anything_without_logging_in(browser, stack, before):
    """Pages, styles, scripts and downloads."""
    nobody = person(browser, stack, None)

    for path in (
        "/archive",
        f"/partition?table={TABLE}&key={DAY}",
        f"/object?id={archive_of_the_day()}",
        f"/object/manifest?id={archive_of_the_day()}",
        f"/act?do=verify&cell={TABLE}/{DAY}",
        "/totals",
        "/search?q=paged",
        "/query",
        "/query/rows.csv?run=x",
        "/query/rows.jsonl?run=x",
        "/static/style.css",
        "/static/pages.js",
    ):
        got = nobody.context.request.get(nobody.address("") + path, max_redirects=0)
        assert got.status == 401, path
        assert TABLE not in got.text().replace(path, "")
    nobody.context.close()


# -------------------------------------------------------------------------------------------------------- how it looks


def every_page() -> list[tuple[str, dict[str, str]]]:
    """Path and parameters of each page."""
    return [
        ("/archive", {}),
        ("/partition", {"table": TABLE, "key": DAY}),
        ("/object", {"id": archive_of_the_day()}),
        ("/act", {"do": "restore", "cell": f"{TABLE}/{DAY}"}),
        ("/query", {"table": TABLE}),
        ("/totals", {}),
        ("/search", {"q": "paged"}),
    ]


def test_the_frame_follows_the_theme_of_airflow(admin):
    """Switched in Airflow's own menu, the page in the frame changes at once, without being read again."""
    frame, page = admin.open_framed("/archive"), admin.page

    def switch(theme: str) -> None:
        page.get_by_role("button", name="User").click()
        page.get_by_role("menuitem", name="Appearance").hover()
        page.get_by_role("menuitemradio", name=theme).click()

    switch("Dark Mode")
    expect(frame.locator("html")).to_have_class(re.compile("dark"))
    switch("Light Mode")
    expect(frame.locator("html")).not_to_have_class(re.compile("dark"))


LINES_OF_NAMES = """() => [...document.querySelectorAll("#map th.name a")].flatMap((name) => {
  const lines = [], texts = document.createTreeWalker(name, NodeFilter.SHOW_TEXT), range = document.createRange();
  for (let text; (text = texts.nextNode());)
    for (let i = 0; i < text.length; i++) {
      range.setStart(text, i); range.setEnd(text, i + 1);
      const top = Math.round(range.getBoundingClientRect().top);
      if (!lines.length || lines.at(-1).top !== top) lines.push({ top, words: "" });
      lines.at(-1).words += text.data[i];
    }
  return lines.slice(0, -1).map((line) => line.words);
})"""
"""The lines that each table's name on the map is broken into, without the last."""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_used_by_everybody_also_on_a_phone(browser, stack, before, theme):
    """axe-core finds nothing: contrast, names, labels, landmarks. At 400 pixels, no page scrolls sideways and no word is torn."""
    someone = person(browser, stack, stack.token())
    someone.page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    found, wide, torn = {}, [], []

    for path, given in every_page():
        page = someone.open(path, **given)
        assert ("dark" in (page.locator("html").get_attribute("class") or "")) == (theme == "dark")
        result = Axe().run(page)
        if result.violations_count:
            found[path] = result.generate_report()
        page.set_viewport_size({"width": 400, "height": 800})
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(path)
        torn += [line for line in page.evaluate(LINES_OF_NAMES) if not line.endswith(("_", "."))]
        page.set_viewport_size({"width": 1280, "height": 900})

    someone.context.close()
    assert found == {}
    assert wide == []
    assert torn == []
