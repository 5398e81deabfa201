"""Connections for processes that are neither tasks nor servers of Airflow: the commands and the exporter."""

from __future__ import annotations

import os


def find_stored_connections() -> None:
    """Let this process find the connections in Airflow's database.

    Outside tasks and servers, Airflow's SDK finds only connections in the environment and in a secrets backend. Airflow's own
    commands set the same variable; there is no public way.
    """
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
