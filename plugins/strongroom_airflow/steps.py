"""What steps are called, by tasks, spans, notes, metrics and `airflow strongroom status` alike: the ids of their tasks without the group."""

from __future__ import annotations

ARCHIVE_STEPS = (
    "plan",
    "extract_to_staging",
    "compress",
    "checksum",
    "upload",
    "verify",
    "seal",
    "detach",
    "delete",
    "report",
)
"""Those of an archive run, in their order. Only tables with ``partition_delete`` have ``detach``."""


def step_of(task_id: str) -> str:
    """The step of a task: `verify` of `part.verify`."""
    return task_id.rpartition(".")[2]
