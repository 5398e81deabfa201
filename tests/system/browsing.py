"""What tests of the pages share: a real browser, people who are logged in, and pages inside Airflow's frame."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, sync_playwright

from strongroom_local.servers.stack import Stack
from tests.support.repository import REPOSITORY

SECONDS = 120
"""How long anything on a page may take. A busy machine needs half a minute for Airflow's own pages."""


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium, installed if the machine has none."""
    found = subprocess.run(
        [REPOSITORY / "deploy" / "find-chromium", "--install"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    unsandboxed = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to start as root otherwise
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=unsandboxed)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Person:
    """Somebody who is logged in, and one tab of their browser.

    Attributes:
        faults: Errors of scripts, and what the browser refused to load or run.
    """

    stack: Stack
    context: BrowserContext
    page: Page
    faults: list[str]

    @property
    def frame(self) -> FrameLocator:
        """The page inside Airflow's frame."""
        return self.page.frame_locator('iframe[title="Archive"]')

    def address(self, path: str, **query: str | int) -> str:
        """The address of a page without the frame; ``from_`` stands for the parameter ``from``."""
        given = urlencode({name.rstrip("_"): value for name, value in query.items()})
        return f"{self.stack.api_url}/strongroom{path}{'?' if given else ''}{given}"

    def open(self, path: str, **query: str | int) -> Page:
        """Open a page without the frame; once more if the store was too busy to answer the page in its time."""
        for _ in range(SECONDS // 5):
            answer = self.page.goto(self.address(path, **query))
            assert answer is not None
            assert answer.status == 200, (answer.status, self.page.locator("main").inner_text())
            if not self.page.get_by_text("did not answer within").count():
                break
        return self.page

    def open_framed(self, path: str, **query: str | int) -> FrameLocator:
        """Open a page in Airflow's frame, by its address."""
        self.page.goto(f"{self.stack.api_url}/plugin/archive{self.address(path, **query)[len(self.stack.api_url) :]}")
        self.frame.locator("main").wait_for()
        return self.frame


def person(browser: Browser, stack: Stack, token: str | None, **options: Any) -> Person:
    """Somebody with a token of Airflow, or with none, in a fresh browser window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(SECONDS * 1000)
    if token is not None:
        context.add_cookies([{"name": "_token", "value": token, "url": stack.api_url}])
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    return Person(stack, context, page, faults)
