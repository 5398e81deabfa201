"""restores, certificates, verifications and jobs: commands that list what is on record, and what runs next."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON


def _listing(name: str, words: str, *options: Arg) -> ActionCommand:
    table = Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all tables in all stores")
    return ActionCommand(
        name=name,
        help=words,
        func=load_when_called(f"records.{name}"),
        args=(table, *options, AS_JSON, ARG_VERBOSE),
    )


_LAST = Arg(("--last",), type=positive_int(allow_zero=False), default=50, help="How many; default: 50")

RESTORES = _listing("restores", "List restores: who asked, why, and until when the rows are not archived again")
CERTIFICATES = _listing("certificates", "List the archives that were destroyed")
VERIFICATIONS = _listing("verifications", "List verifications: when, of which archive, the result, by whom", _LAST)

JOBS = ActionCommand(
    name="jobs",
    help="List Strongroom's DAGs: when each runs next, and whether it is paused",
    func=load_when_called("jobs.jobs"),
    args=(AS_JSON, ARG_VERBOSE),
)
