"""The note of each run: the partition while it runs, its outcome when it has ended.

Most pages of the Airflow UI name a run by the instant after which it may start, and the id of a run that was triggered by hand
does not name the partition either. A note that a person wrote stays as it is.

Airflow calls this in the scheduler, with the run in the scheduler's session, and in the web server for a run that somebody marks as
ended. What the tasks left is read in another session, so that nothing here can break a transaction of the scheduler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

from strongroom_airflow.steps import step_of

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

AUTHOR = "strongroom"
"""The user that Strongroom's own notes name. Airflow writes a person's id there."""

_LONGEST = 500
"""Most characters of a note. Airflow takes 1,000."""

_CONCLUDED = frozenset(
    {
        "legal_hold",
        "publish_iceberg",
        "query_archive",
        "replicate_archives",
        "restore_archive",
        "restore_drill",
        "retention_purge",
        "scrub_archives",
        "subject_erasure",
        "verify_archives",
    }
)
_ARCHIVES = "archive__"


@hookimpl
def on_dag_run_running(dag_run: DagRun) -> None:
    """Name the partition, also when a run begins again."""
    if dag_run.dag_id.startswith(_ARCHIVES) and dag_run.partition_key:
        _write(dag_run, _beginning(dag_run))


@hookimpl
def on_dag_run_success(dag_run: DagRun) -> None:
    """Give the outcome that the last task left."""
    _conclude(dag_run, failed=False)


@hookimpl
def on_dag_run_failed(dag_run: DagRun) -> None:
    """Give the outcome, or name the task that failed and the first line of its error."""
    _conclude(dag_run, failed=True)


def _conclude(dag_run: DagRun, *, failed: bool) -> None:
    if not (dag_run.dag_id in _CONCLUDED or dag_run.dag_id.startswith(_ARCHIVES)):
        return
    try:
        line = _failure(dag_run) if failed else _outcome(dag_run)
        if line is not None:
            _write(dag_run, line)
    except Exception:  # a note must never keep the scheduler from its work
        log.warning("The note of %s %s was not written", dag_run.dag_id, dag_run.run_id, exc_info=True)


def _beginning(dag_run: DagRun) -> str:
    return f"Archives the partition {dag_run.partition_key}."


def _write(dag_run: DagRun, line: str) -> None:
    """Write the note, unless a person wrote one. A run of `airflow dags test` is in no session and gets none."""
    from sqlalchemy.orm import object_session

    if object_session(dag_run) is None:
        return
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 1]}…"
    note = dag_run.dag_run_note
    if note is None:
        dag_run.note = (line, AUTHOR)
    # Notes of earlier versions name no author.
    elif note.user_id == AUTHOR or (note.user_id is None and note.content == _beginning(dag_run)):
        note.content, note.user_id = line, AUTHOR


def _outcome(dag_run: DagRun) -> str | None:
    from strongroom_airflow.step import OUTCOME_XCOM

    found = _read_xcoms(dag_run, OUTCOME_XCOM)
    return next(iter(found.values()), None)


def _failure(dag_run: DagRun) -> str | None:
    """The outcome if a task failed because of it; else the first task that failed, and the first line of its error."""
    from strongroom_airflow.step import ERROR_XCOM, OUTCOME_XCOM

    failed = _read_failed(dag_run)
    if not failed:
        return None
    outcomes = _read_xcoms(dag_run, OUTCOME_XCOM)
    for task in failed:
        if task in outcomes:
            return outcomes[task]
    task_id, map_index = failed[0]
    error = _read_xcoms(dag_run, ERROR_XCOM).get(failed[0], "it left no error; see its log").partition("\n")[0]
    step = step_of(task_id) + (f" {map_index}" if map_index >= 0 else "")
    others = f" ({len(failed)} tasks failed)" if len(failed) > 1 else ""
    partition = f"{dag_run.partition_key}: " if dag_run.partition_key else ""
    return f"{partition}failed at {step}{others}: {error}"


def _read_failed(dag_run: DagRun) -> list[tuple[str, int]]:
    """Task id and map index of the tasks that failed, the first to fail first."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index)
            .where(
                TaskInstance.dag_id == dag_run.dag_id,
                TaskInstance.run_id == dag_run.run_id,
                TaskInstance.state == TaskInstanceState.FAILED,
            )
            .order_by(TaskInstance.end_date)
        )
        return [(task_id, map_index) for task_id, map_index in rows]


def _read_xcoms(dag_run: DagRun, key: str) -> dict[tuple[str, int], str]:
    """The texts that tasks of the run left under a key, by task id and map index."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        rows = session.execute(
            XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=key).with_only_columns(
                XComModel.task_id, XComModel.map_index, XComModel.value
            )
        )
        return {(task_id, map_index): text for task_id, map_index, text in rows if isinstance(text, str)}
