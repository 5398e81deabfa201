"""audit: the report of a period for an auditor."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg

from strongroom_airflow.commands.definitions.loading import load_when_called

AUDIT = ActionCommand(
    name="audit",
    help="Report a period for an auditor: what was done, what is missing, and how requirements stand",
    description=(
        "Read the transparency logs of all stores, or of one table's, and report what was archived, verified, deleted, restored, looked "
        "into, held and destroyed in a period, with the gaps. The report is kept in each store and entered in its log."
    ),
    func=load_when_called("audit.audit"),
    args=(
        Arg(("--from",), required=True, dest="begin", metavar="DATE", help="First day of the period, UTC"),
        Arg(("--to",), required=True, dest="end", metavar="DATE", help="First day after the period, UTC"),
        Arg(("--table",), help="Only this table of archive.yaml"),
        Arg(("--html",), metavar="FILE", help="Also write the page to this file"),
        Arg(("--pdf",), metavar="FILE", help="Also write the page to this file as PDF; needs Chromium"),
        Arg(("--oscal",), metavar="FILE", help="Also write the OSCAL assessment results to this file"),
        Arg(("--json",), help="Print the report as JSON", action="store_true"),
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when every requirement is satisfied and there is no gap, 1 otherwise.",
)
