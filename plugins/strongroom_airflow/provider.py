"""What Strongroom tells Airflow as an installed provider, and the commands that it adds to `airflow`.

Every Airflow process imports this module, so it imports only the standard library. The definitions of the commands are
loaded when `airflow` builds its parser, and the module that does a command's work when the command is called.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import GroupCommand


def get_provider_info() -> dict[str, Any]:
    """The distribution's entry point `apache_airflow_provider`."""
    return {
        "package-name": "strongroom",
        "name": "Strongroom",
        "description": "Archives old PostgreSQL rows to S3, and deletes only what it has proved.",
        "cli": ["strongroom_airflow.provider.get_cli_commands"],
    }


def get_cli_commands() -> list[GroupCommand]:
    """The command groups that Strongroom adds to `airflow`. Airflow calls this while it builds its parser."""
    _add_dags_backfill()
    return [_strongroom()]


def _strongroom() -> GroupCommand:
    from airflow.cli.cli_config import GroupCommand

    from strongroom_airflow.commands.definitions import (
        archives,
        audit,
        holds,
        iceberg,
        log,
        records,
        recovery,
        runs,
        setup,
        steer,
        subject,
    )

    return GroupCommand(
        name="strongroom",
        help="Archive, restore and verify; look at archives and records",
        subcommands=(
            archives.CATALOG,
            archives.LIST,
            runs.PLAN,
            runs.ARCHIVE,
            steer.STATUS,
            steer.THROTTLE,
            steer.PAUSE,
            steer.RESUME,
            archives.SHOW,
            archives.VERIFY,
            archives.CONDEMN,
            runs.RESTORE,
            runs.QUERY,
            runs.PURGE,
            records.RESTORES,
            records.CERTIFICATES,
            records.CERTIFICATE,
            records.VERIFICATIONS,
            records.JOBS,
            holds.HOLD,
            log.LOG,
            audit.AUDIT,
            subject.SUBJECT,
            iceberg.ICEBERG,
            recovery.RECOVERY_KIT,
            recovery.RECOVER,
            setup.INIT,
            setup.CHECK,
            setup.WARM,
            setup.BUCKET,
        ),
    )


def _add_dags_backfill() -> None:
    """Add the command `backfill`, which Airflow 3 removed, to Airflow's own group `dags`.

    Airflow refuses a second group of that name. Its parser's module holds the list of groups that it is filling when it
    calls this, so the group is replaced in that list. In a process that builds no parser there is nothing to do.
    """
    parser_module = sys.modules.get("airflow.cli.cli_parser")
    if parser_module is None:
        return
    from strongroom_airflow.commands.definitions.backfill import DAGS_BACKFILL

    groups = parser_module.airflow_commands
    for position, group in enumerate(groups):
        if group.name == "dags":
            others = tuple(command for command in group.subcommands if command.name != "backfill")
            groups[position] = group._replace(subcommands=(*others, DAGS_BACKFILL))
