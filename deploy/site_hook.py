"""What MkDocs must know of this repository, whose pages are written for a Git host and also link to files outside docs/.

Pages at the root become the site's folder project/, and other files that a page links to its folder source/.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(?=[#)])")
_DIAGRAM = re.compile(r"^```mermaid\n.*?^```\n", re.MULTILINE | re.DOTALL)
"""Left out: the script that draws it would have to come from elsewhere. Git hosts draw it in the README."""
_FENCE = re.compile(r" *(```|~~~)")
_ITEM = re.compile(r"([-*+]|\d+\.) ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root, and all files outside docs/ that a page links to."""
    for path in sorted(REPOSITORY.glob("*.md")):
        files.append(File.generated(config, f"project/{path.name}", abs_src_path=str(path)))
    linked = {
        target
        for file in files.documentation_pages()
        for link in _LINK.findall(file.content_string)
        if (target := _on_site(file.src_uri, link)).startswith("source/")
    }
    for target in sorted(linked):
        name = target.removeprefix("source/").removesuffix("/index.md")
        if (REPOSITORY / name).is_dir():
            files.append(File.generated(config, target, content=_listing(name)))
        for one in _tracked(name):
            if not files.get_file_from_path(f"source/{one}"):
                files.append(File.generated(config, f"source/{one}", abs_src_path=str(REPOSITORY / one)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to where their targets are on the site, and begin lists as Python-Markdown wants it."""
    here = posixpath.dirname(page.file.src_uri)
    led = _LINK.sub(lambda found: posixpath.relpath(_on_site(page.file.src_uri, found[1]), here or "."), markdown)
    return "\n".join(_with_lists(_DIAGRAM.sub("", led).splitlines())) + "\n"


def _on_site(page: str, link: str) -> str:
    """The path on the site, from its root, of what a page links to.

    Args:
        page: Path of the page on the site.
        link: Path of the target relative to the page's own place in the repository.
    """
    name = page.removeprefix("project/")
    place = name if name != page else page if page.startswith("source/") else f"docs/{page}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
    folder = (REPOSITORY / target).is_dir()
    if target.startswith("docs/"):
        return target.removeprefix("docs/") + ("/README.md" if folder else "")
    if "/" not in target and target.endswith(".md"):
        return f"project/{target}"
    return target if page.startswith("source/") else f"source/{target}" + ("/index.md" if folder else "")


def _listing(folder: str) -> str:
    """A page that links to each file of a folder."""
    links = "\n".join(f"- [{name}]({posixpath.relpath(name, folder)})" for name in _tracked(folder))
    return f"# {folder}\n\n{links}\n"


def _tracked(name: str) -> list[str]:
    """A file, or all files of a folder, by their paths from the repository's root."""
    listed = subprocess.run(["git", "ls-files", "--", name], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def _with_lists(lines: list[str]) -> Iterator[str]:
    """Put an empty line between a paragraph and the list that follows it, outside code."""
    fence, before = "", ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif (
            not fence
            and _ITEM.match(line)
            and before.strip()
            and not before.startswith(" ")
            and not _ITEM.match(before)
        ):
            yield ""
        yield line
        before = line
