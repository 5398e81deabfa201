"""The context that a test gives an operator to run it without a scheduler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def context_of(dag_id: str, partition_key: str | None = None) -> dict[str, Any]:
    """The context of a task in a run that grace triggered. What the task pushes to XCom is dropped."""
    run = SimpleNamespace(
        dag_id=dag_id, run_id="r", triggering_user_name="grace", partition_key=partition_key, start_date=None
    )
    ti = SimpleNamespace(task_id="t", xcom_push=lambda key, value: None, xcom_pull=lambda **_: None)  # noqa: ARG005
    return {"ti": ti, "dag_run": run}
