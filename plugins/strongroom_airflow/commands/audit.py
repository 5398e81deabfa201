"""`airflow strongroom audit`: the report of a period for an auditor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from strongroom.audit.keep import AuditFiles, keep_files
from strongroom.errors import ConfigurationError
from strongroom_airflow.audit.reporting import parse_period, report_period
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PDF_SECONDS = 300


@command
def audit(args: Namespace) -> int:
    """Report a period, keep the report, and print how the requirements stand."""
    window = parse_period(args.begin, args.end)
    browser = _browser() if args.pdf else None
    stores, files = report_period(read_settings(), window, table=args.table, now=datetime.now(timezone.utc))
    kept = keep_files(stores, files)
    for path, body in ((args.html, files.page), (args.oscal, files.oscal)):
        if path:
            Path(path).write_bytes(body)
    if browser is not None:
        _print_pdf(browser, files.page, Path(args.pdf))
    if args.json:
        print_json(json.loads(files.document))
    else:
        _show(files, kept)
    gaps = any(table.gaps for table in files.report.tables)
    return 0 if all(one.satisfied for one in files.findings) and not gaps else 1


def _show(files: AuditFiles, kept: list[str]) -> None:
    table = Table(*(Column(name, overflow="fold") for name in ("requirement", "state", "why")))
    for one in files.findings:
        colour = "green" if one.satisfied else "red"
        state = f"[{colour}]{'satisfied' if one.satisfied else 'not satisfied'}[/]"
        table.add_row(escape(f"{one.title} ({one.citation})"), state, escape(one.why))
    print_out(table)
    for store in files.report.stores:
        witness = f"witnessed by {'; '.join(store.witnessed)}" if store.witnessed else "not witnessed"
        print_out(
            escape(f"{store.store}: {store.size} entries, signed, {witness}. Keep these lines for the next audit:")
        )
        print_out(escape("\n".join(f"  {line}" for line in store.checkpoint.splitlines()[:3])))
    for table_audit in files.report.tables:
        if table_audit.gaps:
            print_out(
                escape(f"{table_audit.table}: due, and neither archived nor empty: {', '.join(table_audit.gaps)}")
            )
    for where in kept:
        print_out(escape(f"The report: {where}"))


def _browser() -> str:
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ConfigurationError(
            "there is no Chromium to print a PDF with",
            expected=f"one of {', '.join(_BROWSERS)} in the PATH, or its path in the variable CHROMIUM",
            hint="Nothing was written. Leave --pdf out, write the page with --html, and print it from a browser.",
        )
    return found


def _print_pdf(browser: str, page: bytes, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "audit.html"
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
            timeout=_PDF_SECONDS,
        )
    if ended.returncode != 0 or not target.exists():
        raise ConfigurationError(
            f"{browser} did not print the PDF",
            found=ended.stderr[-500:],
            hint="The report is kept in the store. Write the page with --html, and print it from a browser.",
        )
