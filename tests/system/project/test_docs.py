"""The documentation leads somewhere: each link has its page and its heading, and each page that the code names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from strongroom.tables import guard
from tests.support.repository import REPOSITORY

_LISTED = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
TRACKED = [REPOSITORY / name for name in _LISTED.splitlines() if (REPOSITORY / name).is_file()]
PAGES = [path for path in TRACKED if path.suffix == ".md"]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as Git hosts make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """Links of a page to a file or a heading of the repository that does not exist."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if re.match("[a-z]+:", link):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in headings(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_link_leads_somewhere(page: Path) -> None:
    """Also to a heading."""
    assert dead_links(page) == []


def test_each_page_that_something_names_is_there() -> None:
    """Errors, comments and scripts name pages by their path from the root."""
    named = {
        (name, str(path.relative_to(REPOSITORY)))
        for path in TRACKED
        if path.suffix in {".py", ".sql", ".yaml", ".toml", ".md", ".json", ""} and path.name != "CHANGELOG.md"
        for name in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|svg)", path.read_text(errors="replace"))
    }

    assert [(name, path) for name, path in sorted(named) if not (REPOSITORY / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_path_that_a_page_names_is_there(page: Path) -> None:
    """Files and folders of the repository, from its root, as a reader would look for them."""
    if page.name == "CHANGELOG.md":
        return
    roots = "bench|dags|deploy|include|local|plugins|tests"
    paths = re.findall(rf"`((?:{roots})/[\w./-]+)`", page.read_text())

    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("name", ["how-it-works", "testing"])
def test_each_module_that_a_page_names_is_there(name: str) -> None:
    """These two pages name the modules of the domain without the folder that all of them are in."""
    page = REPOSITORY / "docs" / "explain" / f"{name}.md"
    roots = (REPOSITORY, REPOSITORY / "include" / "strongroom")
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())

    assert modules
    assert [module for module in modules if not any((root / module).is_file() for root in roots)] == []


def test_the_page_that_a_guard_names_stays() -> None:
    """The text of the guard's function lies in databases, where it is compared byte for byte: the page cannot move."""
    source = Path(guard.__file__).read_text()

    assert "See docs/partitions.md of Strongroom" in source
    assert (REPOSITORY / "docs" / "partitions.md").is_file()
