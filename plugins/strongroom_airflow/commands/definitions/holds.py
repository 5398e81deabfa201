"""hold add, list and release: commands about legal holds."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, who

_WHO = who("Person who asked for it, for the record")

_ADD = ActionCommand(
    name="add",
    help="Place a hold on a table, a partition or an archive, or stop all deletion",
    func=load_when_called("holds.add"),
    args=(
        Arg(("what",), nargs="?", help="A table in archive.yaml, an archive id, or the beginning of one"),
        Arg(
            ("--all",),
            action="store_true",
            help="Hold everything: all deletion stops within seconds, in the database too",
        ),
        Arg(("-p", "--partition"), metavar="KEY", help="Only this partition of the table, such as 2026-05"),
        Arg(("--why",), required=True, help="The reason, for the record"),
        Arg(("--reference",), required=True, help="Case number, letter or ticket that requires it"),
        _WHO,
        AS_JSON,
        ARG_VERBOSE,
    ),
)

_LIST = ActionCommand(
    name="list",
    help="List the holds in force",
    func=load_when_called("holds.list_holds"),
    args=(Arg(("--all",), action="store_true", help="Also list holds that were released"), AS_JSON, ARG_VERBOSE),
)

_RELEASE = ActionCommand(
    name="release",
    help="Release a hold; it stays on record",
    func=load_when_called("holds.release"),
    args=(
        Arg(("hold_id",), nargs="?", help="As `hold list` prints it"),
        Arg(("--all",), action="store_true", help="Release every hold on everything, in all stores"),
        Arg(("--reason",), required=True, help="Why it may be released, for the record"),
        _WHO,
        AS_JSON,
        ARG_VERBOSE,
    ),
)

HOLD = GroupCommand(
    name="hold",
    help="Legal holds: what a hold covers is never purged; a hold on everything stops all deletion",
    subcommands=(_ADD, _LIST, _RELEASE),
)
