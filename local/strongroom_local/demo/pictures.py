"""``make pictures``: the pictures of the archive's pages and of its figures, taken from the stack that the demo left running.

Before it takes them, it archives more months through Airflow, places a hold and searches an archive, so that the pictures show what
a place in use looks like. The oldest months of one table stay as they are: overdue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from playwright.sync_api import Browser, Page, sync_playwright

from strongroom.calendar import Frequency, Partition, hot_until
from strongroom.settings import TableSettings, load_settings
from strongroom_local.demo import sample
from strongroom_local.demo.api import Airflow, await_run, run_path, trigger
from strongroom_local.demo.figures import GRAPHS, find_program, scraped
from strongroom_local.demo.runs import Target, follow, start_runs
from strongroom_local.servers.airflow import REPOSITORY
from strongroom_local.servers.processes import ServerError
from strongroom_local.servers.stack import Stack

FOLDER = REPOSITORY / "docs" / "pictures"

MOST_BYTES = 170_000
"""A picture in the documentation is not larger."""

_OVERDUE_TABLE, _OVERDUE_MONTHS = "acm_alerts", 2
_FEW_MONTHS = 3
_SHOWN = "audit_events"
_SECONDS = 300

Progress = Callable[[str], None]


def make(stack: Stack, progress: Progress, folder: Path = FOLDER, *, only_figures: bool = False) -> list[Path]:
    """Take the pictures; returns their files.

    Args:
        stack: A running stack, in which the demo has archived two months.
        progress: Called with a few words before each stage.
        folder: Where the pictures go.
        only_figures: Leave those of the pages out, and archive only as many months as the figures need to move.

    Raises:
        ServerError: The stack does not run, or there is no browser.
        RunFailedError: A run failed.
    """
    if not stack.running:
        raise ServerError("the stack is not running", hint="nothing was changed; start it with 'make demo KEEP=1'")
    browser_path = str(find_program("find-chromium", "--install"))
    folder.mkdir(exist_ok=True)
    with scraped(stack) as prometheus:
        month = _archive_more(stack, progress, _FEW_MONTHS if only_figures else None)
        _hold_and_verify(stack, month, progress)
        pages = [] if only_figures else _pages(month, _search(stack, month, progress))
        progress("waiting for the last figures")
        prometheus.await_witness()
        progress("taking the pictures")
        with _browsing(browser_path) as browser:
            return [
                *(_take_page(browser, stack, folder, *shot) for shot in pages),
                _take_figures(browser, prometheus.alerts, folder / "alerts.png", "text=StrongroomBlind", (700, 1180)),
                *(
                    _take_figures(
                        browser, prometheus.graph(shown), folder / f"{name}.png", ".legend .line", (1000, height)
                    )
                    for name, shown, height in GRAPHS
                ),
            ]


def _pages(month: Partition, run_id: str) -> list[tuple[str, str, dict[str, str], dict[str, Any]]]:
    """Name, address, query and manner of each picture of a page."""
    table = f"public.{_SHOWN}"
    return [
        ("map", "/archive", {}, {}),
        ("map-dark", "/archive", {}, {"dark": True}),
        ("map-narrow", "/archive", {}, {"width": 400, "height": 800, "framed": False}),
        ("partition", "/partition", {"table": table, "key": month.key}, {}),
        ("archive", "/object", {"id": f"{table}.{month.key}.0001"}, {}),
        ("look-inside", "/query", {"run": run_id}, {}),
        ("totals", "/totals", {}, {}),
    ]


def _archive_more(stack: Stack, progress: Progress, newest: int | None) -> Partition:
    """Archive every due month of the sample but the oldest of one table, or only some of the newest; returns the newest."""
    airflow, tables = Airflow(stack), [load_settings().table(table.name) for table in sample.TABLES]
    months = _due_months(stack, tables[0])[-(newest or 0) :]
    targets = []
    for table in sorted(
        tables, key=lambda one: one.table_name == _OVERDUE_TABLE
    ):  # its alerts go last: cases need them
        wanted = months[_OVERDUE_MONTHS:] if table.table_name == _OVERDUE_TABLE and newest is None else months
        progress(f"archiving {len(wanted)} months of {table.table_name}")
        start_runs(airflow, [f"archive__{table.slug}"], wanted)
        targets += [Target(table.table_name, f"archive__{table.slug}", month.key) for month in wanted]
        airflow.call("PATCH", f"/api/v2/dags/archive__{table.slug}", {"is_paused": False})
    for views in follow(airflow, targets, {}):
        progress(f"{sum(view.finished for view in views)} of {len(views)} months are archived")
    return months[-1]


def _due_months(stack: Stack, table: TableSettings) -> list[Partition]:
    with psycopg.connect(stack.source_conninfo()) as connection:
        made = connection.execute("SELECT DISTINCT month FROM strongroom_sample.progress").fetchall()
    months = sorted((Partition.parse(Frequency.MONTHLY, f"{month:%Y-%m}") for (month,) in made), key=str)
    now = datetime.now(timezone.utc)
    return [month for month in months if hot_until(month.window, table.hot_retention) <= now]


def _hold_and_verify(stack: Stack, month: Partition, progress: Progress) -> None:
    airflow = Airflow(stack)
    name, earlier = f"public.{_SHOWN}.{month.key}", month.previous()
    asked: list[tuple[str, dict[str, object]]] = [
        ("legal_hold", {"what": f"public.{_SHOWN}.{earlier.key}", "why": "court order", "reference": "EFCC/2026/17"}),
        ("verify_archives", {"archives": [f"{name}.0001"], "why": "yearly audit"}),
    ]
    for dag_id, conf in asked:
        progress(f"running {dag_id}")
        run_id = f"pictures__{dag_id}__{month.key}"
        trigger(airflow, dag_id, run_id, conf)
        await_run(airflow, dag_id, run_id, progress)


def _search(stack: Stack, month: Partition, progress: Progress) -> str:
    """Search the newest month as the user of the pictures would, because nobody else sees the rows."""
    airflow, dag_id = Airflow(stack), "query_archive"
    run_id = f"pictures__{datetime.now(timezone.utc):%Y%m%dT%H%M%S}"
    conf = {
        "table": f"public.{_SHOWN}",
        "archives": [f"public.{_SHOWN}.{month.key}.0001"],
        "limit": 20,
        "why": "case 4711",
    }
    progress(f"running {dag_id}")
    trigger(airflow, dag_id, run_id, conf)
    await_run(airflow, dag_id, run_id, progress)
    state = airflow.get(run_path(dag_id, run_id))["state"]
    if state != "success":
        raise ServerError(f"the search for the pictures ended as {state}", hint="nothing was changed; see its log")
    return run_id


@contextmanager
def _browsing(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        unsandboxed = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to start as root otherwise
        browser = playwright.chromium.launch(executable_path=path, args=unsandboxed)
        try:
            yield browser
        finally:
            browser.close()


def _take_page(
    browser: Browser, stack: Stack, folder: Path, name: str, path: str, query: dict[str, str], how: dict[str, Any]
) -> Path:
    """One picture, in Airflow's own frame or, for a phone, of the page alone."""
    with _window(browser, how.get("width", 1280), how.get("height", 800)) as page:
        page.context.add_cookies([{"name": "_token", "value": stack.token(), "url": stack.api_url}])
        page.add_init_script(f"localStorage.setItem('theme', '{'dark' if how.get('dark') else 'light'}')")
        address = f"/strongroom{path}{'?' if query else ''}{urlencode(query)}"
        _settle(page, f"{stack.api_url}{address}")
        if how.get("framed", True):
            page.goto(f"{stack.api_url}/plugin/archive{address}")
            page.frame_locator("iframe").locator("main h1").wait_for()
            page.wait_for_timeout(1500)  # Airflow's own parts move for a moment
        return _shoot(page, folder / f"{name}.png")


def _take_figures(browser: Browser, address: str, file: Path, seen: str, size: tuple[int, int]) -> Path:
    """One picture of a page of Prometheus, once an element is seen; its size is in pixels."""
    with _window(browser, *size) as page:
        page.goto(address)
        page.locator(seen).first.wait_for()
        page.wait_for_timeout(1500)  # a graph is drawn in steps
        return _shoot(page, file)


@contextmanager
def _window(browser: Browser, width: int, height: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(_SECONDS * 1000)
    yield context.new_page()
    context.close()


def _shoot(page: Page, file: Path) -> Path:
    page.screenshot(path=file)
    size_bytes = file.stat().st_size
    if size_bytes > MOST_BYTES:
        raise ServerError(
            f"the picture {file.name} is too large for the documentation",
            expected=f"at most {MOST_BYTES} bytes",
            found=f"{size_bytes} bytes",
            hint="nothing else was changed; take it of a smaller window",
        )
    return file


def _settle(page: Page, address: str) -> None:
    """Open a page until it renews itself no more: everything was read."""
    page.goto(address)
    while page.locator("[data-renew]").count() or "not yet" in _age(page):
        page.wait_for_timeout(1000)
        page.goto(address)


def _age(page: Page) -> str:
    ages: Sequence[str] = page.locator(".age").all_inner_texts()
    return " ".join(ages)
