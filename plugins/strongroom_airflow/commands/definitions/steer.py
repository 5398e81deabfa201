"""status, throttle, pause and resume: commands about runs that are under way."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, TABLE, who

_WHY = (
    Arg(("--reason",), required=True, help="The reason, for the record"),
    who("Person who wants it, for the record"),
    AS_JSON,
    ARG_VERBOSE,
)

STATUS = ActionCommand(
    name="status",
    help="Show how far runs are, how fast, and why they wait",
    description=(
        "Say for each archive run that is under way which step of which part works, how many rows are done, how fast, how long "
        "it still takes, and why it waits: a lock, a pool, a standby, a claim, an order. Without a table: all tables."
    ),
    func=load_when_called("status.status"),
    args=(
        Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all tables"),
        AS_JSON,
        ARG_VERBOSE,
    ),
)

THROTTLE = ActionCommand(
    name="throttle",
    help="Limit the speed of each delete of a table, including running ones",
    description="Running deletes obey within seconds, and so do later ones until the limit is lifted with --off.",
    func=load_when_called("steer.throttle"),
    args=(
        TABLE,
        Arg(
            ("--rows-per-second",), metavar="N", type=positive_int(allow_zero=False), help="The most rows of one delete"
        ),
        Arg(("--off",), action="store_true", help="Lift the limit"),
        *_WHY,
    ),
)

PAUSE = ActionCommand(
    name="pause",
    help="Pause the steps of a table that work on its database, including running ones",
    description=(
        "A running delete finishes its batch and waits without a transaction. A part that is being read is read to its end; no "
        "further part is begun. After pause_limit_seconds the steps that wait fail. This pauses no DAG."
    ),
    func=load_when_called("steer.pause"),
    args=(TABLE, *_WHY),
)

RESUME = ActionCommand(
    name="resume",
    help="Let the steps of a paused table continue",
    func=load_when_called("steer.resume"),
    args=(TABLE, *_WHY),
)
