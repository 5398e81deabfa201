"""What Strongroom tells Airflow as an installed provider, and the commands that it adds to `airflow`.

Every Airflow process reads this module, so it imports nothing heavy; a command's own module is loaded when it is called.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

GONE_OPTIONS = {
    ("-m", "--mark-success"): "mark runs in the UI or with `airflow tasks`; nothing was archived by marking",
    ("-l", "--local"): "the scheduler's executor runs the tasks; leave it out",
    ("-x", "--donot-pickle"): "DAGs are never pickled any more; leave it out",
    ("-i", "--ignore-dependencies"): "every step depends on the proof of the one before it; leave it out",
    ("-I", "--ignore-first-depends-on-past"): "no archive step depends on a past run; leave it out",
    ("--continue-on-failures",): "a failed run never stops the others; leave it out",
    ("--disable-retry",): "retries are set in the DAG; leave it out",
    ("--treat-dag-id-as-regex",): "name one DAG a call",
    ("--treat-dag-as-regex",): "name one DAG a call",
}
"""Switches of Airflow 2's `dags backfill` that Airflow 3 has no counterpart for, and what to do instead."""

GONE_OPTIONS_WITH_VALUE = {
    ("-t", "--task-regex"): "a run always has all its tasks; clear single tasks with `airflow tasks clear`",
    ("-S", "--subdir"): "the DAG is read from the metadata database; leave it out",
    ("--pool",): "pools are set in the DAG; leave it out",
    ("--delay-on-limit",): "the scheduler waits by itself; use --max-active-runs to limit the runs",
}


def get_provider_info() -> dict[str, Any]:
    """The entry point `apache_airflow_provider` of the distribution."""
    return {
        "package-name": "strongroom",
        "name": "Strongroom",
        "description": "Archives old PostgreSQL rows to S3, and deletes only what it has proved.",
        "cli": ["strongroom_airflow.provider.get_cli_commands"],
    }


def get_cli_commands() -> list[GroupCommand]:
    """The command groups that Strongroom adds to `airflow`. Airflow calls this while it builds its parser.

    `airflow dags backfill` belongs to a group of Airflow's own and a second group of that name is refused, so it is put
    into that group on the way.
    """
    _bring_back_dags_backfill()
    return [_strongroom()]


def _strongroom() -> GroupCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

    as_json = Arg(("--json",), help="Print JSON instead of a table", action="store_true")
    archive_id = Arg(("archive_id",), help="Such as public.audit_events.2026-07.0001")
    return GroupCommand(
        name="strongroom",
        help="Archive by hand, look at archives and verify them",
        subcommands=(
            *_catalog(),
            _archive(),
            ActionCommand(
                name="show",
                help="Show one archive, its parts, and what became of its rows; of a destroyed one its certificate",
                func=lazy_load_command("strongroom_airflow.commands.archives.show_archive"),
                args=(archive_id, as_json, ARG_VERBOSE),
            ),
            ActionCommand(
                name="verify",
                help="Download archives, compare each object with its manifest, and leave a record of it",
                func=lazy_load_command("strongroom_airflow.commands.archives.verify"),
                args=(
                    Arg(("archive_id",), nargs="?", help="Such as public.audit_events.2026-07.0001"),
                    Arg(("--all",), help="Read all archives", action="store_true"),
                    Arg(("--sample",), metavar="N/T", help="Read n of every t archives, longest unread first: 1/10"),
                    Arg(("--who",), help="Who has them read, for the record; default: the user of this shell"),
                    as_json,
                    ARG_VERBOSE,
                ),
                epilog="Exit code: 0 when every object is sound, 1 otherwise.",
            ),
            ActionCommand(
                name="condemn",
                help="Give up an archive of which a part is missing or corrupted, and leave evidence of it",
                description=(
                    "Verify an archive and, if a part of it is missing or corrupted, put on record that it is given up. "
                    "Nothing is removed; rows of it that are still in the table are archived anew by the next run."
                ),
                func=lazy_load_command("strongroom_airflow.commands.condemn.condemn"),
                args=(
                    archive_id,
                    Arg(("--why",), required=True, help="The reason, for the evidence"),
                    Arg(("--who",), help="Who says so; default: the user of this shell"),
                    as_json,
                    ARG_VERBOSE,
                ),
            ),
            ActionCommand(
                name="restore",
                help="Bring archived rows back, and follow the run",
                description=(
                    "Start a run of the DAG restore_archive and follow it to its end. Rows that are there are compared and "
                    "never overwritten; doing it again adds nothing. The same command, typed while its run is under way, "
                    "goes along with that run."
                ),
                func=lazy_load_command("strongroom_airflow.commands.restore.restore"),
                args=(*_restore_options(), as_json, ARG_VERBOSE),
                epilog="Exit code: 0 when everything asked for is in the table or was there before, 1 otherwise.",
            ),
            _purge(),
            *_records(),
            _jobs(),
            _hold(),
            _warm(),
            _bucket(),
        ),
    )


def _records() -> tuple[ActionCommand, ...]:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command, positive_int

    def named(name: str, words: str, *options: Arg) -> ActionCommand:
        return ActionCommand(
            name=name,
            help=words,
            func=lazy_load_command(f"strongroom_airflow.commands.records.{name}"),
            args=(
                Arg(("table",), nargs="?", help="Name of a table in archive.yaml; without it, those of all stores"),
                *options,
                Arg(("--json",), help="Print JSON instead of a table", action="store_true"),
                ARG_VERBOSE,
            ),
        )

    last = Arg(("--last",), type=positive_int(allow_zero=False), default=50, help="How many; default: 50")
    return (
        named("restores", "List who had rows brought back, why, and until when they are not archived again"),
        named("certificates", "List the archives that were destroyed"),
        named("verifications", "List when archives were read again, by whom, and what was found", last),
    )


def _jobs() -> ActionCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command

    return ActionCommand(
        name="jobs",
        help="List Strongroom's DAGs: when each runs next, and whether it is paused",
        func=lazy_load_command("strongroom_airflow.commands.jobs.jobs"),
        args=(Arg(("--json",), help="Print JSON instead of a table", action="store_true"), ARG_VERBOSE),
    )


def _restore_options() -> tuple[Arg, ...]:
    from airflow.cli.cli_config import Arg, positive_int

    return (
        Arg(("table",), nargs="?", help="Name of a table in archive.yaml; or name archives"),
        Arg(("-a", "--archive"), action="append", metavar="ID", help="An archive; may be given again"),
        Arg(("-p", "--partition"), metavar="KEY", help="One partition, such as 2026-05"),
        Arg(("-f", "--from"), dest="first", metavar="KEY", help="First partition; without it the oldest"),
        Arg(("-t", "--to"), dest="last", metavar="KEY", help="Last partition, included; without it the newest"),
        Arg(("--target",), metavar="SCHEMA.TABLE", help="Into another table than the one that the rows came from"),
        Arg(("--create",), action="store_true", help="Create that table from the archived columns if it is not there"),
        Arg(("--since",), metavar="INSTANT", help="Only rows dated at or after it"),
        Arg(("--before",), metavar="INSTANT", help="Only rows dated before it"),
        Arg(("-k", "--key"), action="append", help="Only the row of this primary key; may be given again"),
        Arg(("--dropped",), choices=("refuse", "keep"), help="What to do about columns that were dropped since"),
        Arg(("--days",), type=positive_int(allow_zero=False), help="Days without archiving them again (default: 30)"),
        Arg(("--why",), required=True, help="The reason; kept on record"),
        Arg(("--who",), help="Who wants it; default: the user of this shell"),
        Arg(("-n", "--dry-run"), action="store_true", help="Say what would be done and do nothing"),
        Arg(("--no-wait",), action="store_true", help="Return as soon as the run is started"),
    )


def _catalog() -> tuple[ActionCommand, ActionCommand]:
    """One command under two names: the plain word, and the one that says how much it knows."""
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command

    def named(name: str, words: str) -> ActionCommand:
        return ActionCommand(
            name=name,
            help=words,
            func=lazy_load_command("strongroom_airflow.commands.catalog.catalog"),
            args=(
                Arg(
                    ("table",),
                    nargs="?",
                    help="Name of a table in archive.yaml; without it, all archives of all stores",
                ),
                Arg(("--prefix",), help="Only archive ids that begin so, such as public.audit"),
                Arg(("--partition",), help="Only partition keys that begin so, such as 2026 or 2026-07"),
                Arg(
                    ("--older-than",), metavar="TERM", help="Only windows that ended longer ago, such as P1Y6M or P90D"
                ),
                Arg(("--younger-than",), metavar="TERM", help="Only windows that ended more recently"),
                Arg(("--rebuild-index",), help="Read each manifest and make the index anew", action="store_true"),
                Arg(("--json",), help="Print JSON instead of a table", action="store_true"),
                ARG_VERBOSE,
            ),
            epilog="Exit code: 0, or 1 when a manifest is damaged, which is then named.",
        )

    return named("catalog", "List all archives, or some"), named("list", "The same as catalog")


def _archive() -> ActionCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command, parsedate

    return ActionCommand(
        name="archive",
        help="Archive partitions of a table now, and follow the runs",
        description=(
            "Start the archive run of each partition, oldest first, and follow them to their end. A partition that is "
            "being archived, or was by this command before, gets no second run. A partition inside hot retention is "
            "refused."
        ),
        func=lazy_load_command("strongroom_airflow.commands.archive.archive"),
        args=(
            Arg(("table",), help="Name of a table in archive.yaml"),
            Arg(("--partition",), metavar="KEY", nargs="+", help="Such as 2026-07"),
            Arg(
                ("--before",), metavar="DATE", help="Each due partition that ended by then and has rows", type=parsedate
            ),
            Arg(("--again",), help="Start another run where one ended before", action="store_true"),
            Arg(("-n", "--dry-run"), help="Say which partitions it would be and start nothing", action="store_true"),
            Arg(("--no-wait",), help="Return as soon as the runs are created", action="store_true"),
            Arg(("--json",), help="Print JSON at the end", action="store_true"),
            ARG_VERBOSE,
        ),
        epilog="Exit code: 0 when all runs succeeded or there was nothing to do, 1 otherwise.",
    )


def _purge() -> ActionCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, lazy_load_command, parsedate

    return ActionCommand(
        name="purge",
        help="Destroy the archives whose term is over, or say which those are",
        description=(
            "Start a run of the DAG retention_purge and follow it to its end. With --dry-run, print what it would decide "
            "about each archive, and why, and change nothing."
        ),
        func=lazy_load_command("strongroom_airflow.commands.purge.purge"),
        args=(
            Arg(("-n", "--dry-run"), action="store_true", help="Print the decisions and change nothing"),
            Arg(("--at",), metavar="INSTANT", type=parsedate, help="With --dry-run: as if it were that day"),
            Arg(("--all",), action="store_true", help="With --dry-run: list archives within their term, too"),
            Arg(("--no-wait",), action="store_true", help="Return as soon as the run is started"),
            Arg(("--json",), help="Print JSON instead of a table", action="store_true"),
            ARG_VERBOSE,
        ),
        epilog="Exit code: 0, or 1 when the run failed, or when a dry run found a manifest that cannot be verified.",
    )


def _hold() -> GroupCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

    as_json = Arg(("--json",), help="Print JSON instead of a table", action="store_true")
    who = Arg(("--who",), help="Who wants it; default: the user of this shell")
    return GroupCommand(
        name="hold",
        help="Legal holds: what one covers is never purged; one on everything stops all deletion",
        subcommands=(
            ActionCommand(
                name="add",
                help="Place a hold on a table, a partition or an archive, or stop all deletion",
                func=lazy_load_command("strongroom_airflow.commands.holds.add"),
                args=(
                    Arg(("what",), nargs="?", help="A table of archive.yaml, or an archive id or its beginning"),
                    Arg(
                        ("--all",),
                        action="store_true",
                        help="Everything: all deletion stops within seconds, from the database too",
                    ),
                    Arg(("-p", "--partition"), metavar="KEY", help="Only this partition of the table, such as 2026-05"),
                    Arg(("--why",), required=True, help="The reason, in words"),
                    Arg(("--reference",), required=True, help="Case number, letter or ticket that asks for it"),
                    who,
                    as_json,
                    ARG_VERBOSE,
                ),
            ),
            ActionCommand(
                name="list",
                help="List the holds in force",
                func=lazy_load_command("strongroom_airflow.commands.holds.list_holds"),
                args=(Arg(("--all",), action="store_true", help="Those that were released, too"), as_json, ARG_VERBOSE),
            ),
            ActionCommand(
                name="release",
                help="Release a hold; it stays on record",
                func=lazy_load_command("strongroom_airflow.commands.holds.release"),
                args=(
                    Arg(("hold_id",), nargs="?", help="As `hold list` prints it"),
                    Arg(("--all",), action="store_true", help="All holds on everything, in all stores"),
                    Arg(("--reason",), required=True, help="Why it may be released"),
                    who,
                    as_json,
                    ARG_VERBOSE,
                ),
            ),
        ),
    )


def _warm() -> GroupCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

    return GroupCommand(
        name="warm",
        help="Tables that rows move to when they leave the live ones",
        subcommands=(
            ActionCommand(
                name="apply",
                help="Make a table's warm table, its partitions, view and rights, or bring them up to date",
                func=lazy_load_command("strongroom_airflow.commands.warm.apply"),
                args=(
                    Arg(("table",), help="Name of a table in archive.yaml"),
                    Arg(("--print",), action="store_true", help="Print the SQL, for psql, and change nothing"),
                    Arg(("--conn-id",), help="An Airflow connection of an owner of the table"),
                    Arg(("--until",), metavar="MONTH", help="Last month to get a partition; default: in two years"),
                    ARG_VERBOSE,
                ),
            ),
        ),
    )


def _bucket() -> GroupCommand:
    from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

    conn_id = Arg(
        ("--conn-id",), help="An Airflow connection that may see and change the bucket; default: the store's own"
    )
    as_json = Arg(("--json",), help="Print JSON instead of a table", action="store_true")
    return GroupCommand(
        name="bucket",
        help="Whose the buckets of the archive stores are, and how they are set up",
        subcommands=(
            ActionCommand(
                name="claim",
                help="Enter the source database as the owner of a new, empty store; once, before the first run",
                description=(
                    "Every run and every command refuses a store that no database owns: it may be a wrong bucket, or one "
                    "that was emptied. Claim a store when it is new, and never to get rid of that error."
                ),
                func=lazy_load_command("strongroom_airflow.commands.bucket.claim"),
                args=(
                    Arg(
                        ("table",), nargs="?", help="A table that uses the store; needed when there are several stores"
                    ),
                    as_json,
                    ARG_VERBOSE,
                ),
                epilog="Exit code: 0 when the store belongs to the database, 1 when it was refused.",
            ),
            ActionCommand(
                name="check",
                help="Compare versioning, Object Lock, encryption, public access and lifecycle rules with the settings",
                func=lazy_load_command("strongroom_airflow.commands.bucket.check"),
                args=(conn_id, as_json, ARG_VERBOSE),
                epilog="Exit code: 0 when nothing differs, 1 otherwise. What a server cannot say does not count.",
            ),
            ActionCommand(
                name="apply",
                help="Write the lifecycle rules that the settings ask for; rules of others stay",
                func=lazy_load_command("strongroom_airflow.commands.bucket.apply"),
                args=(conn_id, as_json, ARG_VERBOSE),
            ),
            ActionCommand(
                name="lock",
                help="Lock every archive until its term is over, where store.object_lock asks for it; no lock is shortened",
                func=lazy_load_command("strongroom_airflow.commands.bucket.lock"),
                args=(
                    Arg(
                        ("-n", "--dry-run"), action="store_true", help="Count what is locked too short and lock nothing"
                    ),
                    as_json,
                    ARG_VERBOSE,
                ),
                epilog="Exit code of a dry run: 0 when every archive is locked for long enough, 1 otherwise.",
            ),
        ),
    )


def _bring_back_dags_backfill() -> None:
    """Give Airflow's group `dags` the command `backfill` that Airflow 3 removed from it.

    The list of groups is the one that the parser's module is filling at this moment. In a process that builds no parser
    there is nothing to do.
    """
    parser_module = sys.modules.get("airflow.cli.cli_parser")
    if parser_module is None:
        return
    groups = parser_module.airflow_commands
    for position, group in enumerate(groups):
        if group.name == "dags":
            others = tuple(command for command in group.subcommands if command.name != "backfill")
            groups[position] = group._replace(subcommands=(*others, _dags_backfill()))


def _dags_backfill() -> ActionCommand:
    from airflow.cli.cli_config import ActionCommand, lazy_load_command

    return ActionCommand(
        name="backfill",
        help="Run a DAG for past dates, as in Airflow 2",
        description=(
            "Create runs for the dates from --start-date to --end-date, both included, and follow them to their end. "
            "The scheduler runs them, as it does for `airflow backfill create`. Dates that already have a run are left "
            "alone; partitions inside hot retention never get one."
        ),
        func=lazy_load_command("strongroom_airflow.commands.backfill.backfill"),
        args=(*_options(), *_gone_options()),
        epilog="Exit code: 0 when all runs succeeded or there was nothing to do, 1 otherwise, 2 for wrong options.",
    )


def _options() -> tuple[Arg, ...]:
    from airflow.cli.cli_config import ARG_DAG_ID, Arg, parsedate, positive_int

    return (
        ARG_DAG_ID,
        Arg(("-s", "--start-date"), help="First date (inclusive); without it the end date alone", type=parsedate),
        Arg(("-e", "--end-date"), help="Last date (inclusive); without it the start date alone", type=parsedate),
        Arg(("-n", "--dry-run"), help="Say what would be done and do nothing", action="store_true"),
        Arg(("-B", "--run-backwards"), help="Newest date first", action="store_true"),
        Arg(("-c", "--conf"), help="JSON that the runs get as their configuration"),
        Arg(
            ("--max-active-runs",),
            help="Runs at the same time; default: the DAG's own",
            type=positive_int(allow_zero=False),
        ),
        Arg(("--rerun-failed-tasks",), help="Run dates again whose last run failed", action="store_true"),
        Arg(("--reset-dagruns",), help="Run all dates again, whatever their last run was", action="store_true"),
        Arg(("--no-wait",), help="Return as soon as the runs are created", action="store_true"),
        Arg(("-y", "--yes"), help="Accepted for old scripts; nothing is asked", action="store_true"),
        Arg(("-v", "--verbose"), help="Show Airflow's own log lines too", action="store_true"),
    )


def _gone_options() -> tuple[Arg, ...]:
    from airflow.cli.cli_config import Arg

    switches = (
        Arg(flags, help=SUPPRESS, action=partial(_RefuseOption, hint=hint, nargs=0))
        for flags, hint in GONE_OPTIONS.items()
    )
    valued = (
        Arg(flags, help=SUPPRESS, action=partial(_RefuseOption, hint=hint))
        for flags, hint in GONE_OPTIONS_WITH_VALUE.items()
    )
    return (*switches, *valued)


class _RefuseOption(Action):
    """An option that is recognised only to say what to do without it."""

    def __init__(self, *args: Any, hint: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hint = hint

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        option = self.option_strings[-1]
        parser.exit(2, f"Airflow 3 has no {option} for backfills\nHINT: Nothing was created; {self.hint}.\n")
