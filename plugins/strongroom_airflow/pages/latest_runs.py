"""What Airflow's metadata database says about runs: the latest of each partition, and all of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.state import State
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.overview.chart import RunFacts, Runs
from strongroom_airflow.commands.runs import page_of


@dataclass(frozen=True)
class RunLine:
    """One run, as a list shows it."""

    dag_id: str
    run_id: str
    state: str
    note: str
    started_at: datetime | None
    ended_at: datetime | None
    address: str

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at and self.started_at else None


def latest_runs(session: Session, tables: Mapping[str, str]) -> Runs:
    """The latest run of each partition.

    Args:
        session: On Airflow's metadata database.
        tables: `schema.table` by DAG id.
    """
    latest = (
        select(func.max(DagRun.id))
        .where(DagRun.dag_id.in_(tables), DagRun.partition_key.is_not(None))
        .group_by(DagRun.dag_id, DagRun.partition_key)
    )
    found = session.execute(
        select(DagRun.dag_id, DagRun.partition_key, DagRun.run_id, DagRun.state).where(DagRun.id.in_(latest))
    )
    return {(tables[dag_id], key): RunFacts(run_id, str(state)) for dag_id, key, run_id, state in found}


def running(session: Session, dag_id: str) -> list[str]:
    """The ids of a DAG's runs that have not ended."""
    asked = select(DagRun.run_id).where(DagRun.dag_id == dag_id, DagRun.state.in_(State.unfinished_dr_states))
    return list(session.scalars(asked))


def paused_dags(session: Session, dag_ids: Iterable[str]) -> set[str]:
    """Those of some DAGs that are paused."""
    asked = select(DagModel.dag_id).where(DagModel.dag_id.in_(list(dag_ids)), DagModel.is_paused.is_(True))
    return set(session.scalars(asked))


def runs_of(session: Session, dag_id: str, partition_key: str, *, most: int = 50) -> list[RunLine]:
    """The runs of one partition, the latest first."""
    found = session.scalars(
        select(DagRun)
        .where(DagRun.dag_id == dag_id, DagRun.partition_key == partition_key)
        .order_by(DagRun.id.desc())
        .limit(most)
    )
    return [line_of(run) for run in found]


def find_run(session: Session, dag_id: str, run_id: str) -> RunLine | None:
    """One run; None if Airflow does not have it any more."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return line_of(run) if run is not None else None


def line_of(run: DagRun) -> RunLine:
    """A run as a list shows it."""
    return RunLine(
        dag_id=run.dag_id,
        run_id=run.run_id,
        state=str(run.state),
        note=run.note or "",
        started_at=run.start_date,
        ended_at=run.end_date,
        address=page_of(run.dag_id, run.run_id),
    )
