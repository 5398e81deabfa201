"""Which run of a DAG does the work, as claims, evidence and the transparency log name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strongroom.records import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context


def identity_of(context: Context) -> RunIdentity:
    """The run that a task belongs to. Who started it comes from Airflow, never from XCom."""
    run = context["dag_run"]
    return RunIdentity(dag_id=run.dag_id, run_id=run.run_id, triggered_by=run.triggering_user_name)
