"""subject key, open, list, extend and report: commands about requests of persons."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, who

_CASE = Arg(("case",), help="Id of the case, such as DSR-2026-0042; it must not tell who the person is")
_WHO = who("Person who does this, for the record")

_KEY = ActionCommand(
    name="key",
    help="Make the key that protects records of persons; nothing is stored",
    func=load_when_called("subject.key"),
    args=(AS_JSON, ARG_VERBOSE),
)

_OPEN = ActionCommand(
    name="open",
    help="Record that a person asked for erasure or access; the identifiers are read from standard input",
    description=(
        "Open a case. The identifiers are read from standard input, one class=value per line, so that no command line and no log holds it. "
        "Classes are those of `subjects.columns`. Give every spelling that may be in the tables."
    ),
    func=load_when_called("subject.open_"),
    args=(
        _CASE,
        Arg(
            ("--asks",),
            choices=("erasure", "access"),
            default="erasure",
            help="What the person asks for; default: erasure",
        ),
        Arg(
            ("--received",),
            required=True,
            metavar="DATE",
            help="Day on which the request came in, UTC; the month is counted from it",
        ),
        Arg(("--identity-check",), required=True, metavar="TEXT", help="How the person's identity was checked"),
        Arg(
            ("--identifiers",),
            metavar="FILE",
            default="-",
            help="Read the identifiers from this file instead; remove it afterwards",
        ),
        _WHO,
        AS_JSON,
        ARG_VERBOSE,
    ),
)

_LIST = ActionCommand(
    name="list",
    help="List the cases, with the time that is left",
    func=load_when_called("subject.list_"),
    args=(Arg(("--all",), action="store_true", help="Also list cases that have ended"), AS_JSON, ARG_VERBOSE),
    epilog="Exit code: 0, or 1 when an open case is overdue.",
)

_EXTEND = ActionCommand(
    name="extend",
    help="Record that the person was told of two extra months, and why (GDPR 12(3))",
    func=load_when_called("subject.extend"),
    args=(_CASE, Arg(("--why",), required=True, help="The reason that the person was given"), _WHO, ARG_VERBOSE),
)

_REPORT = ActionCommand(
    name="report",
    help="Write all that is held about the person into a file (GDPR 15)",
    func=load_when_called("subject.report"),
    args=(
        _CASE,
        Arg(("--output",), required=True, metavar="FILE", help="A new file, for the person; only you may read it"),
        Arg(("--close",), action="store_true", help="End the case, if it asks for access: forget who the person is"),
        _WHO,
        ARG_VERBOSE,
    ),
)

SUBJECT = GroupCommand(
    name="subject",
    help="Requests of persons: report what is held about them, and erase it",
    subcommands=(_KEY, _OPEN, _LIST, _EXTEND, _REPORT),
)
