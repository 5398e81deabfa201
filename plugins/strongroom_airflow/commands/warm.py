"""`airflow strongroom warm apply`: create a table's warm table, or print the SQL that creates it."""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import datetime, timedelta, timezone

from rich.markup import escape

from strongroom.calendar import Frequency, Partition
from strongroom.errors import ConfigurationError
from strongroom.tables.warm import WARM_SCHEMA, warm_name
from strongroom.tables.warm_script import warm_script
from strongroom_airflow.commands.terminal import command, print_out, read_settings
from strongroom_airflow.database_connections import connect_database

_DAYS_OF_PARTITIONS = 731
"""How far into the future warm partitions are created unless the command says otherwise: two years."""


@command
def apply(args: Namespace) -> int:
    """Create the warm table, its partitions, view, function and rights with an owner's connection, or print the SQL."""
    settings = read_settings().table(args.table)
    now = datetime.now(timezone.utc)
    until = (
        Partition.parse(Frequency.MONTHLY, args.until)
        if args.until
        else Partition.containing(Frequency.MONTHLY, now + timedelta(days=_DAYS_OF_PARTITIONS))
    )
    with connect_database(settings, settings.source_conn_id, application_name="strongroom warm apply") as connection:
        script = [each.as_string(connection) for each in warm_script(connection, settings, now=now, until=until)]
    if args.print:
        sys.stdout.write("BEGIN;\n" + "".join(f"{statement};\n" for statement in script) + "COMMIT;\n")
        return 0
    if args.conn_id is None:
        raise ConfigurationError(
            f"no connection was given that may create {WARM_SCHEMA}.{warm_name(settings)}",
            expected="--conn-id with a connection whose role owns the table, or --print",
            hint="Nothing was changed. The archiver's role may not create tables; --print writes the SQL for psql.",
        )
    with (
        connect_database(settings, args.conn_id, application_name="strongroom warm apply") as connection,
        connection.transaction(),
    ):
        for statement in script:
            connection.execute(statement.encode())
    print_out(
        f"{escape(f'{WARM_SCHEMA}.{warm_name(settings)}')} can take rows of {escape(settings.qualified_name)}, "
        f"with partitions up to {until.key}."
    )
    return 0
