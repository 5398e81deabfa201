"""`airflow strongroom audit`: the report of a period for an auditor."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from strongroom.audit.keep import AuditFiles, keep_files
from strongroom_airflow.audit.reporting import parse_period, report_period
from strongroom_airflow.commands.pdf import find_browser, print_pdf
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings


@command
def audit(args: Namespace) -> int:
    """Report a period, keep the report, and print how the requirements stand."""
    window = parse_period(args.begin, args.end)
    browser = find_browser() if args.pdf else None
    stores, files = report_period(read_settings(), window, table=args.table, now=datetime.now(timezone.utc))
    kept = keep_files(stores, files)
    for path, body in ((args.html, files.page), (args.oscal, files.oscal)):
        if path:
            Path(path).write_bytes(body)
    if browser is not None:
        print_pdf(browser, files.page, Path(args.pdf))
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
