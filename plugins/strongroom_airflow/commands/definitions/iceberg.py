"""iceberg status and reconcile: the Iceberg tables over parquet archives."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand

from strongroom_airflow.commands.definitions.loading import load_when_called
from strongroom_airflow.commands.definitions.options import AS_JSON

_TABLE = Arg(("table",), nargs="?", help="Name of a table in archive.yaml; default: all that have an Iceberg table")

ICEBERG = GroupCommand(
    name="iceberg",
    help="Iceberg tables over parquet archives, for Trino, Athena, Spark and DuckDB",
    subcommands=(
        ActionCommand(
            name="status",
            help="Say what each Iceberg table holds, what is left out and why, and what a reconciliation would change",
            func=load_when_called("iceberg.status"),
            args=(_TABLE, AS_JSON, ARG_VERBOSE),
            epilog="Exit code: 0 when each table holds what it should, 1 otherwise.",
        ),
        ActionCommand(
            name="reconcile",
            help="Make each Iceberg table hold the archives that belong to it, as the DAG publish_iceberg does each day",
            func=load_when_called("iceberg.reconcile"),
            args=(_TABLE, AS_JSON, ARG_VERBOSE),
        ),
    ),
)
