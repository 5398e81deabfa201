"""Where a process that is neither a task nor a server of Airflow's finds connections."""

from __future__ import annotations

import os


def find_stored_connections() -> None:
    """Let a process that is no task find the connections in Airflow's database too.

    Outside of tasks and of Airflow's own servers its SDK reads those of the environment and of a secrets backend alone;
    Airflow's commands that look connections up tell it by the same variable that they are at home there.
    """
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
