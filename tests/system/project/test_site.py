"""The documentation builds into a site without a warning, which loads nothing from elsewhere and shows what Git hosts show."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.support.repository import REPOSITORY

DOCS = REPOSITORY / "docs"
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"|url\((?:"|')?(https?:[^)]+)\)"""
)


def made(docs: Path, site: Path) -> Path:
    """The site; it raises at the first warning: a dead link or anchor, or a page that no menu leads to."""
    config = load_config(str(REPOSITORY / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(site), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(DOCS, tmp_path_factory.mktemp("site"))


def test_each_page_is_there(site):
    """Those at the root, too, and the programs that pages link to."""
    expected = [page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md") if page.name != "README.md"]

    assert [str(page) for page in expected if not (site / page).is_file()] == []
    assert (site / "project" / "CONTRIBUTING.html").is_file()
    assert (site / "source/tools/verify_evidence.py").read_bytes() == (
        REPOSITORY / "tools/verify_evidence.py"
    ).read_bytes()


def test_the_site_loads_nothing_from_elsewhere(site):
    """Whoever reads it behind a firewall sees all of it, and nobody learns who reads."""
    loaded = {
        next(filter(None, found))
        for path in site.rglob("*")
        if path.suffix in {".html", ".css"}
        for found in LOADED.findall(path.read_text())
    }

    assert len(loaded) > 5
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


def test_lists_are_lists(site):
    """Git hosts begin a list right after a paragraph; Python-Markdown wants to be told."""
    text = re.compile(r"<p>(?:(?!</p>).)*?\n(?:[-*] |\d+\. )", re.S)

    assert [str(page.relative_to(site)) for page in site.rglob("*.html") if text.search(page.read_text())] == []


def test_each_page_that_the_menu_names_is_there():
    """The plug-in leaves out what it does not find, and says so in a line that is no warning."""

    def named(entry):
        children = entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else []
        return [entry] if isinstance(entry, str) else [page for child in children for page in named(child)]

    pages = [page for page in named(yaml.safe_load((DOCS / ".nav.yml").read_text())["nav"]) if "*" not in page]

    assert len(pages) == len(set(pages)) > 30
    assert [page for page in pages if not (DOCS / page).is_file() and not page.startswith("project/")] == []


def test_a_new_page_gets_into_the_menu_by_itself(tmp_path):
    """Of a folder that the menu knows; whether the folder was there before does not matter."""
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    (docs / "runbooks").mkdir(exist_ok=True)
    (docs / "runbooks" / "fire.md").write_text("# The data centre burns\n")

    page = (made(docs, tmp_path / "site") / "explain" / "security.html").read_text()

    assert 'href="../runbooks/fire.html"' in page
