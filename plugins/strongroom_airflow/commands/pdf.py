"""Print an HTML page of ours as PDF, with the machine's Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from strongroom.errors import ConfigurationError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 300


def find_browser() -> str:
    """The Chromium that the variable CHROMIUM names, or one in the PATH.

    Raises:
        ConfigurationError: There is none.
    """
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ConfigurationError(
            "there is no Chromium to print a PDF with",
            expected=f"one of {', '.join(_BROWSERS)} in the PATH, or its path in the variable CHROMIUM",
            hint="Nothing was written. Ask for HTML instead, and print it from a browser.",
        )
    return found


def print_pdf(browser: str, page: bytes, target: Path) -> None:
    """Write a page as PDF.

    Raises:
        ConfigurationError: The browser did not do it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_bytes(page)
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile",
        ]
        if os.geteuid() == 0:  # Chromium refuses its sandbox to root; the page is our own and has no script
            command.append("--no-sandbox")
        ended = subprocess.run(
            [*command, f"--print-to-pdf={target.absolute()}", source.as_uri()],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    if ended.returncode != 0 or not target.exists():
        raise ConfigurationError(
            f"{browser} did not print the PDF",
            found=ended.stderr[-500:],
            hint="What the page says is kept in the store. Ask for HTML instead, and print it from a browser.",
        )
