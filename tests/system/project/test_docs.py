"""The documentation has no dead links: every linked page and heading exists, and so does every page that the code names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from strongroom.tables import guard
from strongroom_local.demo.pictures import MOST_BYTES
from tests.support.repository import REPOSITORY

_LISTED = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
TRACKED = [REPOSITORY / name for name in _LISTED.splitlines() if (REPOSITORY / name).is_file()]
PAGES = [path for path in TRACKED if path.suffix == ".md"]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as Git hosts generate them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """A page's links to files or headings of the repository that do not exist."""
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
    """Links to headings too."""
    assert dead_links(page) == []


def test_each_page_that_something_names_is_there() -> None:
    """Errors, comments and scripts name pages by their path from the root."""
    named = {
        (name, str(path.relative_to(REPOSITORY)))
        for path in TRACKED
        if path.suffix in {".py", ".sql", ".yaml", ".toml", ".md", ".json", ""} and path.name != "CHANGELOG.md"
        for name in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|svg|png)", path.read_text(errors="replace"))
    }

    assert [(name, path) for name, path in sorted(named) if not (REPOSITORY / name).is_file()] == []


def test_the_first_page_of_the_documentation_leads_to_each_page() -> None:
    """Runbooks are found from their alerts, and decisions from their folder."""
    docs = REPOSITORY / "docs"
    index = (docs / "README.md").read_text()
    folders = ("start", "howto", "reference", "explain", "measured")
    pages = [
        str(page.relative_to(docs)) for page in PAGES if page.parent.name in folders and page.parent.parent == docs
    ]

    assert len(pages) > 50
    assert [page for page in pages if f"]({page})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_path_that_a_page_names_is_there(page: Path) -> None:
    """Files and folders, by their path from the repository's root."""
    if page.name == "CHANGELOG.md":
        return
    roots = "bench|dags|deploy|include|local|plugins|tests"
    paths = re.findall(rf"`((?:{roots})/[\w./-]+)`", page.read_text())

    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_the_pictures_of_the_pages_are_small_and_each_is_shown() -> None:
    """A page loads quickly, and `make pictures` takes none that nobody sees."""
    pictures = {path for path in TRACKED if path.parent == REPOSITORY / "docs" / "pictures"}
    shown = "".join(page.read_text() for page in PAGES)

    assert len(pictures) >= 5
    assert [path.name for path in pictures if path.stat().st_size > MOST_BYTES] == []
    assert [path.name for path in pictures if f"pictures/{path.name})" not in shown] == []


@pytest.mark.parametrize("name", ["how-it-works", "testing"])
def test_each_module_that_a_page_names_is_there(name: str) -> None:
    """These two pages name the domain's modules without their common folder."""
    page = REPOSITORY / "docs" / "explain" / f"{name}.md"
    roots = (REPOSITORY, REPOSITORY / "include" / "strongroom")
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())

    assert modules
    assert [module for module in modules if not any((root / module).is_file() for root in roots)] == []


def test_the_page_that_a_guard_names_stays() -> None:
    """The guard function's text is stored in databases and compared byte for byte there, so the page cannot move."""
    source = Path(guard.__file__).read_text()

    assert "See docs/partitions.md of Strongroom" in source
    assert (REPOSITORY / "docs" / "partitions.md").is_file()
