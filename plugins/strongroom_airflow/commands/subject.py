"""`airflow strongroom subject key`, `open`, `list`, `extend` and `report`: requests of persons.

Erasing itself is the DAG `subject_erasure`, which is started with the id of the case.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.table import Column, Table

from strongroom.erasure.cases import CaseState, extend_case, open_case, parse_identifiers, read_case, read_cases
from strongroom.erasure.close import answer_case
from strongroom.erasure.report import keep_report, report_table
from strongroom.errors import ErasureError
from strongroom.ledger.claims import shared_clock
from strongroom.records import make_salt
from strongroom_airflow.commands.terminal import command, print_facts, print_json, print_out, read_settings
from strongroom_airflow.erasure.run import StoreOfPersons, session, stores_of_persons, working_folder


@command
def key(args: Namespace) -> int:
    """Print a new key. It is shown this once."""
    secret = secrets.token_hex(32)
    if args.json:
        print_json({"key": secret})
        return 0
    print_out(
        "The key, for the password of the Airflow connection strongroom_subjects (type generic). It is not shown again:"
    )
    print_out(f"  {secret}")
    print_out("Keep a copy where you keep the key of backups: without it nobody can tell who must not come back.")
    return 0


@command
def open_(args: Namespace) -> int:
    """Record a request in each store that has tables with columns of persons."""
    stores = stores_of_persons(read_settings())
    identifiers = parse_identifiers(_lines(args.identifiers))
    classes = {kind for of in stores for table in of.tables for kind in table.subjects.columns.values()}
    if unknown := sorted(set(identifiers) - classes):
        raise ErasureError(
            f"no table has columns of the class {', '.join(unknown)}",
            expected=f"one of {', '.join(sorted(classes))}",
            hint="Nothing was recorded. Classes are the values of `subjects.columns` in archive.yaml.",
        )
    salt = make_salt()
    for of in stores:
        now = shared_clock(of.store, datetime.now(timezone.utc))()
        case = open_case(
            of.store,
            of.key,
            args.case,
            kind=args.asks,
            identifiers=identifiers,
            received_at=_day(args.received),
            identity_check=args.identity_check,
            who=args.who or getuser(),
            now=now,
            salt=salt,
        )
    if args.json:
        print_json(case.model_dump(mode="json", exclude={"salt"}))
        return 0
    print_out(escape(f"Opened case {args.case}: {case.kind}, due at {case.due_at:%Y-%m-%d} (GDPR 12(3))."))
    next_step = (
        f"airflow dags trigger subject_erasure --conf '{json.dumps({'case': args.case})}'"
        if case.kind == "erasure"
        else f"airflow strongroom subject report {args.case} --output FILE --close"
    )
    print_out(escape(f"Next: {next_step}"))
    return 0


@command
def list_(args: Namespace) -> int:
    """List the cases of all stores."""
    now = datetime.now(timezone.utc)
    cases = {state.case.case_id: state for of in stores_of_persons(read_settings()) for state in read_cases(of.store)}
    shown = [state for state in cases.values() if args.all or state.closing is None]
    overdue = [state for state in cases.values() if state.closing is None and state.due_at < now]
    if args.json:
        print_json([_as_json(state) for state in shown])
        return 1 if overdue else 0
    table = Table(*(Column(name, overflow="fold") for name in ("case", "asks for", "received", "due", "state")))
    for state in shown:
        case = state.case
        days = f"{case.received_at:%Y-%m-%d}", f"{state.due_at:%Y-%m-%d}"
        table.add_row(*map(escape, (case.case_id, case.kind, *days, _state(state, now))))
    print_out(table if shown else "No case is open.")
    return 1 if overdue else 0


@command
def extend(args: Namespace) -> int:
    """Record a longer term in each store."""
    for of in stores_of_persons(read_settings()):
        now = shared_clock(of.store, datetime.now(timezone.utc))()
        extension = extend_case(of.store, args.case, why=args.why, who=args.who or getuser(), now=now)
    print_out(escape(f"Case {args.case} is due at {extension.due_at:%Y-%m-%d}."))
    return 0


@command
def report(args: Namespace) -> int:
    """Write what is held about the person into a new file, and put on record that it was written."""
    stores = stores_of_persons(read_settings())
    states = [read_case(of.store, args.case) for of in stores]
    if args.close and states[0].case.kind != "access":
        raise ErasureError(
            f"case {args.case} asks for erasure, so a report does not end it",
            hint="Nothing was read. Leave --close out.",
        )
    places = [place for of in stores for place in _held(of, args.case)]
    now, who = datetime.now(timezone.utc), args.who or getuser()
    document = {
        "case": args.case,
        "made_at": now.isoformat(),
        "rights": "You may ask for rectification, erasure or restriction, object, and complain to the supervisory authority (GDPR 15(1)(e), (f)).",
        "places": places,
    }
    _write_new(Path(args.output), json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    rows = sum(len(place["rows"]) for place in places)
    for of in stores:
        keep_report(of.store, args.case, who=who, now=now, rows=rows, places=len(places))
        if args.close:
            answer_case(of.store, of.purge_store, args.case, who=who, now=now)
    print_facts(
        ("Case", args.case),
        ("Rows", str(rows)),
        ("Places", str(len(places))),
        ("File", args.output),
        ("State", "ended, and the person is forgotten" if args.close else "open"),
    )
    return 1 if any("unreadable" in place for place in places) else 0


def _lines(name: str) -> list[str]:
    if name == "-":
        return sys.stdin.readlines()
    try:
        return Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ErasureError(
            f"{name} cannot be read",
            found=type(error).__name__,
            hint="Nothing was recorded. Name a text file with one class=value a line.",
        ) from None


def _held(of: StoreOfPersons, case_id: str) -> list[dict[str, Any]]:
    wanted, held = of.wanted(case_id), []
    for table in of.tables:
        with session(table, "strongroom subject report") as connection:
            held += report_table(connection, of.store, table, wanted, folder=working_folder(table))
    return held


def _write_new(path: Path, body: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ErasureError(
            f"{path} cannot be written",
            found=error.strerror,
            hint="Nothing was recorded. Name a new file in a folder that you may write into.",
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(body)


def _day(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ErasureError(
            f"{text[:100]!r} is not a day",
            expected="a day such as 2026-11-23",
            hint="Nothing was recorded.",
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _state(state: CaseState, now: datetime) -> str:
    if state.closing is not None:
        return f"{state.closing.outcome}, {state.closing.closed_at:%Y-%m-%d}"
    left = (state.due_at - now).days
    return f"open, {left} days left" if state.due_at >= now else f"OVERDUE by {-left} days"


def _as_json(state: CaseState) -> dict[str, Any]:
    return {
        **state.case.model_dump(mode="json", exclude={"salt"}),
        "due_at": state.due_at.isoformat(),
        "closing": state.closing.model_dump(mode="json", exclude={"salt"}) if state.closing else None,
    }
