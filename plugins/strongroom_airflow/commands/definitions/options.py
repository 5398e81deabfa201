"""The options that several commands take."""

from __future__ import annotations

from airflow.cli.cli_config import Arg

ARCHIVE_ID_EXAMPLE = "Such as public.audit_events.2026-07.0001"

ARCHIVE_ID = Arg(("archive_id",), help=ARCHIVE_ID_EXAMPLE)
TABLE = Arg(("table",), help="Name of a table in archive.yaml")
AS_JSON = Arg(("--json",), help="Print JSON instead of a table", action="store_true")
NO_WAIT = Arg(("--no-wait",), help="Return as soon as the run is started", action="store_true")


def who(words: str) -> Arg:
    """The person that goes on record, if it is not the user of the shell."""
    return Arg(("--who",), help=f"{words}; default: the user of this shell")
