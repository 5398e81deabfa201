"""plan, archive, restore, query and purge: commands that foresee runs of a DAG, or start and follow them."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, parsedate, positive_int

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, NO_WAIT, TABLE, who

PLAN = ActionCommand(
    name="plan",
    help="Say what would be archived and deleted, and how, without doing it",
    description=(
        "Read a table's database and store, and say for each partition that is due: rows, what stays and why, sizes, time, and "
        "how the rows are deleted. Nothing is started or written. Without a table: all tables, in short."
    ),
    func=load_when_called("plan.plan"),
    args=(
        Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all tables"),
        Arg(("--save",), metavar="FILE", help="Save the plan, to be carried out with archive --plan FILE"),
        Arg(("--sql",), action="store_true", help="Print the statements, and how the server plans them"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0, or 1 when a run would be refused.",
)

ARCHIVE = ActionCommand(
    name="archive",
    help="Archive partitions of a table now, and follow the runs",
    description=(
        "Start the archive run of each partition, oldest first, and follow the runs to their end. A partition that is being "
        "archived, or that this command has archived before, gets no second run. A partition inside hot retention is refused."
    ),
    func=load_when_called("archive.archive"),
    args=(
        Arg(
            ("table",),
            nargs="?",
            help="Name of a table in archive.yaml; with --plan, all tables of the plan without it",
        ),
        Arg(("--plan",), metavar="FILE", help="What a saved plan says, if nothing has changed since"),
        Arg(("--partition",), metavar="KEY", nargs="+", help="Such as 2026-07"),
        Arg(
            ("--before",),
            metavar="DATE",
            help="Every due partition that ended by this date and has rows",
            type=parsedate,
        ),
        Arg(("--again",), help="Start another run even if one has already ended", action="store_true"),
        Arg(("-n", "--dry-run"), help="Print the partitions and start nothing", action="store_true"),
        Arg(("--no-wait",), help="Return as soon as the runs are created", action="store_true"),
        Arg(("--json",), help="Print JSON at the end", action="store_true"),
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when all runs succeeded or there was nothing to do, 1 otherwise.",
)

_RESTORE_OPTIONS = (
    Arg(("table",), nargs="?", help="Name of a table in archive.yaml; or name archives with --archive"),
    Arg(("-a", "--archive"), action="append", metavar="ID", help="An archive; may be given more than once"),
    Arg(("-p", "--partition"), metavar="KEY", help="One partition, such as 2026-05"),
    Arg(("-f", "--from"), dest="first", metavar="KEY", help="First partition; default: the oldest"),
    Arg(("-t", "--to"), dest="last", metavar="KEY", help="Last partition, included; default: the newest"),
    Arg(("--target",), metavar="SCHEMA.TABLE", help="Restore to this table, not to the one that the rows came from"),
    Arg(("--create",), action="store_true", help="Create that table from the archived columns if it does not exist"),
    Arg(("--since",), metavar="INSTANT", help="Only rows dated at or after this instant, such as 2026-05-31T12:00Z"),
    Arg(("--before",), metavar="INSTANT", help="Only rows dated before this instant"),
    Arg(("-k", "--key"), action="append", help="Only the row with this primary key; may be given more than once"),
    Arg(("--dropped",), choices=("refuse", "keep"), help="What to do about columns that the table no longer has"),
    Arg(
        ("--days",), type=positive_int(allow_zero=False), help="Days before these rows are archived again; default: 30"
    ),
    Arg(("--why",), required=True, help="The reason, for the record"),
    who("Person who asked for it, for the record"),
    Arg(("-n", "--dry-run"), action="store_true", help="Say what would be done and do nothing"),
    NO_WAIT,
)

RESTORE = ActionCommand(
    name="restore",
    help="Restore archived rows, and follow the run",
    description=(
        "Start a run of the DAG restore_archive and follow it to its end. Rows that are in the table are compared and never "
        "overwritten. Restores are idempotent. While a run is under way, the same command follows that run."
    ),
    func=load_when_called("restore.restore"),
    args=(*_RESTORE_OPTIONS, AS_JSON, ARG_VERBOSE),
    epilog="Exit code: 0 when the table holds every row that was asked for, 1 otherwise.",
)

QUERY = ActionCommand(
    name="query",
    help="Look inside archives without restoring them",
    description=(
        "Start a run of the DAG query_archive, follow it to its end, and print the rows that it found. Only archives are searched, "
        "not the table. Rows go to standard output, and everything else to standard error. The query stays on record in the store."
    ),
    func=load_when_called("query.query"),
    args=(
        TABLE,
        Arg(("-f", "--from"), dest="since", metavar="INSTANT", help="Only rows dated at or after this instant"),
        Arg(("-t", "--to"), dest="before", metavar="INSTANT", help="Only rows dated before this instant"),
        Arg(
            ("-w", "--where"),
            action="append",
            metavar="CONDITION",
            help='A condition such as "cost >= 66.40"; may be given more than once, and all must hold',
        ),
        Arg(("-a", "--archive"), action="append", metavar="ID", help="Only this archive; may be given more than once"),
        Arg(("-c", "--columns"), nargs="+", metavar="COLUMN", help="What to show; default: all columns"),
        Arg(("-n", "--limit"), type=positive_int(allow_zero=False), default=1000, help="The most rows; default: 1000"),
        Arg(
            ("--format",), choices=("table", "csv", "jsonl"), default="table", help="How to print rows; default: table"
        ),
        Arg(("--why",), required=True, help="The reason, for the record"),
        who("Person who asked for it, for the record"),
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when everything that exists in the range was searched, 1 otherwise.",
)

PURGE = ActionCommand(
    name="purge",
    help="Destroy the archives whose term is over, or list them",
    description=(
        "Start a run of the DAG retention_purge and follow it to its end. With --dry-run, print what the DAG would decide "
        "about each archive, and why, and change nothing."
    ),
    func=load_when_called("purge.purge"),
    args=(
        Arg(("-n", "--dry-run"), action="store_true", help="Print the decisions and change nothing"),
        Arg(("--at",), metavar="INSTANT", type=parsedate, help="With --dry-run: decide as of this instant"),
        Arg(("--all",), action="store_true", help="With --dry-run: also list archives that are within their term"),
        NO_WAIT,
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0, or 1 when the run failed or a dry run found a manifest that cannot be verified.",
)
