"""recovery-kit and recover: what to keep outside, and how to begin again with it."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON

RECOVERY_KIT = ActionCommand(
    name="recovery-kit",
    help="Write what a recovery needs into a new folder: settings, public keys, names of connections; no secret",
    description=(
        "Write a folder that is kept where neither the machines nor the buckets are. Its README says what else a person must bring."
    ),
    func=load_when_called("recovery.recovery_kit"),
    args=(
        Arg(("--output",), metavar="DIR", help="A new or empty folder; default: strongroom-recovery-kit-<date>"),
        AS_JSON,
        ARG_VERBOSE,
    ),
)

RECOVER = ActionCommand(
    name="recover",
    help="Check a bucket against a recovery kit, rebuild what is derived, and say what can be restored",
    description=(
        "Begin again from nothing but a bucket and a kit. Signatures, the growth of the log since the kit, and the owner are checked "
        "first. With --from replica --fill, an empty bucket is filled from the second copy, without what was purged or superseded. Rows come "
        "back with `airflow strongroom restore`."
    ),
    func=load_when_called("recovery.recover"),
    args=(
        Arg(("kit",), help="The folder that recovery-kit wrote"),
        Arg(
            ("--from",),
            dest="read_from",
            choices=("store", "replica"),
            default="store",
            help="Which copy to look at; default: store",
        ),
        Arg(("--fill",), action="store_true", help="Fill the empty first bucket from the replica"),
        Arg(
            ("--new-owner",),
            action="store_true",
            help="Let the source database of the new installation own the store, so that it may archive again",
        ),
        Arg(("--who",), help="The person who recovers, for the record; default: you"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when everything is there that the log says, 1 when something is lost or damaged, or the check failed.",
)
