"""init, check, warm apply, and bucket claim, check, apply and lock: commands that set up a deployment and try it."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON, TABLE

INIT = ActionCommand(
    name="init",
    help="Look at a database, propose what to archive, and write a first archive.yaml",
    description=(
        "List the tables with their sizes, date columns, keys and due rows, and say which could be archived, which not and why. Reads the "
        "catalogue and the planner's statistics, and writes nothing but the file."
    ),
    func=load_when_called("init.init"),
    args=(
        Arg(
            ("dsn",),
            help="The database: an Airflow connection id, or a libpq connection string (give its password in PGPASSWORD or ~/.pgpass)",
        ),
        Arg(("-o", "--output"), metavar="FILE", default="archive.yaml", help="Where to write (default: archive.yaml)"),
        Arg(("--force",), action="store_true", help="Overwrite an existing file"),
        Arg(("--schema",), action="append", help="Only tables of this schema; may be repeated"),
        Arg(("--hot",), metavar="TERM", default="P90D", help="How long rows stay in the table (default: P90D)"),
        Arg(("--cold",), metavar="TERM", default="P7Y", help="How long archives are kept (default: P7Y)"),
        Arg(
            ("--legal-basis",),
            metavar="TEXT",
            help="Why they are kept that long; without it, you fill in that line of the file",
        ),
        Arg(("--bucket",), default="strongroom-archive", help="Bucket of the archives (default: strongroom-archive)"),
        Arg(("--endpoint-url",), help="Address of the S3 server; default: Amazon's own"),
        Arg(
            ("--no-tls",), action="store_true", help="Allow a connection that is not encrypted, on a network you trust"
        ),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when the file was written, 1 otherwise.",
)

CHECK = ActionCommand(
    name="check",
    help="Try everything that a deployment needs, and everything that its identities must be refused",
    description=(
        "Try the settings, Airflow, each database role, each identity of the stores, the transparency log, staging and the task logs, with "
        "the connections that tasks use. A probe object is written, read back and removed; no row is changed. Run it where tasks run."
    ),
    func=load_when_called("check.check"),
    args=(
        Arg(("--all",), help="Also list each check that is ok", action="store_true"),
        Arg(
            ("--nagios",),
            help="Print one line for Nagios or Icinga, and end with its exit codes 0 to 3",
            action="store_true",
        ),
        Arg(("--json",), help="Print JSON", action="store_true"),
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when no check failed, 1 otherwise; with --nagios 0 ok, 1 warnings, 2 faults, 3 nothing could be checked.",
)

WARM = GroupCommand(
    name="warm",
    help="Tables that keep rows after they leave the live tables",
    subcommands=(
        ActionCommand(
            name="apply",
            help="Create a table's warm table with its partitions, view and rights, or bring them up to date",
            func=load_when_called("warm.apply"),
            args=(
                TABLE,
                Arg(("--print",), action="store_true", help="Print the SQL, for psql, and change nothing"),
                Arg(("--conn-id",), help="An Airflow connection whose role owns the table"),
                Arg(("--until",), metavar="MONTH", help="Last month to get a partition; default: two years from now"),
                ARG_VERBOSE,
            ),
        ),
    ),
)

_CONN_ID = Arg(
    ("--conn-id",), help="An Airflow connection that may read and change the bucket; default: the store's own"
)

_REPLICA_CONN_ID = Arg(
    ("--replica-conn-id",),
    help="The same for the replica's bucket; default: `replica.conn_id`",
)

_CLAIM = ActionCommand(
    name="claim",
    help="Record the source database as the owner of a new, empty store; once, before the first run",
    description=(
        "Every run and every command refuses a store that no database owns, because it may be the wrong bucket, or one that "
        "was emptied. Claim a store when it is new. Never claim one only to get rid of that error."
    ),
    func=load_when_called("bucket.claim"),
    args=(
        Arg(("table",), nargs="?", help="A table that uses the store; needed when there are several stores"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code: 0 when the store belongs to the database, 1 when the claim was refused.",
)

_CHECK = ActionCommand(
    name="check",
    help="Compare versioning, Object Lock, encryption, public access and lifecycle rules with the settings",
    func=load_when_called("bucket.check"),
    args=(_CONN_ID, _REPLICA_CONN_ID, AS_JSON, ARG_VERBOSE),
    epilog="Exit code: 0 when nothing differs, 1 otherwise. What the server cannot tell does not count.",
)

_APPLY = ActionCommand(
    name="apply",
    help="Write the lifecycle rules that the settings require; other rules stay as they are",
    func=load_when_called("bucket.apply"),
    args=(_CONN_ID, _REPLICA_CONN_ID, AS_JSON, ARG_VERBOSE),
)

_LOCK = ActionCommand(
    name="lock",
    help="Lock every archive until its term is over, where store.object_lock requires it; no lock is shortened",
    func=load_when_called("bucket.lock"),
    args=(
        Arg(("-n", "--dry-run"), action="store_true", help="Count the objects to lock, and lock nothing"),
        AS_JSON,
        ARG_VERBOSE,
    ),
    epilog="Exit code of a dry run: 0 when every archive is locked for long enough, 1 otherwise.",
)

BUCKET = GroupCommand(
    name="bucket",
    help="The owner and the configuration of the archive stores' buckets",
    subcommands=(_CLAIM, _CHECK, _APPLY, _LOCK),
)
