"""A note on each archive run that names its partition.

Most pages of the Airflow UI name a run by the instant after which it may start, and the id of a run that was triggered by hand
does not name the partition either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_running(dag_run: DagRun) -> None:
    """Write the note when the run starts, unless it has one. The scheduler calls this in its own session."""
    if dag_run.dag_id.startswith("archive__") and dag_run.partition_key and not dag_run.note:
        dag_run.note = f"Archives the partition {dag_run.partition_key}."
