"""log key, show, adopt and rotate: commands about the transparency logs of the stores."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, who

_TABLE = Arg(("table",), nargs="?", help="A table that uses the store; default: all stores")

_KEY = ActionCommand(
    name="key",
    help="Make a key that signs a log, and say where its two halves belong; nothing is stored",
    func=load_when_called("log.key"),
    args=(
        Arg(("name",), help="The name of the log, which never changes, such as strongroom.example.com/archive"),
        Arg(("--witness",), action="store_true", help="Make a key that cosigns as a witness instead"),
        AS_JSON,
        ARG_VERBOSE,
    ),
)

_SHOW = ActionCommand(
    name="show",
    help="Show the head of each log, who signed it, and its latest entries",
    func=load_when_called("log.show"),
    args=(
        _TABLE,
        Arg(
            ("-n", "--last"),
            metavar="N",
            default=10,
            help="How many entries; default: 10",
            type=positive_int(allow_zero=True),
        ),
        AS_JSON,
        ARG_VERBOSE,
    ),
)

_ADOPT = ActionCommand(
    name="adopt",
    help="Enter archives and records that the log does not have, after reading the archives back",
    description=(
        "Find archives that are older than the log, and records whose writer died before it entered them. Read each archive back, "
        "enter what is sound, and put on record who wanted that and why. The log vouches for it from then on, so look at the list "
        "first: --dry-run prints it."
    ),
    func=load_when_called("log.adopt_missing"),
    args=(
        _TABLE,
        Arg(("--why",), required=True, help="The reason, for the record"),
        who("Person who vouches for it, for the record"),
        Arg(("-n", "--dry-run"), action="store_true", help="Print what is missing, and enter nothing"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when nothing is left, 1 when an archive was refused, or with --dry-run when something is missing.",
)

_ROTATE = ActionCommand(
    name="rotate",
    help="Let the key of the connection replace an earlier one; both sign the entry that says so",
    func=load_when_called("log.rotate"),
    args=(
        _TABLE,
        Arg(("--from-conn-id",), required=True, help="An Airflow connection with the earlier key as its password"),
        AS_JSON,
        ARG_VERBOSE,
    ),
)

LOG = GroupCommand(
    name="log",
    help="The stores' transparency logs: what was done, so that nobody can change it unseen",
    subcommands=(_KEY, _SHOW, _ADOPT, _ROTATE),
)
